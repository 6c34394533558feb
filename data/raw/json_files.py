"""JSON Lines files: an object on each line, values of any type, keys that may come and go."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from dpsr.data.dataset.schema import DatasetError
from dpsr.data.raw.line_blocks import LineBlock, line_blocks
from dpsr.data.raw.rejected import RejectsRows
from dpsr.data.raw.rows import Rows
from dpsr.data.raw.values import json_array, json_type, plain, without_surrogates

_SAMPLE_LINES = 1000
_SAMPLE_BYTES = 1 << 20
_EXACT = 2.0**53


class MalformedLineError(ValueError):
    """A line that is not a usable JSON object; the message is the reason."""


def parse_line(line: bytes) -> dict[str, Any]:
    """The object on a line; bytes that are not UTF-8 become U+FFFD.

    Raises:
        MalformedLineError: the line is not a JSON object.
    """
    try:
        found = json.loads(line.decode("utf-8", "replace"))
    except RecursionError:
        raise MalformedLineError("malformed JSON line: nested too deeply") from None
    except ValueError:
        raise MalformedLineError("malformed JSON line") from None
    if not isinstance(found, dict):
        raise MalformedLineError("malformed JSON line: not an object")
    return found


class JsonFile:
    """A file of JSON Lines."""

    def __init__(self, file: str) -> None:
        """Keeps the name."""
        self._file = file

    def columns(self) -> list[tuple[str, pa.DataType]]:
        """The keys of the first 1,000 lines; the type of nested values where no other value is there.

        Raises:
            DatasetError: there are lines, but no object; or the file is one JSON array.
        """
        values: dict[str, list[Any]] = {}
        block = next(line_blocks(self._file, _SAMPLE_BYTES), LineBlock(1, b""))
        if block.data.lstrip()[:1] == b"[":
            raise DatasetError(
                f"{self._file}: is one JSON array; expected an object on each line: jq -c '.[]' FILE > FILE.jsonl"
            )
        lines = [line for line in block.data.split(b"\n")[:_SAMPLE_LINES] if line.strip()]
        for line in lines:
            try:
                row = parse_line(line)
            except MalformedLineError:
                continue
            for name, value in row.items():
                values.setdefault(without_surrogates(name), []).append(value)
        if lines and not values:
            raise DatasetError(
                f"{self._file}: found no JSON object in its first lines; expected one on each line; "
                "write the input as JSON Lines, or name a file of another format"
            )
        return [(name, _sampled_type(found)) for name, found in values.items()]

    def has_late_column(self, name: str) -> bool:
        """Whether any line has a key; reads the whole file."""
        spellings = {json.dumps(name, ensure_ascii=ascii_only).encode() for ascii_only in (True, False)}
        key = re.compile(b"(?:" + b"|".join(map(re.escape, spellings)) + rb")\s*:")
        for block in line_blocks(self._file):
            for match in key.finditer(block.data):
                start = block.data.rfind(b"\n", 0, match.start()) + 1
                end = block.data.find(b"\n", match.start())
                try:
                    if name in parse_line(block.data[start : None if end < 0 else end]):
                        return True
                except MalformedLineError:
                    continue
        return False

    def num_splits(self) -> int:
        """1."""
        return 1

    def batches(self, columns: list[str], rejected: RejectsRows, split: int | None = None) -> Iterator[Rows]:
        """See ``formats.Format``."""
        types: dict[str, pa.DataType] = {}
        for block in line_blocks(self._file):
            types = {name: types.get(name, kind) for name, kind in _types_of(block.data, columns).items()}
            rows = _parse(block, types)
            if rows is None:
                rows = self._line_by_line(block, columns, rejected)
                types = {}
            if len(rows.numbers):
                yield rows

    def _line_by_line(self, block: LineBlock, columns: list[str], rejected: RejectsRows) -> Rows:
        """The slow path for a block with a line or a value that Arrow cannot read, or with values of several types."""
        numbers: list[int] = []
        values: dict[str, list[Any]] = {name: [] for name in columns}
        for number, line in enumerate(block.data.removesuffix(b"\n").split(b"\n"), start=block.first):
            if not line.strip():
                continue
            try:
                row = parse_line(line)
                found = [row.get(name) for name in columns]
                for name, value in zip(columns, found, strict=True):
                    if isinstance(value, (list, dict)):
                        what = "a list" if isinstance(value, list) else "an object"
                        raise MalformedLineError(f"malformed JSON line: {name} is {what}")
            except MalformedLineError as error:
                rejected.add(self._file, number, str(error), line.decode("utf-8", "replace"), line=number)
                continue
            numbers.append(number)
            for name, value in zip(columns, found, strict=True):
                values[name].append(value)
        found_numbers = np.array(numbers, dtype=np.int64)
        return Rows(found_numbers, found_numbers, {name: json_array(found) for name, found in values.items()})


def _sampled_type(values: list[Any]) -> pa.DataType:
    given = [value for value in values if value is not None]
    if given and all(isinstance(value, list) for value in given):
        return pa.list_(pa.null())
    if given and all(isinstance(value, dict) for value in given):
        return pa.struct([])
    return json_type([value for value in given if not isinstance(value, (list, dict))])


def _types_of(data: bytes, columns: list[str]) -> dict[str, pa.DataType]:
    """What the first lines of a block say about the types of columns."""
    values: dict[str, list[Any]] = {name: [] for name in columns}
    position = 0
    for _ in range(64):
        end = data.find(b"\n", position)
        try:
            row = parse_line(data[position : None if end < 0 else end])
        except MalformedLineError:
            row = {}
        for name in columns:
            values[name].append(row.get(name))
        if end < 0 or end + 1 == len(data):
            break
        position = end + 1
    return {name: _sampled_type(found) for name, found in values.items()}


def _parse(block: LineBlock, types: dict[str, pa.DataType]) -> Rows | None:
    """A block by Arrow's parser; None where it has to be read line by line.

    Arrow takes several objects on a line, and one over several lines, for rows; the line ends show that there are none.
    """
    data = block.data
    count = data.count(b"\n") + (not data.endswith(b"\n"))
    borders = data.count(b"}\n{") + (data.count(b"}\r\n{") if b"\r" in data else 0)
    if borders != count - 1 or not data.startswith(b"{"):
        return None
    try:
        table = pa.json.read_json(
            pa.BufferReader(data),
            read_options=pa.json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=pa.json.ParseOptions(
                explicit_schema=pa.schema(list(types.items())), unexpected_field_behavior="ignore"
            ),
        )
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    if len(table) != count:
        return None
    columns: dict[str, pa.Array] = {}
    for name in types:
        array = table.column(name).combine_chunks()
        array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
        if pa.types.is_floating(array.type) and pc.any(pc.greater_equal(pc.abs(array), _EXACT)).as_py():
            return None  # integers among them may have lost digits
        columns[name] = plain(array)
    numbers = np.arange(block.first, block.first + count)
    return Rows(numbers, numbers, columns)
