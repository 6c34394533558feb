"""Files of interactions: fixed-width records with as many bits for each field as its largest value needs.

A file is a header of 16 bytes (``DPSRLOG1``, the bits of each field, zeros) and the records. A record is one unsigned
little-endian number of whole bytes; from its lowest bit on it has the query row, the user row + 1, the item row, and
``4 * history_end + event``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dpsr.data.dataset.schema import INTERACTION, DatasetError

HEADER_BYTES = 16
_MAGIC = b"DPSRLOG1"
_FIELDS = 4


class Field(NamedTuple):
    """Position of a field: ``(bytes first_byte..first_byte + num_bytes) >> shift & mask``."""

    first_byte: int
    num_bytes: int
    shift: int
    mask: int


@dataclass(frozen=True)
class Layout:
    """Bits of each field of a record, 1 to 32."""

    bits: tuple[int, ...]

    @classmethod
    def of(cls, *, queries: int, users: int, items: int, longest_history: int) -> Layout:
        """The narrowest layout for tables of these sizes."""
        largest = (queries - 1, users, items - 1, 4 * longest_history + 3)
        return cls(tuple(max(1, value.bit_length()) for value in largest))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Layout:
        """The layout of a file.

        Raises:
            DatasetError: the file does not hold interactions, or ends within a record.
        """
        with open(path, "rb") as file:
            header = file.read(HEADER_BYTES)
        layout = cls(tuple(header[len(_MAGIC) : len(_MAGIC) + _FIELDS]))
        if (
            len(header) < HEADER_BYTES
            or header[: len(_MAGIC)] != _MAGIC
            or not all(1 <= bits <= 32 for bits in layout.bits)
        ):
            raise DatasetError(f"{path}: not a file of interactions; run `dpsr prepare` again")
        size = Path(path).stat().st_size - HEADER_BYTES
        if size % layout.record_bytes:
            raise DatasetError(
                f"{path}: {size} bytes of records, which is not a multiple of {layout.record_bytes}; "
                "run `dpsr prepare` again"
            )
        return layout

    @property
    def record_bytes(self) -> int:
        """Bytes of a record."""
        return -(-sum(self.bits) // 8)

    @property
    def fields(self) -> list[Field]:
        """Positions of query, user + 1, item and ``4 * history_end + event``."""
        starts = [sum(self.bits[:number]) for number in range(_FIELDS)]
        return [
            Field(start // 8, -(-(start % 8 + bits) // 8), start % 8, (1 << bits) - 1)
            for start, bits in zip(starts, self.bits, strict=True)
        ]

    def pack(self, records: np.ndarray) -> np.ndarray:
        """INTERACTION [n] (or more fields) as uint8 [n, record_bytes]."""
        packed = np.zeros((len(records), self.record_bytes), dtype=np.uint8)
        past = records["history_end"].astype(np.int64) * 4 + records["event"]
        columns = (records["query"], records["user"].astype(np.int64) + 1, records["item"], past)
        for column, field in zip(columns, self.fields, strict=True):
            little_endian = (column.astype("<i8") << field.shift).view(np.uint8).reshape(-1, 8)
            packed[:, field.first_byte : field.first_byte + field.num_bytes] |= little_endian[:, : field.num_bytes]
        return packed

    def unpack(self, packed: np.ndarray) -> np.ndarray:
        """The inverse of ``pack``: uint8 [n, record_bytes] as INTERACTION [n]."""
        columns = []
        for field in self.fields:
            value = np.zeros(len(packed), dtype=np.int64)
            for byte in range(field.num_bytes):
                value |= packed[:, field.first_byte + byte].astype(np.int64) << (8 * byte)
            columns.append((value >> field.shift) & field.mask)
        query, user, item, past = columns
        records = np.empty(len(packed), dtype=INTERACTION)
        records["query"], records["user"], records["item"] = query, user - 1, item
        records["event"], records["history_end"] = past & 3, past >> 2
        return records


def write_records(path: Path, layout: Layout, parts: Iterable[np.ndarray]) -> int:
    """Writes INTERACTION records (blocks [n], in their order); returns their number."""
    count = 0
    with path.open("wb") as file:
        file.write((_MAGIC + bytes(layout.bits)).ljust(HEADER_BYTES, b"\0"))
        for part in parts:
            layout.pack(part).tofile(file)
            count += len(part)
    return count


def num_records(path: str | os.PathLike[str]) -> int:
    """The number of records of a file.

    Raises:
        DatasetError: as ``Layout.read``.
    """
    return (Path(path).stat().st_size - HEADER_BYTES) // Layout.read(path).record_bytes


def read_records(path: str | os.PathLike[str]) -> np.ndarray:
    """All records of a file, INTERACTION [n].

    Raises:
        DatasetError: as ``Layout.read``.
    """
    records = np.empty(num_records(path), dtype=INTERACTION)
    start = 0
    for block in record_blocks(path):
        records[start : start + len(block)] = block
        start += len(block)
    return records


def record_blocks(path: str | os.PathLike[str]) -> Iterator[np.ndarray]:
    """All records of a file, a million at once, INTERACTION [n].

    Raises:
        DatasetError: as ``Layout.read``.
    """
    layout = Layout.read(path)
    with open(path, "rb") as file:
        file.seek(HEADER_BYTES)
        while len(packed := np.fromfile(file, np.uint8, layout.record_bytes << 20)):
            yield layout.unpack(packed.reshape(-1, layout.record_bytes))


def records_at(path: str | os.PathLike[str], places: np.ndarray) -> np.ndarray:
    """The records of a file at the given places (integers [n], from 0), INTERACTION [n]; reads no others.

    Raises:
        DatasetError: as ``Layout.read``.
        IndexError: a place is not in the file.
    """
    layout, count = Layout.read(path), num_records(path)
    places = np.asarray(places, dtype=np.int64)
    if len(places) and not 0 <= int(places.min()) <= int(places.max()) < count:
        raise IndexError(f"{os.fspath(path)}: record {places.min()}..{places.max()} of {count}")
    if not count:
        return np.empty(0, dtype=INTERACTION)
    shape = (count, layout.record_bytes)
    return layout.unpack(np.memmap(path, np.uint8, "r", HEADER_BYTES, shape)[places])
