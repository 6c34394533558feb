"""Files of CSR bags, which are written row after row and may exceed the memory."""

from __future__ import annotations

import shutil
from pathlib import Path

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
            header = {"descr": "<i4", "fortran_order": False, "shape": (int(row_splits[-1]),)}
            np.lib.format.write_array_header_1_0(file, header)
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


def save_bags(directory: Path, name: str, bags: Bags) -> None:
    """Writes bags held in memory, as ``BagsWriter`` does."""
    np.save(directory / f"{name}.values.npy", bags.values)
    np.save(directory / f"{name}.row_splits.npy", bags.row_splits)
