"""Overlap of two ranked lists: of their best items, and rank-biased (Webber, Moffat and Zobel, ACM TOIS 2010)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def overlap(first: Sequence[Hashable], second: Sequence[Hashable], depth: int = 10) -> float:
    """Computes the share of the best items of two lists that are among the best of both.

    Args:
        first: items best first, without repetition.
        second: as ``first``.
        depth: how many of each list count.

    Returns:
        0 to 1: of the items that both could share, which are those of the longer list up to ``depth``; 1 for two empty
        lists.
    """
    best, others = set(first[:depth]), set(second[:depth])
    longer = max(len(best), len(others))
    return len(best & others) / longer if longer else 1.0


def rank_biased_overlap(first: Sequence[Hashable], second: Sequence[Hashable], *, p: float = 0.9) -> float:
    """Computes RBO extrapolated beyond the lists' ends (equation 32), which may lie at different ranks.

    Args:
        first: items best first, without repetition.
        second: as ``first``.
        p: persistence, in 0 < p < 1; with 0.9 the ten best items have 86 % of the weight.

    Returns:
        0 to 1: 1 for equal lists, two empty ones among them, and 0 for lists without a common item.
    """
    short, long = sorted((len(first), len(second)))
    if not short:
        return float(not long)
    seen: tuple[set[Hashable], set[Hashable]] = (set(), set())
    overlap = overlap_short = 0
    total = 0.0
    for depth in range(1, long + 1):
        for mine, other, ranked in zip(seen, seen[::-1], (first, second), strict=True):
            if depth <= len(ranked):
                mine.add(ranked[depth - 1])
                overlap += ranked[depth - 1] in other
        if depth <= short:
            overlap_short = overlap
        beyond = overlap_short * max(0, depth - short) / short
        total += (overlap + beyond) / depth * p**depth
    tail = ((overlap - overlap_short) / long + overlap_short / short) * p**long
    return min(1.0, (1 - p) / p * total + tail)
