"""How a dense weight moves along its gradient: AdamW, LAMB and LANS, with the schedule of their rate.

A rule knows one weight and its slots, so that it is applied alike to variables on one machine and to the copies of a
worker. Weights without decay (biases, layer norms: all that are no matrices) are not scaled by their norm either, as in
the implementations of the authors of LAMB and LANS.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class LinearSchedule:
    """A rate that rises linearly to its peak, then falls linearly, to zero after the last update."""

    peak: float
    updates: int
    """In all."""
    warmup_share: float
    """Share of the updates up to the peak; 0 begins there."""

    def rate(self, update: tf.Tensor) -> tf.Tensor:
        """The rate of an update.

        Args:
            update: int64 [], from 1.

        Returns:
            float32 [], not negative.
        """
        warm = max(1, round(self.warmup_share * self.updates))
        done = tf.cast(update, tf.float32)
        falling = (self.updates + 1 - done) / max(1, self.updates + 1 - warm)
        return self.peak * tf.maximum(tf.minimum(done / warm, falling), 0.0)


@dataclass(frozen=True)
class MomentRule(ABC):
    """A rule over the moving averages of a weight's gradient and of its square, both from zero."""

    weight_decay: float
    """Decoupled: a share of the weight itself, times the rate."""
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-6

    def __call__(
        self,
        weight: tf.Tensor,
        moments: Sequence[tf.Tensor],
        gradient: tf.Tensor,
        rate: tf.Tensor,
        update: tf.Tensor,
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        """Moves one weight.

        Args:
            weight: float32, any shape.
            moments: the two averages, of the same shape.
            gradient: of the same shape.
            rate: float32 [].
            update: int64 [], from 1; takes the zero at the start out of the averages.

        Returns:
            The weight and the averages after the update.
        """
        gradient = self._scaled(gradient)
        first = self.beta_1 * moments[0] + (1.0 - self.beta_1) * gradient
        # Concurrent workers add changes of averages, whose sum may pass zero by a little.
        second = self.beta_2 * tf.maximum(moments[1], 0.0) + (1.0 - self.beta_2) * tf.square(gradient)
        mean = first / _weight_of_averages(self.beta_1, update)
        root = tf.sqrt(second / _weight_of_averages(self.beta_2, update)) + self.epsilon
        decay = self.weight_decay if _is_matrix(weight) else 0.0
        return weight - rate * self._direction(weight, gradient, mean, root, decay), (first, second)

    def apply(
        self,
        variable: tf.Variable,
        moments: Sequence[tf.Variable],
        gradient: tf.Tensor,
        rate: tf.Tensor,
        update: tf.Tensor,
    ) -> None:
        """Moves one variable of this machine, and its moments; arguments as ``__call__``."""
        values = [tf.convert_to_tensor(moment) for moment in moments]
        weight, averages = self(tf.convert_to_tensor(variable), values, gradient, rate, update)
        for each, value in zip((variable, *moments), (weight, *averages), strict=True):
            each.assign(value)

    def _scaled(self, gradient: tf.Tensor) -> tf.Tensor:
        return gradient

    @abstractmethod
    def _direction(
        self, weight: tf.Tensor, gradient: tf.Tensor, mean: tf.Tensor, root: tf.Tensor, decay: float
    ) -> tf.Tensor:
        """What the weight moves by at a rate of 1, downwards."""


class AdamW(MomentRule):
    """Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019, algorithm 2)."""

    def apply(
        self,
        variable: tf.Variable,
        moments: Sequence[tf.Variable],
        gradient: tf.Tensor,
        rate: tf.Tensor,
        update: tf.Tensor,
    ) -> None:
        """As ``MomentRule.apply``, in one pass over weight and moments, and one more for the decay."""
        if self.weight_decay and _is_matrix(variable):
            variable.assign(variable * (1.0 - rate * self.weight_decay))
        root = tf.sqrt(_weight_of_averages(self.beta_2, update))
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=moments[0].handle,
            v=moments[1].handle,
            # The operation adds epsilon before it takes the zero at the start out of the averages, and computes powers
            # of beta to fewer digits.
            beta1_power=0.0,
            beta2_power=0.0,
            lr=rate * root / _weight_of_averages(self.beta_1, update),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon * root,
            grad=gradient,
        )

    def _direction(
        self, weight: tf.Tensor, gradient: tf.Tensor, mean: tf.Tensor, root: tf.Tensor, decay: float
    ) -> tf.Tensor:
        return mean / root + decay * weight


class Lamb(MomentRule):
    """LAMB: the direction of AdamW at the norm of the weight (You et al., ICLR 2020, algorithm 2)."""

    def _direction(
        self, weight: tf.Tensor, gradient: tf.Tensor, mean: tf.Tensor, root: tf.Tensor, decay: float
    ) -> tf.Tensor:
        return _at_norm_of(weight, mean / root + decay * weight)


class Lans(MomentRule):
    """LANS: LAMB on normalised gradients, with Nesterov's momentum (Zheng et al., 2020, algorithm 2)."""

    def _scaled(self, gradient: tf.Tensor) -> tf.Tensor:
        return tf.math.divide_no_nan(gradient, tf.norm(gradient))

    def _direction(
        self, weight: tf.Tensor, gradient: tf.Tensor, mean: tf.Tensor, root: tf.Tensor, decay: float
    ) -> tf.Tensor:
        behind = _at_norm_of(weight, mean / root + decay * weight)
        ahead = _at_norm_of(weight, gradient / root + decay * weight)
        return self.beta_1 * behind + (1.0 - self.beta_1) * ahead


RULES: dict[str, type[MomentRule]] = {"adamw": AdamW, "lamb": Lamb, "lans": Lans}
"""By ``training.optimizer``."""


def clip_by_global_norm(gradients: Sequence[tf.Tensor], clip_norm: float) -> list[tf.Tensor]:
    """Scales all gradients alike, so that their norm together is at most ``clip_norm``; 0 clips nothing."""
    if not clip_norm:
        return list(gradients)
    return tf.clip_by_global_norm(gradients, clip_norm)[0]


def _weight_of_averages(beta: float, update: tf.Tensor) -> tf.Tensor:
    """``1 - beta^update``, float32 []: what the values so far weigh in a moving average from zero."""
    return -tf.math.expm1(tf.cast(update, tf.float32) * math.log(beta))


def _is_matrix(weight: tf.Tensor) -> bool:
    return weight.shape.rank > 1


def _at_norm_of(weight: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
    """The direction at the norm of a matrix; as it is for other weights, and where either norm is zero."""
    if not _is_matrix(weight):
        return direction
    of_weight, of_direction = tf.norm(weight), tf.norm(direction)
    ratio = tf.where((of_weight > 0.0) & (of_direction > 0.0), tf.math.divide_no_nan(of_weight, of_direction), 1.0)
    return ratio * direction
