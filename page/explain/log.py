"""What users did for a query, by the interactions of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from dpsr.data.dataset.schema import EVENTS, SPLITS
from dpsr.data.dataset.tables import Dataset
from dpsr.page.contract import Clicks
from dpsr.tokenizer_cc.terms import query_keys

_TEXTS_AT_ONCE = 1 << 16

Blocks = Callable[[], Iterator[np.ndarray]]


class QueryLog:
    """The interactions of all splits and the skips, by query.

    Queries that ``query_keys`` counts together are one: case, spaces and plurals do not count. In memory are 20 bytes
    for each distinct query text and 5 for each record; making the index takes 8 more for each of a million records.
    """

    def __init__(self, dataset: Dataset) -> None:
        """Reads the log twice: to count the records of every query, and to put them in their places."""
        texts = dataset.query_texts()
        keys = np.zeros(len(texts), np.int64)
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = texts.slice(start, _TEXTS_AT_ONCE).to_pylist()
            keys[start : start + len(part)] = query_keys(part)
        self._rows = np.argsort(keys, kind="stable").astype(np.int32)
        self._keys = keys[self._rows]
        sources: list[Blocks] = [partial(dataset.interaction_blocks, split) for split in SPLITS]
        sources.append(dataset.skip_blocks)
        counts = np.zeros(len(texts), np.int64)
        for blocks in sources:
            for block in blocks():
                counts += np.bincount(block["query"], minlength=len(texts))
        self._splits = np.concatenate([[0], np.cumsum(counts)])
        self._items = np.empty(self._splits[-1], np.int32)
        self._events = np.empty(self._splits[-1], np.uint8)
        free = self._splits[:-1].copy()
        for blocks in sources:
            for block in blocks():
                self._place(block, free)

    def clicks(self, query: str, item_row: int) -> tuple[Clicks, ...]:
        """How often each kind of event was seen of a query and an item; kinds without one are left out.

        Args:
            query: its text.
            item_row: of the dataset.
        """
        (key,) = query_keys([query]).tolist()
        first, end = (int(np.searchsorted(self._keys, key, side)) for side in ("left", "right")) if key else (0, 0)
        counts = np.zeros(max(EVENTS.values()) + 1, np.int64)
        for row in self._rows[first:end].tolist():
            records = slice(self._splits[row], self._splits[row + 1])
            events = self._events[records][self._items[records] == item_row]
            counts += np.bincount(events, minlength=len(counts))
        return tuple(Clicks(event=name, count=int(counts[bit])) for name, bit in EVENTS.items() if counts[bit])

    def _place(self, block: np.ndarray, free: np.ndarray) -> None:
        """Puts records behind those of the same query; ``free`` is the next place of every query."""
        order = np.argsort(block["query"], kind="stable")
        queries = block["query"][order]
        if not len(queries):
            return
        distinct, starts, counts = np.unique(queries, return_index=True, return_counts=True)
        places = np.arange(len(queries)) + np.repeat(free[distinct] - starts, counts)
        self._items[places] = block["item"][order]
        self._events[places] = block["event"][order]
        free[distinct] += counts
