"""Item vectors on disk, so that an export after a kill embeds only the remaining items."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dpsr.indexing.catalogue import Catalogue
from dpsr.indexing.errors import ExportError
from dpsr.indexing.fingerprints import model_fingerprint
from dpsr.model.interface import Model

_VECTORS, _DONE, _LOCK = "vectors.npy", "done", "lock"
_SECONDS_BETWEEN_NOTES = 5.0


@dataclass
class EmbeddedRows:
    """A file of vectors whose first ``done`` rows are finished."""

    directory: Path
    vectors: np.ndarray
    """float32 [items, d], mapped into memory."""
    done: int
    _noted: float = field(default_factory=time.monotonic)

    def advance(self, done: int) -> None:
        """Records that the first ``done`` rows are finished, every 5 s and at the end."""
        self.done = done
        now = time.monotonic()
        if done < len(self.vectors) and now - self._noted < _SECONDS_BETWEEN_NOTES:
            return
        self._noted = now
        self.vectors.flush()  # type: ignore[attr-defined]
        beside = self.directory / f"{_DONE}.new"
        beside.write_text(str(done))
        beside.replace(self.directory / _DONE)


@contextlib.contextmanager
def embedded_rows(base: Path, model: Model, catalogue: Catalogue) -> Iterator[EmbeddedRows]:
    """The vectors of a catalogue by a model, with the rows that a killed export finished.

    Their directory is named by a digest of model and catalogue, so that vectors of another one are never read. It is
    removed when the block ends without an exception; those of other models and catalogues are removed at the start.

    Args:
        base: holds the directories.
        model: the digest covers its weights.
        catalogue: the digest covers its texts and categories.

    Raises:
        ExportError: another process is embedding the same items.
    """
    directory = base / _digest(model, catalogue)
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / _LOCK).open("w") as lock:
        if not _acquire(lock.fileno()):
            raise ExportError(f"{directory}: another export is embedding these items; wait until it ends, or stop it")
        _remove_abandoned(base, directory)
        yield _open(directory, (len(catalogue), model.config.dimension))
        shutil.rmtree(directory, ignore_errors=True)


def _open(directory: Path, shape: tuple[int, int]) -> EmbeddedRows:
    path = directory / _VECTORS
    with contextlib.suppress(OSError, ValueError):
        vectors = np.lib.format.open_memmap(path, mode="r+")
        done = int((directory / _DONE).read_text())
        if vectors.shape == shape and vectors.dtype == np.float32 and 0 <= done <= shape[0]:
            return EmbeddedRows(directory, vectors, done)
    (directory / _DONE).unlink(missing_ok=True)
    return EmbeddedRows(directory, np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape), 0)


def _digest(model: Model, catalogue: Catalogue) -> str:
    content = hashlib.blake2b(model_fingerprint(model).encode(), digest_size=16)
    if model.item_encoders is not None:
        content.update(model.item_encoders.items_file(catalogue.table).name.encode())
    arrays = []
    for bags in (catalogue.texts.tokens, catalogue.texts.subwords):
        arrays += [] if bags is None else [bags.values, bags.row_splits]
    for name, ids in sorted(catalogue.categorical.items()):
        content.update(name.encode())
        arrays.append(ids)
    for array in arrays:
        content.update(f"{array.dtype}{array.shape}".encode())
        content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


def _acquire(descriptor: int) -> bool:
    """Locks a file until it is closed, as a kill does too; False where another process holds the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_abandoned(base: Path, current: Path) -> None:
    for path in base.iterdir():
        if path == current:
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(path / _LOCK, os.O_RDWR)
            try:
                if _acquire(descriptor):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)
