"""Context of a request, independent of its protocol: request id, peer, deadline."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

REQUEST_ID_HEADER = "x-request-id"
_USABLE_ID = re.compile(r"[A-Za-z0-9_.:/+=-]{1,128}")

_PROCESS, _COUNT = secrets.token_hex(4), itertools.count()
"""Generated ids: a random prefix of the process and a counter, so that no request costs a system call."""


@dataclass
class RequestContext:
    """Caller of a request and its deadline."""

    protocol: str
    """``grpc`` or ``rest``."""
    given_id: str = ""
    """Request id sent by the client; replaced unless it has 1 to 128 characters of letters, digits and ``_.:/+=-``."""
    peer: Callable[[], str | None] = lambda: None
    """Address of the client; looked up only when a log line needs it."""
    deadline: float | None = None
    """On the clock of ``time.monotonic``, in seconds; None for a request without a deadline."""
    request_id: str = field(init=False)

    def __post_init__(self) -> None:
        """Takes over the client's id, or generates one."""
        usable = self.given_id and _USABLE_ID.fullmatch(self.given_id)
        self.request_id = self.given_id if usable else f"{_PROCESS}{next(_COUNT):08x}"

    @property
    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline
