"""Click memory: the items clicked before for the same query, by click count, over a back-off ranking.

The strongest simple baseline on frequent queries, and the back-off alone on queries without a logged click.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from dpsr.baselines.examples import QueryExamples, normalise_query
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.data.dataset.pairs import count_keys
from dpsr.data.dataset.schema import SKIP


class ClickMemoryRetriever(ExhaustiveRetriever):
    """Ranks items by (clicks for the same normalised query, back-off score), both descending."""

    def __init__(self, query_texts: Sequence[str], blocks: Iterable[np.ndarray], backoff: ExhaustiveRetriever) -> None:
        """Counts the clicks of every (query, item) pair; memory grows with distinct pairs, not with clicks.

        Args:
            query_texts: the text of every query row.
            blocks: the log, INTERACTION [n] each.
            backoff: orders the items without a click for a query, and items of equal counts.
        """
        super().__init__(backoff.num_items)
        self._backoff = backoff
        self._rows: dict[str, int] = {}
        row_of_query = np.array(
            [self._rows.setdefault(normalise_query(text), len(self._rows)) for text in query_texts], dtype=np.int64
        )
        clicks = (records[records["event"] != SKIP] for records in blocks)
        pairs, self._counts = count_keys(row_of_query[part["query"]] * self.num_items + part["item"] for part in clicks)
        self._items = pairs % self.num_items
        self._starts = np.searchsorted(pairs // self.num_items, np.arange(len(self._rows) + 1))

    @property
    def index(self) -> str:
        """As ``ExhaustiveRetriever.index``."""
        return f"a table of seen queries; {self._backoff.index}"

    @property
    def index_bytes(self) -> int | None:
        """As ``ExhaustiveRetriever.index_bytes``."""
        table, backoff = (self._items, self._counts, self._starts), self._backoff.index_bytes
        return None if backoff is None else backoff + sum(array.nbytes for array in table)

    def clicks(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Items clicked for a query and their click counts, int64 [clicked] each."""
        row = self._rows.get(normalise_query(text))
        span = slice(0, 0) if row is None else slice(self._starts[row], self._starts[row + 1])
        return self._items[span], self._counts[span]

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        """As ``ExhaustiveRetriever.score_all``; clicked items score above the best of the back-off."""
        scores = self._backoff.scores(examples).copy()
        for text, row in zip(examples.texts, scores, strict=True):
            items, counts = self.clicks(text)
            if len(items):
                row[items] = np.ceil(row.max()) + _dense_ranks(counts, row[items])
        return scores


def _dense_ranks(counts: np.ndarray, backoff: np.ndarray) -> np.ndarray:
    """Ranks of (count, back-off score) pairs from 1, ascending; equal pairs share a rank."""
    pairs = np.stack([counts.astype(np.float64), backoff.astype(np.float64)], axis=1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1) + 1
