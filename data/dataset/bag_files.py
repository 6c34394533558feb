"""Files of CSR bags, which are written row after row and may exceed the memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dpsr.data.dataset.tables import Bags

_ROWS_AT_ONCE = 1 << 16


class BagsWriter:
    """Writes ``<name>.values.npy`` and ``<name>.row_splits.npy``; values come in the order of the rows."""

    def __init__(self, directory: Path, name: str, num_rows: int) -> None:
        """Creates the file of the values."""
        self._directory, self._name = directory, name
        self._lengths = np.zeros(num_rows, dtype=np.int64)
        self._raw = directory / f"{name}.raw"
        self._file = self._raw.open("wb")

    def add(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Adds values (int32 [n]) to rows (integers [n]); rows ascend within a call and from call to call."""
        values.astype(np.int32, copy=False).tofile(self._file)
        self._lengths += np.bincount(rows, minlength=len(self._lengths))

    def close(self, before: Bags | None = None) -> int:
        """Finishes the files.

        Args:
            before: bags whose values precede the new ones of the same row; at most as many rows.

        Returns:
            The length of the longest bag.
        """
        self._file.close()
        new = Bags(
            np.memmap(self._raw, np.int32, "r") if self._raw.stat().st_size else np.empty(0, np.int32), self._splits()
        )
        if before is not None:
            self._lengths[: len(before)] += np.diff(before.row_splits)
        row_splits = self._splits()
        np.save(self._directory / f"{self._name}.row_splits.npy", row_splits)
        with (self._directory / f"{self._name}.values.npy").open("wb") as file:
            _write_header(file, int(row_splits[-1]))
            if before is None:
                with self._raw.open("rb") as raw:
                    shutil.copyfileobj(raw, file, 1 << 22)
            else:
                for start in range(0, len(new), _ROWS_AT_ONCE):
                    _joined(before, new, start, min(len(new), start + _ROWS_AT_ONCE)).tofile(file)
        self._raw.unlink()
        return int(self._lengths.max(initial=0))

    def _splits(self) -> np.ndarray:
        row_splits = np.zeros(len(self._lengths) + 1, dtype=np.int64)
        np.cumsum(self._lengths, out=row_splits[1:])
        return row_splits


def _joined(before: Bags, new: Bags, start: int, end: int) -> np.ndarray:
    """The values of some rows, first those of ``before``."""
    rows = np.arange(start, end)
    known = rows[rows < len(before)]
    first = before.take(known)
    second = new.take(rows)
    owner = np.concatenate([np.repeat(known, np.diff(first.row_splits)), np.repeat(rows, np.diff(second.row_splits))])
    return np.concatenate([first.values, second.values])[np.argsort(owner, kind="stable")]


def write_bags(directory: Path, name: str, batches: Iterable[Bags]) -> int:
    """Writes the bags of some batches, one batch after another, as ``<name>.values.npy`` and ``<name>.row_splits.npy``.

    Memory holds one batch, and eight bytes for each row.

    Returns:
        The number of rows.
    """
    lengths = [np.zeros(1, dtype=np.int64)]
    raw = directory / f"{name}.raw"
    with raw.open("wb") as file:
        for bags in batches:
            np.asarray(bags.values, dtype=np.int32).tofile(file)
            lengths.append(np.diff(bags.row_splits))
    row_splits = np.cumsum(np.concatenate(lengths), dtype=np.int64)
    np.save(directory / f"{name}.row_splits.npy", row_splits)
    with (directory / f"{name}.values.npy").open("wb") as file, raw.open("rb") as values:
        _write_header(file, int(row_splits[-1]))
        shutil.copyfileobj(values, file, 1 << 22)
    raw.unlink()
    return len(row_splits) - 1


def _write_header(file: BinaryIO, num_values: int) -> None:
    header = {"descr": "<i4", "fortran_order": False, "shape": (num_values,)}
    np.lib.format.write_array_header_1_0(file, header)
