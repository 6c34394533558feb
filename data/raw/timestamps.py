"""Time columns of any type as one int64 [n] that orders the log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.data.dataset.schema import DatasetError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INTEGER = r"^-?[0-9]{1,18}$"
_INSTANTS = (pa.timestamp("us"), pa.timestamp("us", "UTC"))


class Clock:
    """Reads one log's time column; the first rows decide how.

    Timestamps, dates and ISO 8601 strings become microseconds since 1970 UTC; a time without a zone is taken as UTC.
    Integers, and strings of digits, are kept as they are: any unit will do, as only their order matters. Without a
    time column the order of the rows is the time.
    """

    def __init__(self) -> None:
        """Knows nothing before the first rows."""
        self._unit: str | None = None

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

        Returns:
            times int64 [n], and bool [n]: whether there is one.

        Raises:
            DatasetError: the column holds no times, or other ones than the rows before.
        """
        column, unit = self._as_int64(column)
        if len(column) > column.null_count:
            if self._unit not in (None, unit):
                raise DatasetError(f"interactions: column 'timestamp' has both {self._unit} and {unit} values; use one")
            self._unit = unit
        known = column.is_valid().to_numpy(zero_copy_only=False)
        return pc.fill_null(column, 0).to_numpy(zero_copy_only=False), known

    def text(self, time: int) -> str | int:
        """A time as the manifest shows it."""
        if self.unit != "timestamp":
            return int(time)
        return (_EPOCH + timedelta(microseconds=int(time))).isoformat()

    def _as_int64(self, column: pa.Array) -> tuple[pa.Array, str]:
        kind = column.type
        if pa.types.is_integer(kind):
            return column.cast(pa.int64()), "integer"
        if pa.types.is_floating(kind):  # seconds, with a fraction
            seconds = pc.if_else(pc.is_finite(column), column, None)
            return pc.multiply(seconds, 1e6).cast(pa.int64(), safe=False), "timestamp"
        if pa.types.is_timestamp(kind):
            return column.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.int64()), "timestamp"
        if pa.types.is_date(kind):
            return column.cast(pa.timestamp("us")).cast(pa.int64()), "timestamp"
        if pa.types.is_string(kind):
            return self._from_strings(pc.utf8_trim_whitespace(column))
        if pa.types.is_null(kind):
            return column.cast(pa.int64()), self.unit
        raise DatasetError(
            f"interactions: column 'timestamp' has type {kind}; expected timestamps, ISO 8601 strings or numbers"
        )

    def _from_strings(self, texts: pa.Array) -> tuple[pa.Array, str]:
        digits = pc.match_substring_regex(texts, _INTEGER)
        integers = self._unit == "integer" or (self._unit is None and _first_valid(digits) is True)
        if integers:
            return pc.if_else(digits, texts, pa.scalar(None, pa.string())).cast(pa.int64()), "integer"
        return pa.concat_arrays(_instants(texts)), "timestamp"


def _instants(texts: pa.Array) -> list[pa.Array]:
    """ISO 8601 strings as int64 pieces; null where one cannot be read, found by halving."""
    for kind in _INSTANTS:
        try:
            return [texts.cast(kind).cast(pa.int64())]
        except pa.ArrowInvalid:
            continue
    if len(texts) == 1:
        return [pa.nulls(1, pa.int64())]
    half = len(texts) // 2
    return _instants(texts.slice(0, half)) + _instants(texts.slice(half))


def _first_valid(column: pa.Array) -> Any:
    valid = column.drop_null()
    return valid[0].as_py() if len(valid) else None
