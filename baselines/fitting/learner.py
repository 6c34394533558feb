"""Baselines that learn from the train split: what they are given, and what they offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import tensorflow as tf

from dpsr.baselines.analyzers import Analyzer
from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.baselines.fitting.candidates import CandidateLists
from dpsr.baselines.fitting.negatives import NegativePools
from dpsr.baselines.word_lookup import WordLookup
from dpsr.tokenizer_cc.terms import analyze

MOST_CLICKS = 2_000_000
"""Clicks of the train split that a baseline learns from; a larger split is sampled."""


@dataclass(frozen=True)
class TrainingSet:
    """Clicks with their texts."""

    queries: Sequence[str]
    """The text of every query row."""
    items: Sequence[str]
    """The text of every item row."""
    clicks: np.ndarray
    """INTERACTION [n], of which query and item are read; at least one."""
    skipped: NegativePools
    """Items shown for a query and skipped."""
    tuning: QueryExamples | None
    """Clicks of the valid split for early stopping; None where it has none."""
    seed: int
    """Decides weights, order and negatives."""

    def known_texts(self) -> list[str]:
        """The texts of all items and of the clicked queries, which vocabularies are made of."""
        return [*self.items, *(self.queries[row] for row in np.unique(self.clicks["query"]))]


@dataclass(frozen=True)
class PairTrainingSet(TrainingSet):
    """What models that score given pairs learn from: negatives near the query, and lists to reorder."""

    similar: NegativePools
    """Items shown for a query, or found by its words, and not clicked."""
    lists: Callable[[], CandidateLists | None]
    """Makes lists of the valid split for early stopping, in place of ``tuning``; None where it has no click."""
    word_vectors: WordLookup | None = None
    """Vectors that the embeddings of words start from; those of other words start at random."""
    analyzer: Analyzer = analyze
    """Splits texts into words."""


class Learner(ABC):
    """A baseline with weights. The constructor takes the training set, and leaves the weights untrained."""

    name: ClassVar[str]
    """Name in the registry."""
    settings: Sequence[object]
    """Everything of the model that decides the trained weights (JSON values): other ones make cached weights stale."""

    @abstractmethod
    def fit(self, *, progress: bool) -> None:
        """Trains the weights; the valid split decides when to stop, where it has clicks."""

    @abstractmethod
    def weights(self) -> list[np.ndarray]:
        """Returns all weights, in an order of its own."""

    @abstractmethod
    def assign(self, weights: list[np.ndarray]) -> None:
        """Sets the weights that ``weights`` returned."""

    def note(self) -> str:
        """A sentence that qualifies the results; none by default."""
        return ""


class VariablesLearner(Learner):
    """A learner whose weights are TensorFlow variables."""

    @abstractmethod
    def variables(self) -> list[tf.Variable]:
        """Returns the variables, in an order of its own."""

    @abstractmethod
    def weights_changed(self) -> None:
        """Drops what was computed from the weights."""

    def weights(self) -> list[np.ndarray]:
        """As ``Learner.weights``, in the order of ``variables``."""
        return [variable.numpy() for variable in self.variables()]

    def assign(self, weights: list[np.ndarray]) -> None:
        """As ``Learner.assign``."""
        for variable, value in zip(self.variables(), weights, strict=True):
            variable.assign(value)
        self.weights_changed()


class TrainedRetriever(ExhaustiveRetriever, Learner):
    """A learner that scores the whole catalogue; its constructor takes a ``TrainingSet``."""


class TrainedScorer(Learner):
    """A learner that scores given pairs only; its constructor takes a ``PairTrainingSet``."""

    @abstractmethod
    def score(self, examples: QueryExamples, candidates: np.ndarray) -> np.ndarray:
        """As ``Scorer.score``."""
