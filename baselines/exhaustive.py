"""Exhaustive search: every item of the catalogue gets a score, the k best are returned."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.ranking import top_k

_SCORES_AT_ONCE = 1 << 22  # 16 MiB of float32
_QUERIES_AT_ONCE = 1024


def queries_at_once(num_items: int) -> int:
    """Number of queries in one batch of scores against a catalogue of ``num_items`` items; 16 MiB of scores at most."""
    return min(_QUERIES_AT_ONCE, max(1, _SCORES_AT_ONCE // num_items))


class ExhaustiveRetriever(ABC):
    """A ``Retriever`` and ``Scorer`` that scores the whole catalogue, a batch of queries at a time.

    The scores of the last batch are cached, because ``retrieve``, ``score`` and mixtures of this retriever ask for the
    same queries one after another.
    """

    def __init__(self, num_items: int) -> None:
        """Initialises the search over ``num_items`` items."""
        self.num_items = num_items
        self._last: tuple[tuple[bytes, tuple[str, ...]], np.ndarray] | None = None

    @property
    def index(self) -> str:
        """Search structure, as printed beside retrieval times."""
        return "exact: every item is scored"

    @property
    def index_bytes(self) -> int | None:
        """Bytes of what the search holds of the items; None where it is not known."""
        return None

    @abstractmethod
    def score_all(self, examples: QueryExamples) -> np.ndarray:
        """Computes the scores of all items, n queries -> float32 [n, items]; n <= ``queries_at_once``.

        Minus infinity stands for an item that is not retrieved.
        """

    def scores(self, examples: QueryExamples) -> np.ndarray:
        """Returns ``score_all`` of a batch, cached for the last one; float32 [n, items], read-only for callers."""
        key = examples.records.tobytes(), tuple(examples.texts)
        if self._last is None or self._last[0] != key:
            self._last = key, self.score_all(examples)
        return self._last[1]

    def retrieve(self, examples: QueryExamples, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As ``Retriever.retrieve``; the lists are min(k, items) long."""
        found = [top_k(self.scores(batch), k, batch.tie_keys) for batch in self._batches(examples)]
        if not found:
            shape = 0, min(k, self.num_items)
            return np.empty(shape, np.int32), np.empty(shape, np.float32)
        items, scores = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        items[np.isneginf(scores)] = -1
        return items, scores

    def score(self, examples: QueryExamples, candidates: np.ndarray) -> np.ndarray:
        """As ``Scorer.score``."""
        scores = np.empty(candidates.shape, dtype=np.float32)
        start = 0
        for batch in self._batches(examples):
            rows = slice(start, start + len(batch))
            scores[rows] = np.take_along_axis(self.scores(batch), candidates[rows], axis=1)
            start += len(batch)
        return scores

    def _batches(self, examples: QueryExamples) -> list[QueryExamples]:
        return examples.batches(queries_at_once(self.num_items))
