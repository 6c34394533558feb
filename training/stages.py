"""The stages of a training: epochs over batches of one kind, with an objective and an optimiser of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from dpsr.data.batches.steps import BatchSource
from dpsr.training.optimizers import Copies, Optimizer

MLM, INTERACTION, PRETRAINING, TRAINING = "mlm", "interaction", "pretraining", "training"
DISTILLATION, SCORES = "distillation", "scores"
"""Names of the stages of a run, in their order."""

Figures = dict[str, float | None]
"""Figures of the validation split by name; None where the split is empty."""


class Step(Protocol):
    """An objective and the optimiser that minimises it."""

    @property
    def optimizer(self) -> Optimizer:
        """Takes the steps."""

    def take(self, batch: Any, copies: Copies | None) -> tuple[tf.Tensor, Copies | None]:
        """Takes one step inside a graph; as ``MatchingStep.take``."""


class EpochStart(NamedTuple):
    """Where an epoch is entered."""

    epoch: int
    """Of the stage, from 0."""
    step: int
    """Steps of the epoch that are done; above 0 after an interruption."""


@dataclass(frozen=True)
class Stage:
    """Some epochs of training; a run is a list of stages, on one machine and on a cluster."""

    name: str
    """In ``metrics.json``, progress bars and TensorBoard."""
    batches: BatchSource
    """The examples of an epoch."""
    step: Step
    """What a batch does; stages may share an optimiser, whose state then carries over."""
    validate: Callable[[], Figures]
    """The figures of the model at the end of an epoch."""
    epochs: int
    patience: int = 0
    """Epochs without a better ``figure`` after which the stage ends early; 0 for no early end."""
    figure: str = "valid_top1"
    """The validation figure whose highest value, the later of equals, marks the best epoch. The next stage starts from
    the model of that epoch; that of the last stage is the model of the run."""
    weights: tf.Module | None = None
    """Variables of the stage that are no part of the model, as the output layer of a language model: checkpoints have
    them to resume from."""
    before_epoch: Callable[[EpochStart], None] | None = None
    """Called before the first step of an epoch that is taken, also where an interrupted epoch is entered again."""
    after_epoch: Callable[[], None] | None = None
    """Called after the last step of an epoch, before the validation."""

    def has_settled(self, found: Sequence[float | None]) -> bool:
        """Whether the stage ends early.

        Args:
            found: ``figure`` after every epoch of the stage so far; None where nothing was validated.
        """
        known = [value for value in found if value is not None]
        if not self.patience or len(found) <= self.patience or len(known) < len(found):
            return False
        return max(known[-self.patience :]) <= max(known[: -self.patience])


@dataclass(frozen=True)
class ScheduledStage:
    """A stage and its place in the run."""

    stage: Stage
    first_epoch: int
    """Epochs of the stages before, as they are configured."""
    first_step: int
    """Steps of these epochs."""

    def steps_before(self, epoch: int) -> int:
        """The steps of the run before an epoch of this stage, if no stage ends early."""
        return self.first_step + (epoch - self.first_epoch) * self.stage.batches.steps

    @property
    def end(self) -> int:
        """The first epoch after this stage."""
        return self.first_epoch + self.stage.epochs


def schedule(stages: Sequence[Stage]) -> list[ScheduledStage]:
    """Numbers the epochs and steps of a run through all of its stages."""
    scheduled, epoch, step = [], 0, 0
    for stage in stages:
        scheduled.append(ScheduledStage(stage, epoch, step))
        epoch, step = epoch + stage.epochs, step + stage.epochs * stage.batches.steps
    return scheduled
