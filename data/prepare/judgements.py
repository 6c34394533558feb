"""What people judged and reported on the page, as an input of labelled pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from dpsr.data.judgements.labels import labelled_pairs
from dpsr.data.raw.readers import Chunk
from dpsr.data.raw.rejected import RejectsRows


class JudgedPairs:
    """The labelled pairs of a store of judgements, read as the rows of a ``Source``."""

    name = "judgements"

    def __init__(self, path: Path, books: Sequence[str] | None) -> None:
        """Reads all pairs; what is judged later does not count.

        Args:
            path: the store.
            books: those whose judgements count; None: all, and bad cases.

        Raises:
            JudgementError: the store is missing or cannot be read, or has no book of a name.
        """
        self.files = (str(path),)
        self._pairs = labelled_pairs(path, key="data.judgements.path", books=books)

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self._pairs)

    def chunks(self, rejected: RejectsRows) -> Iterator[Chunk]:
        """Yields all rows, numbered by query and item."""
        columns = {
            "query": pa.array([pair.query for pair in self._pairs], pa.string()),
            "item_id": pa.array([pair.item_id for pair in self._pairs], pa.string()),
            "label": pa.array([pair.label for pair in self._pairs], pa.float64()),
        }
        yield Chunk(self.files[0], np.arange(1, len(self._pairs) + 1), columns)
