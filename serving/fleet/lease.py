"""One controller at a time: the leader holds a lock on a file of the state directory.

The kernel frees the lock when the leader's process ends in whatever way, so another controller leads at its next try. A
leader that is stopped but alive keeps the lock: no second controller acts on servers that it may still write to.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path


class Lease:
    """The right to lead a fleet."""

    def __init__(self, path: Path) -> None:
        """Names the file; ``acquire`` takes it."""
        self._path = path
        self._handle: int | None = None

    def acquire(self) -> bool:
        """Tries to become the leader, without waiting; True if this is the leader now."""
        if self._handle is not None:
            return True
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        os.ftruncate(handle, 0)
        os.write(handle, f"{socket.gethostname()} {os.getpid()}\n".encode())
        self._handle = handle
        return True

    def holder(self) -> str:
        """Host and process id of the last leader; empty before the first."""
        try:
            return self._path.read_text().strip()
        except FileNotFoundError:
            return ""

    def release(self) -> None:
        """Lets another controller lead."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits for a lock on a file, and holds it: for a change of a file that several processes write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
