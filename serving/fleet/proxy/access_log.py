"""The access log: HAProxy's lines from a unix datagram socket into a file of JSON lines, which rotates."""

from __future__ import annotations

import logging
import logging.handlers
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import grpc

MAX_BYTES = 256 << 20
BACKUPS = 4
_MISSING = re.compile(r'"(?:request_id|alias|model|variant|key|forced|shadow)":"-",')
_STATUS = re.compile(r'"status":"(-|\d+)"')
_NAMES = {str(code.value[0]): code.name for code in grpc.StatusCode}
_END = re.compile(r'"end":"(.)')
_BY_END = {"-": "OK", "C": "CANCELLED", "c": "CANCELLED", "s": "DEADLINE_EXCEEDED"}
"""First letter of HAProxy's termination state -> status of an answer whose head has none."""


class AccessLog:
    """Receives lines in a thread of its own, as long as the agent lives; HAProxy drops lines while it does not."""

    def __init__(self, socket_file: Path, log_file: Path, note: Callable[[str], None]) -> None:
        """Names the socket and the file, and what takes note of every line."""
        self._socket_file = socket_file
        self._log_file = log_file
        self._note = note
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Listens."""
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        self._socket_file.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind(str(self._socket_file))
        handler = logging.handlers.RotatingFileHandler(self._log_file, maxBytes=MAX_BYTES, backupCount=BACKUPS)
        threading.Thread(target=self._receive, args=(self._socket, handler), name="access log", daemon=True).start()

    def _receive(self, lines: socket.socket, handler: logging.Handler) -> None:
        while True:
            line = readable(lines.recv(65536).decode(errors="replace"))
            if line:
                self._note(line)
                handler.emit(logging.LogRecord("", logging.INFO, "", 0, line, None, None))


def readable(line: str) -> str:
    """HAProxy's line without empty members, and with the name of the gRPC status; empty if it is no request's.

    HAProxy sees the status in the answer's head, where servers put that of an error. A status in trailers behind a
    message is hidden from it; such an answer counts as OK if it is whole.
    """
    line = line.strip()
    if not line.startswith("{"):
        return ""
    line = _MISSING.sub("", line)
    if '"protocol":"rest"' not in line:
        end = _END.search(line)
        ended = end[1] if end else "-"
        names = {**_NAMES, "-": _BY_END.get(ended, "UNAVAILABLE")}
        if ended == "C":  # HAProxy 3 answers 400, here INTERNAL, to a client that has gone
            names["13"] = names["-"]
        line = _STATUS.sub(lambda found: f'"status":"{names.get(found[1], found[1])}"', line, count=1)
    return line
