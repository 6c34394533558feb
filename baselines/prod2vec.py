"""prod2vec (Grbovic et al., "E-commerce in Your Inbox", KDD 2015): items as words, a user's clicks as a sentence.

The article recommends items for items. For a query, as the survey's models have it, the vector is the centroid of the
items that were clicked for it, and for a query never seen that of its words', each the centroid of the items clicked
for queries with the word. Skip-gram by gensim.
"""

from __future__ import annotations

import numpy as np
from gensim.models import Word2Vec
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

from dpsr.baselines.examples import QueryExamples, normalise_query
from dpsr.baselines.fitting.learner import TrainedRetriever, TrainingSet
from dpsr.baselines.vectors import VectorRetriever
from dpsr.tokenizer_cc.terms import analyze

DIMENSION = 128
_WINDOW, _NEGATIVES, _EPOCHS = 5, 5, 10


class Prod2VecRetriever(VectorRetriever, TrainedRetriever):
    """Cosine with the centroid of clicked items; items without a click in training are not retrieved."""

    name = "prod2vec"
    settings = (1, DIMENSION, _WINDOW, _NEGATIVES, _EPOCHS)

    def __init__(self, data: TrainingSet) -> None:
        """Counts the clicks of every query and of every word; the vectors are still zero."""
        super().__init__(len(data.items))
        self._data = data
        texts: dict[str, int] = {}
        row_of = [texts.setdefault(normalise_query(text), len(texts)) for text in data.queries]
        rows = np.array(row_of)[data.clicks["query"]]
        shape = len(texts), len(data.items)
        self._row_of = texts
        self._clicks = csr_matrix((np.ones(len(rows), np.float32), (rows, data.clicks["item"])), shape=shape)
        self._counter = CountVectorizer(analyzer=analyze, binary=True, dtype=np.float32)
        self._words_of = self._counter.fit_transform([*texts, *data.items])[: len(texts)]
        self.assign([np.zeros((len(data.items), DIMENSION), np.float32)])

    def fit(self, *, progress: bool) -> None:
        """As ``Learner.fit``; one thread, so that the same seed gives the same vectors."""
        model = Word2Vec(
            self.sequences(),
            vector_size=DIMENSION,
            window=_WINDOW,
            negative=_NEGATIVES,
            epochs=_EPOCHS,
            sg=1,
            min_count=1,
            workers=1,
            seed=self._data.seed,
        )
        vectors = np.zeros((self.num_items, DIMENSION), np.float32)
        vectors[np.array(model.wv.index_to_key, np.int64)] = model.wv.vectors
        self.assign([vectors])

    def sequences(self) -> list[list[str]]:
        """Item rows that each user clicked, in the order of time; those of each query where no click has a user."""
        clicks = self._data.clicks
        known = clicks[clicks["user"] >= 0]
        records, owner = (known, "user") if len(known) else (clicks, "query")
        records = records[np.lexsort((records["history_end"], records[owner]))]
        cuts = np.flatnonzero(np.diff(records[owner])) + 1
        return [each.astype(str).tolist() for each in np.split(records["item"], cuts)]

    def note(self) -> str:
        """Says what the sequences were where they were not the users'."""
        if (self._data.clicks["user"] >= 0).any():
            return ""
        return "prod2vec: the log has no users; its sequences are the items clicked for the same query."

    def weights(self) -> list[np.ndarray]:
        """As ``Learner.weights``: the item vectors, float32 [items, d]."""
        return [self._vectors]

    def assign(self, weights: list[np.ndarray]) -> None:
        """As ``Learner.assign``."""
        (self._vectors,) = weights
        self._centroids: np.ndarray = self._clicks @ self._vectors
        self._word_vectors: np.ndarray = self._words_of.T @ self._centroids
        self.forget_vectors()

    def embed_items(self) -> np.ndarray:
        """As ``VectorRetriever.embed_items``."""
        return self._vectors

    def embed(self, examples: QueryExamples) -> np.ndarray:
        """As ``VectorRetriever.embed``; the words' centroids are averaged as unit vectors."""
        lengths = np.linalg.norm(self._word_vectors, axis=1, keepdims=True)
        units = self._word_vectors / np.where(lengths > 0, lengths, 1)
        found: np.ndarray = self._counter.transform(examples.texts) @ units
        rows = np.array([self._row_of.get(normalise_query(text), -1) for text in examples.texts])
        clicked = rows >= 0
        clicked[clicked] = self._centroids[rows[clicked]].any(axis=1)
        found[clicked] = self._centroids[rows[clicked]]
        return found
