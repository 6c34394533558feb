"""The optimiser of a stage: sparse AdaGrad on the embedding tables, AdaGrad on the dense weights.

On a cluster the dense weights are on a parameter server. At the paper's batch size they are most of what a step would
send, so a worker reads them once, takes some AdaGrad steps on copies, and adds the changes to the variables. The copies
are tensors of the graph: a worker that dies leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf
import tf_keras

from dpsr.model.embeddings import EmbeddingTable, apply_gradients_together
from dpsr.model.two_tower import TwoTower
from dpsr.ops_cc.embedding_bag import apply_dense_adagrad


class Copies(NamedTuple):
    """A worker's copy of the dense weights and of their AdaGrad accumulators, in the order of ``Adagrad.variables``."""

    weights: tuple[tf.Tensor, ...]
    accumulators: tuple[tf.Tensor, ...]
    iterations: tf.Tensor
    """int64 [], steps of all workers before the copy was read, and of this one since."""


StepOnCopies = Callable[[tf.Tensor, Copies | None], tuple[tf.Tensor, Copies | None]]
"""Takes the step of a number, int64 [] from 0, on copies or, if None, on the variables; returns its loss and the copies
after it."""


class Optimizer(Protocol):
    """What the loop and a cluster need of the optimiser of a stage, whichever it is."""

    wire: tf.DType
    """Type of copies and changes between tasks; float32 or bfloat16."""

    @property
    def state(self) -> tf_keras.optimizers.Optimizer:
        """The optimiser's entries of a checkpoint."""

    def iterations(self) -> tf.Variable:
        """Steps taken, int64 []."""

    def take_steps(self, steps: tf.Tensor, sync_steps: int, take: StepOnCopies) -> tf.Tensor:
        """As ``Adagrad.take_steps``."""


class Adagrad:
    """AdaGrad for all tables and dense weights of a model."""

    def __init__(
        self, model: TwoTower, *, learning_rate: float, table_learning_rate: float, initial_accumulator: float
    ) -> None:
        """Creates the accumulators.

        Args:
            model: what is trained.
            learning_rate: step size of the dense weights.
            table_learning_rate: step size of the tables.
            initial_accumulator: initial value of the accumulators.
        """
        self.wire = tf.float32
        self._learning_rate = learning_rate
        self._table_learning_rate = table_learning_rate
        self._is_local = model.is_local
        self._structure = model.weights
        self.variables: list[tf.Variable] = tf.nest.flatten(self._structure)
        for table in model.tables.values():
            if table.accumulator is None:  # else an earlier stage made them, and this one continues
                table.start_training(initial_accumulator)
        self.state = tf_keras.optimizers.Adagrad(
            learning_rate, initial_accumulator_value=initial_accumulator, jit_compile=False
        )
        """Accumulators of the dense weights and the number of steps, as a checkpoint holds them."""
        self.state.build(self.variables)
        self._accumulators = self.state.variables[-len(self.variables) :]

    def weights(self, copies: Copies | None) -> Any:
        """The dense weights in the structure of ``model.weights``: the copies, or without them the variables."""
        if copies is None:
            return self._structure
        return tf.nest.pack_sequence_as(self._structure, copies.weights)

    def iterations(self, copies: Copies | None = None) -> tf.Variable | tf.Tensor:
        """Steps taken, int64 []: by all workers, as the variables or the copies have it."""
        return self.state.iterations if copies is None else copies.iterations

    def update_tables(
        self,
        tables: Sequence[EmbeddingTable],
        bags: Sequence[tf.RaggedTensor],
        gradients: Sequence[tf.Tensor],
    ) -> None:
        """One AdaGrad step of the rows that were looked up; arguments as ``apply_gradients_together``."""
        apply_gradients_together(tables, bags, gradients, self._table_learning_rate)

    def update_weights(self, gradients: Any, copies: Copies | None) -> Copies | None:
        """One AdaGrad step of the dense weights.

        Args:
            gradients: in the structure of ``model.weights``.
            copies: what the step read; None for the variables, which are then updated on their devices.

        Returns:
            The copies after the step.
        """
        # Of a table that is gathered from, a gradient has the rows that were read.
        flat = [tf.convert_to_tensor(gradient) for gradient in tf.nest.flatten(gradients)]
        if copies is not None:
            return self._updated(copies, flat)
        if self._is_local:  # the optimiser of tf_keras takes five operations a variable
            apply_dense_adagrad(
                self.variables,
                self._accumulators,
                flat,
                learning_rate=self._learning_rate,
                epsilon=self.state.epsilon,
            )
        else:
            for variable, gradient in zip(self.variables, flat, strict=True):
                with tf.device(variable.device):  # only the gradient travels there
                    self.state.update_step(gradient, variable)
        self.state.iterations.assign_add(1)
        return None

    def take_steps(self, steps: tf.Tensor, sync_steps: int, take: StepOnCopies) -> tf.Tensor:
        """Takes steps on copies, which are exchanged with the variables at regular intervals.

        Args:
            steps: int64 [], steps in all.
            sync_steps: steps between two exchanges; at 1 the steps read and update the variables.
            take: takes one step.

        Returns:
            float64 [], the sum of the losses.
        """

        def on_copies(position: tf.Tensor, total: tf.Tensor, copies: Copies) -> tuple[tf.Tensor, tf.Tensor, Copies]:
            loss, after = take(position, copies)
            assert after is not None
            return position + 1, total + tf.cast(loss, tf.float64), after

        def between_exchanges(first: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            last = tf.minimum(first + sync_steps, steps)
            before = self.read()
            _, total, after = tf.while_loop(
                lambda position, *_: position < last, on_copies, (first, total, before), parallel_iterations=1
            )
            with tf.control_dependencies([total]):
                self.add(before, after)
            return last, total

        def on_variables(position: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return position + 1, total + tf.cast(take(position, None)[0], tf.float64)

        # At 1, gradients to the variables are half the bytes of copies and changes.
        body = on_variables if sync_steps == 1 else between_exchanges
        start = tf.zeros([], tf.int64), tf.zeros([], tf.float64)
        return tf.while_loop(lambda position, _: position < steps, body, start, parallel_iterations=1)[1]

    def read(self) -> Copies:
        """Copies the variables; their values travel in the type of the wire."""

        def arrived(variable: tf.Variable) -> tf.Tensor:
            with tf.device(variable.device):
                value = tf.cast(variable.read_value(), self.wire)
            # A node without a device is the worker's: it keeps what follows from being placed with the variable.
            return tf.cast(tf.identity(value), tf.float32)

        weights, accumulators = (tuple(map(arrived, kind)) for kind in (self.variables, self._accumulators))
        return Copies(weights, accumulators, self.state.iterations.read_value())

    def add(self, before: Copies, after: Copies) -> None:
        """Adds the changes of copies to the variables; they travel in the type of the wire."""
        changes = zip(
            [*self.variables, *self._accumulators],
            [*before.weights, *before.accumulators],
            [*after.weights, *after.accumulators],
            strict=True,
        )
        for variable, old, new in changes:
            change = tf.cast(new - old, self.wire)
            with tf.device(variable.device):
                variable.assign_add(tf.cast(change, tf.float32), read_value=False)
        self.state.iterations.assign_add(after.iterations - before.iterations)

    def _updated(self, copies: Copies, gradients: Sequence[tf.Tensor]) -> Copies:
        squares = [
            square + gradient * gradient for square, gradient in zip(copies.accumulators, gradients, strict=True)
        ]
        weights = [
            weight - self._learning_rate * gradient / tf.sqrt(square + self.state.epsilon)
            for weight, square, gradient in zip(copies.weights, squares, gradients, strict=True)
        ]
        return Copies(tuple(weights), tuple(squares), copies.iterations + 1)
