"""A table of texts in an uncompressed Arrow file, of which single rows are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.data.raw.values import plain, texts

LONGEST = 1000
"""Characters of a cell; the rest is cut off."""
_ROWS_AT_ONCE = 1 << 16


class RowTable:
    """The cells of a table by row; the file is mapped, so that only rows that are read take memory."""

    def __init__(self, path: Path) -> None:
        """Opens what ``write`` wrote."""
        file = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = [file.get_batch(number) for number in range(file.num_record_batches)]
        self.columns: tuple[str, ...] = tuple(file.schema.names)
        self._arrays = {name: [batch.column(place) for batch in batches] for place, name in enumerate(self.columns)}
        self._starts = np.cumsum([0, *map(len, batches)])

    def __len__(self) -> int:
        """The number of rows."""
        return int(self._starts[-1])

    @staticmethod
    def write(path: Path, parts: Iterable[dict[str, pa.Array]], columns: Sequence[str]) -> int:
        """Writes a table.

        Args:
            path: of the file.
            parts: column -> some rows, text; in the order of the rows.
            columns: of every part.

        Returns:
            The number of rows.
        """
        schema, count = pa.schema([(name, pa.string()) for name in columns]), 0
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for part in parts:
                batch = pa.record_batch([part[name] for name in columns], schema=schema)
                for start in range(0, len(batch), _ROWS_AT_ONCE):
                    writer.write_batch(batch.slice(start, _ROWS_AT_ONCE))
                count += len(batch)
        return count

    def cells(self, column: str, rows: np.ndarray) -> list[str | None]:
        """The cells of some rows (integers [n], 0 <= row < len(self)) in a column; None where it has no value."""
        arrays = self._arrays[column]
        batches = np.searchsorted(self._starts, rows, side="right") - 1
        inside = rows - self._starts[batches]
        return [arrays[batch][row].as_py() for batch, row in zip(batches.tolist(), inside.tolist(), strict=True)]

    def column(self, name: str) -> Iterator[pa.Array]:
        """All cells of a column, in parts."""
        yield from self._arrays[name]


def cut_texts(values: pa.Array, longest: int = LONGEST) -> pa.Array:
    """The values of a column as text of at most so many characters, string [n]; null where there is none."""
    given = texts(plain(values))
    return pc.utf8_slice_codeunits(given, 0, longest).cast(pa.string())
