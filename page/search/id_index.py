"""Ids of a table -> rows, in files that are mapped into memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa

_WHOLE_NUMBER, _MOST_DIGITS = re.compile("-?[0-9]+"), 40


class IdIndex:
    """Finds the rows of ids by binary search.

    Twelve bytes an id, on the disk and mapped: its key, sorted, and its row. The key of a whole number is the number;
    that of a text 64 bits of its BLAKE2b digest: with 15 million ids, the chance that an id of another table is taken
    for one of this is 1 in 10^12 a look-up, and that any two of this one share a key is 1 in 160,000.
    """

    def __init__(self, directory: Path, *, whole_numbers: bool) -> None:
        """Opens what ``write`` wrote.

        Args:
            directory: of the files.
            whole_numbers: whether the ids are int64, else they are text.
        """
        self._whole_numbers = whole_numbers
        self._keys = np.load(directory / "id_keys.npy", mmap_mode="r")
        self._rows = np.load(directory / "id_rows.npy", mmap_mode="r")

    @staticmethod
    def write(directory: Path, columns: Iterable[pa.Array], count: int) -> None:
        """Writes the index of a table.

        Args:
            directory: where to.
            columns: the ids, string or int64, in the order of the rows; in parts.
            count: how many they are.
        """
        keys, start = np.empty(count, np.uint64), 0
        for ids in columns:
            whole_numbers = pa.types.is_integer(ids.type)
            keys[start : start + len(ids)] = (
                ids.to_numpy().view(np.uint64) if whole_numbers else _digests(ids.cast(pa.large_binary()).to_pylist())
            )
            start += len(ids)
        order = np.argsort(keys, kind="stable")
        np.save(directory / "id_keys.npy", keys[order])
        np.save(directory / "id_rows.npy", order.astype(np.int32))

    def rows_of(self, ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """The rows of some ids.

        Args:
            ids: text; bytes (as a server answers); or, of whole numbers, int64 [n] as well.

        Returns:
            int64 [n]; -1 where the table lacks the id.
        """
        if not len(ids) or not len(self._keys):
            return np.full(len(ids), -1, np.int64)
        if not self._whole_numbers:
            keys = _digests([each.encode("utf-8", "replace") if isinstance(each, str) else each for each in ids])
            valid = np.ones(len(keys), bool)
        elif isinstance(ids, np.ndarray) and ids.dtype == np.int64:
            keys, valid = ids.view(np.uint64), np.ones(len(ids), bool)
        else:
            numbers = [whole_number(each) for each in ids]
            valid = np.array([number is not None for number in numbers])
            keys = np.array([number or 0 for number in numbers], np.int64).view(np.uint64)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(valid & (self._keys[places] == keys), self._rows[places], -1).astype(np.int64)


def whole_number(text: str | bytes) -> int | None:
    """The id that a text is, where ids are int64; None where it is none."""
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    if len(text) > _MOST_DIGITS or not _WHOLE_NUMBER.fullmatch(text):
        return None
    number = int(text)
    return number if -(1 << 63) <= number < 1 << 63 else None


def _digests(texts: Sequence[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join([blake2b(text, digest_size=8).digest() for text in texts]), "<u8")
