"""Quality of lists against grades: of one query, and of a column over a book with bootstrap intervals.

nDCG is that of ``evaluation.measures``, with the grade as the gain. An item without a judgement counts as grade 0;
``judged@10`` says how many of the ten best have one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dpsr.data.judgements.agreement import krippendorff_alpha
from dpsr.data.judgements.records import GRADES, Book, Column
from dpsr.data.judgements.store import JudgementStore
from dpsr.evaluation.measures.intervals import bootstrap_means, interval
from dpsr.evaluation.measures.metrics import ranked_values
from dpsr.page.contract import BookFigures, BookReport, Found
from dpsr.page.judging.lists import ListSource

DEPTH = 10
RELEVANT_FROM = 2
"""Lowest grade that counts for precision: good."""
_SEED = 1

Grades = Mapping[tuple[str, str], int]
"""(query, item id) -> grade."""


def query_figures(found: Sequence[Found], grades: Grades) -> dict[str, float]:
    """Computes the figures of one query's list.

    ``err@10`` is the expected reciprocal rank (Chapelle et al., 2009): a user goes down the list and is satisfied by an
    item of grade g with probability (2^g - 1) / 2^3.

    Args:
        found: the list, best first.
        grades: of the query.

    Returns:
        ``ndcg@10`` (not where every grade is 0: no order is better than another), ``precision@10``, ``err@10`` and
        ``judged@10``, 0 to 1 each; nothing for a query without judgements.
    """
    if not grades:
        return {}
    grade_of = {item: grade for (_, item), grade in grades.items()}
    best = [each.item_id for each in found[:DEPTH]]
    figures = {}
    if any(grade_of.values()):
        figures["ndcg@10"] = _ndcg(best, grade_of)
    given = [grade_of.get(item, 0) for item in best]
    figures["precision@10"] = sum(grade >= RELEVANT_FROM for grade in given) / DEPTH
    figures["err@10"] = _expected_reciprocal_rank(given)
    figures["judged@10"] = sum(item in grade_of for item in best) / len(best) if best else 0.0
    return figures


def book_report(
    store: JudgementStore, source: ListSource, book: Book, columns: Sequence[Column], count: int
) -> BookReport:
    """Measures columns on the judged queries of a book, with the mean grades of all its judges.

    Args:
        store: holds the book.
        source: answers the queries.
        book: which queries; grades of its judges alone count.
        columns: what is measured.
        count: items asked of each list.

    Returns:
        Means with 95 % intervals by a bootstrap over queries; 0 to 1, the whole range, for a single query.
    """
    judgements = store.judgements(book=book.name)
    by_query: dict[str, dict[tuple[str, str], int]] = {}
    for pair, grade in store.grades(book=book.name).items():
        by_query.setdefault(pair[0], {})[pair] = grade
    queries = list(by_query)
    judges: dict[str, int] = {}
    for judgement in judgements:
        judges[judgement.judge] = judges.get(judgement.judge, 0) + 1
    return BookReport(
        figures=tuple(_column_figures(source, column, by_query, count) for column in columns) if queries else (),
        alpha=krippendorff_alpha(judgements),
        pairs=sum(map(len, by_query.values())),
        judges=judges,
    )


def _column_figures(source: ListSource, column: Column, by_query: Mapping[str, Grades], count: int) -> BookFigures:
    lists = source.lists(list(by_query), column, count)
    values: dict[str, list[float]] = {}
    for found, grades in zip(lists, by_query.values(), strict=True):
        for measure, value in query_figures(found or (), grades).items():
            values.setdefault(measure, []).append(value)
    return BookFigures(
        title=source.title(column),
        queries=len(by_query),
        refused=tuple(query for query, found in zip(by_query, lists, strict=True) if found is None),
        values={measure: _mean_with_interval(each) for measure, each in values.items()},
    )


def _mean_with_interval(values: Sequence[float]) -> tuple[float, float, float]:
    column = np.array(values)[:, None]
    samples = bootstrap_means(column, np.arange(len(values)), seed=_SEED)
    found = interval(float(column.mean()), None if samples is None else samples[:, 0])
    return found.mean, max(0.0, found.low), min(1.0, found.high)


def _ndcg(best: Sequence[str], grade_of: Mapping[str, int]) -> float:
    numbers = {item: number for number, item in enumerate(dict.fromkeys([*best, *grade_of]))}
    ranked = np.array([[numbers[item] for item in best]], dtype=np.int32).reshape(1, -1)
    gains = {numbers[item]: grade for item, grade in grade_of.items() if grade > 0}
    return float(ranked_values(ranked, [gains])["nDCG@10"][0])


def _expected_reciprocal_rank(given: Sequence[int]) -> float:
    goes_on, expected = 1.0, 0.0
    for rank, grade in enumerate(given, 1):
        satisfied = (2**grade - 1) / 2 ** (len(GRADES) - 1)
        expected += goes_on * satisfied / rank
        goes_on *= 1 - satisfied
    return expected
