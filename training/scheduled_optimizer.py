"""AdamW, LAMB or LANS on the dense weights: a rate that rises and falls within a stage, clipping, accumulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from dpsr.model.two_tower import TwoTower
from dpsr.training.optimizers import Copies, Optimizer
from dpsr.training.update_rules import LinearSchedule, MomentRule, clip_by_global_norm


class MomentState(tf.Module):
    """The moments of the dense weights and the number of steps, shared by the optimisers of all stages of a run.

    Every stage begins with moments of zero, so that stages need the memory of one.
    """

    def __init__(self) -> None:
        """Starts without any weight."""
        super().__init__()
        self.iterations = tf.Variable(0, dtype=tf.int64, trainable=False)
        """Steps of the run."""
        self.begun_at = tf.Variable(0, dtype=tf.int64, trainable=False)
        """``iterations`` before the present stage."""
        self._slots: list[tf.Variable] = []
        self._found = _Found({})

    def slot(self, name: str, variables: Sequence[tf.Variable]) -> list[tf.Variable]:
        """The slot of a name of every variable, on the device of the variable; made where there is none yet."""
        return [self._slot_of(name, variable) for variable in variables]

    def begin_stage(self) -> None:
        """Sets all moments to zero, and counts the updates of the stage from here."""
        self.begun_at.assign(self.iterations)
        for slot in self._slots:
            with tf.device(slot.device):
                slot.assign(tf.zeros_like(slot))

    def _slot_of(self, name: str, variable: tf.Variable) -> tf.Variable:
        key = name, variable.ref()
        if key not in self._found.slots:
            with tf.device(variable.device):
                slot = tf.Variable(tf.zeros(variable.shape), trainable=False, name=name)
            self._slots.append(slot)
            self._found.slots[key] = slot
        return self._found.slots[key]


@dataclass
class _Found:
    """A dictionary that is no part of a checkpoint."""

    slots: dict[tuple[str, Any], tf.Variable]


class _Waiting(NamedTuple):
    """What copies hold beside weights and moments."""

    begun_at: tf.Tensor
    """int64 [], ``MomentState.begun_at``."""
    count: tf.Tensor
    """int64 [], steps whose gradients wait for their update."""
    sums: tuple[tf.Tensor, ...]
    """Of these gradients, for every weight; none where a step is an update."""


@dataclass(frozen=True)
class UpdatesOfStage:
    """Which steps of a stage end an update of the dense weights."""

    epochs: int
    steps: int
    """Of an epoch."""
    accumulate: int = 1
    """Steps of an update; the last one of an epoch may have fewer."""

    @property
    def of_epoch(self) -> int:
        """Updates of an epoch."""
        return -(-self.steps // self.accumulate)

    @property
    def total(self) -> int:
        """Updates of the stage."""
        return self.epochs * self.of_epoch

    def at(self, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The update of a step.

        Args:
            step: int64 [], of the stage, from 0.

        Returns:
            The number of the update, int64 [] from 1; the steps of it so far, int64 [] from 1; whether it ends here.
        """
        epoch, step = step // self.steps, step % self.steps
        update = epoch * self.of_epoch + step // self.accumulate + 1
        held = step % self.accumulate + 1
        return update, held, tf.equal(held, self.accumulate) | tf.equal(step + 1, self.steps)


class ScheduledOptimizer(Optimizer):
    """A rule over moments on the dense weights, at a rate that rises and falls; sparse AdaGrad on the tables.

    With ``accumulate`` above 1 the mean gradient of so many steps is one update of the dense weights; tables are
    updated at every step. On one machine an update never crosses the end of an epoch, on a cluster never that of a
    work unit.
    """

    averages = True

    def __init__(
        self,
        model: TwoTower,
        rule: MomentRule,
        state: MomentState,
        updates: UpdatesOfStage,
        *,
        learning_rate: float,
        warmup_share: float,
        clip_norm: float,
        table_learning_rate: float,
        initial_accumulator: float,
        weights: Any = None,
    ) -> None:
        """Takes or makes the slots of the weights.

        Args:
            model: what is trained.
            rule: moves the dense weights.
            state: of the run.
            updates: of the stage.
            learning_rate: the highest rate.
            warmup_share: share of the updates up to the highest rate.
            clip_norm: largest norm of all dense gradients together; 0 clips nothing.
            table_learning_rate: step size of the tables.
            initial_accumulator: initial value of the accumulators of the tables.
            weights: as ``Optimizer``.
        """
        super().__init__(
            model, table_learning_rate=table_learning_rate, initial_accumulator=initial_accumulator, weights=weights
        )
        self.state: MomentState = state
        self.accumulate = updates.accumulate
        self._rule = rule
        self._updates = updates
        self._schedule = LinearSchedule(learning_rate, updates.total, warmup_share)
        self._clip_norm = clip_norm
        self.slots = [state.slot(name, self.variables) for name in ("first_moment", "second_moment")]
        self._held = state.slot("held", self.variables) if self.accumulate > 1 else []

    def iterations(self, copies: Copies | None = None) -> tf.Variable | tf.Tensor:
        """As ``Optimizer.iterations``; of all stages."""
        return self.state.iterations if copies is None else copies.iterations

    def begin_stage(self) -> None:
        """Starts the schedule, with moments of zero."""
        self.state.begin_stage()

    def _update_variables(self, gradients: Sequence[tf.Tensor]) -> None:
        update, count, is_due = self._updates.at(self.state.iterations - self.state.begun_at)
        if self.accumulate == 1:
            self._apply(gradients, update)
            return
        for held, gradient in zip(self._held, gradients, strict=True):
            held.assign_add(gradient)

        def apply() -> tf.Tensor:
            self._apply([held / tf.cast(count, tf.float32) for held in self._held], update)
            for held in self._held:
                held.assign(tf.zeros_like(held))
            return is_due

        tf.cond(is_due, apply, lambda: is_due)

    def _apply(self, gradients: Sequence[tf.Tensor], update: tf.Tensor) -> None:
        rate = self._schedule.rate(update)
        clipped = clip_by_global_norm(gradients, self._clip_norm)
        for variable, *moments, gradient in zip(self.variables, *self.slots, clipped, strict=True):
            self._rule.apply(variable, moments, gradient, rate, update)

    def read(self) -> Copies:
        """As ``Optimizer.read``, with no gradient that waits for its update."""
        copies = super().read()
        sums = tuple(map(tf.zeros_like, copies.weights)) if self.accumulate > 1 else ()
        return copies._replace(more=_Waiting(self.state.begun_at.read_value(), tf.zeros([], tf.int64), sums))

    def _update_copies(self, copies: Copies, gradients: Sequence[tf.Tensor]) -> Copies:
        step = copies.iterations - copies.more.begun_at
        if self.accumulate == 1:
            return self._moved_copies(copies, gradients, step)
        # A worker counts its own steps: those of others may come between them.
        count = copies.more.count + 1
        sums = tuple(total + gradient for total, gradient in zip(copies.more.sums, gradients, strict=True))
        waiting = copies._replace(more=copies.more._replace(count=count, sums=sums))
        return tf.cond(tf.equal(count, self.accumulate), lambda: self._ended(waiting, step), lambda: waiting)

    def _flush(self, copies: Copies) -> Copies:
        if self.accumulate == 1:
            return copies
        step = copies.iterations - copies.more.begun_at - 1
        return tf.cond(copies.more.count > 0, lambda: self._ended(copies, step), lambda: copies)

    def _ended(self, copies: Copies, step: tf.Tensor) -> Copies:
        """The copies after the update that their sums wait for, whose last step is ``step``."""
        waiting = copies.more
        means = [total / tf.cast(waiting.count, tf.float32) for total in waiting.sums]
        rest = waiting._replace(count=tf.zeros_like(waiting.count), sums=tuple(map(tf.zeros_like, waiting.sums)))
        return self._moved_copies(copies, means, step)._replace(more=rest)

    def _moved_copies(self, copies: Copies, gradients: Sequence[tf.Tensor], step: tf.Tensor) -> Copies:
        weights, slots = self._moved(copies.weights, copies.slots, gradients, self._updates.at(step)[0])
        return copies._replace(weights=weights, slots=slots)

    def _moved(
        self,
        weights: Sequence[tf.Tensor],
        slots: Sequence[Sequence[tf.Tensor]],
        gradients: Sequence[tf.Tensor],
        update: tf.Tensor,
    ) -> tuple[tuple[tf.Tensor, ...], tuple[tuple[tf.Tensor, ...], ...]]:
        rate = self._schedule.rate(update)
        clipped = clip_by_global_norm(gradients, self._clip_norm)
        moved = [
            self._rule(weight, moments, gradient, rate, update)
            for weight, *moments, gradient in zip(weights, *slots, clipped, strict=True)
        ]
        return tuple(weight for weight, _ in moved), tuple(zip(*(moments for _, moments in moved), strict=True))
