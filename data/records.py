"""Files of interactions: fixed-width records with as many bytes for each field as its largest value needs.

A file is a header of 16 bytes (``DPSRLOG1``, the bytes of each field, zeros) and the records. Their fields,
little-endian and unsigned, are the query row, the user row + 1, the item row, and ``4 * history_end + event``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpsr.data.schema import INTERACTION, DatasetError

HEADER_BYTES = 16
_MAGIC = b"DPSRLOG1"
_FIELDS = 4


@dataclass(frozen=True)
class Layout:
    """How many bytes each field of a record has."""

    widths: tuple[int, ...]

    @classmethod
    def of(cls, *, queries: int, users: int, items: int, longest_history: int) -> Layout:
        """The narrowest layout for tables of these sizes."""
        largest = (queries, users + 1, items, 4 * longest_history + 3)
        return cls(tuple(max(1, (value.bit_length() + 7) // 8) for value in largest))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Layout:
        """The layout of a file.

        Raises:
            DatasetError: it is no file of interactions, or it ends within a record.
        """
        with open(path, "rb") as file:
            header = file.read(HEADER_BYTES)
        layout = cls(tuple(header[len(_MAGIC) : len(_MAGIC) + _FIELDS]))
        if len(header) < HEADER_BYTES or header[: len(_MAGIC)] != _MAGIC or not 1 <= min(layout.widths) <= 4:
            raise DatasetError(f"{path}: not a file of interactions; run `dpsr prepare` again")
        size = Path(path).stat().st_size - HEADER_BYTES
        if size % layout.record_bytes:
            raise DatasetError(
                f"{path}: {size} bytes are no whole number of {layout.record_bytes}-byte records; "
                "run `dpsr prepare` again"
            )
        return layout

    @property
    def record_bytes(self) -> int:
        """Bytes of a record."""
        return sum(self.widths)

    @property
    def starts(self) -> tuple[int, ...]:
        """Where each field starts in a record."""
        return tuple(sum(self.widths[:field]) for field in range(_FIELDS))

    def pack(self, records: np.ndarray) -> np.ndarray:
        """INTERACTION [n] (or more fields) as uint8 [n, record_bytes]."""
        packed = np.empty((len(records), self.record_bytes), dtype=np.uint8)
        past = records["history_end"].astype(np.int64) * 4 + records["event"]
        columns = (records["query"], records["user"].astype(np.int64) + 1, records["item"], past)
        for column, start, width in zip(columns, self.starts, self.widths, strict=True):
            little_endian = np.ascontiguousarray(column, dtype="<i8").view(np.uint8).reshape(-1, 8)
            packed[:, start : start + width] = little_endian[:, :width]
        return packed

    def unpack(self, packed: np.ndarray) -> np.ndarray:
        """The inverse of ``pack``: uint8 [n, record_bytes] as INTERACTION [n]."""
        query, user, item, past = (
            sum(packed[:, start + byte].astype(np.int64) << (8 * byte) for byte in range(width))
            for start, width in zip(self.starts, self.widths, strict=True)
        )
        records = np.empty(len(packed), dtype=INTERACTION)
        records["query"], records["user"], records["item"] = query, user - 1, item
        records["event"], records["history_end"] = past & 3, past >> 2
        return records


def write_records(path: Path, layout: Layout, parts: Iterable[np.ndarray]) -> int:
    """Writes INTERACTION records, part after part; returns their number."""
    count = 0
    with path.open("wb") as file:
        file.write((_MAGIC + bytes(layout.widths)).ljust(HEADER_BYTES, b"\0"))
        for part in parts:
            layout.pack(part).tofile(file)
            count += len(part)
    return count


def num_records(path: str | os.PathLike[str]) -> int:
    """How many records a file has.

    Raises:
        DatasetError: as ``Layout.read``.
    """
    return (Path(path).stat().st_size - HEADER_BYTES) // Layout.read(path).record_bytes


def read_records(path: str | os.PathLike[str]) -> np.ndarray:
    """All records of a file, INTERACTION [n].

    Raises:
        DatasetError: as ``Layout.read``.
    """
    layout = Layout.read(path)
    count = num_records(path)
    records = np.empty(count, dtype=INTERACTION)
    if count:
        packed = np.memmap(path, np.uint8, "r", HEADER_BYTES, (count, layout.record_bytes))
        for start in range(0, count, 1 << 20):
            records[start : start + (1 << 20)] = layout.unpack(packed[start : start + (1 << 20)])
    return records


def common_layout(files: Sequence[str | os.PathLike[str]]) -> Layout:
    """The layout that all files have.

    Raises:
        DatasetError: they have different ones, as they are of different datasets; or as ``Layout.read``.
    """
    layouts = {Layout.read(file) for file in files}
    if len(layouts) != 1:
        names = ", ".join(map(os.fspath, files)) or "no records file"
        raise DatasetError(f"{names}: found {len(layouts)} record layouts, expected the files of one dataset")
    return layouts.pop()
