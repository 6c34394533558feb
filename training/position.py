"""How far a training has come."""

from __future__ import annotations

import tensorflow as tf


class Position(tf.Module):
    """Epoch, step and losses so far; stored in every checkpoint."""

    def __init__(self) -> None:
        """Starts before the first step."""
        super().__init__()
        self.epoch = tf.Variable(0, dtype=tf.int64)
        """Epochs of the run before the present one."""
        self.step = tf.Variable(0, dtype=tf.int64)
        """Steps done of the present epoch."""
        self.loss_sum = tf.Variable(0.0, dtype=tf.float64)
        """Sum of the losses of these steps."""
        self.first_loss = tf.Variable(0.0, dtype=tf.float64)
        """Mean loss of the first steps of the present stage; 0 before them."""

    def assign(self, epoch: int, step: int, loss_sum: float) -> None:
        """``step`` steps of ``epoch`` are done, and their losses sum to ``loss_sum``."""
        self.epoch.assign(epoch)
        self.step.assign(step)
        self.loss_sum.assign(loss_sum)
