"""Negatives of clicks: items of a pool of the click's query, or of the whole catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np

from dpsr.data.dataset.schema import SKIP


class NegativePools:
    """For each query the items that its negatives are drawn from: those skipped for it, or found by another method."""

    def __init__(
        self, queries: np.ndarray, pools: Iterable[np.ndarray], clicks: Iterable[np.ndarray], num_items: int
    ) -> None:
        """Takes what the pools are collected from when they are first asked for.

        Memory grows with the pools, not with the log.

        Args:
            queries: query rows that negatives are drawn for, integers [n].
            pools: INTERACTION blocks, of which query and item are read; the probability of an item is its share of the
                query's records.
            clicks: INTERACTION blocks; a pair of query and item among them is in no pool.
            num_items: size of the catalogue, at least 2.
        """
        self._asked = queries
        self._blocks = pools
        self._clicks = clicks
        self._num_items = num_items

    def has(self, queries: np.ndarray) -> np.ndarray:
        """Returns whether queries have a pool, integers [n] -> bool [n]."""
        return np.isin(queries, self._pools[0])

    def draw(self, clicks: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draws negatives, uniform ones for a query without a pool; never the clicked item.

        Args:
            clicks: INTERACTION [n].
            count: negatives of each click.
            rng: the source of the draw.

        Returns:
            Item rows int32 [n, count].
        """
        queries, items = self._pools
        start, end = (np.searchsorted(queries, clicks["query"], side) for side in ("left", "right"))
        drawn = random_negatives(clicks, count, self._num_items, rng)
        found = np.flatnonzero(end > start)
        places = rng.integers(start[found, None], end[found, None], (len(found), count))
        drawn[found] = items[places]
        return drawn

    @cached_property
    def _pools(self) -> tuple[np.ndarray, np.ndarray]:
        """Queries and items of all pools, int64 [n] each, in the order of the queries."""
        asked = np.unique(self._asked)
        pairs = np.sort(np.concatenate([np.empty(0, np.int64), *(self._pairs(block, asked) for block in self._blocks)]))
        clicked = np.zeros(len(pairs) + 1, dtype=np.int64)
        for block in self._clicks:
            keys = np.unique(self._pairs(block[block["event"] != SKIP], asked))
            np.add.at(clicked, np.searchsorted(pairs, keys, "left"), 1)
            np.add.at(clicked, np.searchsorted(pairs, keys, "right"), -1)
        pairs = pairs[np.cumsum(clicked)[:-1] == 0]
        return pairs // self._num_items, pairs % self._num_items

    def _pairs(self, records: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """Keys query * items + item of the records of ``asked`` queries, int64."""
        records = records[np.isin(records["query"], asked)]
        return records["query"].astype(np.int64) * self._num_items + records["item"]


def random_negatives(clicks: np.ndarray, count: int, num_items: int, rng: np.random.Generator) -> np.ndarray:
    """Draws items uniformly from all but the clicked one: INTERACTION [n] -> item rows int32 [n, count]."""
    drawn = rng.integers(0, num_items - 1, (len(clicks), count))
    drawn += drawn >= clicks["item"][:, None]
    return drawn.astype(np.int32)
