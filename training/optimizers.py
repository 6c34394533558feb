"""The optimiser of a stage: sparse AdaGrad on the embedding tables, and another rule on the dense weights.

On a cluster the dense weights are on a parameter server. At the paper's batch size they are most of what a step would
send, so a worker reads them once, takes some steps on copies, and adds the changes to the variables. The copies are
tensors of the graph: a worker that dies leaves nothing behind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras

from dpsr.model.embeddings import EmbeddingTable, apply_gradients_together
from dpsr.model.two_tower import TwoTower
from dpsr.ops_cc.embedding_bag import apply_dense_adagrad


class Copies(NamedTuple):
    """A worker's copy of the dense weights and of their slots, in the order of ``Optimizer.variables``."""

    weights: tuple[tf.Tensor, ...]
    slots: tuple[tuple[tf.Tensor, ...], ...]
    """Of each slot of the rule, that of every weight: AdaGrad's accumulators, or the two moments of AdamW."""
    iterations: tf.Tensor
    """int64 [], steps of all workers before the copy was read, and of this one since."""
    more: Any = ()
    """What the optimiser keeps beside, in any nested structure of tensors; it is not sent back."""


StepOnCopies = Callable[[tf.Tensor, Copies | None], tuple[tf.Tensor, Copies | None]]
"""Takes the step of a number, int64 [] from 0, on copies or, if None, on the variables; returns its loss and the copies
after it."""


class Optimizer(ABC):
    """Updates the tables by sparse AdaGrad and the dense weights by the rule of a subclass."""

    accumulate = 1
    """Steps of one update of the dense weights."""
    averages = False
    """Whether the slots are moving averages, of which concurrent workers add a share each, and not sums."""
    state: tf.Module | tf_keras.optimizers.Optimizer
    """The optimiser's entries of a checkpoint; optimisers of several stages may share them."""
    slots: Sequence[Sequence[tf.Variable]]
    """Of each slot of the rule, that of every variable."""

    def __init__(
        self, model: TwoTower, *, table_learning_rate: float, initial_accumulator: float, weights: Any = None
    ) -> None:
        """Creates the accumulators of the tables.

        Args:
            model: what is trained.
            table_learning_rate: step size of the tables.
            initial_accumulator: initial value of their accumulators.
            weights: the dense variables in any nested structure; ``model.weights`` if None.
        """
        self.wire = tf.float32
        """Type of copies and changes between tasks; float32 or bfloat16."""
        self.workers = 1
        """Number of workers that take steps at once."""
        self._table_learning_rate = table_learning_rate
        self._is_local = model.is_local
        self._structure = model.weights if weights is None else weights
        self.variables: list[tf.Variable] = tf.nest.flatten(self._structure)
        for table in model.tables.values():
            if table.accumulator is None:  # else an earlier stage made them, and this one continues
                table.start_training(initial_accumulator)

    @abstractmethod
    def iterations(self, copies: Copies | None = None) -> tf.Variable | tf.Tensor:
        """Steps taken, int64 []: by all workers, as the variables or the copies have it."""

    @abstractmethod
    def _update_variables(self, gradients: Sequence[tf.Tensor]) -> None:
        """One step on the variables, without counting it."""

    @abstractmethod
    def _update_copies(self, copies: Copies, gradients: Sequence[tf.Tensor]) -> Copies:
        """One step on copies, without counting it."""

    def begin_stage(self) -> None:  # noqa: B027 - a rule without a schedule has nothing to prepare
        """Prepares for the first step of a stage."""

    def weights(self, copies: Copies | None) -> Any:
        """The dense weights in their structure: the copies, or without them the variables."""
        if copies is None:
            return self._structure
        return tf.nest.pack_sequence_as(self._structure, copies.weights)

    def update_tables(
        self,
        tables: Sequence[EmbeddingTable],
        bags: Sequence[tf.RaggedTensor],
        gradients: Sequence[tf.Tensor],
    ) -> None:
        """One AdaGrad step of the rows that were looked up; arguments as ``apply_gradients_together``."""
        apply_gradients_together(tables, bags, gradients, self._table_learning_rate)

    def update_weights(self, gradients: Any, copies: Copies | None) -> Copies | None:
        """One step of the dense weights.

        Args:
            gradients: in the structure of the weights.
            copies: what the step read; None for the variables, which are then updated on their devices.

        Returns:
            The copies after the step.
        """
        # Of a table that is gathered from, a gradient has the rows that were read.
        flat = [tf.convert_to_tensor(gradient) for gradient in tf.nest.flatten(gradients)]
        if copies is not None:
            return self._update_copies(copies, flat)._replace(iterations=copies.iterations + 1)
        self._update_variables(flat)
        self.iterations().assign_add(1)
        return None

    def take_steps(self, steps: tf.Tensor, sync_steps: int, take: StepOnCopies) -> tf.Tensor:
        """Takes steps on copies, which are exchanged with the variables at regular intervals.

        Args:
            steps: int64 [], steps in all.
            sync_steps: steps between two exchanges; at 1 the steps of AdaGrad read and update the variables.
            take: takes one step.

        Returns:
            float64 [], the sum of the losses.
        """

        def on_copies(position: tf.Tensor, total: tf.Tensor, copies: Copies) -> tuple[tf.Tensor, tf.Tensor, Copies]:
            loss, after = take(position, copies)
            assert after is not None
            return position + 1, total + tf.cast(loss, tf.float64), after

        def between_exchanges(first: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            last = tf.minimum(first + self.whole_updates(sync_steps), steps)
            before = self.read()
            _, total, after = tf.while_loop(
                lambda position, *_: position < last, on_copies, (first, total, before), parallel_iterations=1
            )
            with tf.control_dependencies([total]):
                self.add(before, self._flush(after))
            return last, total

        def on_variables(position: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return position + 1, total + tf.cast(take(position, None)[0], tf.float64)

        # At 1, gradients to the variables are half the bytes of copies and changes.
        body = on_variables if sync_steps == 1 and self._updates_remotely else between_exchanges
        start = tf.zeros([], tf.int64), tf.zeros([], tf.float64)
        return tf.while_loop(lambda position, _: position < steps, body, start, parallel_iterations=1)[1]

    _updates_remotely = False
    """Whether a worker may update variables on another task by sending gradients there."""

    def whole_updates(self, steps: int) -> int:
        """The steps of the fewest updates that take at least ``steps``."""
        return -(-steps // self.accumulate) * self.accumulate

    def _flush(self, copies: Copies) -> Copies:
        """The copies without gradients that wait for their update."""
        return copies

    def read(self) -> Copies:
        """Copies the variables; their values travel in the type of the wire."""

        def arrived(variable: tf.Variable) -> tf.Tensor:
            with tf.device(variable.device):
                value = tf.cast(variable.read_value(), self.wire)
            # A node without a device is the worker's: it keeps what follows from being placed with the variable.
            return tf.cast(tf.identity(value), tf.float32)

        weights = tuple(map(arrived, self.variables))
        slots = tuple(tuple(map(arrived, slot)) for slot in self.slots)
        return Copies(weights, slots, self.iterations().read_value())

    def add(self, before: Copies, after: Copies) -> None:
        """Adds the changes of copies to the variables; they travel in the type of the wire."""
        self._add(self.variables, before.weights, after.weights, 1.0)
        # Two workers that each took the old average away would leave less than nothing of it.
        share = 1.0 / self.workers if self.averages else 1.0
        for slot, old, new in zip(self.slots, before.slots, after.slots, strict=True):
            self._add(slot, old, new, share)
        self.iterations().assign_add(after.iterations - before.iterations)

    def _add(
        self, variables: Sequence[tf.Variable], before: Sequence[tf.Tensor], after: Sequence[tf.Tensor], share: float
    ) -> None:
        for variable, old, new in zip(variables, before, after, strict=True):
            change = tf.cast((new - old) * share, self.wire)
            with tf.device(variable.device):
                variable.assign_add(tf.cast(change, tf.float32), read_value=False)


class Adagrad(Optimizer):
    """AdaGrad for all tables and dense weights, at constant rates."""

    _updates_remotely = True

    def __init__(
        self,
        model: TwoTower,
        *,
        learning_rate: float,
        table_learning_rate: float,
        initial_accumulator: float,
        weights: Any = None,
    ) -> None:
        """Creates the accumulators.

        Args:
            model: what is trained.
            learning_rate: step size of the dense weights.
            table_learning_rate: step size of the tables.
            initial_accumulator: initial value of the accumulators.
            weights: as ``Optimizer``.
        """
        super().__init__(
            model, table_learning_rate=table_learning_rate, initial_accumulator=initial_accumulator, weights=weights
        )
        self._learning_rate = learning_rate
        self.state = tf_keras.optimizers.Adagrad(
            learning_rate, initial_accumulator_value=initial_accumulator, jit_compile=False
        )
        self.state.build(self.variables)
        self.slots = [self.state.variables[-len(self.variables) :]]

    def iterations(self, copies: Copies | None = None) -> tf.Variable | tf.Tensor:
        """As ``Optimizer.iterations``."""
        return self.state.iterations if copies is None else copies.iterations

    def _update_variables(self, gradients: Sequence[tf.Tensor]) -> None:
        if self._is_local:  # the optimiser of tf_keras takes five operations a variable
            apply_dense_adagrad(
                self.variables,
                self.slots[0],
                gradients,
                learning_rate=self._learning_rate,
                epsilon=self.state.epsilon,
            )
            return
        for variable, gradient in zip(self.variables, gradients, strict=True):
            with tf.device(variable.device):  # only the gradient travels there
                self.state.update_step(gradient, variable)

    def _update_copies(self, copies: Copies, gradients: Sequence[tf.Tensor]) -> Copies:
        squares = [square + gradient * gradient for square, gradient in zip(copies.slots[0], gradients, strict=True)]
        weights = [
            weight - self._learning_rate * gradient / tf.sqrt(square + self.state.epsilon)
            for weight, square, gradient in zip(copies.weights, squares, gradients, strict=True)
        ]
        return copies._replace(weights=tuple(weights), slots=(tuple(squares),))
