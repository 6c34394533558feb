"""Rows of judgement files: a place, a pair and a rating each, checked one by one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pydantic

from dpsr.data.judgements.records import GRADES, Judgement

_SHOWN = 60
"""Characters of a value that a reason quotes."""


class Row(NamedTuple):
    """A judged pair as a file has it."""

    place: str
    """Where it stands, as ``line 7``."""
    query: object
    item_id: object
    rating: object


class Rejected(NamedTuple):
    """A row that is no judged pair."""

    place: str
    reason: str


def judged(rows: Iterable[Row | Rejected], book: str, judge: str) -> tuple[list[Judgement], list[str]]:
    """Makes judgements of the rows that are whole.

    Returns:
        The judgements in the order of the rows, and place and reason of every row that was left out.
    """
    judgements: list[Judgement] = []
    rejected: list[str] = []
    for row in rows:
        made = _made(row, book, judge) if isinstance(row, Row) else row
        if isinstance(made, Rejected):
            rejected.append(f"{made.place}: {made.reason}")
        else:
            judgements.append(made)
    return judgements, rejected


def shown(value: object) -> str:
    """A value as a reason quotes it: with escapes for control characters, and cut."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _made(row: Row, book: str, judge: str) -> Judgement | Rejected:
    for name, value in (("query", row.query), ("item id", row.item_id)):
        if not isinstance(value, str) or not value:
            return Rejected(row.place, f"no {name} (found {shown(value)})")
    grade = _grade(row.rating)
    if grade is None:
        return Rejected(
            row.place, f"rating {shown(row.rating)} is no grade; expected a whole number from 0 to {len(GRADES) - 1}"
        )
    try:
        return Judgement.model_validate(
            {"book": book, "judge": judge, "query": row.query, "item_id": row.item_id, "grade": grade}
        )
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        return Rejected(row.place, f"{first['loc'][0]}: {first['msg']} (found {shown(first['input'])})")


def _grade(rating: object) -> int | None:
    """A rating, a number or its text, as a grade; None for anything else."""
    if isinstance(rating, bool) or not isinstance(rating, int | float | str):
        return None
    try:
        number = float(rating)
    except (ValueError, OverflowError):
        return None
    return int(number) if number in range(len(GRADES)) else None
