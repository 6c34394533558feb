"""A directory that is there whole or not at all."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpsr.data.dataset.schema import DatasetError

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that no more can be written; ``ndarray.tofile`` says it without an errno."""
    return isinstance(error, OSError) and (error.errno in _DISK_FULL or "requested and" in str(error))


@contextmanager
def atomic_directory(final: Path) -> Iterator[Path]:
    """A directory that becomes ``final`` at the end of the block, or is gone after an exception.

    What a killed process has left is removed, or, where it was killed between the two renames, put back.

    Raises:
        DatasetError: the disk is full; or what the block raises, where rejected rows are kept in ``<final>.rejected``.
    """
    partial, old = final.with_name(final.name + ".partial"), final.with_name(final.name + ".old")
    rejected = final.with_name(final.name + ".rejected")
    if old.exists() and not final.exists():
        old.rename(final)
    for leftover in (partial, old, rejected):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if final.exists():
            final.rename(old)
        partial.rename(final)
    except DatasetError:
        if (partial / "rejected").exists():
            (partial / "rejected").rename(rejected)
        raise
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise DatasetError(
            f"{partial}: no more could be written ({error}); free some space (about 100 bytes for each interaction "
            "while the job runs) or set another work_dir; nothing is left behind"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
