"""Models that learn vectors of words from texts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from dpsr.baselines.fitting.learner import Learner
from dpsr.baselines.word_lookup import table_lookup

DIMENSION = 128
"""Width of a vector."""


class WordVectors(Learner):
    """Vectors of the words of texts, a ``WordLookup``; the same texts and seed give the same vectors."""

    def __init__(self, texts: Sequence[Sequence[str]], *, seed: int) -> None:
        """Collects the words; all vectors are zeros before ``fit``.

        Args:
            texts: words of every text; at least one.
            seed: decides every random choice of the training.
        """
        self.texts = texts
        """What ``learn`` reads; released when there are weights, as they take more memory than the vectors."""
        self.seed = seed
        self.ids: dict[str, int] = {}
        """Word -> row of ``vectors``."""
        for words in texts:
            for word in words:
                self.ids.setdefault(word, len(self.ids))
        self.vectors = np.zeros((len(self.ids), DIMENSION), np.float32)

    def __call__(self, words: Sequence[str]) -> np.ndarray:
        """Looks words up, float32 [n, ``DIMENSION``]; zeros for a word without a vector."""
        return table_lookup(self.ids, self.vectors)(words)

    @abstractmethod
    def learn(self, *, progress: bool) -> list[np.ndarray]:
        """Trains on ``texts`` and returns the weights."""

    def fit(self, *, progress: bool) -> None:
        """As ``Learner.fit``; the valid split decides nothing."""
        self.assign(self.learn(progress=progress))

    def weights(self) -> list[np.ndarray]:
        """As ``Learner.weights``."""
        return [self.vectors]

    def assign(self, weights: list[np.ndarray]) -> None:
        """As ``Learner.assign``."""
        (self.vectors,) = weights
        self.texts = ()
