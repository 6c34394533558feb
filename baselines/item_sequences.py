"""Sequences of the items clicked in the train split, which item embeddings learn from as word embeddings from texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ItemSequences:
    """Sequences of two or more items, without the same item twice in a row."""

    of_users: bool
    """Whether a sequence is one user's, in the order of time; else it is the items of one query, in no order."""
    items: list[np.ndarray]
    """Item rows, int32 [n] each."""


def item_sequences(clicks: np.ndarray) -> ItemSequences:
    """Collects the sequences of users, or of queries where no user clicked on two items; O(clicks) memory.

    Args:
        clicks: of the train split, INTERACTION [n]. ``history_end`` orders the clicks of a user; clicks of the same
            moment are ordered by item.
    """
    known = clicks[clicks["user"] >= 0]
    by_time = known[np.lexsort((known["item"], known["history_end"], known["user"]))]
    of_users = _runs(by_time["user"], by_time["item"])
    if of_users:
        return ItemSequences(True, of_users)
    by_query = clicks[np.argsort(clicks["query"], kind="stable")]
    return ItemSequences(False, _runs(by_query["query"], by_query["item"]))


def _runs(groups: np.ndarray, items: np.ndarray) -> list[np.ndarray]:
    """Items of every run of equal groups, repetitions left out, where two or more stay."""
    new_group = np.diff(groups, prepend=-1) != 0
    kept = new_group | (np.diff(items, prepend=-1) != 0)
    starts = np.flatnonzero(new_group[kept])
    return [run for run in np.split(items[kept], starts[1:]) if len(run) > 1]
