"""Fusion: one score of an item from those of the dense and the lexical searcher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import tensorflow as tf

from dpsr.indexing.query_weight import QueryWeight

FusionKind = Literal["weighted_sum", "reciprocal_ranks"]
FUSION_CONSTANT = 60
"""k of reciprocal rank fusion, as Cormack, Clarke and Buettcher (SIGIR 2009) set it."""


@dataclass(frozen=True)
class FusionPlan:
    """How two lists become one.

    * ``weighted_sum``: ``lexical score / the query's best lexical score + dense_weight * dense score``, where every
      item of either list has both scores;
    * ``reciprocal_ranks``: ``1 / (60 + lexical rank) + dense_weight / (60 + dense rank)``, where an item that a list
      does not hold adds nothing.
    """

    kind: FusionKind
    dense_weight: float
    by_query: QueryWeight | None = None
    """Factor of the weight for each query, of ``weighted_sum``; None: one weight for all."""

    def replaced(self, kind: FusionKind | None, dense_weight: float | Literal["auto"] | None) -> FusionPlan:
        """The plan with what is given: neither None nor ``auto``."""
        given = self.dense_weight if dense_weight is None or dense_weight == "auto" else dense_weight
        return FusionPlan(kind or self.kind, given)

    @classmethod
    def described(cls, entry: Mapping[str, Any]) -> FusionPlan:
        """The inverse of ``describe``."""
        plan = cls(entry["kind"], entry["dense_weight"])
        if "by_query" not in entry:
            return plan
        return replace(plan, by_query=QueryWeight.described(entry["by_query"]))

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        by_query = {} if self.by_query is None else {"by_query": self.by_query.describe()}
        return {"kind": self.kind, "dense_weight": self.dense_weight, **by_query}


def weighted_sum(lexical: tf.Tensor, best: tf.Tensor, dense: tf.Tensor, dense_weight: tf.Tensor | float) -> tf.Tensor:
    """The weighted sum of scores; see ``FusionPlan``.

    Args:
        lexical: float32 [B, n], at least 0.
        best: float32 [B, 1], the best lexical score of each query; 0 where no item has one of its words.
        dense: float32 [B, n].
        dense_weight: of the dense score; float32 [B, 1] for one of each query.

    Returns:
        float32 [B, n].
    """
    return tf.math.divide_no_nan(lexical, best) + dense_weight * dense


def reciprocal_ranks(rows: tf.Tensor) -> tf.Tensor:
    """``1 / (60 + rank)`` by the place in a list, from rank 1; float32, of the shape of ``rows``, int32 [B, n]."""
    ranks = tf.range(1, tf.shape(rows)[1] + 1, dtype=tf.float32)
    return tf.broadcast_to(1.0 / (FUSION_CONSTANT + ranks), tf.shape(rows))
