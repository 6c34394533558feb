"""Lists of the single heads of a multi-head query tower (paper, figure 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.ranking import top_k
from dpsr.baselines.two_tower import TwoTowerRetriever

HEAD_DEPTH = 50
"""Items of every head's list."""


@dataclass(frozen=True)
class HeadAnswers:
    """The best items of every head for one query."""

    query: str
    items: np.ndarray
    """int32 [heads, k], best first."""

    @property
    def overlap(self) -> float:
        """Items in all heads' lists as a share of the items in any head's list."""
        lists = [set(row.tolist()) for row in self.items]
        return len(set.intersection(*lists)) / len(set.union(*lists))


def head_answers(retriever: TwoTowerRetriever, examples: QueryExamples) -> list[HeadAnswers]:
    """Retrieves with every head alone, the queries of least overlap first; empty for a model with one head."""
    heads = retriever.query_heads(examples)
    count = heads.shape[1]
    if count < 2 or not len(examples):
        return []
    depth = min(HEAD_DEPTH, retriever.num_items)
    lists = [top_k(retriever.head_scores(heads[:, head]), depth, examples.tie_keys)[0] for head in range(count)]
    found = [HeadAnswers(str(text), items) for text, items in zip(examples.texts, np.stack(lists, 1), strict=True)]
    return sorted(found, key=lambda answer: answer.overlap)


def frequent_queries(examples: QueryExamples, most: int) -> QueryExamples:
    """Returns one example of each of the most frequent queries, by descending frequency."""
    _, first, counts = np.unique(examples.texts.astype(str), return_index=True, return_counts=True)
    return examples.take(first[np.argsort(-counts, kind="stable")[:most]])
