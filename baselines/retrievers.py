"""What can be evaluated: anything that finds items for a query, and exact search over a whole catalogue."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np

from dpsr.baselines.examples import Examples
from dpsr.baselines.ranking import top_k

_SCORES_AT_ONCE = 1 << 22  # 16 MiB of float32
_QUERIES_AT_ONCE = 1024


def queries_at_once(num_items: int) -> int:
    """How many queries are scored together against a catalogue of this size."""
    return min(_QUERIES_AT_ONCE, max(1, _SCORES_AT_ONCE // num_items))


class Retriever(Protocol):
    """Finds and scores items for queries; both answers come from the same scores."""

    def retrieve(self, examples: Examples, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best items of the whole catalogue.

        Returns:
            Item rows int32 [n, k] and scores float32 [n, k], best first; -1 and -inf where nothing more was found. Of
            equal scores at the cut no item may be favoured (``ranking.top_k``).
        """
        ...

    def score(self, examples: Examples, candidates: np.ndarray) -> np.ndarray:
        """Scores given items.

        Args:
            examples: n examples.
            candidates: item rows, int32 [n, c].

        Returns:
            float32 [n, c], without NaN.
        """
        ...


class CatalogueRetriever(ABC):
    """A retriever by exact search: scores the whole catalogue for a few queries at a time.

    The last scores are kept: ``retrieve``, ``score`` and retrievers that build on this one ask for the same examples.
    """

    index = "exact: every item is scored"
    """How items are found, for who reads how long it takes."""

    def __init__(self, num_items: int) -> None:
        """Sets the size of the catalogue."""
        self.num_items = num_items
        self._last: tuple[tuple[bytes, tuple[str, ...]], np.ndarray] | None = None

    @abstractmethod
    def score_all(self, examples: Examples) -> np.ndarray:
        """Scores of all items, float32 [n, items]; n is small."""

    def scores(self, examples: Examples) -> np.ndarray:
        """What ``score_all`` says, computed once for the same examples; not to be written to."""
        key = examples.records.tobytes(), tuple(examples.texts)
        if self._last is None or self._last[0] != key:
            self._last = key, self.score_all(examples)
        return self._last[1]

    def retrieve(self, examples: Examples, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As ``Retriever.retrieve``; k is at most the size of the catalogue."""
        found = [top_k(self.scores(chunk), k, chunk.tie_keys) for chunk in self._chunks(examples)]
        return np.concatenate([items for items, _ in found]), np.concatenate([scores for _, scores in found])

    def score(self, examples: Examples, candidates: np.ndarray) -> np.ndarray:
        """As ``Retriever.score``."""
        scores = np.empty(candidates.shape, dtype=np.float32)
        start = 0
        for chunk in self._chunks(examples):
            rows = slice(start, start + len(chunk))
            scores[rows] = np.take_along_axis(self.scores(chunk), candidates[rows], axis=1)
            start += len(chunk)
        return scores

    def _chunks(self, examples: Examples) -> list[Examples]:
        return examples.chunks(queries_at_once(self.num_items))
