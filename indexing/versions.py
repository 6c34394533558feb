"""Version directories: integers that appear complete, by one rename.

A version is written to a hidden directory beside the others and renamed, which is atomic. Servers read integer names
only, and never a half-written version.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from dpsr.indexing.errors import ExportError

_STAGING_PREFIX = ".tmp-"


@contextlib.contextmanager
def staging_directory(base: Path) -> Iterator[Path]:
    """An empty hidden directory inside ``base``, removed when the block ends, as are those of killed processes."""
    base.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(base)
    staging = base / f"{_STAGING_PREFIX}{socket.gethostname()}-{os.getpid()}"
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def publish(directory: Path, base: Path) -> Path:
    """Renames a finished directory to the next version of ``base``, after its files are flushed to disk.

    Args:
        directory: on the file system of ``base``.
        base: the directory of versions.

    Returns:
        The version's directory, ``base/<largest version + 1>``.
    """
    _flush(directory)
    while True:
        version = base / str(max(_versions(base), default=0) + 1)
        try:
            os.rename(directory, version)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            continue  # another export published this number first
        _flush_directory(base)
        return version


def remove_old_versions(base: Path, keep: int) -> list[Path]:
    """Removes all but the newest versions.

    Args:
        base: the directory of versions.
        keep: versions to keep; 0 keeps all.

    Returns:
        The removed directories.
    """
    old = sorted(_versions(base))[:-keep] if keep else []
    removed = []
    for number in old:
        hidden = base / f"{_STAGING_PREFIX}{socket.gethostname()}-{os.getpid()}" / f"removed-{number}"
        hidden.parent.mkdir(exist_ok=True)
        # One rename removes a version whole: no server sees a part of it.
        (base / str(number)).rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)
        with contextlib.suppress(OSError):
            hidden.parent.rmdir()  # fails where an export of this process writes there
        removed.append(base / str(number))
    return removed


def find_version(base: Path, wanted: str) -> Path:
    """The directory of a published version.

    Args:
        base: the directory of versions.
        wanted: a number, or ``latest``.

    Raises:
        ExportError: there is none.
    """
    versions = sorted(_versions(base)) if base.is_dir() else []
    if wanted == "latest" and versions:
        return base / str(versions[-1])
    if wanted in map(str, versions):
        return base / wanted
    found = ", ".join(map(str, versions)) or "none"
    raise ExportError(
        f"{base}: has no version {wanted} (found: {found}; index.keep_versions decides how many stay); name one of "
        "these, or run `dpsr export` without --since"
    )


def _versions(base: Path) -> list[int]:
    return [int(path.name) for path in base.iterdir() if path.name.isascii() and path.name.isdigit()]


def _remove_abandoned(base: Path) -> None:
    """Removes the staging directories of killed exports of this machine."""
    ours = f"{_STAGING_PREFIX}{socket.gethostname()}-"
    for path in base.glob(f"{ours}*"):
        process = path.name.removeprefix(ours)
        if process.isdigit() and (int(process) == os.getpid() or not _is_running(int(process))):
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(directory: Path) -> None:
    for folder, _, names in os.walk(directory):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                os.fsync(file.fileno())
        _flush_directory(Path(folder))


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
