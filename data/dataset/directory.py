"""A directory that is there whole or not at all, whatever fails while it is written or replaced."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dpsr.data.dataset.locks import LockHeldError, exclusive
from dpsr.data.dataset.schema import DatasetError

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def _is_disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full; ``ndarray.tofile`` says so without an errno."""
    return isinstance(error, OSError) and (error.errno in _DISK_FULL or "requested and" in str(error))


def standing(final: Path) -> Path:
    """Where the directory of ``atomic_directory`` is: ``final``, or aside where a process died while it replaced it."""
    old = _beside(final, "old")
    return old if old.exists() and not final.exists() else final


@contextmanager
def atomic_directory(final: Path) -> Iterator[Path]:
    """Yields an empty directory that takes the place of ``final`` at the end of the block, or goes on an exception.

    One process at a time writes ``final``, by a lock file beside it. The new directory is written to the disk
    (``fsync``) before ``final`` is renamed to ``<final>.old``, and the new one to ``final``; where the second rename
    fails, the first is undone. ``<final>.old`` is never removed before the new directory stands, and ``standing``
    finds it after a process died between the two. What such a process left is removed, or put back, by the next one.

    Raises:
        DatasetError: another process writes ``final``, or the disk is full; or what the block raises, where rejected
            rows are kept in ``<final>.rejected``.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    lock = _beside(final, "lock")
    try:
        with exclusive(lock, wait=False):
            yield from _written(final)
    except LockHeldError as holder:
        raise DatasetError(
            f"{final}: {holder} writes this directory now (lock {lock.name}); wait until it has ended, or set another "
            "work_dir"
        ) from None


@contextmanager
def scratch_directory(folder: Path) -> Iterator[Path]:
    """Yields an empty directory in ``folder``, removed at the end; waits while another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / "scratch"
    with exclusive(folder / "scratch.lock", wait=True):
        shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _written(final: Path) -> Iterator[Path]:
    partial, old, rejected = (_beside(final, suffix) for suffix in ("partial", "old", "rejected"))
    if standing(final) == old:
        os.rename(old, final)
        _sync(final.parent)
    for leftover in (partial, old, rejected):
        if leftover.is_symlink():
            leftover.unlink()
        elif leftover.exists():
            shutil.rmtree(leftover)
    partial.mkdir()
    try:
        yield partial
        _replace(final, partial, old)
    except DatasetError:
        if (partial / "rejected").exists():
            os.rename(partial / "rejected", rejected)
        raise
    except OSError as error:
        if not _is_disk_full(error):
            raise
        raise DatasetError(
            f"{partial}: no more could be written ({error}); free some space (about 100 bytes for each interaction "
            "while the job runs) or set another work_dir; nothing is left behind"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace(final: Path, partial: Path, old: Path) -> None:
    """Puts ``partial`` in the place of ``final``; what was there takes the place of ``partial``."""
    for folder, _, files in os.walk(partial, topdown=False):
        for name in files:
            _sync(Path(folder, name))
        _sync(Path(folder))
    try:
        if final.exists():
            os.rename(final, old)
        os.rename(partial, final)
    except BaseException:
        if standing(final) == old:
            os.rename(old, final)
        raise
    _sync(final.parent)
    if old.exists():
        # Removed under the name of an unfinished directory, so that ``old`` is whole as long as it is there.
        with suppress(OSError):
            os.rename(old, partial)


def _sync(path: Path) -> None:
    """Writes a file, or the names in a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():  # some file systems cannot sync a directory
            raise
    finally:
        os.close(descriptor)


def _beside(final: Path, suffix: str) -> Path:
    return final.with_name(f"{final.name}.{suffix}")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
