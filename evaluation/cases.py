"""Queries on which the model and BM25 differ most, with what each of them answers (paper, table 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dpsr.evaluation.examples import Examples
from dpsr.evaluation.retrievers import Retriever

SHOWN = 5
"""Items shown of each answer."""
_LOOKED_AT = 2000  # examples among which cases are looked for


@dataclass(frozen=True)
class Case:
    """One click, and the best items of two retrievers."""

    query: str
    clicked: str
    gain: float
    """Reciprocal rank of the clicked item, 0 beyond ``SHOWN``, in the first answer minus that in the second."""
    first: list[str]
    second: list[str]


def differing_cases(
    first: Retriever, second: Retriever, examples: Examples, item_texts: Sequence[str], *, count: int = 10
) -> tuple[list[Case], list[Case]]:
    """The clicks that one retriever finds and the other does not, each query at most once.

    Args:
        first: the retriever whose wins come first.
        second: what it is compared with.
        examples: clicks, in the order of their queries; an even sample of them is looked at.
        item_texts: the text of every item.
        count: the most wins, and the most losses.

    Returns:
        Wins, the largest first, and losses, the largest first.
    """
    rows = np.unique(np.linspace(0, len(examples) - 1, min(len(examples), _LOOKED_AT)).astype(np.int64))
    rows = rows[np.unique(examples.texts[rows].astype(str), return_index=True)[1]]
    sample = examples.take(rows)
    k = min(SHOWN, len(item_texts))
    answers = [retriever.retrieve(sample, k)[0] for retriever in (first, second)]
    places = [answer == sample.item_rows[:, None] for answer in answers]
    values = [(place / np.arange(1, k + 1)).sum(axis=1) for place in places]
    gains = values[0] - values[1]

    def case(row: int) -> Case:
        listed = [[item_texts[item] for item in answer[row] if item >= 0] for answer in answers]
        return Case(sample.texts[row], item_texts[sample.item_rows[row]], float(gains[row]), *listed)

    order = np.argsort(-gains, kind="stable")
    wins = [case(row) for row in order[:count] if gains[row] > 0]
    losses = [case(row) for row in order[::-1][:count] if gains[row] < 0]
    return wins, losses
