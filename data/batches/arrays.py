"""NumPy arrays as a graph reads them: from files of the machine where it runs, or as constants in its memory."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dpsr.ops_cc import library

_ALIGNMENT = 64
_DTYPES = {np.dtype(name) for name in ("uint8", "int32", "int64", "float32")}


class _Folder:
    """Where a scope keeps its arrays, and the files that they are in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.used: set[Path] = set()

    def remove_others(self) -> None:
        """Removes what earlier scopes left."""
        for path in self.path.iterdir() if self.path.is_dir() else ():
            if path.is_file() and path.absolute() not in self.used:
                path.unlink(missing_ok=True)


_FOLDER: ContextVar[_Folder | None] = ContextVar("folder of array files", default=None)


class MappedArray:
    """Array of a file in place of a tensor: each graph maps the file into memory on the machine where it runs."""

    def __init__(self, path: str | os.PathLike[str], dtype: np.dtype, shape: tuple[int, ...], offset: int = 0) -> None:
        """Names the array; nothing is opened before a graph runs.

        Args:
            path: the file, under the same name on every machine.
            dtype: uint8, int32, int64 or float32.
            shape: of the array.
            offset: bytes before it, a multiple of 64.
        """
        self.path = os.path.abspath(path)
        self.dtype = dtype
        self.shape = shape
        self.offset = offset

    def __tf_tensor__(self, dtype: tf.DType | None = None, name: str | None = None) -> tf.Tensor:
        """The array, where the op runs."""
        return library.load().dpsr_mapped_array(
            path=self.path, offset=self.offset, dtype=tf.as_dtype(self.dtype), shape=self.shape, name=name
        )


@contextmanager
def arrays_in_files(folder: Path) -> Iterator[None]:
    """Scope in which ``graph_array`` keeps every array in a file, so that graphs run on other machines too.

    At the end of the scope, files of the folder that hold no array of it are removed: earlier runs left them.

    Args:
        folder: receives the arrays that lie in no file yet; every machine sees it under this path, and one run at a
            time uses it.
    """
    files = _Folder(folder)
    token = _FOLDER.set(files)
    try:
        yield
    finally:
        _FOLDER.reset(token)
    files.remove_others()


def graph_array(array: np.ndarray) -> Any:
    """Makes an array readable by graphs.

    Args:
        array: uint8, int32, int64 or float32. A memory-mapped one, as of a dataset, stays in its file.

    Returns:
        A ``MappedArray`` where the array lies in a file or ``arrays_in_files`` is in effect, else a constant.
    """
    folder = _FOLDER.get()
    # A slice of a memory-mapped array has another base, and the offset of the whole array.
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.offset % _ALIGNMENT == 0:
        found = MappedArray(array.filename, array.dtype, array.shape, array.offset)
    elif folder is None:
        return tf.constant(array)
    else:
        found = _written(np.ascontiguousarray(array), folder.path)
    if folder is not None:
        folder.used.add(Path(found.path))
    return found


def _written(array: np.ndarray, folder: Path) -> MappedArray:
    if array.dtype not in _DTYPES:
        raise TypeError(f"an array of {array.dtype} cannot be mapped; expected one of {sorted(map(str, _DTYPES))}")
    # Named by its content: a second run finds what the first one wrote, and never changes what others have mapped.
    digest = hashlib.sha256(array.tobytes() + str((array.dtype, array.shape)).encode()).hexdigest()[:24]
    path = folder / f"{digest}.bin"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}")
        beside.write_bytes(array.data)
        beside.replace(path)
    return MappedArray(path, array.dtype, array.shape)
