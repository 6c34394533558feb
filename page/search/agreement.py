"""How two lists of one query agree."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from dpsr.evaluation.measures.rank_biased_overlap import overlap, rank_biased_overlap
from dpsr.page.contract import Agreement

PERSISTENCE = 0.9


def agreements(lists: Sequence[Sequence[str] | None]) -> tuple[Agreement, ...]:
    """The agreement of every two columns.

    Args:
        lists: item ids of each column, best first; None for a column without an answer.
    """
    found = []
    for (left, first), (right, second) in combinations(enumerate(lists), 2):
        if first is not None and second is not None:
            found.append(
                Agreement(
                    columns=(left, right),
                    overlap_10=overlap(first, second),
                    rank_biased_overlap=rank_biased_overlap(first, second, p=PERSISTENCE),
                )
            )
    return tuple(found)
