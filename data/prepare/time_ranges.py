"""Quantiles of records by time: ranges with about equally many records, whatever the distribution of their times."""

from __future__ import annotations

import numpy as np

from dpsr.data.dataset import spill

_SAMPLES_OF_BUCKET = 1024


class TimeRanges:
    """Ranges by (time, place in the log), with about ``spill.BUCKET_RECORDS`` records in each.

    Regular sampling: of every block, sorted, each ``step``-th record is a sample, and each 1,024-th sample ends a
    range. A range therefore holds at most ``spill.BUCKET_RECORDS + step * blocks`` records. Records of one time are
    cut by their place in the log, so that a time which millions of records share fills several ranges.
    """

    def __init__(self) -> None:
        """Starts without a sample: one range."""
        self._step = max(1, spill.BUCKET_RECORDS // _SAMPLES_OF_BUCKET)
        self._times: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._edge_times = self._edges = np.empty(0, dtype=np.int64)
        self._num_rows = 1

    def __len__(self) -> int:
        """The number of ranges."""
        return len(self._edges) + 1

    def add(self, records: np.ndarray) -> None:
        """Samples a block of records, TIMED [n], in the order of their places in the log."""
        order = np.argsort(records["time"], kind="stable")[self._step - 1 :: self._step]
        self._times.append(records["time"][order])
        self._rows.append(records["row"][order])

    def cut(self, num_rows: int) -> None:
        """Places the edges, once all blocks were sampled; every place in the log is below ``num_rows``."""
        times, rows = (np.concatenate([np.empty(0, np.int64), *parts]) for parts in (self._times, self._rows))
        order = np.lexsort((rows, times))
        samples_of_range = max(1, spill.BUCKET_RECORDS // self._step)
        # The last of the samples ends no range, as nothing but records between two samples may follow it.
        last = order[samples_of_range - 1 : len(order) - 1 : samples_of_range]
        self._num_rows = num_rows
        self._edge_times = np.unique(times[last])
        self._edges = self._codes(times[last], rows[last])
        self._times, self._rows = [], []

    def of(self, records: np.ndarray) -> np.ndarray:
        """The range of each record, integers [n] for TIMED [n]; ranges ascend by (time, place in the log)."""
        return np.searchsorted(self._edges, self._codes(records["time"], records["row"]))

    def _codes(self, times: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Integers in the order of (time, row) to the resolution of the edges, int64 [n]."""
        if not len(self._edge_times):
            return np.zeros(len(times), dtype=np.int64)
        place = np.searchsorted(self._edge_times, times)
        at_edge = self._edge_times[np.minimum(place, len(self._edge_times) - 1)] == times
        return (2 * place + at_edge) * self._num_rows + np.where(at_edge, rows, 0)
