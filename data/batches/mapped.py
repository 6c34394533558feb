"""Arrays that a graph reads from files of the machine where it runs, instead of carrying them along."""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dpsr.ops_cc import library

_ALIGNMENT = 64
_DTYPES = {np.dtype(name) for name in ("uint8", "int32", "int64", "float32")}


class MappedArray:
    """Stands for an array of a file wherever TensorFlow takes a tensor: each use maps the file into memory there."""

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


class ArrayFiles:
    """Makes mapped arrays of NumPy ones, of which it writes those to files that do not lie in one already."""

    def __init__(self, folder: Path) -> None:
        """Writes into ``folder``, which every machine sees under this name."""
        self._folder = folder

    def __call__(self, array: Any) -> MappedArray:
        """Maps an array; a memory-mapped one stays where it is, as a ``.npy`` file of a dataset."""
        # A slice of a memory-mapped array has another base, and the whole array's offset.
        if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.offset % _ALIGNMENT == 0:
            return MappedArray(array.filename, array.dtype, array.shape, array.offset)
        array = np.ascontiguousarray(array)
        if array.dtype not in _DTYPES:
            raise TypeError(f"an array of {array.dtype} cannot be mapped; expected one of {sorted(map(str, _DTYPES))}")
        # Named by its content: a second run finds what the first one wrote, and never changes what others have mapped.
        digest = hashlib.sha256(array.tobytes() + str((array.dtype, array.shape)).encode()).hexdigest()[:24]
        path = self._folder / f"{digest}.bin"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            beside = path.with_suffix(f".{os.getpid()}")
            beside.write_bytes(array.data)
            beside.replace(path)
        return MappedArray(path, array.dtype, array.shape)
