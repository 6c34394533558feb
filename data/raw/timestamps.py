"""Time columns of any type as one int64 [n] that orders the log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.data.raw.values import integers_of, is_instant, json_array, number_texts, numbers, texts

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_SECOND = -62_135_596_800
"""Seconds of the beginning of year 1."""
LAST_SECOND = 253_402_300_799
"""Seconds of the end of year 9999."""
_SECONDS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_INTEGER = r"^\+?(-?[0-9]+)(\.0*)?$"
_ISO = (
    r"^(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ](?P<time>[0-9]{2}(?::[0-9]{2}(?::[0-9]{2})?)?)(?:[.,](?P<fraction>[0-9]{1,6})[0-9]*)?)?"
    r" ?(?P<zone>[Zz]|UTC|GMT|[-+][0-9]{2}(?::?[0-9]{2})?)?$"
)
_SAMPLE = 1000
_INSTANTS = (pa.timestamp("us"), pa.timestamp("us", "UTC"))
_TOO_LARGE = 2.0**63


class Clock:
    """Reads one log's time column; the first times decide how.

    Timestamps, dates and ISO 8601 strings become microseconds since 1970 UTC; a time without a zone is taken as UTC.
    Numbers, and strings that are numbers, are seconds where one of the first 1,000 has a fraction; else they are kept
    as integers: any unit will do, as only their order matters. Without a time column the order of the rows is the time.
    """

    def __init__(self) -> None:
        """Has seen no time yet."""
        self._unit: str | None = None
        self._seconds = False

    @property
    def known(self) -> bool:
        """Whether there has been a time."""
        return self._unit is not None

    @property
    def unit(self) -> str:
        """``timestamp``, ``integer`` or ``row``."""
        return self._unit or "row"

    def read(self, column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """The times of some rows.

        Args:
            column: [n], as ``values.plain`` has it.

        Returns:
            times int64 [n], and bool [n]: whether there is one that fits those before.
        """
        if self._unit is None:
            self._decide(column)
        times = self._as_int64(column)
        known = times.is_valid().to_numpy(zero_copy_only=False)
        return pc.fill_null(times, 0).to_numpy(zero_copy_only=False), known

    def text(self, time: int) -> str | int:
        """A time as the manifest shows it."""
        if self.unit != "timestamp":
            return int(time)
        return (EPOCH + timedelta(microseconds=int(time))).isoformat()

    @staticmethod
    def time(text: str | int) -> int:
        """The inverse of ``text``."""
        if isinstance(text, int):
            return text
        return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)

    def _decide(self, column: pa.Array) -> None:
        """Takes the unit from the first times, where there is one among these."""
        given = column.drop_null()
        for start in range(0, len(given), _SAMPLE):
            self._decide_by(given.slice(start, _SAMPLE))
            if self.known:
                return

    def _decide_by(self, sample: pa.Array) -> None:
        if is_instant(sample.type):
            self._unit = "timestamp"
            return
        found = _numbers(sample)
        valid = found.is_valid().to_numpy(zero_copy_only=False)
        first = int(valid.argmax()) if valid.any() else len(sample)
        if pa.types.is_string(sample.type):
            instants = _instants(pc.utf8_trim_whitespace(sample.slice(0, first)))
            if instants.null_count < len(instants):
                self._unit = "timestamp"
                return
        values = found.drop_null().to_numpy()
        if len(values):
            fractions, in_years = values != np.floor(values), (values >= FIRST_SECOND) & (values <= LAST_SECOND)
            self._seconds = bool(fractions.any() and in_years.all())
            self._unit = "timestamp" if self._seconds else "integer"

    def _as_int64(self, column: pa.Array) -> pa.Array:
        if is_instant(column.type):
            fits = self._unit == "timestamp" and not self._seconds
            return _microseconds(column) if fits else pa.nulls(len(column), pa.int64())
        if self._unit == "integer":
            return _whole_numbers(column)
        if self._seconds:
            return _microseconds_of_seconds(_numbers(column))
        if self._unit == "timestamp" and pa.types.is_string(column.type):
            return _instants(pc.utf8_trim_whitespace(column))
        return pa.nulls(len(column), pa.int64())


def _microseconds(column: pa.Array) -> pa.Array:
    """Timestamps and dates as microseconds since 1970, int64 [n]; null outside the years 1 to 9999."""
    kind = column.type
    if pa.types.is_date32(kind):
        days = _within(column.cast(pa.int32()).cast(pa.int64()), FIRST_SECOND // 86_400, LAST_SECOND // 86_400)
        return pc.multiply(days, 86_400_000_000)
    if pa.types.is_timestamp(kind) and kind.unit == "ns":  # 64 bits reach from 1677 to 2262
        return column.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.int64())
    per_second = _SECONDS["ms" if pa.types.is_date64(kind) else kind.unit]
    found = _within(column.cast(pa.int64()), FIRST_SECOND * per_second, (LAST_SECOND + 1) * per_second - 1)
    return found if per_second == 1_000_000 else pc.multiply(found, 1_000_000 // per_second)


def _within(values: pa.Array, low: int, high: int) -> pa.Array:
    """int64 [n] with null in place of what is below ``low`` or above ``high``."""
    extremes = pc.min_max(values).as_py()
    if extremes["min"] is None or (extremes["min"] >= low and extremes["max"] <= high):
        return values
    inside = pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))
    return pc.if_else(inside, values, pa.scalar(None, pa.int64()))


def _numbers(column: pa.Array) -> pa.Array:
    """Numbers, or texts that are numbers, as float64 [n]; null for all others."""
    if pa.types.is_boolean(column.type):
        return pa.nulls(len(column), pa.float64())
    return numbers(number_texts(column) if pa.types.is_string(column.type) else column)


def _whole_numbers(column: pa.Array) -> pa.Array:
    """Numbers without their fractions, int64 [n]; null where there is none or it exceeds 64 bits."""
    if pa.types.is_integer(column.type):
        return column
    floats = pc.floor(_numbers(column))
    fits = pc.and_(pc.greater_equal(floats, -_TOO_LARGE), pc.less(floats, _TOO_LARGE))
    whole = pc.if_else(fits, floats, pa.scalar(None, pa.float64())).cast(pa.int64(), safe=False)
    if pa.types.is_floating(column.type):
        return whole
    if not (pa.types.is_string(column.type) or pa.types.is_decimal(column.type)):
        return pa.nulls(len(column), pa.int64())
    trimmed = pc.utf8_trim_whitespace(texts(column))
    digits = pc.replace_substring_regex(trimmed, _INTEGER, r"\1")
    exact = pc.if_else(pc.match_substring_regex(trimmed, _INTEGER), digits, pa.scalar(None, pa.string()))
    return pc.if_else(exact.is_valid(), integers_of(exact), whole)


def _microseconds_of_seconds(seconds: pa.Array) -> pa.Array:
    inside = pc.and_(pc.greater_equal(seconds, float(FIRST_SECOND)), pc.less_equal(seconds, float(LAST_SECOND)))
    known = pc.if_else(inside, seconds, pa.scalar(None, pa.float64()))
    return pc.round(pc.multiply(known, 1e6)).cast(pa.int64(), safe=False)


def _instants(column: pa.Array) -> pa.Array:
    """ISO 8601 strings as microseconds since 1970, int64 [n]; null where one cannot be read."""
    low, high = FIRST_SECOND * 1_000_000, (LAST_SECOND + 1) * 1_000_000 - 1
    for kind in _INSTANTS:
        try:
            return _within(column.cast(kind).cast(pa.int64()), low, high)
        except pa.ArrowInvalid:
            continue
    found = pc.extract_regex(column, _ISO)
    date, time, fraction, zone = (pc.struct_field(found, name) for name in ("date", "time", "fraction", "zone"))
    time = pc.if_else(pc.equal(time, ""), "00:00", time)
    fraction = pc.if_else(pc.equal(fraction, ""), "", pc.binary_join_element_wise(".", fraction, ""))
    zone = pc.if_else(pc.match_substring_regex(zone, "^[-+]"), zone, "Z")
    times = pa.concat_arrays(_cast_by_halves(pc.binary_join_element_wise(date, "T", time, fraction, zone, "")))
    return _within(times, low, high)


def _cast_by_halves(column: pa.Array) -> list[pa.Array]:
    """Strings with a zone as int64 arrays; null for a string that is not a time, found by halving."""
    try:
        return [column.cast(_INSTANTS[1]).cast(pa.int64())]
    except pa.ArrowInvalid:
        if len(column) == 1:
            return [pa.nulls(1, pa.int64())]
    half = len(column) // 2
    return _cast_by_halves(column.slice(0, half)) + _cast_by_halves(column.slice(half))


def instant_microseconds(value: Any) -> int | None:
    """Microseconds since 1970 of one time of a JSON document: ISO 8601, or milliseconds; without a zone: UTC.

    None if it is neither, or lies outside of the years 1 to 9999.
    """
    found: float | None = None
    if isinstance(value, str) and value[4:5] == "-":
        found = _iso_microseconds(value)
    elif isinstance(value, (int, float, str)) and not isinstance(value, bool):
        milliseconds = numbers(json_array([value]))[0].as_py()
        found = None if milliseconds is None else milliseconds * 1000
    if found is None or not FIRST_SECOND <= found / 1_000_000 < LAST_SECOND + 1:
        return None
    return round(found)


def _iso_microseconds(text: str) -> int | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:  # of a form that Python does not read, as "... UTC"
        times, known = Clock().read(json_array([text]))
        return int(times[0]) if known[0] else None
    return ((time.replace(tzinfo=UTC) if time.tzinfo is None else time) - EPOCH) // timedelta(microseconds=1)
