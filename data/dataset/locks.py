"""Lock files: one process at a time, and none that died."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class LockHeldError(Exception):
    """The lock is held; the message names the process that holds it."""


@contextmanager
def exclusive(path: Path, *, wait: bool) -> Iterator[None]:
    """Holds a lock file for the time of the block, and removes it behind.

    The kernel drops the lock (``flock``) of a process that dies, on NFS too, so that a lock file left by a killed
    process blocks no other. A file system without locks gives a warning, and no lock.

    Args:
        path: the lock file, in an existing directory.
        wait: wait for the lock as long as another process holds it.

    Raises:
        LockHeldError: another process holds the lock, and ``wait`` is false.
    """
    descriptor = _locked(path, wait)
    try:
        with suppress(OSError):  # a full disk holds up no lock, only its holder's name
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path, wait: bool) -> int:
    """The descriptor of the lock file, once its lock is held."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.pread(descriptor, 1024, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise LockHeldError(holder or "another process") from None
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                os.close(descriptor)
                raise
            warnings.warn(
                f"{path}: this file system has no locks ({error.strerror}); run one process at a time", stacklevel=4
            )
            return descriptor
        if _is_at(path, descriptor):
            return descriptor
        os.close(descriptor)  # its last holder has removed the file since it was opened


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
