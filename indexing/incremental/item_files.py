"""What a version keeps of its items for later exports: by row of its index, their ids and fingerprints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from dpsr.data.dataset.texts import one_array
from dpsr.indexing.errors import ExportError

ITEMS_FILE = "assets.extra/items.arrow"
"""Relative to the version directory."""


@dataclass(frozen=True)
class RowContents:
    """The items that vectors were made of, by row; those of removed items too, which may come back."""

    item_ids: pa.Array
    """large_string or int64 [rows]."""
    fingerprints: np.ndarray
    """uint64 [rows]; see ``row_fingerprints``."""

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.item_ids)

    @classmethod
    def of(cls, ids: pa.ChunkedArray, fingerprints: np.ndarray) -> RowContents:
        """The contents of a catalogue; ``ids`` is its column of ids."""
        kind = pa.int64() if pa.types.is_integer(ids.type) else pa.large_string()
        return cls(one_array(ids.cast(kind)), fingerprints)

    def take(self, rows: np.ndarray) -> RowContents:
        """Some rows (integers [n]), in the given order."""
        return RowContents(self.item_ids.take(pa.array(rows)), self.fingerprints[rows])

    def slice(self, first: int, end: int) -> RowContents:
        """The rows first to end - 1."""
        return RowContents(self.item_ids.slice(first, end - first), self.fingerprints[first:end])

    def __add__(self, other: RowContents) -> RowContents:
        """The rows of both, one after the other."""
        ids = pa.concat_arrays([self.item_ids, other.item_ids])
        return RowContents(ids, np.concatenate([self.fingerprints, other.fingerprints]))

    def write(self, version: Path) -> None:
        """Writes the file of a version."""
        table = pa.table({"item_id": self.item_ids, "content": self.fingerprints})
        with pa.OSFile(str(version / ITEMS_FILE), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)

    @classmethod
    def read(cls, version: Path) -> RowContents:
        """Reads the file of a version, mapped into memory.

        Raises:
            ExportError: it is missing or cannot be read.
        """
        path = version / ITEMS_FILE
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            return cls(one_array(table.column("item_id")), table.column("content").to_numpy())
        except (OSError, pa.ArrowInvalid, KeyError) as error:
            raise ExportError(
                f"{path}: not the items of a version ({error}); a version of an older release has none: run `dpsr "
                "export` once without --since"
            ) from None
