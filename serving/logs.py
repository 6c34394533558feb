"""Structured logs: one JSON object a line, and one line for a request that is worth it."""

from __future__ import annotations

import itertools
import json
import logging
import re
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

REQUEST_ID_HEADER = "x-request-id"
_USABLE_ID = re.compile(r"[A-Za-z0-9_.:/+=-]{1,128}")

_PROCESS, _COUNT = secrets.token_hex(4), itertools.count()
"""Ids without a call of the system for each: a random part for the process, and a number."""

_requests = logging.getLogger("dpsr.serving.requests")


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON, with the members of its ``fields``."""

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
    """Sends what the server logs, from INFO on, to standard error as lines of JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("dpsr")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


@dataclass
class RequestContext:
    """Where a request came from."""

    protocol: str
    given_id: str = ""
    """What the client sent as its request id; ignored unless short and plain."""
    peer: Callable[[], str | None] = lambda: None
    deadline: float | None = None
    """On the clock of ``time.monotonic``; None for a caller who waits for ever."""
    request_id: str = field(init=False)

    def __post_init__(self) -> None:
        """Takes the client's id, or makes one."""
        usable = self.given_id and _USABLE_ID.fullmatch(self.given_id)
        self.request_id = self.given_id if usable else f"{_PROCESS}{next(_COUNT):08x}"

    @property
    def expired(self) -> bool:
        """Whether nobody waits any more."""
        return self.deadline is not None and time.monotonic() >= self.deadline


def log_request(origin: RequestContext, *, level: int, seconds: float, **fields: object) -> None:
    """One line for one request."""
    _requests.log(
        level,
        "request",
        extra={
            "fields": {
                "request_id": origin.request_id,
                "protocol": origin.protocol,
                "peer": origin.peer(),
                "ms": round(1000 * seconds, 3),
                **{name: value for name, value in fields.items() if value not in (None, "")},
            }
        },
    )
