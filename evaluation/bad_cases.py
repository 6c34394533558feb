"""Reported bad cases against the lists of a newer version: which are fixed, still bad, new, or gone.

An answer is right where the item reported as wrong is not among the best 10, or the one reported as missing is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tabulate import tabulate

from dpsr.data.judgements.records import BadCase

DEPTH = 10
"""Items of a list that count, as on the first page of results."""
State = Literal["still bad", "new", "fixed", "gone"]
STATES: tuple[State, ...] = ("still bad", "new", "fixed", "gone")
MEANINGS: Mapping[State, str] = {
    "still bad": "wrong again in a version made after the report",
    "new": "wrong in the version that it was reported of, and none was made since",
    "fixed": "right now",
    "gone": "the item left the catalogue",
}


@dataclass(frozen=True)
class CheckedCase:
    """A bad case and how it stands."""

    case: BadCase
    state: State
    rank: int | None
    """From 1, of the item in the list asked now; None where the list lacks it."""


@dataclass(frozen=True)
class CheckedCases:
    """All reported bad cases, and the version that was asked."""

    version: int
    cases: tuple[CheckedCase, ...]

    @property
    def counts(self) -> dict[State, int]:
        """Cases by state."""
        found = Counter(each.state for each in self.cases)
        return {state: found[state] for state in STATES}

    def to_json(self) -> dict[str, Any]:
        """The JSON tree of ``dpsr badcases --json``."""
        cases = [{"state": each.state, "rank_now": each.rank, **each.case.model_dump()} for each in self.cases]
        return {"version": self.version, "counts": self.counts, "cases": cases}

    def to_text(self, titles: Mapping[str, str]) -> str:
        """A table, the states in the order of ``STATES``, and the counts.

        Args:
            titles: item id -> title; an item without one is shown by its id.
        """
        if not self.cases:
            return "no bad case is reported"
        rows = [
            (
                each.state,
                each.case.query,
                each.case.kind.partition(" ")[0],
                titles.get(each.case.item_id, each.case.item_id),
                _rank(each.case.rank),
                _rank(each.rank),
            )
            for each in sorted(self.cases, key=lambda each: STATES.index(each.state))
        ]
        headers = ["", "query", "reported as", "item", "rank then", "rank now"]
        table = tabulate(rows, headers=headers, disable_numparse=True, maxcolwidths=[None, 40, None, 60, None, None])
        shown = [f"{count:,} {state} ({MEANINGS[state]})" for state, count in self.counts.items() if count]
        return f"{table}\n\nversion {self.version}, {len(self.cases):,} bad cases: {'; '.join(shown)}"


def check_cases(
    cases: Sequence[BadCase],
    lists: Mapping[str, Sequence[str]],
    catalogue: Collection[str],
    *,
    version: int,
    published_at: float | None,
) -> CheckedCases:
    """Compares reports with the lists of a version.

    Args:
        cases: the reports that are not withdrawn.
        lists: query -> item ids of the version's list, best first, at least ``DEPTH`` of them where it has as many.
        catalogue: those of the reported items that are in the catalogue.
        version: whose lists these are.
        published_at: seconds since the epoch; for reports that do not know their version. None: not known either, and
            such a report counts as older than the version.
    """
    checked = []
    for case in cases:
        found = lists[case.query]
        rank = found.index(case.item_id) + 1 if case.item_id in found else None
        checked.append(CheckedCase(case, _state(case, rank, case.item_id in catalogue, version, published_at), rank))
    return CheckedCases(version, tuple(checked))


def _state(case: BadCase, rank: int | None, in_catalogue: bool, version: int, published_at: float | None) -> State:
    if not in_catalogue:
        return "gone"
    is_shown = rank is not None and rank <= DEPTH
    if is_shown == (case.kind == "missing item"):
        return "fixed"
    if case.version is not None:
        return "new" if case.version >= version else "still bad"
    return "new" if published_at is not None and case.reported_at >= published_at else "still bad"


def _rank(rank: int | None) -> str:
    return "-" if rank is None else str(rank)
