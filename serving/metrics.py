"""What a server counts, for Prometheus.

Labels hold only what the server itself knows: a request for an unknown model, version or signature is counted with
empty labels, so that no client can make new time series.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

if TYPE_CHECKING:
    from dpsr.serving.engine.runtime import Call
    from dpsr.serving.manager.models import Models

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"
"""Set in the environment of workers: they keep their figures in files there, and any of them reports the sum."""

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_NAMES = ("model", "version", "signature")


class RequestLabels(NamedTuple):
    """What a request turned out to ask for."""

    model: str = ""
    version: str = ""
    signature: str = ""


class Metrics:
    """The figures of one server, for use in its event loop; ``run`` may be called from any thread."""

    def __init__(self) -> None:
        """Starts at zero."""
        self._notes: deque[tuple[RequestLabels, int, int, int, int]] = deque()
        self._registry = CollectorRegistry()
        registry = self._registry
        self._requests = Counter(
            "dpsr_requests", "Predictions by their gRPC status code.", (*_NAMES, "code"), registry=registry
        )
        self._seconds = Histogram(
            "dpsr_request_seconds",
            "Time from the arrival of a prediction to its answer.",
            _NAMES,
            buckets=_SECONDS,
            registry=registry,
        )
        self._batch_rows = Histogram(
            "dpsr_batch_rows", "Rows that ran together.", _NAMES, buckets=_ROWS, registry=registry
        )
        self._batch_requests = Histogram(
            "dpsr_batch_requests", "Requests that ran together.", _NAMES, buckets=_ROWS[:6], registry=registry
        )
        self._results = Counter("dpsr_results", "Items returned.", _NAMES, registry=registry)
        self._short_rows = Counter(
            "dpsr_short_rows", "Rows that got fewer items than the index's K.", _NAMES, registry=registry
        )
        self._in_flight = Gauge(
            "dpsr_in_flight", "Predictions under way.", registry=registry, multiprocess_mode="livesum"
        )
        self._loaded = Gauge(
            "dpsr_loaded_versions",
            "Versions that serve.",
            ("model",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._newest = Gauge(
            "dpsr_newest_version",
            "The highest version that serves.",
            ("model",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._items = Gauge(
            "dpsr_index_items",
            "Items in the index of the highest version, where its manifest says.",
            ("model",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )

    def start(self) -> None:
        """Counts a request that begins."""
        self._in_flight.inc()

    def finish(self, labels: RequestLabels, code: str, seconds: float) -> None:
        """Counts a request that has ended."""
        self._in_flight.dec()
        self._requests.labels(*labels, code).inc()
        self._seconds.labels(*labels).observe(seconds)
        self._count_notes()

    def run(self, calls: Sequence[Call], heads: Sequence[np.ndarray]) -> None:
        """Notes calls that ran together, and the items in their answers.

        Runs in the thread of the run. The note is counted later, by the event loop: a lock that both hold costs more
        than the counting.

        Args:
            calls: of one group.
            heads: their ``head`` outputs, where the signature has one: the head that found an item, -1 for none.
        """
        found, short = 0, 0
        for head in heads:
            if head.ndim == 2 and head.dtype.kind == "i":
                items = np.count_nonzero(head >= 0, axis=1)
                found += int(items.sum())
                short += int(np.count_nonzero(items < head.shape[1]))
        self._notes.append((labels_of(calls[0]), sum(call.rows for call in calls), len(calls), found, short))

    def _count_notes(self) -> None:
        while self._notes:
            labels, rows, requests, found, short = self._notes.popleft()
            self._batch_rows.labels(*labels).observe(rows)
            self._batch_requests.labels(*labels).observe(requests)
            if found:
                self._results.labels(*labels).inc(found)
            if short:
                self._short_rows.labels(*labels).inc(short)

    def page(self, models: Models) -> bytes:
        """All figures in Prometheus' text format."""
        self._count_notes()
        for name, versions in models.loaded().items():
            self._loaded.labels(name).set(len(versions))
            if versions:
                self._newest.labels(name).set(versions[0])
                items = models.items(name)
                if items is not None:
                    self._items.labels(name).set(items)
        if MULTIPROCESS_DIR not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)
        return generate_latest(together)


def forget_process(pid: int | None) -> None:
    """Takes what a dead worker had under way out of the sum; what it had counted stays."""
    if pid is not None:
        multiprocess.mark_process_dead(pid)


def labels_of(call: Call) -> RequestLabels:
    """The labels of a validated call."""
    return RequestLabels(call.servable.name, str(call.servable.version), call.signature.name)


def index_items(version: Path) -> int | None:
    """How many items the index of a version holds, by its manifest."""
    try:
        return int(json.loads((version / "assets.extra" / "manifest.json").read_text(encoding="utf-8"))["items"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
