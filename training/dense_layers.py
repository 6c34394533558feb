"""The dense layers of a model as training steps read and update them: the variables, or a worker's own copies.

On a cluster the variables are on a parameter server. At the paper's batch size they are most of what a step would
send, so a worker reads them once, takes some AdaGrad steps on copies, and adds what changed to the variables. The
copies are tensors of the graph: a worker that dies leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf
import tf_keras

from dpsr.model.towers import ItemTower, QueryTower
from dpsr.ops_cc.embedding_bag import apply_dense_adagrad


class Copies(NamedTuple):
    """Layers and their AdaGrad accumulators, in the order of ``DenseLayers.variables``."""

    layers: tuple[tf.Tensor, ...]
    accumulators: tuple[tf.Tensor, ...]
    iterations: tf.Tensor
    """int64 [], steps taken by all workers before, and by this one since."""


class DenseLayers:
    """Kernels and biases of both towers, and their AdaGrad."""

    def __init__(
        self,
        towers: Sequence[QueryTower | ItemTower],
        learning_rate: float,
        initial_accumulator: float,
        *,
        are_local: bool,
    ) -> None:
        """Creates the accumulators.

        Args:
            towers: whose layers are trained.
            learning_rate: step size.
            initial_accumulator: where the accumulators start.
            are_local: the variables are on this machine.
        """
        self._towers = towers
        self._are_here = are_local
        self.wire = tf.float32
        """Type of copies and changes between tasks; float32 or bfloat16."""
        self._learning_rate = learning_rate
        self.variables = [variable for tower in towers for variable in tower.trainable_variables]
        self.optimizer = tf_keras.optimizers.Adagrad(
            learning_rate, initial_accumulator_value=initial_accumulator, jit_compile=False
        )
        self.optimizer.build(self.variables)
        self._accumulators = self.optimizer.variables[-len(self.variables) :]
        self._copies: Copies | None = None

    @property
    def values(self) -> list[tf.Variable] | list[tf.Tensor]:
        """What the towers read and gradients are taken by."""
        return self.variables if self._copies is None else list(self._copies.layers)

    @property
    def iterations(self) -> tf.Variable | tf.Tensor:
        """Steps taken before the present one, int64 []."""
        return self.optimizer.iterations if self._copies is None else self._copies.iterations

    def update(self, gradients: Sequence[tf.Tensor]) -> None:
        """One AdaGrad step of the variables, on their device, or of the copies."""
        if self._copies is None and self._are_here:
            # The optimiser's own step is five operations a variable.
            apply_dense_adagrad(
                self.variables,
                self._accumulators,
                gradients,
                learning_rate=self._learning_rate,
                epsilon=self.optimizer.epsilon,
            )
            self.optimizer.iterations.assign_add(1)
            return
        if self._copies is None:
            for variable, gradient in zip(self.variables, gradients, strict=True):
                with tf.device(variable.device):  # only the gradient goes there
                    self.optimizer.update_step(gradient, variable)
            self.optimizer.iterations.assign_add(1)
            return
        squares = [
            square + gradient * gradient for square, gradient in zip(self._copies.accumulators, gradients, strict=True)
        ]
        layers = [
            layer - self._learning_rate * gradient / tf.sqrt(square + self.optimizer.epsilon)
            for layer, square, gradient in zip(self._copies.layers, squares, gradients, strict=True)
        ]
        self._use(Copies(tuple(layers), tuple(squares), self._copies.iterations + 1))

    def take_steps(self, steps: tf.Tensor, every: int, take: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """Takes steps on copies, which are read anew every few steps, after what changed was added to the variables.

        Args:
            steps: int64 [], steps in all.
            every: steps between two exchanges with the variables; at 1 there are no copies.
            take: takes the step of a number, counted from 0, and returns its loss.

        Returns:
            float64 [], the sum of the losses.
        """

        def one(position: tf.Tensor, total: tf.Tensor, copies: Copies) -> tuple[tf.Tensor, tf.Tensor, Copies]:
            self._use(copies)
            total += tf.cast(take(position), tf.float64)
            assert self._copies is not None
            return position + 1, total, self._copies

        def some(first: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            last = tf.minimum(first + every, steps)
            before = self._read()
            _, total, after = tf.while_loop(
                lambda position, *_: position < last, one, (first, total, before), parallel_iterations=1
            )
            self._use(None)
            with tf.control_dependencies([total]):
                self._add(before, after)
            return last, total

        start = tf.zeros([], tf.int64), tf.zeros([], tf.float64)
        if every == 1:  # gradients to the variables are half of what copies and changes would be
            return tf.while_loop(
                lambda position, _: position < steps,
                lambda position, total: (position + 1, total + tf.cast(take(position), tf.float64)),
                start,
                parallel_iterations=1,
            )[1]
        return tf.while_loop(lambda first, _: first < steps, some, start, parallel_iterations=1)[1]

    def _use(self, copies: Copies | None) -> None:
        """From here on the graph's steps read and update these copies, or else the variables."""
        self._copies = copies
        values = {variable.ref(): value for variable, value in zip(self.variables, self.values, strict=True)}
        for tower in self._towers:
            for perceptron in tower.perceptrons:
                perceptron.read = lambda variable: values[variable.ref()]

    def _read(self) -> Copies:
        def arrived(variable: tf.Variable) -> tf.Tensor:
            with tf.device(variable.device):
                value = tf.cast(variable.read_value(), self.wire)
            # A node without a device is the worker's: it keeps what follows from being placed with the variable.
            return tf.cast(tf.identity(value), tf.float32)

        layers, accumulators = (tuple(map(arrived, kind)) for kind in (self.variables, self._accumulators))
        return Copies(layers, accumulators, self.optimizer.iterations.read_value())

    def _add(self, before: Copies, after: Copies) -> None:
        pairs = zip(
            [*self.variables, *self._accumulators],
            [*before.layers, *before.accumulators],
            [*after.layers, *after.accumulators],
            strict=True,
        )
        for variable, old, new in pairs:
            change = tf.cast(new - old, self.wire)
            with tf.device(variable.device):
                variable.assign_add(tf.cast(change, tf.float32), read_value=False)
        self.optimizer.iterations.assign_add(after.iterations - before.iterations)
