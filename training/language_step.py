"""A step of a language-model stage: the encoder and the head of the stage answer the questions of a batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from dpsr.config import ModelConfig
from dpsr.model.text_encoders.transformer import TransformerEncoder, TransformerWeights
from dpsr.training.language_heads import Head, Outcome
from dpsr.training.optimizers import Copies, Optimizer
from dpsr.training.stages import Figures
from dpsr.training.tower_step import dropout_seed


class LanguageWeights(NamedTuple):
    """What a language-model stage trains; flattened in the order of the optimiser's slots."""

    encoder: Any
    """``EncoderWeights``, all of the transformer but its projection to the space of the towers."""
    head: Any
    """Of the stage."""


class LanguageStep:
    """The objective of a head over the hidden states of an encoder."""

    def __init__(
        self, encoder: TransformerEncoder, head: Head, optimizer: Optimizer, config: ModelConfig, *, seed: int
    ) -> None:
        """Chooses what a step minimises.

        Args:
            encoder: reads the sequences.
            head: asks about them.
            optimizer: takes the steps, of ``LanguageWeights``.
            config: the model, which has the dropout.
            seed: of the dropout.
        """
        self.optimizer = optimizer
        self._model = config
        self._encoder = encoder
        self._head = head
        self._seed = seed

    def take(self, batch: Any, copies: Copies | None) -> tuple[tf.Tensor, Copies | None]:
        """Takes one step; as ``MatchingStep.take``."""
        weights = self.optimizer.weights(copies)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(tf.nest.flatten(weights))
            outcome = self._outcome(batch, weights, self._dropout_seed(copies))
        gradients = tape.gradient(outcome.loss, weights)
        return outcome.loss, self.optimizer.update_weights(gradients, copies)

    def _dropout_seed(self, copies: Copies | None) -> tf.Tensor | None:
        return dropout_seed(self._model, self._seed, self.optimizer.iterations(copies), 0)

    def outcome(self, batch: Any) -> Outcome:
        """The answers to a batch without dropout; changes nothing."""
        return self._outcome(batch, self.optimizer.weights(None), None)

    def _outcome(self, batch: Any, weights: LanguageWeights, seed: tf.Tensor | None) -> Outcome:
        hidden = self._encoder.hidden(batch.tokens, TransformerWeights(weights.encoder, ()), seed)
        return self._head(hidden, batch, weights.encoder, weights.head)


class LanguageValidation:
    """Loss and accuracy of a language-model stage on examples that it is not trained on, always the same ones."""

    def __init__(self, step: LanguageStep, batches: Any) -> None:
        """Takes the examples.

        Args:
            step: answers them.
            batches: has ``held_out``.
        """
        self._batches = batches.held_out
        self._outcome = tf.function(step.outcome, reduce_retracing=True)

    def __call__(self) -> Figures:
        """Loss and accuracy over all questions; None where there are no examples."""
        found = [self._outcome(batch) for batch in self._batches]
        asked = sum(int(outcome.asked) for outcome in found)
        if not asked:
            return {"valid_loss": None, "valid_accuracy": None}
        loss = sum(float(outcome.loss) * int(outcome.asked) for outcome in found) / asked
        return {"valid_loss": loss, "valid_accuracy": sum(int(outcome.right) for outcome in found) / asked}
