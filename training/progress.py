"""How far a training has come, and the phases that it goes through."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from dpsr.config import Config
from dpsr.data.batches.pipeline import steps_of_pretraining
from dpsr.data.dataset.tables import Dataset


class Position(tf.Module):
    """How far a training has come; part of every checkpoint."""

    def __init__(self) -> None:
        """Starts before the first step."""
        super().__init__()
        self.epoch = tf.Variable(0, dtype=tf.int64)
        self.step = tf.Variable(0, dtype=tf.int64)
        self.loss_sum = tf.Variable(0.0, dtype=tf.float64)
        self.first_loss = tf.Variable(0.0, dtype=tf.float64)
        """Mean of the first steps; 0 before them."""

    def assign(self, epoch: int, step: int, loss_sum: float) -> None:
        """``step`` steps of ``epoch`` are done, and their losses sum to ``loss_sum``."""
        self.epoch.assign(epoch)
        self.step.assign(step)
        self.loss_sum.assign(loss_sum)


@dataclass(frozen=True)
class Phase:
    """Epochs of one kind, one after the other."""

    name: str
    first_epoch: int
    epochs: int
    steps: int
    """Of an epoch."""
    first_step: int
    """Steps of the phases before."""

    def steps_before(self, epoch: int) -> int:
        """The steps of the run before an epoch of this phase."""
        return self.first_step + (epoch - self.first_epoch) * self.steps


def phases(config: Config, dataset: Dataset) -> tuple[Phase, Phase]:
    """The pre-training and the training of a run."""
    batch_size, epochs = config.training.batch_size, config.pretraining.epochs
    steps = steps_of_pretraining(dataset.schema.num_items, batch_size)
    of_log = -(-dataset.num_interactions("train") // (batch_size - config.mixed_rows))
    return (
        Phase("pretraining", 0, epochs, steps, 0),
        Phase("training", epochs, config.training.epochs, of_log, epochs * steps),
    )
