"""Popularity: one list for every query, ordered by clicks in the train split.

The non-personalised lower bound; the paper's figure 7 measures how far a model's lists resemble it.
"""

from __future__ import annotations

import numpy as np

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.exhaustive import ExhaustiveRetriever


class PopularityRetriever(ExhaustiveRetriever):
    """Scores an item by its clicks, whatever the query."""

    def __init__(self, counts: np.ndarray) -> None:
        """Takes the clicks of every item, int64 [items]."""
        super().__init__(len(counts))
        self._scores = counts.astype(np.float32)

    @property
    def index(self) -> str:
        """As ``ExhaustiveRetriever.index``."""
        return "one list for every query"

    @property
    def index_bytes(self) -> int:
        """As ``ExhaustiveRetriever.index_bytes``: a score of each item."""
        return self._scores.nbytes

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        """As ``ExhaustiveRetriever.score_all``."""
        return np.broadcast_to(self._scores, (len(examples), self.num_items))
