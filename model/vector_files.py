"""Vectors of many texts in a file: written once, in parts that a killed run resumes, and mapped into memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from dpsr.data.dataset.texts import joined_texts

_ROWS = 1024
"""Rows that are embedded and written at a time."""


def texts_digest(table: pa.Table, columns: Sequence[str]) -> str:
    """Hex digest of the values of some columns, by row."""
    content = hashlib.blake2b(f"{list(columns)}{len(table)}".encode(), digest_size=16)
    strings = pa.table({column: table.column(column).cast(pa.large_string()) for column in columns})
    for texts in joined_texts(strings, columns):
        for text in texts.to_pylist():
            content.update(text.encode())
            content.update(b"\0")
    return content.hexdigest()


def vectors_in_file(
    path: Path, rows: int, width: int, embed: Callable[[int, int], np.ndarray], *, name: str, progress: bool
) -> np.ndarray:
    """The vectors of a file, which is written where it is not there.

    Args:
        path: of a ``.npy`` file, named by all that decides its content.
        rows: number of vectors.
        width: w.
        embed: gives the vectors of rows first to end - 1, float32 [end - first, w].
        name: of the rows, for the progress bar.
        progress: show one.

    Returns:
        float32 [rows, w], mapped into memory.

    Raises:
        OSError: the disk is full; the rows written so far are kept.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("r+b" if part.exists() else "w+b") as file:
            np.lib.format.write_array_header_2_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, width)})
            first, row_bytes = file.tell(), 4 * width
            done = max(0, file.seek(0, os.SEEK_END) - first) // row_bytes // _ROWS * _ROWS
            file.truncate(first + done * row_bytes)
            file.seek(0, os.SEEK_END)
            with tqdm(total=rows, initial=done, desc=f"embedding {name}", unit="row", disable=not progress) as bar:
                for start in range(done, rows, _ROWS):
                    end = min(start + _ROWS, rows)
                    file.write(np.ascontiguousarray(embed(start, end), np.float32).data)
                    bar.update(end - start)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    vectors: np.ndarray = np.load(path, mmap_mode="r")
    return vectors
