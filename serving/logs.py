"""Structured logs: one JSON object per line, and one line per request that the configuration wants logged."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import NamedTuple

import grpc

from dpsr.serving.metrics import RequestLabels

_requests = logging.getLogger("dpsr.serving.requests")


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON, with the members of its ``fields``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_to_stderr() -> None:
    """Sends log records of the package, level INFO and above, to standard error as lines of JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("dpsr")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


class RequestLine(NamedTuple):
    """One request, for the log."""

    time: float
    """End of the request, in seconds since the epoch."""
    request_id: str
    protocol: str
    peer: str | None
    seconds: float
    """From arrival to answer."""
    code: grpc.StatusCode
    labels: RequestLabels
    rows: int | None
    error: str


def log_request(line: RequestLine) -> None:
    """Writes one line for one request; members without a value are left out."""
    level = logging.WARNING if line.error else logging.INFO
    if not _requests.isEnabledFor(level):
        return
    fields = {"code": line.code.name, **line.labels._asdict(), "rows": line.rows, "error": line.error}
    record = _requests.makeRecord(_requests.name, level, __file__, 0, "request", (), None)
    record.created = line.time
    record.fields = {
        "request_id": line.request_id,
        "protocol": line.protocol,
        "peer": line.peer,
        "ms": round(1000 * line.seconds, 3),
        **{name: value for name, value in fields.items() if value not in (None, "")},
    }
    _requests.handle(record)


def log_lost(count: int) -> None:
    """Says that lines of requests are missing."""
    _requests.warning("%d lines of requests are missing: more came than the log could take", count)
