"""Searchers: the interface between a servable and whatever finds items inside it.

A servable holds one searcher or several; each reads the same query features, obeys the same filters, and states what it
measured of itself. ``dense.searcher.DenseSearcher`` finds items by the inner products of the query's heads.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from dpsr.data.batches.features import QueryFeatures
from dpsr.indexing.filters import FilterValues


class Found(NamedTuple):
    """The best items of every query, best first, ties by lower row.

    Where fewer items were found, the rest has row ``NO_ROW``, score ``NO_SCORE`` and head ``NO_ROW``
    (``ops_cc.head_merge``).
    """

    rows: tf.Tensor
    """int32 [B, k], item rows."""
    scores: tf.Tensor
    """float32 [B, k]."""
    heads: tf.Tensor
    """int32 [B, k], the query head that found the item."""


class Searcher(Protocol):
    """Finds items in the graph of a servable; a ``tf.Module`` whose state is saved with the SavedModel."""

    name: str
    """In manifests: ``dense``."""
    k: int
    """Items of an answer, at most those of the catalogue."""
    release: Any
    """A ``tf.function`` without inputs that frees what outlives a dropped SavedModel."""

    def search(self, queries: QueryFeatures) -> Found:
        """The k best items of every query."""
        ...

    def search_matching(self, queries: QueryFeatures, wanted: FilterValues) -> Found:
        """The k best items of every query among those that match its filters.

        Args:
            queries: B rows.
            wanted: of ``Filters.requested``.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Parameters, and the recall and latency measured when they were chosen, for the manifest."""
        ...
