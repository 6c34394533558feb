"""An index in segments: a large one that stays as it was built, what came later, and what was removed since.

Row r < B is row r of the base segment, of B rows; row B + i is row i of the fresh one. Rows of the base segment whose
item was removed or changed stay in it as tombstones, and no search returns them.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from dpsr.indexing.dense.ann import Index
from dpsr.ops_cc.head_merge import NO_ROW, NO_SCORE

BASE, FRESH = "base_segment", "fresh_segment"
"""Names of the segments' searchers."""
_MARGIN = 1.5
"""Over-fetch over the number of tombstones that a list meets where they are spread evenly ..."""
_LEAST_OVERFETCH = 32
"""... and at least this many."""
_WIDER = 16
"""A list that tombstones left too short is searched again among this many times as many rows, then among all."""
_EXACT = 1 << 62


class VectorIndex(Protocol):
    """What a searcher asks of an index: ``ann.Index`` or ``SegmentedIndex``."""

    k: int
    """Rows of a search, at most those that can be found."""
    items: int
    """Rows, tombstones included."""
    release: Any
    """See ``Searcher.release``."""

    def search_best(self, vectors: tf.Tensor, count: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See ``ann.Index.search_best``."""

    def scores_of(self, vectors: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """See ``ann.Index.scores_of``."""

    def best_of_rows(self, heads: tf.Tensor, rows: tf.RaggedTensor, k: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """See ``ann.Index.best_of_rows``."""

    def describe(self) -> dict[str, Any]:
        """Parameters for the manifest."""


class SegmentedIndex(tf.Module):
    """The nearest rows among those of a base segment without its tombstones, and those of a fresh segment.

    The fresh segment is searched exactly. It saves and loads within a SavedModel as ``ann.Index`` does.
    """

    def __init__(self, base: Index, fresh: np.ndarray, removed: np.ndarray, k: int) -> None:
        """Joins segments.

        Args:
            base: built with the name ``BASE``; used as it is.
            fresh: float32 [n, d], the vectors of the fresh segment; n may be 0.
            removed: integers [m], the tombstones: distinct rows of the base segment.
            k: rows of a search, at most those that can be found.

        Raises:
            ValueError: nothing can be found, or a tombstone is no row of the base segment.
        """
        super().__init__(name="segments")
        if len(removed) and not 0 <= removed.min() <= removed.max() < base.items:
            raise ValueError(
                f"tombstones {removed.min()}..{removed.max()}; expected rows of a base segment of {base.items}"
            )
        self._base = base
        self._fresh: Index | None = None
        if len(fresh):
            none = np.empty((0, fresh.shape[1]), np.float32)
            self._fresh = Index.build(fresh, k, queries=none, exact_below=_EXACT, name=FRESH)
        self.num_fresh, self.num_removed = len(fresh), len(removed)
        self._live_of_base = base.items - len(removed)
        if not (live := self._live_of_base + len(fresh)):
            raise ValueError("all rows of the base segment are tombstones, and there is no fresh one")
        self.k = min(k, live)
        self.items = base.items + len(fresh)
        # As a variable: constants of a graph are limited to 2 GB.
        is_removed = np.zeros(base.items, bool)
        is_removed[removed] = True
        self._removed = tf.Variable(is_removed, trainable=False, name="removed")
        self.release = tf.function(self._release, input_signature=[], autograph=False)
        # Traced once, for all signatures of a servable and all branches of their searches.
        signature = [tf.TensorSpec([None, fresh.shape[1]]), tf.TensorSpec([], tf.int32)]
        self._search = tf.function(self._search_segments, input_signature=signature, autograph=False)

    def describe(self) -> dict[str, Any]:
        """The plan of the base segment, k, and the sizes of the segments, for manifests."""
        base = self._base.describe()
        sizes = {"fresh": self.num_fresh, "removed": self.num_removed}
        return {**base, "k": self.k, "segments": {"base": {**base, "items": self._base.items}, **sizes}}

    def search_best(self, vectors: tf.Tensor, count: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See ``ann.Index.search_best``; rows of the base segment stand before equal fresh ones."""
        rows, scores = self._search(vectors, count)
        return rows, scores

    def _search_segments(self, vectors: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows, scores = self._search_base(vectors, count)
        if self._fresh is not None:
            width = tf.minimum(count, self.num_fresh)
            fresh_rows, fresh_scores = self._fresh.search_best(vectors, width)
            fresh_rows = tf.where(fresh_rows >= 0, fresh_rows + self._base.items, NO_ROW)
            rows, scores = tf.concat([rows, fresh_rows], axis=1), tf.concat([scores, fresh_scores], axis=1)
        return _best(rows, scores, count)

    def scores_of(self, vectors: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """See ``ann.Index.scores_of``; a tombstone has the score of the item that it was."""
        scores = self._base.scores_of(vectors, tf.minimum(rows, self._base.items - 1))
        if self._fresh is None:
            return scores
        of_fresh = self._fresh.scores_of(vectors, tf.maximum(rows - self._base.items, 0))
        return tf.where((rows < self._base.items)[:, tf.newaxis], scores, of_fresh)

    def best_of_rows(self, heads: tf.Tensor, rows: tf.RaggedTensor, k: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Exact search among given rows, none of them a tombstone; see ``ann.Index.best_of_rows``."""
        if self._fresh is None:
            return self._base.best_of_rows(heads, rows, k)
        of_base = rows.with_values(rows.values < self._base.items)
        of_fresh = tf.ragged.boolean_mask(rows, tf.logical_not(of_base))
        lists = (
            self._base.best_of_rows(heads, tf.ragged.boolean_mask(rows, of_base), k),
            self._fresh.best_of_rows(heads, of_fresh - self._base.items, k),
        )
        fresh_rows = tf.where(lists[1][0] >= 0, lists[1][0] + self._base.items, NO_ROW)
        found = tf.concat([lists[0][0], fresh_rows], axis=1)
        scores, places = tf.math.top_k(tf.concat([lists[0][1], lists[1][1]], axis=1), k)
        best_heads = tf.gather(tf.concat([lists[0][2], lists[1][2]], axis=1), places, batch_dims=1)
        return tf.gather(found, places, batch_dims=1), scores, best_heads

    def _search_base(self, vectors: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The nearest rows of the base segment, at least ``count`` wide, with ``NO_ROW`` in place of tombstones."""
        if not self.num_removed:
            return self._base.search_best(vectors, count)
        width, most = self._width(count), self._most(count)
        rows, scores = self._without_tombstones(*self._base.search_best(vectors, width))
        for wider in (tf.minimum(most, _WIDER * width), most):
            rows, scores = self._widened(vectors, rows, scores, count, width, wider)
            width = wider
        return rows, scores

    def _widened(
        self,
        vectors: tf.Tensor,
        rows: tf.Tensor,
        scores: tf.Tensor,
        count: tf.Tensor,
        width: tf.Tensor,
        wider: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The lists of a search among ``width`` rows, those that tombstones left short searched again among more."""
        found = tf.math.count_nonzero(rows >= 0, axis=1, dtype=tf.int32)
        is_short = (found < tf.minimum(count, self._live_of_base)) & (width < wider)

        def search_short() -> tuple[tf.Tensor, tf.Tensor]:
            places = tf.where(is_short)
            again = self._without_tombstones(*self._base.search_best(tf.gather(vectors, places[:, 0]), wider))
            lists = zip(_best(rows, scores, count), _best(*again, count), strict=True)
            best_rows, best_scores = (tf.tensor_scatter_nd_update(old, places, new) for old, new in lists)
            return best_rows, best_scores

        widened: tuple[tf.Tensor, tf.Tensor] = tf.cond(tf.reduce_any(is_short), search_short, lambda: (rows, scores))
        return widened

    def _width(self, count: tf.Tensor) -> tf.Tensor:
        """The rows that the base segment is first asked for."""
        share = self.num_removed / max(self._live_of_base, 1)
        extra = tf.cast(tf.math.ceil(_MARGIN * share * tf.cast(count, tf.float64)), tf.int64)
        extra = tf.maximum(extra, _LEAST_OVERFETCH)
        return tf.cast(tf.minimum(tf.cast(count, tf.int64) + extra, tf.cast(self._most(count), tf.int64)), tf.int32)

    def _most(self, count: tf.Tensor) -> tf.Tensor:
        """The rows of the base segment among which ``count`` are no tombstones; all of them where fewer are none."""
        wanted = tf.minimum(tf.cast(count, tf.int64) + self.num_removed, self._base.items)
        return tf.cast(wanted, tf.int32)

    def _without_tombstones(self, rows: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        kept = (rows >= 0) & ~tf.gather(self._removed.read_value(), tf.maximum(rows, 0))
        return tf.where(kept, rows, NO_ROW), tf.where(kept, scores, NO_SCORE)

    def _release(self) -> None:
        """Frees the searchers of the segments; see ``ann.Index``."""
        for segment in (self._base, self._fresh):
            if segment is not None:
                segment.release()


def _best(rows: tf.Tensor, scores: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The ``count`` entries of largest score in every list, earlier ones before equal ones; padded with ``NO_ROW``."""
    missing = [[0, 0], [0, tf.maximum(count - tf.shape(rows)[1], 0)]]
    rows = tf.pad(rows, missing, constant_values=NO_ROW)
    scores, places = tf.math.top_k(tf.pad(scores, missing, constant_values=NO_SCORE), count)
    return tf.gather(rows, places, batch_dims=1), scores
