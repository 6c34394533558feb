"""The dense layers of the two towers: from the vectors of their inputs to unit vectors (paper, section 4.2).

The weights are an argument of every call: the tower's own variables, or a copy of them that a worker trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf
import tf_keras

from dpsr.ops_cc.tower import tower


class LayerWeights(NamedTuple):
    """One dense layer."""

    kernel: tf.Tensor
    """float32 [inputs, units]."""
    bias: tf.Tensor
    """float32 [units]."""


class PerceptronWeights(NamedTuple):
    """The layers of a perceptron; flattened in the order of the optimiser's slots in a checkpoint."""

    last: LayerWeights
    hidden: tuple[LayerWeights, ...]


class TowerWeights(NamedTuple):
    """The layers of a tower; flattened in the order of the optimiser's slots in a checkpoint."""

    others: tuple[PerceptronWeights, ...]
    """Of the second head and further ones, where every head has layers of its own."""
    first: PerceptronWeights


class Perceptron(tf.Module):
    """Hidden ReLU layers and a linear layer of ``outputs`` vectors."""

    def __init__(self, inputs: int, dimension: int, hidden: Sequence[int], outputs: int, residual: bool, seed: int):
        """Draws the layers; the arguments are those of ``QueryTower``."""
        super().__init__()
        self._outputs = outputs
        self._residual = residual
        self.layers = [
            tf_keras.layers.Dense(
                width, activation="relu", kernel_initializer=tf_keras.initializers.HeNormal(seed=seed + 1 + position)
            )
            for position, width in enumerate(hidden)
        ]
        self.last = tf_keras.layers.Dense(
            outputs * dimension, kernel_initializer=tf_keras.initializers.GlorotUniform(seed=seed)
        )
        width = inputs * dimension
        for layer in [*self.layers, self.last]:
            layer.build([None, width])
            width = layer.units
        if residual:
            # Output 0 is initialised as the sum of the inputs. The others are initialised beside it: equal outputs
            # would get equal gradients and stay equal.
            kernel = self.last.kernel
            kernel.assign(tf.concat([tf.zeros_like(kernel[:, :dimension]), kernel[:, dimension:]], axis=1))

    @property
    def weights(self) -> PerceptronWeights:
        """The variables."""
        last, *hidden = [LayerWeights(layer.kernel, layer.bias) for layer in [self.last, *self.layers]]
        return PerceptronWeights(last, tuple(hidden))

    def __call__(self, inputs: Sequence[tf.Tensor], weights: PerceptronWeights) -> tf.Tensor:
        """Maps inputs, float32 [B, d] each, to unit vectors, float32 [B, outputs, d]."""
        kernels, biases = zip(*weights.hidden, weights.last, strict=True)
        return tower(inputs, kernels, biases, outputs=self._outputs, residual=self._residual)


class QueryTower(tf.Module):
    """Query text, profile and history to ``heads`` unit vectors, one for each meaning of the query."""

    def __init__(
        self,
        inputs: int,
        dimension: int,
        hidden: Sequence[int],
        heads: int,
        *,
        residual: bool,
        seed: int,
        separate: bool = False,
    ):
        """Draws the layers.

        Args:
            inputs: number of vectors that all heads read, each of width d.
            dimension: d, also the width of a head.
            hidden: widths of the hidden layers.
            heads: number of heads m.
            residual: the first head is initialised as the sum of its inputs; with ``separate``, every head.
            seed: the same seed draws the same layers.
            separate: every head has layers of its own, which read one more vector, its own.
        """
        super().__init__()
        self.perceptron = Perceptron(inputs + separate, dimension, hidden, 1 if separate else heads, residual, seed)
        self._others = [
            Perceptron(inputs + 1, dimension, hidden, 1, residual, seed + 10 * head)
            for head in range(1, heads if separate else 1)
        ]

    @property
    def weights(self) -> TowerWeights:
        """The variables."""
        return TowerWeights(tuple(perceptron.weights for perceptron in self._others), self.perceptron.weights)

    def __call__(self, inputs: Sequence[tf.Tensor], own: Sequence[tf.Tensor], weights: TowerWeights) -> tf.Tensor:
        """Embeds queries.

        Args:
            inputs: float32 [B, d] each.
            own: float32 [B, d] for each head, with ``separate``; else empty.
            weights: of the tower.

        Returns:
            float32 [B, heads, d], unit vectors.
        """
        if not own:
            return self.perceptron(inputs, weights.first)
        heads = zip([self.perceptron, *self._others], own, [weights.first, *weights.others], strict=True)
        return tf.concat([perceptron([first, *inputs], its) for perceptron, first, its in heads], axis=1)


class ItemTower(tf.Module):
    """Item text and categories to one unit vector."""

    def __init__(self, inputs: int, dimension: int, hidden: Sequence[int], *, residual: bool, seed: int):
        """Draws the layers; the arguments are the query tower's."""
        super().__init__()
        self.perceptron = Perceptron(inputs, dimension, hidden, 1, residual, seed)

    @property
    def weights(self) -> TowerWeights:
        """The variables."""
        return TowerWeights((), self.perceptron.weights)

    def __call__(self, inputs: Sequence[tf.Tensor], weights: TowerWeights) -> tf.Tensor:
        """Embeds items.

        Args:
            inputs: float32 [N, d] each.
            weights: of the tower.

        Returns:
            float32 [N, d], unit vectors.
        """
        return tf.squeeze(self.perceptron(inputs, weights.first), axis=1)
