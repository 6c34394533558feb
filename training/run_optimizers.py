"""The optimisers of a run's stages, as ``training.optimizer`` says."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from dpsr.config import TrainingConfig
from dpsr.data.batches.steps import BatchSource
from dpsr.model.two_tower import TwoTower
from dpsr.training.optimizers import Adagrad, Optimizer
from dpsr.training.scheduled_optimizer import MomentState, ScheduledOptimizer, UpdatesOfStage
from dpsr.training.update_rules import RULES


def adagrad(model: TwoTower, config: TrainingConfig, weights: Any = None) -> Adagrad:
    """AdaGrad at the constant rates of a run; ``weights`` as ``Optimizer``."""
    return Adagrad(
        model,
        learning_rate=config.learning_rate,
        table_learning_rate=config.table_learning_rate,
        initial_accumulator=config.initial_accumulator,
        weights=weights,
    )


class RunOptimizers:
    """Makes the optimiser of every stage.

    AdaGrad's accumulators carry over between the stages that train all weights of the model. The other optimisers begin
    every stage with moments of zero, at a rate that rises and falls within the stage.
    """

    def __init__(self, model: TwoTower, config: TrainingConfig, device: str | None = None) -> None:
        """Takes what all stages have in common.

        Args:
            model: what is trained.
            config: the optimiser.
            device: of the number of steps and of AdaGrad's accumulators; this machine's if None.
        """
        self._model = model
        self._config = config
        self.device = device
        self._adagrad: Adagrad | None = None
        with tf.device(device):
            self._moments = MomentState() if config.has_schedule else None

    def of_stage(
        self,
        batches: BatchSource,
        epochs: int,
        *,
        weights: Any = None,
        learning_rate: float | None = None,
        accumulate: int | None = None,
    ) -> Optimizer:
        """The optimiser of a stage.

        Args:
            batches: of the stage.
            epochs: of the stage.
            weights: the dense variables that the stage trains, in any nested structure; those of the model if None.
            learning_rate: highest rate of the dense weights; ``training.learning_rate`` if None.
            accumulate: batches of an update; ``training.accumulate`` if None.
        """
        with tf.device(self.device):
            rate = learning_rate or self._config.learning_rate
            if self._moments is None:
                return self._constant(weights, rate)
            updates = UpdatesOfStage(epochs, batches.steps, accumulate or self._config.accumulate)
            return self._scheduled(self._moments, updates, weights, rate)

    def _constant(self, weights: Any, learning_rate: float) -> Adagrad:
        if weights is not None:
            return adagrad(self._model, self._config.model_copy(update={"learning_rate": learning_rate}), weights)
        self._adagrad = self._adagrad or adagrad(self._model, self._config)
        return self._adagrad

    def _scheduled(
        self, moments: MomentState, updates: UpdatesOfStage, weights: Any, learning_rate: float
    ) -> ScheduledOptimizer:
        config = self._config
        return ScheduledOptimizer(
            self._model,
            RULES[config.optimizer](config.weight_decay),
            moments,
            updates,
            learning_rate=learning_rate,
            warmup_share=config.warmup_share,
            clip_norm=config.clip_norm,
            table_learning_rate=config.table_learning_rate,
            initial_accumulator=config.initial_accumulator,
            weights=weights,
        )
