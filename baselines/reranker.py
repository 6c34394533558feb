"""Two-stage retrieval: a scorer reorders the best items of a first stage (Matveeva et al., SIGIR 2006)."""

from __future__ import annotations

import numpy as np

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.interfaces import Retriever, Scorer
from dpsr.baselines.ranking import best_first


class Reranker:
    """The ``depth`` best items of the first stage, by the scorer; items beyond the depth are not retrieved.

    A ``Retriever`` only: an item outside the first stage's list has no place, so given pairs have no score.
    """

    def __init__(self, first_stage: Retriever, scorer: Scorer, depth: int) -> None:
        """Joins two stages.

        Args:
            first_stage: retrieves candidates from the whole catalogue.
            scorer: orders them; the first stage's scores and order are discarded.
            depth: candidates of each query, at least 1.
        """
        self._first_stage = first_stage
        self._scorer = scorer
        self._depth = depth
        self.index = f"{depth:,} of [{index_of(first_stage)}], each pair scored by [{index_of(scorer)}]"

    def retrieve(self, examples: QueryExamples, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As ``Retriever.retrieve``; at most ``depth`` items for each query."""
        items, _ = self._first_stage.retrieve(examples, self._depth)
        scores = self._scorer.score(examples, np.maximum(items, 0))
        items, scores = best_first(items, np.where(items < 0, -np.inf, scores), examples.tie_keys)
        return items[:, :k], scores[:, :k].astype(np.float32)


def index_of(method: object) -> str:
    """Search structure of a method in words, from its ``index`` attribute; the class name without one."""
    return str(getattr(method, "index", type(method).__name__))
