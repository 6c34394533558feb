"""The nearest-neighbour index: ScaNN's TensorFlow ops behind one ``search``.

What is built depends on the size of the catalogue, in the order of growing size:

* ``exact``: every vector is scored in float32;
* ``hashed``: asymmetric hashing scores every vector by its 4-bit codes, and the best ``reorder`` are scored again by
  the vectors themselves, in float32 or, for a quarter of the memory, in 8-bit fixed point;
* ``tree``: a k-means tree chooses ``leaves_to_search`` of ``num_leaves`` leaves first.

``tuning`` measures how much of the catalogue the approximate kinds have to score.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from scann.scann_ops.py import scann_ops
from scann.scann_ops.py.scann_builder import ReorderType

from dpsr.indexing.dense.state import ScannVariables
from dpsr.indexing.dense.tuning import SearchPlan, Tuned, first_plan, tune
from dpsr.ops_cc.head_merge import NO_ROW, NO_SCORE
from dpsr.ops_cc.row_search import best_of_rows

__all__ = ["TREE_FROM", "Index", "Precision", "SearchPlan"]

Precision = Literal["float32", "int8"]
TREE_FROM = 100_000
"""Items from which a tree makes a search faster."""
_ANISOTROPIC_THRESHOLD = 0.2
_DIMENSIONS_PER_BLOCK = 2
_SMALLEST_HASHED = 16
"""The centres of a hash block: fewer vectors cannot be hashed."""
_TENSOR_ALIGNMENT = 64
_ROWS_READ_AT_ONCE = 1 << 16
# bfloat16 reordering cannot be serialized.
_REORDERING = {"float32": ReorderType.FLOAT32, "int8": ReorderType.INT8}


class Index(tf.Module):
    """The k rows of largest inner product for a batch of vectors; saves and loads within a SavedModel.

    Saving needs ``SaveOptions(namespace_whitelist=["Scann"])``. The first search builds ScaNN's searcher from the saved
    tensors, in about 1 s per million items.
    """

    def __init__(
        self, state: ScannVariables, tuned: Tuned, *, k: int, items: int, dimension: int, precision: Precision
    ) -> None:
        """Wraps ScaNN's tensors; see ``build``."""
        super().__init__(name="index")
        self._state = state
        self.tuned = tuned
        self.plan = tuned.plan
        self.k = k
        self.items = items
        self.precision: Precision = precision
        self.search = tf.function(
            self._search,
            input_signature=[tf.TensorSpec([None, dimension], tf.float32, "vectors")],
            autograph=False,
        )
        self.release = tf.function(self._release, input_signature=[], autograph=False)

    @classmethod
    def build(
        cls,
        vectors: np.ndarray,
        k: int,
        *,
        queries: np.ndarray,
        exact_below: int = 20_000,
        tree_from: int = TREE_FROM,
        target_recall: float = 0.975,
        precision: Precision = "float32",
        name: str = "index",
    ) -> Index:
        """Builds the index that fits the size of the catalogue.

        Args:
            vectors: float32 [items, d].
            k: rows that a search returns, at most all items.
            queries: float32 [Q, d] query vectors that the search parameters are chosen on.
            exact_below: catalogues of fewer items are searched exactly, as are those of fewer than 16.
            tree_from: catalogues of at least this many items get a tree.
            target_recall: the parameters of the least latency that reach this recall at k are chosen; those of the
                highest recall where none does.
            precision: of the vectors that the approximate kinds score candidates again with.
            name: of the searcher; different for each index of a SavedModel.

        Raises:
            ValueError: no items, no queries for an approximate index, or shapes that do not fit.
        """
        vectors = np.ascontiguousarray(vectors, np.float32)
        queries = np.ascontiguousarray(queries, np.float32)
        if vectors.ndim != 2 or len(vectors) == 0:
            raise ValueError(f"vectors have shape {vectors.shape}; expected [items, d] with at least one item")
        if queries.ndim != 2 or queries.shape[1] != vectors.shape[1]:
            raise ValueError(f"queries have shape {queries.shape}; expected [Q, {vectors.shape[1]}] as the vectors")
        k = min(k, len(vectors))
        kind = _kind(len(vectors), exact_below, tree_from)
        if kind != "exact" and len(queries) == 0:
            raise ValueError(f"an index of kind {kind!r} is tuned on query vectors, and none were given")
        first = first_plan(kind, len(vectors), k)
        searcher = _build_searcher(vectors, k, first, precision)
        tuned = _tune(searcher, first, vectors, queries, k, target_recall)
        state = ScannVariables(scann_ops.scann_to_tensors(searcher.searcher_handle), name)
        _destroy(searcher.searcher_handle)  # the first search builds one from the state
        items, dimension = vectors.shape
        precision = "float32" if kind == "exact" else precision
        return cls(state, tuned, k=k, items=items, dimension=dimension, precision=precision)

    @classmethod
    def restored(cls, checkpoint: str, key: str, described: Mapping[str, Any], *, name: str = "index") -> Index:
        """Reads an index of a SavedModel's checkpoint as it was built and tuned.

        Args:
            checkpoint: prefix of the checkpoint's files.
            key: of the index's tensors; see ``state.state_keys``.
            described: of ``describe``.
            name: of the searcher.
        """
        state = ScannVariables.restored(checkpoint, key, name)
        tuned, precision = Tuned.described(described), described["precision"]
        stored = state.int8_dataset if precision == "int8" else state.dataset
        items, dimension = stored.shape
        return cls(state, tuned, k=described["k"], items=items, dimension=dimension, precision=precision)

    def describe(self) -> dict[str, Any]:
        """The plan, k, and the recall and latency measured when it was chosen, for manifests."""
        return {**self.tuned.describe(), "precision": self.precision, "k": self.k}

    def read_vectors(self, rows: np.ndarray, into: np.ndarray) -> None:
        """Reads the vectors that a search scores its last candidates with.

        Args:
            rows: integers [n].
            into: float32 [n, d], receives them.
        """
        stored = self._state.int8_dataset if self.precision == "int8" else self._state.dataset
        # The tensor's own memory: ``numpy()`` copies.
        vectors = np.asarray(memoryview(stored.read_value()))
        for start in range(0, len(rows), _ROWS_READ_AT_ONCE):
            part = slice(start, start + _ROWS_READ_AT_ONCE)
            if self.precision == "int8":
                np.divide(vectors[rows[part]], self._state.int8_multipliers.numpy(), out=into[part])
            else:
                into[part] = vectors[rows[part]]

    def _search(self, vectors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The k nearest rows of every vector; see ``search_best``, int32 and float32 [Q, k]."""
        rows, scores = self.search_best(vectors, self.k)
        return tf.ensure_shape(rows, [None, self.k]), tf.ensure_shape(scores, [None, self.k])

    def search_best(self, vectors: tf.Tensor, count: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The ``count`` nearest rows of every vector.

        Args:
            vectors: float32 [Q, d].
            count: int32 scalar, at least 1. Beyond k, candidates and leaves grow in proportion to ``count``.

        Returns:
            rows int32 [Q, count] and scores float32 [Q, count], best first. Where the searched leaves hold fewer rows,
            the rest is -1 with the lowest float32.
        """
        searcher = scann_ops.searcher_from_module(self._state)
        queries = tf.shape(vectors)[0]
        # ScaNN's tree fails on an empty batch: an empty one is padded with a vector.
        vectors = tf.pad(vectors, [[0, tf.maximum(1 - queries, 0)], [0, 0]])
        rows, scores = searcher.search_batched(
            vectors,
            final_num_neighbors=count,
            pre_reorder_num_neighbors=self._in_proportion(self.plan.reorder, count, self.items + 1),
            leaves_to_search=self._in_proportion(self.plan.leaves_to_search, count, self.plan.num_leaves),
        )
        rows, scores = rows[:queries], scores[:queries]
        # ScaNN pads a short list with row 0 and NaN, and returns no more columns than its longest list has.
        found = tf.math.is_finite(scores)
        missing = [[0, 0], [0, count - tf.shape(rows)[1]]]
        rows = tf.pad(tf.where(found, rows, NO_ROW), missing, constant_values=NO_ROW)
        scores = tf.pad(tf.where(found, scores, NO_SCORE), missing, constant_values=NO_SCORE)
        return rows, scores

    def scores_of(self, vectors: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """The inner products with given rows, of the vectors that a search scores its last candidates with.

        Args:
            vectors: float32 [Q, m, d].
            rows: int32 [Q, n], in 0..items - 1.

        Returns:
            float32 [Q, m, n].
        """
        # Reads the variable whole, which takes no copy: `tf.gather` of the variable itself would have TensorFlow copy
        # all vectors at every later search.
        if self.precision == "int8":
            vectors = vectors / self._state.int8_multipliers
            found = tf.cast(tf.gather(self._state.int8_dataset.read_value(), rows), tf.float32)
        else:
            found = tf.gather(self._state.dataset.read_value(), rows)
        return tf.linalg.matmul(vectors, found, transpose_b=True)

    def best_of_rows(self, heads: tf.Tensor, rows: tf.RaggedTensor, k: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Exact search among given rows, by the vectors of ``scores_of``; see ``ops_cc.row_search.best_of_rows``."""
        if self.precision == "int8" and self.plan.kind != "exact":
            return best_of_rows(self._state.int8_dataset, heads / self._state.int8_multipliers, rows, k)
        return best_of_rows(self._state.dataset, heads, rows, k)

    def _in_proportion(self, parameter: int, count: int | tf.Tensor, most: int) -> int | tf.Tensor:
        """A parameter of the plan, chosen for k rows, scaled to ``count`` rows."""
        if parameter == -1:
            return -1
        if isinstance(count, int):
            return max(parameter, min(-(-parameter * count // self.k), most))
        wanted = -(-tf.cast(count, tf.int64) * parameter // self.k)
        return tf.cast(tf.maximum(tf.minimum(wanted, most), parameter), tf.int32)

    def _release(self) -> None:
        """Frees the searcher; a later search builds it again.

        TensorFlow keeps the state of ScaNN's op for the lifetime of the process. A server that loads the next version
        calls this before it drops the SavedModel; else the memory of the old index stays taken.
        """
        _destroy(self._state.recreate_handle())


def _destroy(handle: tf.Tensor) -> None:
    tf.raw_ops.DestroyResourceOp(resource=handle, ignore_lookup_error=True)


def _kind(items: int, exact_below: int, tree_from: int) -> Literal["exact", "hashed", "tree"]:
    if items < max(exact_below, _SMALLEST_HASHED):
        return "exact"
    return "hashed" if items < tree_from else "tree"


def _build_searcher(vectors: np.ndarray, k: int, plan: SearchPlan, precision: Precision) -> scann_ops.ScannSearcher:
    builder = scann_ops.builder(_shared(vectors), k, "dot_product")
    if plan.kind == "exact":
        return builder.score_brute_force().build()
    if plan.kind == "tree":
        builder = builder.tree(plan.num_leaves, plan.leaves_to_search)
    builder = builder.score_ah(_DIMENSIONS_PER_BLOCK, anisotropic_quantization_threshold=_ANISOTROPIC_THRESHOLD)
    return builder.reorder(plan.reorder, quantize=_REORDERING[precision]).build()


def _shared(vectors: np.ndarray) -> tf.Tensor:
    """A tensor on the array's own memory where its alignment allows; a copy of TensorFlow's takes the memory twice."""
    if not vectors.flags.writeable or vectors.ctypes.data % _TENSOR_ALIGNMENT:
        return tf.constant(vectors)
    return tf.experimental.dlpack.from_dlpack(vectors.__dlpack__())


def _tune(
    searcher: scann_ops.ScannSearcher,
    first: SearchPlan,
    vectors: np.ndarray,
    queries: np.ndarray,
    k: int,
    target: float,
) -> Tuned:
    @tf.function(input_signature=[tf.TensorSpec([None, None]), *[tf.TensorSpec([], tf.int32)] * 2], autograph=False)
    def run(batch: tf.Tensor, reorder: tf.Tensor, leaves: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tuple(searcher.search_batched(batch, k, reorder, leaves))

    def search(batch: np.ndarray, plan: SearchPlan) -> tuple[np.ndarray, np.ndarray]:
        rows, scores = run(tf.constant(batch), tf.constant(plan.reorder), tf.constant(plan.leaves_to_search))
        return rows.numpy(), scores.numpy()

    return tune(search, first, vectors, queries, k, target)
