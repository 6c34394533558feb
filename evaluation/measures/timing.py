"""How long retrieval takes, from one text to its best items (paper, section 5.1)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dpsr.baselines.examples import Examples
from dpsr.baselines.retrievers import CatalogueRetriever
from dpsr.evaluation.measures.metrics import RANKED_DEPTH

_TIMED_QUERIES = 50


@dataclass(frozen=True)
class RetrievalTime:
    """What one query costs one retriever."""

    retriever: str
    index: str
    """How it searches."""
    items: int
    """Items that are asked for."""
    queries: int
    """Queries that were timed, one at a time."""
    median_ms: float
    p90_ms: float


def retrieval_times(retrievers: Mapping[str, CatalogueRetriever], examples: Examples) -> list[RetrievalTime]:
    """The time from one text to its 1,000 best items, of an even sample of the queries.

    A retriever answers the whole sample before the next one does, so that none finds what another kept of the last one.

    Args:
        retrievers: name -> retriever.
        examples: clicks, in the order of their queries.
    """
    rows = np.unique(np.linspace(0, len(examples) - 1, _TIMED_QUERIES).astype(np.int64))
    singles = [examples.take(slice(row, row + 1)) for row in rows]
    found = []
    for name, retriever in retrievers.items():
        items = min(RANKED_DEPTH, retriever.num_items)
        retriever.retrieve(singles[-1], items)  # the first call may trace or load
        times = [_milliseconds(retriever, single, items) for single in singles]
        found.append(
            RetrievalTime(
                name,
                retriever.index,
                items,
                len(times),
                median_ms=float(np.median(times)),
                p90_ms=float(np.quantile(times, 0.9)),
            )
        )
    return found


def _milliseconds(retriever: CatalogueRetriever, single: Examples, items: int) -> float:
    start = time.perf_counter()
    retriever.retrieve(single, items)
    return 1000 * (time.perf_counter() - start)
