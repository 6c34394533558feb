"""Folders of a process in the temporary directory; the next process removes those of one that was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path


class ScratchFolder:
    """A folder that no other user may enter, until ``remove``.

    Whoever uses it holds a shared lock on it, which ends with the process, however that ends. Who makes a folder of the
    same prefix beside it removes it where nobody holds it any more.
    """

    def __init__(self, prefix: str, parent: str | None = None) -> None:
        """Makes and holds the folder, and removes those of processes that are gone.

        Args:
            prefix: of its name, for one purpose alone.
            parent: where; by default the temporary directory (``TMPDIR``).

        Raises:
            OSError: it cannot be made, or locked.
        """
        parent = parent or tempfile.gettempdir()
        for left in Path(parent).glob(f"{prefix}*"):
            with contextlib.suppress(OSError):
                descriptor = _lock(left, fcntl.LOCK_EX)
                shutil.rmtree(left, ignore_errors=True)
                os.close(descriptor)
        self._descriptor = -1
        while self._descriptor < 0:
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            with contextlib.suppress(BlockingIOError, FileNotFoundError):  # another process just found it not held
                self._descriptor = _lock(self.path, fcntl.LOCK_SH)

    def remove(self) -> None:
        """Removes the folder and what is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._descriptor)


def hold(folder: Path) -> None:
    """Holds the folder of another process, until this one ends.

    Raises:
        OSError: it is gone, or cannot be locked.
    """
    _lock(folder, fcntl.LOCK_SH)


def _lock(folder: Path, kind: int) -> int:
    """Locks a folder for the life of a descriptor, and returns that.

    Raises:
        OSError: the folder is locked otherwise, gone, or another user's.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise PermissionError(f"{folder} belongs to another user")
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        os.stat(folder, follow_symlinks=False)  # it may have been removed before it was locked
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
