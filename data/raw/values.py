"""Values of raw columns: which Arrow types a column of each kind may have, and the texts, ids and numbers they hold.

A value means the same in every format: the float 7.0 of Parquet, the 7.0 of JSON and the text 7 of CSV are one id.
"""

from __future__ import annotations

import re
import uuid
from enum import Enum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.data.dataset.schema import DatasetError

_NUMBER = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"
_SURROGATES = re.compile("[\ud800-\udfff]")
_LARGEST_WHOLE = 2.0**63
NO_IDS = ("nan", "NaN")
"""Texts that other programs write where an id is missing."""
REPLACEMENT = "\ufffd"
"""Stands where bytes are not UTF-8, as in the tokenizer."""


class Kind(Enum):
    """What a column of the contract holds."""

    ID = "id"
    TEXT = "text"
    CATEGORY = "categorical"
    NUMBER = "numeric"
    TIME = "timestamp"
    LABEL = "label"
    EVENT = "event"


def is_nested(kind: pa.DataType) -> bool:
    """Whether the values of a type are lists, structs, maps or unions."""
    return pa.types.is_nested(kind)


def is_text(kind: pa.DataType) -> bool:
    """Whether the values of a type are strings or bytes, which are read as UTF-8."""
    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def is_number(kind: pa.DataType) -> bool:
    """Whether the values of a type are integers, floating point numbers or decimals."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def is_instant(kind: pa.DataType) -> bool:
    """Whether the values of a type are timestamps or dates."""
    return pa.types.is_timestamp(kind) or pa.types.is_date(kind)


def check_type(kind: Kind, found: pa.DataType, where: str) -> None:
    """Ends the job where a column of a kind cannot have a type.

    Args:
        kind: of the column.
        found: its type in the file.
        where: names file and column.

    Raises:
        DatasetError: it cannot.
    """
    found = storage_type(found)
    if pa.types.is_null(found) or is_text(found):
        return
    if is_nested(found):
        expected, remedy = "one value a row", "write one value a row, as by joining the entries to one text"
    elif kind is Kind.ID:
        expected, remedy = "strings or integers", "convert the ids to strings"
        if is_number(found):
            return
    elif kind in (Kind.NUMBER, Kind.LABEL):
        expected, remedy = "numbers", "convert the column to numbers"
        if is_number(found) or pa.types.is_boolean(found):
            return
    elif kind is Kind.TIME:
        expected, remedy = "timestamps, ISO 8601 strings or numbers", "convert the column to one of these"
        if is_number(found) or is_instant(found):
            return
    else:
        return
    raise DatasetError(f"{where} has type {found}; expected {expected}; {remedy}")


def storage_type(kind: pa.DataType) -> pa.DataType:
    """The type below dictionary encoding and extension types."""
    if pa.types.is_dictionary(kind):
        return storage_type(kind.value_type)
    if pa.types.is_run_end_encoded(kind):
        return storage_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return pa.string() if kind.extension_name == "arrow.uuid" else storage_type(kind.storage_type)
    return kind


def plain(array: pa.Array) -> pa.Array:
    """Values without encoding, [n]: one type for strings (valid UTF-8) and one for integers.

    Integers beyond 64 bits become strings of digits.
    """
    if isinstance(array.type, pa.BaseExtensionType):
        if array.type.extension_name == "arrow.uuid":
            texts = [None if value is None else str(uuid.UUID(bytes=value)) for value in array.storage.to_pylist()]
            return pa.array(texts, pa.string())
        return plain(array.storage)
    if pa.types.is_dictionary(array.type):
        return plain(array.dictionary).take(array.indices)
    if pa.types.is_run_end_encoded(array.type):
        return plain(pc.run_end_decode(array))
    if is_text(array.type):
        return _utf8(array)
    if pa.types.is_integer(array.type):
        try:
            return array.cast(pa.int64())
        except pa.ArrowInvalid:  # unsigned, above 2**63 - 1
            return array.cast(pa.string())
    return array.cast(pa.float32()) if pa.types.is_float16(array.type) else array


def _utf8(array: pa.Array) -> pa.Array:
    """Strings or bytes as strings; U+FFFD where bytes are not UTF-8."""
    if not pa.types.is_string(array.type):
        array = array.cast(pa.binary())
    try:
        return array.view(pa.binary()).cast(pa.string())
    except (pa.ArrowInvalid, UnicodeDecodeError):
        values = array.view(pa.binary()).to_pylist()
        return pa.array([None if value is None else value.decode("utf-8", "replace") for value in values], pa.string())


def without_surrogates(text: str) -> str:
    """A text of Python's as it can be encoded: U+FFFD in place of half a surrogate pair."""
    return _SURROGATES.sub(REPLACEMENT, text)


def texts(array: pa.Array) -> pa.Array:
    """Values as text, string [n]: whole numbers as integers; null for NaN and infinity.

    Args:
        array: of ``plain``, not nested.
    """
    kind = array.type
    if pa.types.is_string(kind):
        return array
    if pa.types.is_floating(kind):
        return _texts_of_floats(array)
    if pa.types.is_decimal(kind):
        return pc.replace_substring_regex(array.cast(pa.string()), r"^([^.eE]*)\.0*$|(\.[0-9]*[1-9])0+$", r"\1\2")
    return array.cast(pa.string())


def _texts_of_floats(array: pa.Array) -> pa.Array:
    finite = pc.if_else(pc.is_finite(array), array, pa.scalar(None, array.type))
    whole = pc.and_(pc.equal(finite, pc.floor(finite)), pc.less(pc.abs(finite.cast(pa.float64())), _LARGEST_WHOLE))
    integers = pc.if_else(whole, finite, pa.scalar(None, array.type)).cast(pa.int64(), safe=False)
    found = pc.coalesce(integers.cast(pa.string()), finite.cast(pa.string()))
    exponents = pc.match_substring(found, "e")
    if not pc.any(exponents).as_py():
        return found
    # Python, as most programs, writes an exponent only where it is shorter.
    values, given = found.to_pylist(), finite.to_pylist()
    for position in np.flatnonzero(pc.fill_null(exponents, False).to_numpy(zero_copy_only=False)).tolist():
        values[position] = repr(given[position])
    return pa.array(values, pa.string())


def trimmed_strings(array: pa.Array) -> pa.Array:
    """Values as text without white space at the ends; null where nothing is left, string [n]."""
    trimmed = pc.utf8_trim_whitespace(texts(array))
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def id_strings(array: pa.Array) -> pa.Array:
    """Ids as text, string [n]; null where there is none, which includes NaN as number and as text."""
    trimmed = trimmed_strings(array)
    if pa.types.is_string(array.type):
        missing = pc.is_in(trimmed, value_set=pa.array(NO_IDS))
        return pc.if_else(missing, pa.scalar(None, pa.string()), trimmed)
    return trimmed


def whole_ids(array: pa.Array) -> pa.Array:
    """Ids of the whole numbers among numbers or texts, int64 [n]; null for all others."""
    if pa.types.is_integer(array.type):
        return array
    found = pc.replace_substring_regex(id_strings(array), r"^([-+]?[0-9]+)\.0*$", r"\1")
    return integers_of(pc.if_else(pc.match_substring_regex(found, r"^-?[0-9]+$"), found, pa.scalar(None, pa.string())))


def integers_of(digits: pa.Array) -> pa.Array:
    """Strings of digits as int64 [n]; null where the integer exceeds 64 bits."""
    short = pc.match_substring_regex(digits, r"^-?[0-9]{1,18}$")
    found = pc.if_else(short, digits, pa.scalar(None, pa.string())).cast(pa.int64())
    if found.null_count == digits.null_count:
        return found
    long = np.flatnonzero(pc.and_(digits.is_valid(), pc.invert(short)).to_numpy(zero_copy_only=False))
    values = found.to_pylist()
    for position in long.tolist():
        text = digits[position].as_py()
        value = int(text) if len(text) <= 40 else 1 << 64
        values[position] = value if -(1 << 63) <= value < 1 << 63 else None
    return pa.array(values, pa.int64())


def numbers(array: pa.Array) -> pa.Array:
    """Values as float64 [n]; null where the value is not a finite number; truth values are 1 and 0."""
    kind = array.type
    if pa.types.is_boolean(kind):
        return array.cast(pa.int8()).cast(pa.float64())
    if pa.types.is_string(kind):
        found = number_texts(array)
        truth = pc.index_in(pc.utf8_lower(pc.utf8_trim_whitespace(array)), value_set=pa.array(["false", "true"]))
        array = pc.coalesce(found, truth.cast(pa.string())) if truth.null_count < len(truth) else found
    elif not is_number(kind):
        return pa.nulls(len(array), pa.float64())
    values = array.cast(pa.float64(), safe=False)
    return pc.if_else(pc.is_finite(values), values, pa.scalar(None, pa.float64()))


def number_texts(array: pa.Array) -> pa.Array:
    """The strings that are numbers, without white space or a leading plus; null in place of all others."""
    trimmed = pc.utf8_trim_whitespace(array)
    numeric = pc.match_substring_regex(trimmed, _NUMBER)
    return pc.replace_substring_regex(pc.if_else(numeric, trimmed, pa.scalar(None, pa.string())), r"^\+", "")


def json_type(values: list[Any]) -> pa.DataType:
    """The Arrow type of the values of JSON: of one type, or else string."""
    found = {type(value) for value in values} - {type(None)}
    if not found:
        return pa.null()
    if found == {bool}:
        return pa.bool_()
    if found <= {int, float} and all(-(1 << 63) <= value < 1 << 63 for value in values if type(value) is int):
        if found == {int}:
            return pa.int64()
        if all(abs(value) <= 1 << 53 for value in values if type(value) is int):
            return pa.float64()
    return pa.string()


def json_array(values: list[Any]) -> pa.Array:
    """Scalars of JSON as ``plain`` has them, [n]; strings where the types differ."""
    kind = json_type(values)
    if not pa.types.is_string(kind):
        return pa.array(values, kind)
    return pa.array([None if value is None else json_text(value) for value in values], pa.string())


def json_text(value: Any) -> str | None:
    """A scalar of JSON as ``texts`` has it; None for NaN and infinity."""
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return texts(pa.array([value], pa.float64()))[0].as_py() if isinstance(value, float) else str(value)
