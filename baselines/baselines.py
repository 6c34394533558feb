"""What a trained model has to beat: popularity, BM25, both together, and the memory of the click log."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import bm25s
import numpy as np

from dpsr.baselines.examples import Examples, normalise_query
from dpsr.baselines.retrievers import CatalogueRetriever
from dpsr.data.dataset.schema import SKIP
from dpsr.tokenizer_cc import Tokenizer

K1, B = 1.2, 0.75
POPULARITY_WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0)

# Sets its own logger to DEBUG on import, which reaches stderr through the root handler of TensorFlow's logging.
logging.getLogger("bm25s").setLevel(logging.WARNING)

Words = Callable[[str], list[str]]

# "4ft" and "xbox360" are written apart as often as together; ours keeps "1/2" and "2.5" whole, and so does this.
_RUNS = re.compile(r"\d+(?:[./]\d+)*|[^\W\d]+")


def click_counts(records: np.ndarray, num_items: int) -> np.ndarray:
    """Clicks and purchases of every item in INTERACTION records [n], int64 [items]."""
    return np.bincount(records["item"][records["event"] != SKIP], minlength=num_items)


def light_stem(word: str) -> str:
    """A word without its plural s; stronger on product titles than Porter's and Snowball's stemmers."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us")) else word


def tokenizer_words(tokenizer: Tokenizer) -> Words:
    """The words of our own segmentation, letters apart from digits, lightly stemmed: what BM25 indexes."""

    def words(text: str) -> list[str]:
        units = (token.text for token in tokenizer.tokens(text) if token.kind == "word")
        return [light_stem(run) for unit in units for run in _RUNS.findall(unit) or [unit]]

    return words


def with_bigrams(words: Words) -> Words:
    """The terms of ``words`` and each pair of neighbours as one more term."""

    def terms(text: str) -> list[str]:
        found = words(text)
        return found + [f"{first} {second}" for first, second in pairwise(found)]

    return terms


class PopularityRetriever(CatalogueRetriever):
    """The most clicked items, whatever the query."""

    index = "one list for every query"

    def __init__(self, counts: np.ndarray) -> None:
        """Takes the clicks of every item, int64 [items]."""
        super().__init__(len(counts))
        self._scores = counts.astype(np.float32)

    def score_all(self, examples: Examples) -> np.ndarray:
        """As ``CatalogueRetriever.score_all``."""
        return np.broadcast_to(self._scores, (len(examples), self.num_items))


class BM25Retriever(CatalogueRetriever):
    """BM25 over the items' texts, by bm25s (Lucene's variant)."""

    index = "exact: inverted lists (bm25s)"

    def __init__(self, item_texts: Sequence[str], words: Words) -> None:
        """Indexes the catalogue.

        Args:
            item_texts: the text of every item.
            words: splits a text, of an item or a query, into its terms.
        """
        super().__init__(len(item_texts))
        self._words = words
        self._index = bm25s.BM25(k1=K1, b=B, method="lucene")
        self._index.index([words(text) for text in item_texts], show_progress=False)

    def score_all(self, examples: Examples) -> np.ndarray:
        """As ``CatalogueRetriever.score_all``."""
        texts, position = np.unique(examples.texts, return_inverse=True)
        return np.stack([self._score_text(text) for text in texts])[position]

    def _score_text(self, text: str) -> np.ndarray:
        terms = [word for word in self._words(text) if word in self._index.vocab_dict]
        if not terms:
            return np.zeros(self.num_items, dtype=np.float32)
        return self._index.get_scores(terms)


class BM25PopularityRetriever(CatalogueRetriever):
    """BM25 plus ``weight * log(1 + clicks)``: text decides, and popularity among items that match alike."""

    def __init__(self, bm25: BM25Retriever, counts: np.ndarray, weight: float) -> None:
        """Adds clicks (int64 [items]) to a BM25 index."""
        super().__init__(bm25.num_items)
        self._bm25 = bm25
        self.index = bm25.index
        self._prior = (weight * np.log1p(counts)).astype(np.float32)

    def score_all(self, examples: Examples) -> np.ndarray:
        """As ``CatalogueRetriever.score_all``."""
        return self._bm25.scores(examples) + self._prior


class MemoryRetriever(CatalogueRetriever):
    """The items clicked before for the same query, by the number of clicks; then, and among equals, a back-off."""

    def __init__(self, query_texts: Sequence[str], records: np.ndarray, backoff: CatalogueRetriever) -> None:
        """Learns the log by heart.

        Args:
            query_texts: the text of every query row.
            records: the log, INTERACTION [clicks].
            backoff: orders the items that were not clicked for a query.
        """
        super().__init__(backoff.num_items)
        self._backoff = backoff
        self.index = f"a table of seen queries; {backoff.index}"
        self._rows: dict[str, int] = {}
        row_of_query = np.array(
            [self._rows.setdefault(normalise_query(text), len(self._rows)) for text in query_texts], dtype=np.int64
        )
        clicks = records[records["event"] != SKIP]
        pairs = row_of_query[clicks["query"]] * self.num_items + clicks["item"]
        pairs, self._counts = np.unique(pairs, return_counts=True)
        self._items = pairs % self.num_items
        self._starts = np.searchsorted(pairs // self.num_items, np.arange(len(self._rows) + 1))

    def clicks(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """The items clicked for a query and how often, int64 [clicked] each."""
        row = self._rows.get(normalise_query(text))
        span = slice(0, 0) if row is None else slice(self._starts[row], self._starts[row + 1])
        return self._items[span], self._counts[span]

    def score_all(self, examples: Examples) -> np.ndarray:
        """As ``CatalogueRetriever.score_all``: remembered items stand above the best score of the back-off."""
        scores = self._backoff.scores(examples).copy()
        for text, row in zip(examples.texts, scores, strict=True):
            items, counts = self.clicks(text)
            if len(items):
                row[items] = np.ceil(row.max()) + _dense_ranks(counts, row[items])
        return scores


def _dense_ranks(counts: np.ndarray, backoff: np.ndarray) -> np.ndarray:
    """Ranks from 1 of (count, back-off) pairs, ascending; equal pairs share theirs."""
    pairs = np.stack([counts.astype(np.float64), backoff.astype(np.float64)], axis=1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1) + 1
