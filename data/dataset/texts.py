"""Columns of text, of any size: Arrow's ``string`` counts bytes in 32 bits, so that one array holds at most 2 GiB.

A table holds more in several chunks. What needs one array, or joins texts, goes through ``large_string`` here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ROWS_AT_ONCE = 1 << 14
_SLICE_BYTES = 1 << 26
_CHUNK_BYTES = 1 << 30

# Scripts that are written without spaces; an ideograph or a kana is a word of the tokenizer too.
_UNSPACED = r"([\p{Han}\p{Hiragana}\p{Katakana}])"


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array; strings become ``large_string``, whose 64-bit offsets have no limit of 2 GiB."""
    column = _large(column)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def joined_texts(table: pa.Table, columns: Sequence[str]) -> Iterator[pa.Array]:
    """The texts of every row in one, with a space between two columns; a missing text is empty.

    Args:
        table: the rows.
        columns: the text columns.

    Yields:
        large_string, ``ROWS_AT_ONCE`` rows at a time, or fewer where their texts are very long.
    """
    space = pa.scalar(" ", pa.large_string())
    for rows in _slices(table.select(list(columns))):
        texts = (one_array(column).cast(pa.large_string()) for column in rows.columns)
        yield pc.binary_join_element_wise(*texts, space, null_handling="replace", null_replacement="")


def field_texts(table: pa.Table, columns: Sequence[str]) -> Iterator[pa.Array]:
    """The texts of every row one after the other, in the order of the columns; a missing text is empty.

    Args:
        table: the rows.
        columns: F text columns.

    Yields:
        large_string, those of ``ROWS_AT_ONCE`` rows at a time, or of fewer where their texts are very long.
    """
    for texts in column_texts(table, columns):
        by_row = np.arange(len(texts) * len(texts[0])).reshape(len(texts), len(texts[0])).T.ravel()
        yield pa.concat_arrays(texts).take(pa.array(by_row))


def column_texts(table: pa.Table, columns: Sequence[str]) -> Iterator[list[pa.Array]]:
    """The texts of each of the columns; a missing text is empty.

    Args:
        table: the rows.
        columns: F text columns.

    Yields:
        F arrays, large_string: those of ``ROWS_AT_ONCE`` rows at a time, or of fewer where their texts are very long.
    """
    for rows in _slices(table.select(list(columns))):
        yield [pc.fill_null(one_array(column).cast(pa.large_string()), "") for column in rows.columns]


def text_batches(texts: pa.Array | pa.ChunkedArray) -> Iterator[pa.Array | pa.ChunkedArray]:
    """Texts [n], ``ROWS_AT_ONCE`` at a time, or fewer where they are very long."""
    return _slices(texts)


def spaced_texts(table: pa.Table, columns: Sequence[str]) -> pa.Array:
    """``joined_texts`` with spaces between all words of the tokenizer, also of scripts without; large_string [rows]."""
    texts = [pc.replace_substring_regex(batch, _UNSPACED, r"\1 ") for batch in joined_texts(table, columns)]
    return pa.chunked_array(texts, pa.large_string()).combine_chunks()


def take_rows(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """The given rows (integers [n]) in the given order, strings as ``large_string``; a negative row has no values.

    ``pa.Table.take`` joins the chunks of a column first, and fails where they have more than 2 GiB; this one copies
    the chosen rows only.
    """
    rows = np.asarray(rows, dtype=np.int64)
    if all(column.num_chunks == 1 for column in table.columns):
        return _large_table(table).take(pa.array(rows, mask=rows < 0))
    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    found, start = [], 0
    for batch in table.to_batches():
        first, behind = np.searchsorted(ascending, [start, start + len(batch)])
        if behind > first:
            piece = _large_table(pa.table(batch))
            found.append(piece.take(pa.array(ascending[first:behind] - start)))
        start += len(batch)
    place = np.empty_like(order)
    place[order] = np.arange(len(order)) - np.searchsorted(ascending, 0)
    places = pa.array(place, mask=place < 0)
    return pa.concat_tables([_large_table(table.slice(0, 0)), *found]).combine_chunks().take(places)


def with_small_strings(table: pa.Table) -> pa.Table:
    """The same table with ``string`` in the place of ``large_string``, in as many chunks as the texts need."""
    for number, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        if pa.types.is_large_string(column.type):
            chunks = [piece for chunk in column.chunks for piece in _small_chunks(chunk)]
            table = table.set_column(number, name, pa.chunked_array(chunks, pa.string()))
    return table


def _slices(rows: Any) -> Iterator[Any]:
    """Slices of an array or a table, at most ``ROWS_AT_ONCE`` rows and, beyond one row, ``_SLICE_BYTES`` bytes each."""
    start = 0
    while start < len(rows):
        size = ROWS_AT_ONCE
        while size > 1 and rows.slice(start, size).nbytes > _SLICE_BYTES:
            size //= 2
        yield rows.slice(start, size)
        start += size


def _small_chunks(texts: pa.Array) -> Iterator[pa.Array]:
    if texts.nbytes < _CHUNK_BYTES:
        yield texts.cast(pa.string())
        return
    ends = np.cumsum(pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False))
    start = 0
    while start < len(texts):
        before = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + _CHUNK_BYTES)))
        # Copied, as a cast looks at the offsets of the whole array.
        yield pa.concat_arrays([texts.slice(start, end - start)]).cast(pa.string())
        start = end


def _large(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.large_string()) if pa.types.is_string(column.type) else column


def _large_table(table: pa.Table) -> pa.Table:
    return pa.table([_large(column) for column in table.columns], names=table.column_names)
