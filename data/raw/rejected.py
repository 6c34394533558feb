"""Rows of the raw inputs that cannot be used: listed with file, row and reason, counted, and limited to a share."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, TextIO

from dpsr.data.dataset.schema import DatasetError
from dpsr.data.raw.values import without_surrogates

_VALUE_LIMIT = 200


class RejectedRow(NamedTuple):
    """One row that cannot be used."""

    file: str
    row: int
    reason: str
    value: str | None
    line: int | None
    lines: int


class RejectsRows(Protocol):
    """Takes rejected rows; see ``RejectedRows.add``."""

    def add(
        self, file: str, row: int, reason: str, value: Any = None, *, line: int | None = None, lines: int = 1
    ) -> None:
        """Takes one row."""
        ...


class CollectedRows:
    """Rejected rows on their way to the list of their input, in memory."""

    def __init__(self) -> None:
        """Has none."""
        self._rows: list[RejectedRow] = []

    def add(
        self, file: str, row: int, reason: str, value: Any = None, *, line: int | None = None, lines: int = 1
    ) -> None:
        """Takes one row."""
        self._rows.append(RejectedRow(file, row, reason, _shown(value), line, lines))

    def take(self) -> list[RejectedRow]:
        """The rows since the last call."""
        rows, self._rows = self._rows, []
        return rows


class RejectedRows:
    """The rejected rows of one input, written as JSON Lines as they are found."""

    def __init__(self, directory: Path, name: str, *, whole_rows: bool = True) -> None:
        """Rows go to ``<directory>/<name>.jsonl``, which is created with the first of them.

        Args:
            directory: where to; it is created when needed.
            name: of the input.
            whole_rows: lists the text of malformed rows too, whatever stands in it.
        """
        self.path = directory / f"{name}.jsonl"
        self.name = name
        self.reasons: Counter[str] = Counter()
        self._whole_rows = whole_rows
        self._file: TextIO | None = None
        self._first = ""

    def __enter__(self) -> RejectedRows:
        """Nothing to do before the first row."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the file."""
        if self._file:
            self._file.close()

    @property
    def malformed(self) -> int:
        """Rows that the reader could not even hand out, each counted as the lines that it has."""
        return sum(count for reason, count in self.reasons.items() if reason.startswith("malformed"))

    @property
    def count(self) -> int:
        """Rows rejected so far, malformed ones as the lines that they have."""
        return sum(self.reasons.values())

    def add(
        self, file: str, row: int, reason: str, value: Any = None, *, line: int | None = None, lines: int = 1
    ) -> None:
        """Lists one row.

        Args:
            file: the input file.
            row: its number in that file, from 1, without a header.
            reason: why it cannot be used; rows are counted by it.
            value: what was found.
            line: the number of its first line in a text file, from 1.
            lines: how many lines it has; the row counts as this many.
        """
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w", encoding="utf-8", newline="\n")
        entry: dict[str, Any] = {"file": file, "row": row}
        if line is not None:
            entry["line"] = line
        if lines > 1:
            entry["lines"] = lines
        entry["reason"] = reason
        if value is not None and (self._whole_rows or not reason.startswith("malformed")):
            entry["value"] = _shown(value)
        self._first = self._first or f"{file}, " + (f"row {row}" if line is None else f"line {line}")
        self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self.reasons[reason] += lines

    def check(self, rows: int, max_share: float, kept_at: Path) -> None:
        """Ends the job where too many rows are unusable.

        Args:
            rows: all rows of the input, usable or not.
            max_share: the share that may be rejected.
            kept_at: where the reader of the error will find the list.

        Raises:
            DatasetError: the share is above ``max_share``.
        """
        if self.count <= max_share * rows:
            return
        reasons = ", ".join(f"{reason} ({count:,})" for reason, count in self.reasons.most_common(3))
        raise DatasetError(
            f"{self.name}: {self.count:,} of {rows:,} rows ({self.count / rows:.1%}) cannot be used, more than "
            f"data.max_rejected_share = {max_share:.1%} allows: {reasons}; the first is {self._first}; they are "
            f"listed in {kept_at / self.path.name}; mend the input or raise data.max_rejected_share"
        )


def _shown(value: Any) -> str | None:
    """The beginning of a value, as text that can be encoded."""
    return None if value is None else without_surrogates(str(value)[:_VALUE_LIMIT])
