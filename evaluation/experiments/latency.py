"""Quantiles of latencies in constant memory: a histogram whose buckets grow by 1 %."""

from __future__ import annotations

import math

import numpy as np

_GROWTH = 1.01
_LEAST, _MOST = 1e-3, 1e8
"""Milliseconds; latencies outside count as these."""
_BUCKETS = math.ceil(math.log(_MOST / _LEAST) / math.log(_GROWTH)) + 1


class LatencyHistogram:
    """Latencies of one variant; a quantile is within 0.5 % of that of the values (DDSketch, Masson et al. 2019)."""

    def __init__(self) -> None:
        """Is empty."""
        self._counts = np.zeros(_BUCKETS, np.int64)

    def add(self, milliseconds: np.ndarray) -> None:
        """Adds latencies in milliseconds, float64 [n]."""
        clipped = np.clip(milliseconds, _LEAST, _MOST)
        places = np.floor(np.log(clipped / _LEAST) / math.log(_GROWTH)).astype(np.int64)
        self._counts += np.bincount(places, minlength=_BUCKETS)

    def quantile(self, share: float) -> float | None:
        """The value, in milliseconds, that ``share`` of the latencies do not exceed; None without latencies."""
        total = int(self._counts.sum())
        if not total:
            return None
        rank = max(1, math.ceil(share * total))
        place = int(np.searchsorted(np.cumsum(self._counts), rank))
        return _LEAST * _GROWTH ** (place + 0.5)
