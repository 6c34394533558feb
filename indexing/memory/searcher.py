"""The memory searcher in the graph of a servable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from dpsr.indexing.filters import Filters, FilterValues
from dpsr.indexing.memory.clicks import Clicks
from dpsr.indexing.searcher import Found, Queries, ScoringSearcher
from dpsr.indexing.signature import DENSE, MEMORY, MEMORY_MODE
from dpsr.ops_cc.fusion import ClickPrior, fuse
from dpsr.ops_cc.head_merge import NO_ROW
from dpsr.tokenizer_cc.term_op import query_keys


@dataclass(frozen=True)
class MemoryPlan:
    """How clicks and a searcher's scores become one score; see ``MemorySearcher``."""

    half_life: float
    """Age at which a click counts half, as ``index.memory.half_life``."""
    weight: float
    """Clicks that the searcher's list stands for."""
    temperature: float
    """Of the softmax over its scores."""

    def describe(self) -> dict[str, Any]:
        """For the manifest; null for a half-life without end."""
        described = asdict(self)
        return described | {"half_life": None} if self.half_life == float("inf") else described


class Remembered(NamedTuple):
    """Items that were clicked for B queries."""

    rows: tf.Tensor
    """int32 [B, n], item rows; ``NO_ROW`` behind those of a query, once at least where every query has none."""
    counts: tf.Tensor
    """float32 [B, n], decayed clicks; 0 there."""


class ClickMemory(tf.Module):
    """Clicks by query, found by binary search; saves and loads within a SavedModel."""

    def __init__(self, clicks: Clicks) -> None:
        """Keeps the clicks, of one query or more, as variables: constants of a graph are limited to 2 GB."""
        super().__init__(name="click_memory")
        self.queries, self.pairs = len(clicks.keys), len(clicks.rows)
        self._clicks = tuple(tf.Variable(array, trainable=False) for array in clicks)

    def recall(self, texts: tf.Tensor) -> Remembered:
        """The items of queries, string [B]; a query that was never clicked has none."""
        known, row_splits, rows, counts = (variable.read_value() for variable in self._clicks)
        keys = query_keys(texts)
        places = tf.searchsorted(known, keys, out_type=tf.int64)
        begins, ends = tf.gather(row_splits, places), tf.gather(row_splits, tf.minimum(places + 1, self.queries))
        at = tf.minimum(places, self.queries - 1)
        is_known = (places < self.queries) & (tf.gather(known, at) == keys)
        lengths = tf.where(is_known, ends - begins, 0)
        found = begins[:, tf.newaxis] + tf.range(tf.reduce_max(tf.pad(lengths, [[0, 1]], constant_values=1)))
        inside = found < (begins + lengths)[:, tf.newaxis]
        found = tf.where(inside, found, 0)
        return Remembered(
            tf.where(inside, tf.gather(rows, found), NO_ROW), tf.where(inside, tf.gather(counts, found), 0.0)
        )


class MemorySearcher(tf.Module):
    """Adds what was clicked for the same query to the list of another searcher.

    The score of an item with c decayed clicks for the query is ``log(c + weight * softmax(score / temperature))``: the
    other searcher's list is a prior of ``weight`` clicks, shared out by a softmax over its items and the clicked ones.
    So a query that nobody asked before has the other searcher's order, and a frequent one what people click now.
    """

    name = "memory"

    def __init__(
        self, memory: ClickMemory, prior: ScoringSearcher, filters: Filters, plan: MemoryPlan, *, default: bool = True
    ) -> None:
        """Joins a memory and a searcher over the same items.

        Args:
            memory: the clicks.
            prior: finds and scores items.
            filters: over the same items, row by row.
            plan: weights.
            default: whether a request that asks for nothing is answered with the clicks.
        """
        super().__init__(name=self.name)
        self.memory, self.prior = memory, prior
        self.plan = plan
        self.k = prior.k
        self.release = prior.release
        self._filters = filters
        without = dict(prior.modes) or {"dense": DENSE, "": DENSE}
        with_clicks = without[""] | MEMORY
        self.modes: Mapping[str, int] = {
            **without,
            MEMORY_MODE: with_clicks,
            "": with_clicks if default else without[""],
        }

    def describe(self) -> dict[str, Any]:
        """Queries and pairs of the memory, and the plan."""
        return {"queries": self.memory.queries, "pairs": self.memory.pairs, **self.plan.describe()}

    def search(self, queries: Queries) -> Found:
        """As ``Searcher.search``."""
        return self._search(queries, None)

    def search_matching(self, queries: Queries, wanted: FilterValues) -> Found:
        """As ``Searcher.search_matching``."""
        return self._search(queries, wanted)

    def _search(self, queries: Queries, wanted: FilterValues | None) -> Found:
        remembered = self.memory.recall(queries.texts)
        if wanted is not None:
            remembered = remembered._replace(rows=self._filters.request(wanted).keep_matching(remembered.rows))
        found, scores = self.prior.search_and_score(queries, remembered.rows, wanted)
        joined = self._join(found, remembered, scores)
        if queries.wanted is None:
            return joined
        asked = (queries.wanted & MEMORY > 0)[:, tf.newaxis]
        return Found(
            *(tf.where(asked, with_clicks, without) for with_clicks, without in zip(joined, found, strict=True))
        )

    def _join(self, found: Found, remembered: Remembered, scores: tf.Tensor) -> Found:
        """The list with its clicks; ``scores``, float32 [B, n], are those of the remembered items."""
        fused = fuse(
            [(found.rows, found.scores), (remembered.rows, scores)],
            self.k,
            combine="first",
            clicks=ClickPrior(*remembered, weight=self.plan.weight, temperature=self.plan.temperature),
        )
        in_list, place = (fused.lists & 1) > 0, fused.places
        at = tf.where(in_list, place, 0)
        heads = tf.where(in_list, tf.gather(found.heads, at, batch_dims=1), NO_ROW)
        sources = tf.where(in_list, tf.gather(found.sources, at, batch_dims=1), 0)
        return Found(fused.rows, fused.scores, heads, sources + tf.where((fused.lists & 2) > 0, MEMORY, 0))
