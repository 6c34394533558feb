"""Queries of several meanings: which meaning the list of each head falls in (paper, figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dpsr.baselines.examples import make_examples
from dpsr.baselines.ranking import top_k
from dpsr.baselines.two_tower import TwoTowerRetriever
from dpsr.data.dataset.schema import INTERACTION
from dpsr.data.dataset.tables import Dataset
from dpsr.model.two_tower import TwoTower

TOP = 50
"""Items of a head's list that are looked at."""
_COVERED = 0.1


@dataclass(frozen=True)
class Senses:
    """What a query may mean."""

    query: str
    names: tuple[str, ...]
    categories: tuple[frozenset[str], ...]
    """The categories of each."""


@dataclass(frozen=True)
class HeadSenses:
    """Where the heads of one query look."""

    senses: Senses
    shares: np.ndarray
    """Share of each head's list that falls in each sense, float64 [heads, senses]."""
    share_of_all: np.ndarray
    """The same for the list that a user gets, all heads' merged, float64 [senses]."""

    @property
    def main(self) -> list[str]:
        """The sense that half of each head's list or more falls in; empty where there is none."""
        best = self.shares.argmax(axis=1)
        return [
            self.senses.names[sense] if share[sense] >= 0.5 else ""
            for sense, share in zip(best, self.shares, strict=True)
        ]

    @property
    def parted(self) -> bool:
        """Whether two heads' lists fall in different senses."""
        return len(set(self.main) - {""}) > 1

    @property
    def covered(self) -> bool:
        """Whether a tenth of the merged list at least falls in each of two senses."""
        return int((self.share_of_all >= _COVERED).sum()) > 1


def senses_by_head(
    model: TwoTower,
    dataset: Dataset,
    item_vectors: np.ndarray,
    truth: Sequence[Senses],
    *,
    column: str = "category",
    top: int = TOP,
) -> list[HeadSenses]:
    """Which senses the best items of every head fall in, for a user of whom nothing is known.

    Args:
        model: the trained towers.
        dataset: its catalogue and tokenizer.
        item_vectors: float32 [items, d], the catalogue through the item tower.
        truth: the queries and what they may mean.
        column: the item column that tells the sense.
        top: length of a head's list.

    Returns:
        One entry for each query.
    """
    values = np.array(dataset.item_table()[column].to_pylist(), dtype=object)
    records = np.zeros(len(truth), dtype=INTERACTION)
    records["user"] = -1
    examples = make_examples(np.array([each.query for each in truth], dtype=object), records, seed=1)
    heads = TwoTowerRetriever(model, dataset, item_vectors).query_heads(examples)
    found = []
    for row, senses in enumerate(truth):
        scores = heads[row] @ item_vectors.T
        scores = np.vstack([scores, scores.max(axis=0)])
        lists, _ = top_k(scores, top, np.repeat(examples.tie_keys[row], len(scores)))
        shares = np.array(
            [[np.isin(values[items], list(each)).mean() for each in senses.categories] for items in lists]
        )
        found.append(HeadSenses(senses, shares[:-1], shares[-1]))
    return found
