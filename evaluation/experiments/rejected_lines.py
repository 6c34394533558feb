"""Lines of a log that cannot be used: counted by reason, with the places of the first ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

_EXAMPLES = 3


@dataclass(frozen=True)
class Rejections:
    """The unusable lines of one log."""

    lines: int
    reasons: dict[str, int]
    """Reason -> lines."""
    examples: tuple[str, ...]
    """``FILE, line NUMBER: REASON`` of the first ones."""


def number_of(count: int, noun: str) -> str:
    """A count and its noun, in the plural where it is not one."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


class RejectedLines:
    """Takes rejected lines as ``data.raw.rejected.RejectsRows`` does, in constant memory."""

    def __init__(self) -> None:
        """Has none."""
        self._reasons: Counter[str] = Counter()
        self._examples: list[str] = []

    def add(
        self, file: str, row: int, reason: str, value: Any = None, *, line: int | None = None, lines: int = 1
    ) -> None:
        """Takes one line; ``value`` is not kept, as a log may hold what is private."""
        self._reasons[reason] += lines
        if len(self._examples) < _EXAMPLES:
            self._examples.append(f"{file}, line {row if line is None else line}: {reason}")

    def note(self) -> str:
        """For the end of an error's finding: how many lines are lost; empty without any."""
        if not self._examples:
            return ""
        return f"; {number_of(self._reasons.total(), 'line')} cannot be used, the first: {self._examples[0]}"

    def result(self) -> Rejections:
        """The counts so far."""
        return Rejections(self._reasons.total(), dict(self._reasons.most_common()), tuple(self._examples))
