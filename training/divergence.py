"""Diverged training: at which step, and on which examples."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from dpsr.config import Config
from dpsr.data.batches.language_batches import PairBatch
from dpsr.data.batches.masking import MaskedBatch
from dpsr.data.dataset.tables import Dataset
from dpsr.errors import DpsrError
from dpsr.training import checkpoints

_EXPLODED = 2.0
"""Ratio of a diverged loss to that of a stage's first steps: far beyond the noise of steps."""
_NAMED_ROWS = 8


class TrainingDivergedError(DpsrError, ArithmeticError):
    """The loss is NaN or infinite, or more than twice that of the first steps of its stage."""


class BadStep(NamedTuple):
    """The first step of a call that shows the divergence."""

    place: int
    """Number of the step in the call, from 0."""
    problem: str


class StepPlace(NamedTuple):
    """A step as a user counts it."""

    stage: str
    epoch: int
    """Of the stage, from 1."""
    number: int
    """In the epoch, from 1."""


def first_bad_step(losses: np.ndarray, at_first: float) -> BadStep | None:
    """The first step whose loss is NaN or infinite or, where the mean of all is too, beyond twice the first loss.

    Args:
        losses: float32 [steps].
        at_first: mean loss of the first steps of the stage.
    """
    limit = _EXPLODED * at_first
    bad = np.flatnonzero(~np.isfinite(losses))
    if len(bad):
        return BadStep(int(bad[0]), f"the loss is {losses[bad[0]]}")
    if losses.mean() > limit:
        place = int(np.flatnonzero(losses > limit)[0])
        return BadStep(place, f"the loss grew to {losses[place]:.4g}, from {at_first:.4g} in the first steps,")
    return None


def diverged(bad: BadStep, step: StepPlace, batch: Any, dataset: Dataset, config: Config) -> TrainingDivergedError:
    """The error of a bad step; also writes its examples to ``diverged.json``, with their texts and item ids.

    Of a step that learns language, these are the ids of the subwords that were read.
    """
    training, file = config.training, config.checkpoint_dir / checkpoints.DIVERGED_FILE
    found = f"{bad.problem} at step {step.number} of epoch {step.epoch} of the {step.stage}, most likely because the "
    if isinstance(batch, MaskedBatch | PairBatch):
        place = {"stage": step.stage, "epoch": step.epoch, "step": step.number}
        checkpoints.write_json(file, place | {"subwords": batch.tokens.to_list()})
        rate = getattr(config, step.stage).learning_rate
        return TrainingDivergedError(
            f"{found}learning rate is too high ({step.stage}.learning_rate = {rate:g}); lower it and start anew with "
            f"--no-resume. The subwords of that step: {file}"
        )
    query_rows = batch.query_rows.numpy().tolist()
    item_rows = batch.item_rows.numpy()[: len(query_rows)]
    texts = dataset.query_texts()
    examples = {
        "stage": step.stage,
        "epoch": step.epoch,
        "step": step.number,
        "query_rows": query_rows,
        # Null is a synthetic query.
        "queries": [texts[row].as_py() if row >= 0 else None for row in query_rows],
        "item_rows": item_rows.tolist(),
        "item_ids": dataset.item_ids[item_rows].tolist(),
    }
    checkpoints.write_json(file, examples)
    return TrainingDivergedError(
        f"{found}learning rates are too high (training.table_learning_rate = {training.table_learning_rate:g}, "
        f"training.learning_rate = {training.learning_rate:g}); lower them and start anew with --no-resume. The "
        f"examples of that step: query rows {_some(batch.query_rows)}, item rows "
        f"{_some(batch.item_rows[: training.batch_size])}; all of them, with their texts and ids: {file}"
    )


def _some(rows: tf.Tensor) -> str:
    """The first rows of a batch, for a message."""
    named = ", ".join(map(str, rows.numpy()[:_NAMED_ROWS].tolist()))
    return f"{named}, ..." if len(rows) > _NAMED_ROWS else named
