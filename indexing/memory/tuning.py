"""The choice of half-life, weight and temperature by clicks of the valid split."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dpsr.indexing.memory.clicks import Clicks
from dpsr.indexing.memory.searcher import MemoryPlan
from dpsr.indexing.valid_clicks import gain
from dpsr.tokenizer_cc.terms import query_keys

SHARES_OF_SPAN = (*(2.0**-power for power in range(11, 0, -1)), math.inf)
"""Half-lives that are tried, as shares of the time from the first to the last click of the train split."""
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
TEMPERATURES = (0.02, 0.035, 0.05, 0.07, 0.1, 0.15, 0.25)
"""Where scores are inner products of unit vectors, or fused."""
BM25_SCALE = 20.0
"""By which temperatures are higher where the scores are those of BM25, which spread wider."""
UNTUNED = MemoryPlan(math.inf, 2.0, 0.1)
"""Where no click can choose."""


@dataclass(frozen=True)
class TunedMemory:
    """A plan, and the mean nDCG of the lists that it was chosen by; see ``valid_clicks.gain``."""

    plan: MemoryPlan
    clicks: int
    """Examples it was chosen on; 0: none."""
    ndcg: dict[str, float]
    """``without`` the clicks, and with them in ``memory``."""
    given: bool = False
    """Whether the configuration left nothing to choose."""

    @property
    def helps(self) -> bool:
        """Whether requests are answered with the clicks by default."""
        return self.given or not self.clicks or self.ndcg["memory"] > self.ndcg["without"]

    @classmethod
    def described(cls, entry: Mapping[str, Any]) -> TunedMemory:
        """The inverse of ``MemoryPlan.describe`` and ``describe``, in one entry of a manifest."""
        half_life = math.inf if entry["half_life"] is None else entry["half_life"]
        plan = MemoryPlan(half_life, entry["weight"], entry["temperature"])
        return cls(plan, entry["clicks"], entry["ndcg"], given=entry["given"])

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "given": self.given,
            "default": self.helps,
            "clicks": self.clicks,
            "ndcg": self.ndcg,
        }


class Scored(NamedTuple):
    """The lists of n queries, and the scores of items that were clicked for them, which may stand in the lists too."""

    rows: np.ndarray
    """int32 [n, k]; negative where there is no item."""
    scores: np.ndarray
    """float32 [n, k]."""
    remembered_scores: np.ndarray
    """float32 [n, c], of the remembered items."""


class Recalled(NamedTuple):
    """Items that were clicked for n queries, at most c of each."""

    rows: np.ndarray
    """int32 [n, c], ascending behind -1 where there are fewer."""
    counts: dict[float, np.ndarray]
    """float32 [n, c] for each half-life."""


def recall(clicks: Mapping[float, Clicks], texts: Sequence[str]) -> Recalled:
    """What the clicks of any half-life hold of queries."""
    keys = query_keys(texts)
    spans = {half_life: _spans(of_half_life, keys) for half_life, of_half_life in clicks.items()}
    items = [
        np.unique(np.concatenate([clicks[half_life].rows[spans[half_life][query]] for half_life in clicks]))
        for query in range(len(texts))
    ]
    shape = (len(texts), max(map(len, items), default=0))
    rows = np.full(shape, -1, np.int32)
    counts = {half_life: np.zeros(shape, np.float32) for half_life in clicks}
    for query, found in enumerate(items):
        first = shape[1] - len(found)
        rows[query, first:] = found
        for half_life, of_half_life in clicks.items():
            span = spans[half_life][query]
            places = first + np.searchsorted(found, of_half_life.rows[span])
            counts[half_life][query, places] = of_half_life.counts[span]
    return Recalled(rows, counts)


def _spans(clicks: Clicks, keys: np.ndarray) -> list[slice]:
    """Where the items of each query stand."""
    places = np.searchsorted(clicks.keys, keys)
    known = np.append(clicks.keys, 0)[places] == keys
    known &= places < len(clicks.keys)
    ends = np.append(clicks.row_splits, clicks.row_splits[-1:])
    return [
        slice(ends[place], ends[place + 1]) if is_known else slice(0, 0)
        for place, is_known in zip(places.tolist(), known.tolist(), strict=True)
    ]


def tune_memory(
    scored: Scored,
    recalled: Recalled,
    clicked: np.ndarray,
    *,
    weight: float | None = None,
    temperature: float | None = None,
    scale: float = 1.0,
) -> TunedMemory:
    """Chooses the plan with the best mean nDCG of the clicked item; the first of equals.

    Args:
        scored: what the searcher found, and how it scores the rows of ``recalled``.
        recalled: of clicks before those of ``clicked``.
        clicked: int32 [n], the item row that each query led to; n > 0.
        weight: the only one that is tried; None for ``WEIGHTS``.
        temperature: the only one that is tried; None for ``TEMPERATURES`` times ``scale``.
        scale: how much wider the scores spread.
    """
    weights = WEIGHTS if weight is None else (weight,)
    temperatures = [scale * each for each in TEMPERATURES] if temperature is None else [temperature]
    union = _Union(scored, recalled.rows, clicked)
    priors = {tried: union.prior(tried) for tried in temperatures}
    found: dict[MemoryPlan, float] = {}
    for half_life, counts in recalled.counts.items():
        placed = union.placed(counts)
        for (tried, prior), share in itertools.product(priors.items(), weights):
            found[MemoryPlan(half_life, share, tried)] = union.ndcg(placed + np.float32(share) * prior)
    best = max(found, key=lambda plan: found[plan])
    means = {"without": union.ndcg_of_lists(), "memory": found[best]}
    return TunedMemory(best, len(clicked), means, given=len(found) == 1)


class _Union:
    """All items that may answer a query, each once: the list, then what else was remembered; arrays [n, k + c]."""

    def __init__(self, scored: Scored, remembered: np.ndarray, clicked: np.ndarray) -> None:
        self._listed = scored.rows >= 0
        of_query, of_list, of_memory = [], [], []
        for query, (found, clicks) in enumerate(zip(scored.rows, remembered, strict=True)):
            common, places, at = np.intersect1d(found, clicks, return_indices=True)
            of_query += [query] * np.count_nonzero(common >= 0)
            of_list += places[common >= 0].tolist()
            of_memory += at[common >= 0].tolist()
        self._both = (np.array(of_query, int), np.array(of_list, int), np.array(of_memory, int))
        others = remembered.copy()
        others[self._both[0], self._both[2]] = -1
        rows = np.concatenate([scored.rows, others], axis=1)
        self._is_item, self._is_clicked = rows >= 0, rows == clicked[:, np.newaxis]
        self._scores = np.concatenate([scored.scores, scored.remembered_scores], axis=1)

    def placed(self, counts: np.ndarray) -> np.ndarray:
        """The counts of the remembered items, [n, c], where these stand, and 0 elsewhere."""
        query, of_list, of_memory = self._both
        in_list = np.zeros(self._listed.shape, np.float32)
        in_list[query, of_list] = counts[query, of_memory]
        return np.concatenate([in_list, counts], axis=1)

    def prior(self, temperature: float) -> np.ndarray:
        """The softmax over the scores of each query, float32."""
        scores = np.where(self._is_item, self._scores, -np.inf)
        best = scores.max(axis=1, keepdims=True)
        shares = np.exp((scores - np.where(np.isfinite(best), best, 0)) / temperature)
        return (shares / np.maximum(shares.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)).astype(np.float32)

    def ndcg(self, scores: np.ndarray) -> float:
        """The mean ``gain`` of the clicked item, 0 where it is missing; half of the tied ones come before it."""
        return self._ndcg(scores, self._is_item)

    def ndcg_of_lists(self) -> float:
        """The same of the lists as they are."""
        only = np.zeros_like(self._is_item)
        only[:, : self._listed.shape[1]] = self._listed
        return self._ndcg(self._scores, only)

    def _ndcg(self, scores: np.ndarray, taken: np.ndarray) -> float:
        is_clicked = self._is_clicked & taken
        target = np.where(is_clicked, scores, 0).sum(axis=1, keepdims=True)
        better = np.count_nonzero((scores > target) & taken, axis=1)
        tied = np.count_nonzero((scores == target) & taken, axis=1)
        found = is_clicked.any(axis=1)
        return float(np.where(found, gain(np.where(found, better + 0.5 * (tied - 1) + 1, 1)), 0).mean())
