"""The towers and their loss as a model of TensorFlow Recommenders, for those who train by ``compile`` and ``fit``.

Needs the extra ``tfrs``, and ``TF_USE_LEGACY_KERAS=1`` in the environment before TensorFlow is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from dpsr.config import Config, ConfigError
from dpsr.data.batches.batch import Batch
from dpsr.data.batches.steps import plan_tensors
from dpsr.data.dataset.tables import Dataset
from dpsr.model.two_tower import TwoTower
from dpsr.training.optimizers import Copies, Optimizer
from dpsr.training.recipes import make_recipe
from dpsr.training.stages import TRAINING
from dpsr.training.step import MatchingStep


class MatchingModel(tfrs.models.Model):
    """Learns from the log of a dataset what the stage ``training`` of a run learns, by the optimiser of ``compile``.

    The optimiser updates the dense weights. Embedding tables keep their sparse AdaGrad, at
    ``training.table_learning_rate``: a step touches a few rows of millions. ``fit`` writes no checkpoints of a run, and
    ``dpsr export`` reads these; ``indexing.publish.export`` takes ``towers``.

    Example:
        >>> model = MatchingModel(config, dataset)
        >>> model.compile(tf_keras.optimizers.Adam(1e-3))
        >>> model.fit(model.batches(), steps_per_epoch=model.steps_per_epoch, epochs=5)
        >>> export(config, dataset, model.towers)
    """

    def __init__(self, config: Config, dataset: Dataset) -> None:
        """Builds towers and batches.

        Args:
            config: sections ``model``, ``loss`` and ``training`` are read.
            dataset: what is learnt from.

        Raises:
            ConfigError: other stages than ``training`` are configured, or negatives that are mined between epochs.
            DatasetError: the dataset has no record to train on.
        """
        super().__init__()
        recipe = make_recipe(config, dataset)
        names = [stage.name for stage in recipe.stages]
        if names != [TRAINING] or config.loss.mined_negatives:
            raise ConfigError(
                f"stages of this configuration: {', '.join(names)}; mined negatives: {config.loss.mined_negatives}; "
                "`fit` runs the stage training alone, without mined negatives: set the epochs of others to 0, or call "
                "train"
            )
        self.towers: TwoTower = recipe.model
        self._training, self._stage = config.training, recipe.stages[0]
        self.steps_per_epoch = self._stage.batches.steps

    def batches(self) -> tf.data.Dataset:
        """Batches of epoch after epoch without an end, each of ``steps_per_epoch`` steps, as ``train`` makes them."""
        source = self._stage.batches

        def plans() -> Iterator[Any]:
            for number in count():
                epoch = source.epoch(self._training.seed, number)
                yield from (plan_tensors(epoch.steps(step, 1)) for step in range(source.steps))

        planned = tf.data.Dataset.from_generator(plans, output_signature=source.spec)
        return planned.map(lambda plan: source.batches(plan)(tf.zeros([], tf.int64))).prefetch(2)

    def compile(self, optimizer: Any, **options: Any) -> None:
        """As ``tf_keras.Model.compile``; ``optimizer`` is that of the dense weights."""
        super().compile(optimizer=optimizer, **options)
        self._step.optimizer = _KerasOptimizer(self.towers, self.optimizer, self._training)

    def train_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Takes a step; returns its loss."""
        return {"loss": self._step(batch)}

    def compute_loss(self, inputs: Batch, training: bool = False) -> tf.Tensor:
        """The loss of a batch without token dropout, known positives and hard negatives; ``evaluate`` calls it."""
        return self._step.loss(inputs)

    @property
    def _step(self) -> MatchingStep:
        step = self._stage.step
        assert isinstance(step, MatchingStep)
        return step


class _KerasOptimizer(Optimizer):
    """Dense weights by an optimiser of Keras, on one machine."""

    def __init__(self, model: TwoTower, optimizer: tf_keras.optimizers.Optimizer, config: Any) -> None:
        super().__init__(
            model, table_learning_rate=config.table_learning_rate, initial_accumulator=config.initial_accumulator
        )
        self.state = optimizer
        self._steps = tf.Variable(0, dtype=tf.int64, trainable=False)

    def iterations(self, copies: Copies | None = None) -> tf.Variable:
        return self._steps

    def _update_variables(self, gradients: Sequence[tf.Tensor]) -> None:
        self.state.apply_gradients(zip(gradients, self.variables, strict=True))

    def _update_copies(self, copies: Copies, gradients: Sequence[tf.Tensor]) -> Copies:
        raise NotImplementedError("an optimiser of Keras updates variables, and no copies of a cluster's workers")
