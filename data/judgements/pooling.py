"""One grade for each pair, of the grades of several judges."""

from __future__ import annotations

from collections.abc import Iterable

from dpsr.data.judgements.records import Judgement


def pooled_grades(judgements: Iterable[Judgement], judge: str | None = None) -> dict[tuple[str, str], int]:
    """Pools grades by pair: the mean of all judges, rounded half up.

    Of a judge who graded a pair in several books, the latest grade counts.

    Args:
        judgements: of any books; those without a grade are left out.
        judge: whose own grade stands in place of the mean where there is one.

    Returns:
        (query, item id) -> grade, in the order of their first judgements.
    """
    latest: dict[tuple[str, str], dict[str, Judgement]] = {}
    for judgement in judgements:
        if judgement.grade is None:
            continue
        by_judge = latest.setdefault((judgement.query, judgement.item_id), {})
        earlier = by_judge.get(judgement.judge)
        if earlier is None or judgement.judged_at >= earlier.judged_at:
            by_judge[judgement.judge] = judgement
    return {pair: _pooled(by_judge, judge) for pair, by_judge in latest.items()}


def _pooled(by_judge: dict[str, Judgement], judge: str | None) -> int:
    own = by_judge.get(judge) if judge is not None else None
    grades = [each.grade or 0 for each in ([own] if own else by_judge.values())]
    return (2 * sum(grades) + len(grades)) // (2 * len(grades))
