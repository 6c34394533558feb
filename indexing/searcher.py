"""Searchers: the interface between a servable and whatever finds items inside it.

A servable holds one searcher or several; each reads the same queries, obeys the same filters, and states what it
measured of itself. ``dense.searcher.DenseSearcher`` finds items by the inner products of the query's heads;
``lexical.searcher.LexicalSearcher`` by words; ``hybrid.HybridSearcher`` joins the lists of both;
``memory.searcher.MemorySearcher`` adds what was clicked for the same query to any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from dpsr.indexing.filters import FilterValues


class Queries(NamedTuple):
    """The queries of a request, B of them, as every searcher reads them."""

    texts: tf.Tensor
    """string [B]."""
    features: Any
    """What the query tower reads: ``QueryFeatures``, or what towers of another make take."""
    wanted: tf.Tensor | None = None
    """int32 [B], the searchers that may answer, as in ``Found.sources``; all of them where it is None."""


class Found(NamedTuple):
    """The best items of every query, best first, ties by lower row.

    Where fewer items were found, the rest has row ``NO_ROW``, score ``NO_SCORE``, head ``NO_ROW``
    (``ops_cc.head_merge``) and no source.
    """

    rows: tf.Tensor
    """int32 [B, k], item rows."""
    scores: tf.Tensor
    """float32 [B, k]."""
    heads: tf.Tensor
    """int32 [B, k], the query head that found the item; ``NO_ROW`` where the dense searcher did not."""
    sources: tf.Tensor
    """int32 [B, k], the searchers that found the item: the sum of their bits in ``signature``."""


def traced_once(search: Callable[..., Found]) -> Callable[..., Found]:
    """A search as one function of the graph for all signatures of a servable, each of which would trace it anew."""
    function = tf.function(search, autograph=False, reduce_retracing=True)

    def call(*arguments: Any) -> Found:
        found: Found = function(*arguments)
        return found

    return call  # hides the function from the tracking of attributes, which would save it a second time


class Searcher(Protocol):
    """Finds items in the graph of a servable; a ``tf.Module`` whose state is saved with the SavedModel."""

    name: str
    """In manifests: ``dense``."""
    modes: Mapping[str, int]
    """What a request may ask for: names, and the bits of ``Found.sources`` that each stands for, "" being the default;
    empty where a request has no such input."""
    k: int
    """Items of an answer, at most those of the catalogue."""
    release: Any
    """A ``tf.function`` without inputs that frees what outlives a dropped SavedModel."""

    def search(self, queries: Queries) -> Found:
        """The k best items of every query."""
        ...

    def search_matching(self, queries: Queries, wanted: FilterValues) -> Found:
        """The k best items of every query among those that match its filters.

        Args:
            queries: B of them.
            wanted: of ``Filters.requested``.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Parameters, and the recall and latency measured when they were chosen, for the manifest."""
        ...


class ScoringSearcher(Searcher, Protocol):
    """A searcher that also scores items which it did not find."""

    def search_and_score(
        self, queries: Queries, rows: tf.Tensor, wanted: FilterValues | None = None
    ) -> tuple[Found, tf.Tensor]:
        """``search``, or ``search_matching`` where filters are given, and the scores of given items.

        Args:
            queries: B of them.
            rows: int32 [B, n] item rows; negative where there is no item.
            wanted: of ``Filters.requested``.

        Returns:
            The list, and float32 [B, n]: what the items score or would score in it; anything where there is no item.
        """
        ...
