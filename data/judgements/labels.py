"""Judgements and bad cases as labelled pairs: what training learns from, and what an evaluation measures against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dpsr.data.judgements.errors import JudgementError
from dpsr.data.judgements.pooling import pooled_grades
from dpsr.data.judgements.records import GRADES
from dpsr.data.judgements.store import JudgementStore

WRONG_LABEL, MISSING_LABEL = -1, len(GRADES) - 1
"""Labels of an item reported as wrong, and of one reported as missing, which is as good as the best grade."""


class LabelledPair(NamedTuple):
    """A pair of a query and an item, and what people said of it."""

    query: str
    """Without white space at its ends."""
    item_id: str
    label: int
    """The grade, or what a bad case says; 0 or less is wrong."""


def labelled_pairs(path: str | Path, *, key: str, books: Sequence[str] | None = None) -> list[LabelledPair]:
    """Reads the labels of a store; one for each pair.

    A grade is a label. Of several judges it is the mean, rounded half up, as on the page. A bad case stands above
    grades, and the latest of several on a pair above the earlier ones; withdrawn ones do not count.

    Args:
        path: the store.
        key: the configuration key that names it, for errors.
        books: those whose judgements count, without bad cases; None: all books, and bad cases.

    Returns:
        The pairs by query and item.

    Raises:
        JudgementError: the file is missing or no store, or has no book of a name.
    """
    store = open_store(path, key=key)
    try:
        names = [None] if books is None else list(books)
        judgements = [each for name in names for each in store.judgements(book=name)]
        cases = store.bad_cases() if books is None else []
    finally:
        store.close()
    trimmed = (each.model_copy(update={"query": each.query.strip()}) for each in judgements)
    labels = dict(pooled_grades(trimmed))
    for case in cases:
        labels[case.query.strip(), case.item_id] = WRONG_LABEL if case.kind == "wrong item" else MISSING_LABEL
    return [LabelledPair(query, item, label) for (query, item), label in sorted(labels.items())]


def open_store(path: str | Path, *, key: str) -> JudgementStore:
    """Opens a store that exists.

    Args:
        path: the store.
        key: the configuration key that names it, for errors.

    Raises:
        JudgementError: the file is missing or no store.
    """
    if not Path(path).is_file():  # opening would make it
        raise JudgementError(f"{key}: {path}: no such file; `dpsr page` keeps judgements there")
    return JudgementStore(path)
