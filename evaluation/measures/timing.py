"""Retrieval time of single queries, from text to best items (paper, section 5.1)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.interfaces import Method, Retriever, index_of
from dpsr.evaluation.measures.metrics import RANKED_DEPTH

_TIMED_QUERIES = 50


@dataclass(frozen=True)
class RetrievalTime:
    """Retrieval time of one retriever."""

    retriever: str
    index: str
    """Search structure."""
    items: int
    """Items requested."""
    queries: int
    """Queries timed, one at a time."""
    median_ms: float
    p90_ms: float


def retrieval_times(methods: Mapping[str, Method], examples: QueryExamples, num_items: int) -> list[RetrievalTime]:
    """Times the retrieval of the 1,000 best items for evenly spaced queries, one at a time.

    A retriever answers all queries before the next retriever does, so that none profits from scores cached by another.

    Args:
        methods: name -> method; those that are not retrievers are left out.
        examples: clicks, in the order of their queries.
        num_items: size of the catalogue.
    """
    rows = np.unique(np.linspace(0, len(examples) - 1, _TIMED_QUERIES).astype(np.int64))
    singles = [examples.take(slice(row, row + 1)) for row in rows]
    items = min(RANKED_DEPTH, num_items)
    found = []
    for name, method in methods.items():
        if not isinstance(method, Retriever):
            continue
        method.retrieve(singles[-1], items)  # the first call may trace or load
        times = [_milliseconds(method, single, items) for single in singles]
        median, p90 = np.quantile(times, [0.5, 0.9])
        found.append(RetrievalTime(name, index_of(method), items, len(times), float(median), float(p90)))
    return found


def _milliseconds(retriever: Retriever, single: QueryExamples, items: int) -> float:
    start = time.perf_counter()
    retriever.retrieve(single, items)
    return 1000 * (time.perf_counter() - start)
