"""The nearest-neighbour index: ScaNN's TensorFlow ops behind one ``search``.

What is built depends on the size of the catalogue, in the order of growing size:

* ``exact``: every vector is scored in float32;
* ``hashed``: asymmetric hashing scores every vector by its 4-bit codes, and the best ``reorder`` are scored again in
  8-bit fixed point;
* ``tree``: a k-means tree chooses ``leaves_to_search`` of ``num_leaves`` leaves first.

How much of the catalogue the approximate kinds look at is not guessed: the cheapest parameters whose recall on query
vectors reaches the target are taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from scann.scann_ops.py import scann_ops
from scann.scann_ops.py.scann_builder import ReorderType

from dpsr.indexing.exact import exact_search, recall_at_k
from dpsr.ops_cc.head_merge import NO_ROW, NO_SCORE

TREE_FROM = 100_000
"""Items from which a tree pays for itself."""
_ANISOTROPIC_THRESHOLD = 0.2
_DIMENSIONS_PER_BLOCK = 2
_SMALLEST_REORDER = 100
_SMALLEST_HASHED = 16
"""The centres of a hash block: fewer vectors cannot be hashed."""


@dataclass(frozen=True)
class SearchPlan:
    """What an index is and how far a search goes; -1 where the kind has no such parameter."""

    kind: Literal["exact", "hashed", "tree"]
    reorder: int = -1
    """Candidates scored again in 8-bit fixed point; larger than k."""
    num_leaves: int = -1
    leaves_to_search: int = -1


class Index(tf.Module):
    """The k rows of largest inner product for a batch of vectors; saves and loads as part of a SavedModel.

    ``SaveOptions(namespace_whitelist=["Scann"])`` is needed to save it. The first search builds the searcher from the
    saved tensors, about a second per million items.
    """

    def __init__(
        self, state: tf.Module, plan: SearchPlan, *, k: int, dimension: int, measured_recall: float | None
    ) -> None:
        """Wraps ScaNN's tensors; see ``build``."""
        super().__init__(name="index")
        self._state = state
        self.plan = plan
        self.k = k
        self.measured_recall = measured_recall
        self.search = tf.function(
            self._search, input_signature=[tf.TensorSpec([None, dimension], tf.float32, "vectors")]
        )
        self.release = tf.function(self._release, input_signature=[])

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
    ) -> Index:
        """Builds the index that fits the size of the catalogue.

        Args:
            vectors: float32 [items, d].
            k: rows that a search returns; more than there are items means all of them.
            queries: float32 [Q, d] query vectors that the search parameters are chosen on.
            exact_below: smaller catalogues are searched exactly; so are those of less than 16 items.
            tree_from: catalogues of this size and more get a tree.
            target_recall: recall at k that the chosen parameters reach if any do; else the most thorough are taken.

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
        plans = list(_plans(kind, len(vectors), k))
        searcher = _build_searcher(vectors, k, plans[0])
        plan, recall = _cheapest(searcher, plans, vectors, queries, k, target_recall)
        return cls(searcher.serialize_to_module(), plan, k=k, dimension=vectors.shape[1], measured_recall=recall)

    def describe(self) -> dict[str, Any]:
        """The plan, k and the recall measured when it was chosen, for manifests."""
        chosen = {key: value for key, value in asdict(self.plan).items() if value != -1}
        return {**chosen, "k": self.k, "recall_when_tuned": self.measured_recall}

    def _search(self, vectors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The nearest rows of every vector.

        Args:
            vectors: float32 [Q, d].

        Returns:
            rows int32 [Q, k] and scores float32 [Q, k], best first. Where the leaves that were searched hold fewer than
            k rows, the rest is -1 with the lowest float32.
        """
        searcher = scann_ops.searcher_from_module(self._state)
        count = tf.shape(vectors)[0]
        # ScaNN's tree fails on an empty batch, so at least one vector is searched.
        vectors = tf.pad(vectors, [[0, tf.maximum(1 - count, 0)], [0, 0]])
        rows, scores = _search_batched(searcher, vectors, self.k, self.plan)
        rows, scores = rows[:count], scores[:count]
        # ScaNN pads a short list with row 0 and NaN, and returns no more columns than its longest list has.
        found = tf.math.is_finite(scores)
        missing = [[0, 0], [0, self.k - tf.shape(rows)[1]]]
        rows = tf.pad(tf.where(found, rows, NO_ROW), missing, constant_values=NO_ROW)
        scores = tf.pad(tf.where(found, scores, NO_SCORE), missing, constant_values=NO_SCORE)
        return tf.ensure_shape(rows, [None, self.k]), tf.ensure_shape(scores, [None, self.k])

    def _release(self) -> None:
        """Frees the searcher; a later search would build it again.

        TensorFlow keeps the state of ScaNN's op for as long as the process lives, so whoever drops a loaded SavedModel
        and lives on (a server that goes to the next version) calls this first, or loses the size of the index.
        """
        tf.raw_ops.DestroyResourceOp(resource=self._state.recreate_handle(), ignore_lookup_error=True)


def _kind(items: int, exact_below: int, tree_from: int) -> Literal["exact", "hashed", "tree"]:
    if items < max(exact_below, _SMALLEST_HASHED):
        return "exact"
    return "hashed" if items < tree_from else "tree"


def _plans(kind: Literal["exact", "hashed", "tree"], items: int, k: int) -> Iterator[SearchPlan]:
    """Search parameters from cheap to thorough; all of them run on one built searcher."""
    if kind == "exact":
        yield SearchPlan("exact")
        return
    reorders = [max(k + 1, min(factor * max(k, _SMALLEST_REORDER), items)) for factor in (2, 4, 8, 16)]
    if kind == "hashed":
        yield from (SearchPlan("hashed", reorder) for reorder in reorders)
        return
    leaves = max(2, int(2 * items**0.5))
    for share in (32, 16, 8, 4, 2, 1):
        for reorder in reorders[: 2 if share > 1 else None]:
            yield SearchPlan("tree", reorder, leaves, max(1, leaves // share))


def _build_searcher(vectors: np.ndarray, k: int, plan: SearchPlan) -> scann_ops.ScannSearcher:
    builder = scann_ops.builder(vectors, k, "dot_product")
    if plan.kind == "exact":
        return builder.score_brute_force().build()
    if plan.kind == "tree":
        builder = builder.tree(plan.num_leaves, plan.leaves_to_search)
    builder = builder.score_ah(_DIMENSIONS_PER_BLOCK, anisotropic_quantization_threshold=_ANISOTROPIC_THRESHOLD)
    # Fixed point needs a quarter of the memory of floats; bfloat16 reordering cannot be serialized.
    return builder.reorder(plan.reorder, quantize=ReorderType.INT8).build()


def _search_batched(
    searcher: scann_ops.ScannSearcher, vectors: tf.Tensor, k: int, plan: SearchPlan
) -> tuple[tf.Tensor, tf.Tensor]:
    rows, scores = searcher.search_batched(
        vectors,
        final_num_neighbors=k,
        pre_reorder_num_neighbors=plan.reorder,
        leaves_to_search=plan.leaves_to_search,
    )
    return rows, scores


def _cheapest(
    searcher: scann_ops.ScannSearcher,
    plans: list[SearchPlan],
    vectors: np.ndarray,
    queries: np.ndarray,
    k: int,
    target_recall: float,
) -> tuple[SearchPlan, float | None]:
    """The first plan that reaches the target, or the last one; with its recall (None without queries)."""
    if len(queries) == 0:
        return plans[-1], None
    heads = queries[:, np.newaxis]
    kth_scores = exact_search(vectors, heads, k)[1][:, -1]
    for plan in plans:
        rows, scores = _search_batched(searcher, tf.constant(queries), k, plan)
        found = np.where(np.isfinite(scores), rows, NO_ROW)
        # Columns that no list filled count as not found.
        found = np.pad(found, [(0, 0), (0, k - found.shape[1])], constant_values=NO_ROW)
        recall = recall_at_k(vectors, heads, found, kth_scores)
        if recall >= target_recall:
            break
    return plan, recall
