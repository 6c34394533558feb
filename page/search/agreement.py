"""How two lists of one query agree."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from dpsr.evaluation.measures.rank_biased_overlap import rank_biased_overlap
from dpsr.page.contract import Agreement

PERSISTENCE = 0.9
_DEPTH = 10


def overlap(first: Sequence[str], second: Sequence[str], depth: int = _DEPTH) -> float:
    """Share of the best items of two lists that are among the best of both.

    Args:
        first: item ids, best first, without repetition.
        second: as ``first``.
        depth: how many of each list count.

    Returns:
        0 to 1: of the items that both could share, which are those of the longer list up to ``depth``; 1 for two empty
        lists.
    """
    best, others = set(first[:depth]), set(second[:depth])
    longer = max(len(best), len(others))
    return len(best & others) / longer if longer else 1.0


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
