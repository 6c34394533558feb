"""prod2vec (Grbovic et al., KDD 2015): skip-gram over sequences of items, with queries placed among them by clicks.

The article (section 4.1) learns from each user's purchases in the order of time and has no queries. Here a sequence is
a user's clicks and purchases of the train split, or, where no user has two, the items of one query. A query is the
mean of the vectors of the items clicked for it; a query without such an item is the mean of its words, and a word is
the mean of the items clicked for queries with the word. Items of no sequence have no vector and are not retrieved. The
settings of skip-gram are those of ``word2vec``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

from dpsr.baselines.analyzers import Analyzer
from dpsr.baselines.examples import QueryExamples, normalise_query
from dpsr.baselines.fitting.learner import Learner
from dpsr.baselines.fitting.word_vectors import DIMENSION
from dpsr.baselines.item_sequences import ItemSequences
from dpsr.baselines.vectors import VectorRetriever, unit_rows
from dpsr.baselines.word2vec import SETTINGS, Word2VecVectors


class Prod2VecRetriever(VectorRetriever, Learner):
    """Cosine of item vectors and centroids of clicked items; O(items x d + distinct pairs of query and item) memory."""

    name = "prod2vec"
    settings = ("prod2vec", 1, *SETTINGS)

    def __init__(
        self,
        sequences: ItemSequences,
        query_texts: Sequence[str],
        clicks: np.ndarray,
        num_items: int,
        analyzer: Analyzer,
        *,
        seed: int,
    ) -> None:
        """Counts the clicks; all vectors are zeros before ``fit``.

        Args:
            sequences: what skip-gram reads; at least one.
            query_texts: the text of every query row.
            clicks: of the train split, INTERACTION [n].
            num_items: size of the catalogue.
            analyzer: splits queries into words.
            seed: decides the training.
        """
        super().__init__(num_items)
        self._sequences = sequences
        self._seed = seed
        self._item_vectors = np.zeros((num_items, DIMENSION), np.float32)
        self._analyzer = analyzer
        self._queries: dict[str, int] = {}
        self._words: dict[str, int] = {}
        asked, row_of_query = np.unique(clicks["query"], return_inverse=True)
        texts = [normalise_query(query_texts[row]) for row in asked]
        rows = np.array([self._queries.setdefault(text, len(self._queries)) for text in texts], np.int64)
        ones = np.ones(len(clicks), np.float32)
        self._clicks = csr_matrix((ones, (rows[row_of_query], clicks["item"])), (len(self._queries), num_items))
        terms = [set(analyzer(text)) for text in self._queries]
        columns = [self._words.setdefault(word, len(self._words)) for words in terms for word in sorted(words)]
        entries = np.ones(len(columns), np.float32), columns, np.cumsum([0, *map(len, terms)])
        words_of_queries = csr_matrix(entries, (len(self._queries), len(self._words)))
        self._word_clicks = (words_of_queries.T @ self._clicks).tocsr()

    def fit(self, *, progress: bool) -> None:
        """As ``Learner.fit``; gensim shows no progress."""
        words = Word2VecVectors([list(map(str, items.tolist())) for items in self._sequences.items], seed=self._seed)
        words.fit(progress=progress)
        self.assign([words([str(row) for row in range(self.num_items)])])

    def weights(self) -> list[np.ndarray]:
        """As ``Learner.weights``."""
        return [self._item_vectors]

    def assign(self, weights: list[np.ndarray]) -> None:
        """As ``Learner.assign``."""
        (self._item_vectors,) = weights
        self.weights_changed()

    def embed_items(self) -> np.ndarray:
        """As ``VectorRetriever.embed_items``."""
        return self._item_vectors

    def embed(self, examples: QueryExamples) -> np.ndarray:
        """As ``VectorRetriever.embed``; a query without a click and without a clicked word has no vector."""
        vectors = self._columns.T
        found = np.zeros((len(examples), vectors.shape[1]), np.float32)
        for text, target in zip(examples.texts, found, strict=True):
            query = self._queries.get(normalise_query(text))
            if query is not None:
                target += (self._clicks[[query]] @ vectors)[0]
            if not target.any():
                words = [self._words[word] for word in self._analyzer(text) if word in self._words]
                target += unit_rows(self._word_clicks[words] @ vectors).sum(axis=0)
        return unit_rows(found)
