"""Clicks on which two retrievers differ most, with both answers (paper, table 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """Reciprocal rank of the clicked item, 0 beyond ``SHOWN``, in one answer minus that in the other."""
    first: list[str]
    second: list[str]
    names: tuple[str, str]
    """The retrievers of both answers."""


def differing_cases(
    first: Retriever,
    second: Retriever,
    examples: QueryExamples,
    item_texts: Sequence[str],
    *,
    names: tuple[str, str],
    count: int = 10,
) -> tuple[list[Case], list[Case]]:
    """Finds clicks that one retriever ranks high and the other low, each query and each item at most once.

    Args:
        first: the retriever that wins and losses are counted for.
        second: its opponent.
        examples: clicks, in the order of their queries; at most 2,000, evenly spaced, are compared.
        item_texts: the text of every item.
        names: what both are called.
        count: wins returned at most, and losses alike.

    Returns:
        Wins and losses by descending difference, then by descending clicks of the query.
    """
    rows, clicks = sampled_queries(examples)
    sample = examples.take(rows)
    k = min(SHOWN, len(item_texts))
    answers = first.retrieve(sample, k)[0], second.retrieve(sample, k)[0]
    gains = reciprocal_ranks(answers[0], sample) - reciprocal_ranks(answers[1], sample)

    def largest(signed: np.ndarray) -> list[Case]:
        rows = _largest(signed, clicks, sample, count)
        listed = ((row, _texts(answers, row, item_texts)) for row in rows)
        return [Case(*_click(sample, row, item_texts), float(gains[row]), *texts, names) for row, texts in listed]

    return largest(gains), largest(-gains)


def missed_cases(
    answers: Mapping[str, np.ndarray],
    name: str,
    sample: QueryExamples,
    clicks: np.ndarray,
    item_texts: Sequence[str],
    *,
    count: int = 6,
) -> list[Case]:
    """Finds clicks that one retriever ranks low and the best of the others high, each item at most once.

    Args:
        answers: the best ``SHOWN`` items of every retriever, int32 [n, w].
        name: the retriever that misses.
        sample: n clicks on different queries.
        clicks: weight of each among equal differences, integers [n].
        item_texts: the text of every item.
        count: cases returned at most.
    """
    others = [other for other in answers if other != name]
    if not others:
        return []
    found = np.stack([reciprocal_ranks(answers[other], sample) for other in others])
    finder = found.argmax(axis=0)
    gains = found.max(axis=0) - reciprocal_ranks(answers[name], sample)

    def case(row: int) -> Case:
        other = others[finder[row]]
        texts = _texts((answers[name], answers[other]), row, item_texts)
        return Case(*_click(sample, row, item_texts), float(gains[row]), *texts, (name, other))

    return [case(row) for row in _largest(gains, clicks, sample, count)]


def sampled_queries(examples: QueryExamples) -> tuple[np.ndarray, np.ndarray]:
    """Samples at most 2,000 examples, evenly spaced, one of each query.

    Returns:
        Rows int64 [n], and how many of the sample each query has, int64 [n].
    """
    rows = np.unique(np.linspace(0, len(examples) - 1, min(len(examples), _SAMPLE)).astype(np.int64))
    _, first_of_query, clicks = np.unique(examples.texts[rows].astype(str), return_index=True, return_counts=True)
    return rows[first_of_query], clicks


def reciprocal_ranks(answers: np.ndarray, examples: QueryExamples) -> np.ndarray:
    """Reciprocal ranks of the clicked items in short lists, int32 [n, w] -> float64 [n], 0 where they are absent."""
    places = answers == examples.item_rows[:, None]
    values: np.ndarray = (places / np.arange(1, places.shape[1] + 1)).sum(axis=1)
    return values


def _largest(gains: np.ndarray, clicks: np.ndarray, sample: QueryExamples, count: int) -> list[int]:
    chosen: dict[int, int] = {}
    for row in np.lexsort((-clicks, -gains)).tolist():
        if gains[row] <= 0 or len(chosen) == count:
            break
        chosen.setdefault(int(sample.item_rows[row]), row)
    return list(chosen.values())


def _click(sample: QueryExamples, row: int, item_texts: Sequence[str]) -> tuple[str, str]:
    return sample.texts[row], item_texts[sample.item_rows[row]]


def _texts(answers: tuple[np.ndarray, np.ndarray], row: int, item_texts: Sequence[str]) -> tuple[list[str], list[str]]:
    first, second = ([item_texts[item] for item in answer[row] if item >= 0] for answer in answers)
    return first, second
