"""Prometheus metrics of a server.

Label values come from the server's own names only: a request for an unknown model, version or signature is counted
with empty labels, so that no client can create time series.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable of worker processes: the directory of files through which any worker reports the sum of all."""

SECOND_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
ROW_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
REQUEST_BOUNDS = ROW_BOUNDS[:6]
_NAMES = ("model", "version", "signature")


class RequestLabels(NamedTuple):
    """Model, version and signature of a request; empty as long as, or where, they are unknown."""

    model: str = ""
    version: str = ""
    signature: str = ""


class ModelFigures(NamedTuple):
    """State of a model at the time of a scrape."""

    name: str
    versions: Sequence[int]
    """Versions that serve, newest first."""
    items: int | None
    """Items in the index of the newest version, where its manifest has the number."""


class Counts(NamedTuple):
    """Observations of a histogram."""

    buckets: Sequence[int]
    """Number in each bucket, those before not included; the last one is above all bounds."""
    sum: float


class NativeFigures(NamedTuple):
    """What the native data plane has counted for a signature since the last time."""

    labels: RequestLabels
    codes: Mapping[str, int]
    """Name of a gRPC status code -> predictions."""
    seconds: Counts
    batch_rows: Counts
    batch_requests: Counts
    results: int
    short_rows: int


class _Histogram(Histogram):
    """A histogram that also takes what was observed elsewhere."""

    def add(self, counts: Counts) -> None:
        """Adds observations."""
        for bucket, count in zip(self._buckets, counts.buckets, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(counts.sum)


class _RunNote(NamedTuple):
    """A run whose figures are not counted yet."""

    labels: RequestLabels
    rows: int
    requests: int
    found: int
    short: int


class Metrics:
    """Figures of one server; all methods belong to the event loop but ``note_run``, which any thread may call."""

    def __init__(self) -> None:
        """Starts at zero."""
        self._notes: deque[_RunNote] = deque()
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "dpsr_requests", "Predictions by their gRPC status code.", (*_NAMES, "code"), registry=registry
        )
        self._seconds = _Histogram(
            "dpsr_request_seconds",
            "Time from the arrival of a prediction to its answer.",
            _NAMES,
            buckets=SECOND_BOUNDS,
            registry=registry,
        )
        self._batch_rows = _Histogram(
            "dpsr_batch_rows", "Rows of a run.", _NAMES, buckets=ROW_BOUNDS, registry=registry
        )
        self._batch_requests = _Histogram(
            "dpsr_batch_requests", "Requests of a run.", _NAMES, buckets=REQUEST_BOUNDS, registry=registry
        )
        self._results = Counter("dpsr_results", "Items returned.", _NAMES, registry=registry)
        self._short_rows = Counter(
            "dpsr_short_rows", "Rows that got fewer items than the index's K.", _NAMES, registry=registry
        )
        self._http_errors = Counter(
            "dpsr_http_errors", "Requests of the REST port by their HTTP error status.", ("status",), registry=registry
        )
        self._in_flight = Gauge(
            "dpsr_in_flight", "Predictions in flight.", registry=registry, multiprocess_mode="livesum"
        )
        self._loaded = _gauge_of_models("dpsr_loaded_versions", "Versions that serve.", registry)
        self._newest = _gauge_of_models("dpsr_newest_version", "Highest version that serves.", registry)
        self._items = _gauge_of_models("dpsr_index_items", "Items in the index of the highest version.", registry)

    def show_in_flight(self, count: int) -> None:
        """Sets the number of predictions in flight, as the next page shows it."""
        self._in_flight.set(count)

    def add(self, figures: Iterable[NativeFigures]) -> None:
        """Adds what the native data plane has counted."""
        for each in figures:
            for code, count in each.codes.items():
                self._requests.labels(*each.labels, code).inc(count)
            self._seconds.labels(*each.labels).add(each.seconds)
            if any(each.batch_rows.buckets):
                self._batch_rows.labels(*each.labels).add(each.batch_rows)
                self._batch_requests.labels(*each.labels).add(each.batch_requests)
            if each.results:
                self._results.labels(*each.labels).inc(each.results)
            if each.short_rows:
                self._short_rows.labels(*each.labels).inc(each.short_rows)

    def finish(self, labels: RequestLabels, code: str, seconds: float) -> None:
        """Counts a prediction that has ended.

        Args:
            labels: its model, version and signature.
            code: name of its gRPC status code.
            seconds: time from its arrival to its answer.
        """
        self._requests.labels(*labels, code).inc()
        self._seconds.labels(*labels).observe(seconds)
        self._count_notes()

    def http_error(self, status: int) -> None:
        """Counts a request of the REST port that ends with an error status.

        Args:
            status: the HTTP status, 400 to 599; 499 for a client that closed the connection.
        """
        self._http_errors.labels(str(status)).inc()

    def note_run(self, labels: RequestLabels, rows: int, requests: int, heads: Iterable[np.ndarray]) -> None:
        """Notes one run of the graph; the event loop counts the note later, since a shared lock costs more.

        Args:
            labels: model, version and signature of the run.
            rows: rows of all its requests.
            requests: number of its requests.
            heads: ``head`` outputs, int [rows, K], where the signature has one: the head that found an item, -1 for
                no item.
        """
        found, short = 0, 0
        for head in heads:
            if head.ndim == 2 and head.dtype.kind == "i":
                items = np.count_nonzero(head >= 0, axis=1)
                found += int(items.sum())
                short += int(np.count_nonzero(items < head.shape[1]))
        self._notes.append(_RunNote(labels, rows, requests, found, short))

    def _count_notes(self) -> None:
        while self._notes:
            labels, rows, requests, found, short = self._notes.popleft()
            self._batch_rows.labels(*labels).observe(rows)
            self._batch_requests.labels(*labels).observe(requests)
            if found:
                self._results.labels(*labels).inc(found)
            if short:
                self._short_rows.labels(*labels).inc(short)

    def page(self, models: Iterable[ModelFigures]) -> bytes:
        """All figures in Prometheus' text format."""
        self._count_notes()
        for model in models:
            self._loaded.labels(model.name).set(len(model.versions))
            if model.versions:
                self._newest.labels(model.name).set(model.versions[0])
            if model.items is not None:
                self._items.labels(model.name).set(model.items)
        if MULTIPROCESS_DIR not in os.environ:
            return generate_latest(self._registry)
        sum_of_workers = CollectorRegistry()
        multiprocess.MultiProcessCollector(sum_of_workers)
        return generate_latest(sum_of_workers)


def _gauge_of_models(name: str, text: str, registry: CollectorRegistry) -> Gauge:
    return Gauge(name, text, ("model",), registry=registry, multiprocess_mode="mostrecent")


def forget_process(pid: int | None) -> None:
    """Removes the requests in flight of a dead worker from the sum; its counters stay."""
    if pid is not None:
        multiprocess.mark_process_dead(pid)
