"""Clicks on which two retrievers differ most, with both answers (paper, table 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.interfaces import Retriever

SHOWN = 5
"""Items shown of each answer."""
_SAMPLE = 2000  # examples compared at most


@dataclass(frozen=True)
class Case:
    """One click, with the best items of two retrievers."""

    query: str
    clicked: str
    gain: float
    """Reciprocal rank of the clicked item, 0 beyond ``SHOWN``, in the first answer minus that in the second."""
    first: list[str]
    second: list[str]


def differing_cases(
    first: Retriever, second: Retriever, examples: QueryExamples, item_texts: Sequence[str], *, count: int = 10
) -> tuple[list[Case], list[Case]]:
    """Finds clicks that one retriever ranks high and the other low, each query and each item at most once.

    Args:
        first: the retriever that wins and losses are counted for.
        second: its opponent.
        examples: clicks, in the order of their queries; at most 2,000, evenly spaced, are compared.
        item_texts: the text of every item.
        count: wins returned at most, and losses alike.

    Returns:
        Wins and losses by descending difference, then by descending clicks of the query.
    """
    rows = np.unique(np.linspace(0, len(examples) - 1, min(len(examples), _SAMPLE)).astype(np.int64))
    _, first_of_query, clicks = np.unique(examples.texts[rows].astype(str), return_index=True, return_counts=True)
    sample = examples.take(rows[first_of_query])
    k = min(SHOWN, len(item_texts))
    answers = [retriever.retrieve(sample, k)[0] for retriever in (first, second)]
    places = [answer == sample.item_rows[:, None] for answer in answers]
    values = [(place / np.arange(1, place.shape[1] + 1)).sum(axis=1) for place in places]
    gains = values[0] - values[1]

    def case(row: int) -> Case:
        listed = [[item_texts[item] for item in answer[row] if item >= 0] for answer in answers]
        return Case(sample.texts[row], item_texts[sample.item_rows[row]], float(gains[row]), *listed)

    def largest(values: np.ndarray) -> list[Case]:
        chosen: dict[int, int] = {}
        for row in np.lexsort((-clicks, -values)).tolist():
            if values[row] <= 0 or len(chosen) == count:
                break
            chosen.setdefault(int(sample.item_rows[row]), row)
        return [case(row) for row in chosen.values()]

    return largest(gains), largest(-gains)
