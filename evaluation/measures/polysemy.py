"""Polysemous queries: the meaning of each head's items (paper, figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dpsr.baselines.examples import anonymous_examples
from dpsr.baselines.ranking import top_k
from dpsr.baselines.two_tower import TwoTowerRetriever
from dpsr.data.dataset.tables import Dataset
from dpsr.model.interface import Model

TOP = 50
"""Items of a head's list that are classified."""
_COVERED = 0.1  # share of the merged list that covers a sense


@dataclass(frozen=True)
class Senses:
    """The senses of a polysemous query."""

    query: str
    names: tuple[str, ...]
    categories: tuple[frozenset[str], ...]
    """Item categories of each sense."""


@dataclass(frozen=True)
class HeadSenses:
    """The senses that the heads of one query retrieve."""

    senses: Senses
    shares: np.ndarray
    """Share of each head's list in each sense, float64 [heads, senses]."""
    share_of_all: np.ndarray
    """The same for the merged list of all heads, float64 [senses]."""

    @property
    def main(self) -> list[str]:
        """Majority sense of each head's list, at least half of it; empty without one."""
        best = self.shares.argmax(axis=1)
        return [
            self.senses.names[sense] if share[sense] >= 0.5 else ""
            for sense, share in zip(best, self.shares, strict=True)
        ]

    @property
    def parted(self) -> bool:
        """Whether two heads' lists have different majority senses."""
        return len(set(self.main) - {""}) > 1

    @property
    def covered(self) -> bool:
        """Whether each of two senses has at least a tenth of the merged list."""
        return int((self.share_of_all >= _COVERED).sum()) > 1


def senses_by_head(
    model: Model,
    dataset: Dataset,
    item_vectors: np.ndarray,
    truth: Sequence[Senses],
    *,
    column: str = "category",
    top: int = TOP,
) -> list[HeadSenses]:
    """Classifies the best items of every head by sense, for an anonymous user.

    Args:
        model: the trained towers.
        dataset: its catalogue and tokenizer.
        item_vectors: float32 [items, d], the catalogue through the item tower.
        truth: the queries and their senses.
        column: the item column that sets the sense.
        top: length of a head's list.

    Returns:
        One entry for each query.
    """
    values = np.array(dataset.item_table()[column].to_pylist(), dtype=object)
    examples = anonymous_examples(np.array([each.query for each in truth], dtype=object), seed=1)
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
