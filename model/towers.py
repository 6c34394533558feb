"""The dense part of the two towers: from the embedded inputs to unit vectors (paper, section 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf
import tf_keras

from dpsr.ops_cc.tower import tower


class _Perceptron(tf.Module):
    """Hidden ReLU layers and a linear layer of ``outputs`` vectors."""

    def __init__(self, inputs: int, dimension: int, hidden: Sequence[int], outputs: int, residual: bool, seed: int):
        super().__init__()
        self._dimension = dimension
        self._outputs = outputs
        self._residual = residual
        self.read: Callable[[tf.Variable], tf.Tensor] = lambda variable: variable
        """What stands for a kernel or a bias; ``DenseLayers`` sets it."""
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
            # Output 0 starts as the input itself. The others start beside it: equal outputs would get equal gradients
            # and never part.
            kernel = self.last.kernel
            kernel.assign(tf.concat([tf.zeros_like(kernel[:, :dimension]), kernel[:, dimension:]], axis=1))

    def __call__(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        """Maps parts, each [B, d], to unit vectors [B, outputs, d]."""
        layers = [*self.layers, self.last]
        kernels, biases = [self.read(layer.kernel) for layer in layers], [self.read(layer.bias) for layer in layers]
        return tower(parts, kernels, biases, outputs=self._outputs, residual=self._residual)


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
        """Builds the layers.

        Args:
            inputs: number of parts that all heads read, each of width d.
            dimension: d, also the width of a head.
            hidden: widths of the hidden layers.
            heads: number of heads m.
            residual: the first head starts as the sum of the parts; where they are separate, every head.
            seed: the same seed gives the same layers.
            separate: every head has layers of its own, which read one more part, its own.
        """
        super().__init__()
        self.perceptron = _Perceptron(inputs + separate, dimension, hidden, 1 if separate else heads, residual, seed)
        self._others = [
            _Perceptron(inputs + 1, dimension, hidden, 1, residual, seed + 10 * head)
            for head in range(1, heads if separate else 1)
        ]

    @property
    def perceptrons(self) -> list[_Perceptron]:
        """One, or one for each head."""
        return [self.perceptron, *self._others]

    def __call__(self, parts: Sequence[tf.Tensor], own: Sequence[tf.Tensor] = ()) -> tf.Tensor:
        """Embeds queries.

        Args:
            parts: float32 [B, d] each.
            own: float32 [B, d] for each head, where they are separate.

        Returns:
            float32 [B, heads, d], unit vectors.
        """
        if own:
            layers = zip(self.perceptrons, own, strict=True)
            return tf.concat([perceptron([first, *parts]) for perceptron, first in layers], axis=1)
        return self.perceptron(parts)


class ItemTower(tf.Module):
    """Item text and categories to one unit vector."""

    def __init__(self, inputs: int, dimension: int, hidden: Sequence[int], *, residual: bool, seed: int):
        """Builds the layers; the arguments are the query tower's."""
        super().__init__()
        self.perceptron = _Perceptron(inputs, dimension, hidden, 1, residual, seed)

    @property
    def perceptrons(self) -> list[_Perceptron]:
        """The one."""
        return [self.perceptron]

    def __call__(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        """Embeds items.

        Args:
            parts: float32 [N, d] each.

        Returns:
            float32 [N, d], unit vectors.
        """
        return tf.squeeze(self.perceptron(parts), axis=1)
