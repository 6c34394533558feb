"""Text files as blocks of whole lines: decompressed, valid UTF-8 without a mark, lines ended by a line feed."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from dpsr.data.dataset.schema import DatasetError

COMPRESSIONS = {"": None, ".gz": "gzip", ".zst": "zstd"}
"""Endings of compressed files, in lower case."""

_BLOCK_BYTES = 1 << 24
_HEAD_BYTES = 1 << 16
_LONGEST_LINE = 1 << 26
_UTF8_MARK, _UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
_LONE_RETURN = re.compile(rb"\r(?!\n)")


class LineBlock(NamedTuple):
    """Some lines of a file."""

    first: int
    """The number of the first line, from 1."""
    data: bytes
    """Valid UTF-8; ends with a line feed, except at the end of the file."""


def open_bytes(file: str) -> BinaryIO:
    """The bytes of a file, decompressed as its name says."""
    stream = pa.input_stream(file, compression=COMPRESSIONS.get(Path(file).suffix.lower()))
    return io.BufferedReader(stream, 1 << 20)


def line_blocks(file: str, block_bytes: int | None = None) -> Iterator[LineBlock]:
    """The lines of a file in blocks of about ``block_bytes``.

    A file that has carriage returns and no line feed in its first 64 KiB is one of lines that end with these; beside
    line feeds, a lone carriage return is white space.

    Raises:
        DatasetError: the file is UTF-16, or a line is longer than 64 MiB.
    """
    size = block_bytes or _BLOCK_BYTES
    first, returns = 1, False
    with open_bytes(file) as stream:
        while data := stream.read(size):
            if first == 1:
                if data.startswith(_UTF16_MARKS):
                    raise DatasetError(f"{file}: is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)")
                data = data.removeprefix(_UTF8_MARK)
                head = data[:_HEAD_BYTES]
                returns = b"\r" in head and b"\n" not in head
            data = _whole_lines(file, stream, data, first, b"\r" if returns else b"\n")
            if returns:
                data = data.replace(b"\r", b"\n")
            elif b"\r" in data and data.count(b"\r") != data.count(b"\r\n"):
                data = _LONE_RETURN.sub(b" ", data)
            if data:
                yield LineBlock(first, _valid_utf8(data))
            first += data.count(b"\n")


def _valid_utf8(data: bytes) -> bytes:
    """Bytes with U+FFFD in place of what is not UTF-8."""
    offsets = pa.py_buffer(np.array([0, len(data)], np.int64))
    try:
        pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(data)]).cast(pa.large_string())
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return data.decode("utf-8", "replace").encode()
    return data


def _whole_lines(file: str, stream: BinaryIO, data: bytes, first: int, end: bytes) -> bytes:
    """A block with the rest of its last line."""
    parts, size = [data], 0
    while not parts[-1].endswith(end):
        more = stream.readline(1 << 20) if end == b"\n" else stream.read(1)
        if not more:
            break
        parts.append(more)
        size += len(more)
        if size > _LONGEST_LINE:
            line = first + data.count(end)
            raise DatasetError(f"{file}: line {line} is longer than {_LONGEST_LINE >> 20} MiB; the file is damaged")
    return b"".join(parts) if len(parts) > 1 else data
