"""Records on disk, larger than memory: a sequential spill, and the buckets of a distribution sort."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

BUCKET_RECORDS = 1 << 20
"""Target size of a bucket, in records: what a sort holds in memory at once."""


class Spill:
    """File of records in the order of arrival; read any number of times."""

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        """Creates the file."""
        self._path = path
        self._dtype = dtype
        self._file: BinaryIO = path.open("wb")

    def append(self, records: np.ndarray) -> None:
        """Adds records [n] of the spill's dtype."""
        records.tofile(self._file)

    def blocks(self) -> Iterator[np.ndarray]:
        """All records in the order of arrival, at most ``BUCKET_RECORDS`` at once."""
        self._file.flush()
        yield from _blocks(self._path, self._dtype)

    def close(self) -> None:
        """Closes and removes the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class Buckets:
    """Records distributed over files; within a bucket they keep the order of arrival."""

    def __init__(self, directory: Path, name: str, num_buckets: int, dtype: np.dtype) -> None:
        """Creates one file for each bucket below ``directory``."""
        self.name = name
        self._paths = [directory / f"{name}.{number:05d}" for number in range(num_buckets)]
        self._dtype = dtype
        for path in self._paths:
            path.touch()

    def __len__(self) -> int:
        """The number of buckets."""
        return len(self._paths)

    def __enter__(self) -> Buckets:
        """The files live until the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the files."""
        for path in self._paths:
            path.unlink(missing_ok=True)

    def append(self, buckets: np.ndarray, records: np.ndarray) -> None:
        """Adds records.

        Args:
            buckets: integers [n], the bucket of each record.
            records: [n] of the buckets' dtype.
        """
        order = np.argsort(buckets, kind="stable")
        ends = np.cumsum(np.bincount(buckets, minlength=len(self)))
        for path, part in zip(self._paths, np.split(records[order], ends[:-1]), strict=True):
            if len(part):
                with path.open("ab") as file:
                    part.tofile(file)

    def read(self) -> Iterator[np.ndarray]:
        """The records of one bucket after another, each bucket whole; a bucket's file is removed when it was read."""
        for path in self._paths:
            yield np.fromfile(path, self._dtype)
            path.unlink()

    def blocks(self, bucket: int) -> Iterator[np.ndarray]:
        """The records of one bucket in the order of arrival, at most ``BUCKET_RECORDS`` at once; removes its file."""
        yield from _blocks(self._paths[bucket], self._dtype)
        self._paths[bucket].unlink()


def num_buckets(records: int) -> int:
    """The number of buckets of about ``BUCKET_RECORDS`` that hold ``records`` records, at least one."""
    return max(1, -(-records // BUCKET_RECORDS))


def _blocks(path: Path, dtype: np.dtype) -> Iterator[np.ndarray]:
    with path.open("rb") as file:
        while len(records := np.fromfile(file, dtype, BUCKET_RECORDS)):
            yield records
