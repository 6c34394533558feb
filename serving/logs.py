"""Structured logs: one JSON object per line, and one line per request that the configuration wants logged."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from dpsr.serving.request_context import RequestContext

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


def log_request(context: RequestContext, *, level: int, seconds: float, **fields: object) -> None:
    """Writes one line for one request.

    Args:
        context: the caller.
        level: the logging level.
        seconds: time from arrival to answer.
        fields: further members of the line; None and ``""`` are left out.
    """
    _requests.log(
        level,
        "request",
        extra={
            "fields": {
                "request_id": context.request_id,
                "protocol": context.protocol,
                "peer": context.peer(),
                "ms": round(1000 * seconds, 3),
                **{name: value for name, value in fields.items() if value not in (None, "")},
            }
        },
    )
