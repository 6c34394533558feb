"""The loop of a training: stages, epochs, checkpoints, exact resume, validation and metrics."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from dpsr.config import Config
from dpsr.data.batches.steps import epoch_batches, plan_tensors
from dpsr.data.dataset.tables import Dataset
from dpsr.model import run_files
from dpsr.training import checkpoints
from dpsr.training.checkpoint_writer import TracedCheckpoint
from dpsr.training.divergence import StepPlace, diverged, first_bad_step
from dpsr.training.position import Position
from dpsr.training.recipes import Recipe
from dpsr.training.stages import EpochStart, ScheduledStage, Stage, schedule

# Examples of one call of the graph: enough to hide the call, few enough for a progress bar that moves every second;
# those of a transformer, whose steps take seconds each.
_EXAMPLES_PER_CALL = 16_384
_SEQUENCES_PER_CALL = 512
_UNROLLED = 4
_TIMINGS = ("seconds", "examples_per_second")


class Training:
    """The state of one training and its loop; a cluster overrides ``take_steps``."""

    def __init__(self, config: Config, dataset: Dataset, recipe: Recipe, *, progress: bool) -> None:
        """Restores the latest checkpoint, if there is one.

        Args:
            config: the run.
            dataset: what it learns from.
            recipe: the model and its stages.
            progress: show a progress bar.
        """
        self._config = config
        self._dataset = dataset
        self._model = recipe.model
        self._schedule = schedule(recipe.stages)
        self._progress = progress
        self._directory = config.checkpoint_dir
        self._calls: dict[str, Any] = {}
        self._position = Position()
        self._checkpoint = TracedCheckpoint(model=self._model, position=self._position, **_states(recipe.stages))
        self._checkpoints = tf.train.CheckpointManager(
            self._checkpoint,
            str(self._directory),
            max_to_keep=config.training.keep_checkpoints,
            checkpoint_name=checkpoints.CHECKPOINT_PREFIX,
        )
        self._model_alone = TracedCheckpoint(model=self._model)
        self._epochs: list[dict[str, Any]] = []
        if self._checkpoints.latest_checkpoint:
            self._checkpoint.restore(self._checkpoints.latest_checkpoint).assert_consumed()
            epochs_done = int(self._position.epoch)
            found = run_files.read_epochs(self._directory)
            self._epochs = [figures for figures in found if figures["epoch"] <= epochs_done]

    def run(self) -> dict[str, Any]:
        """Trains to the end; returns the content of ``metrics.json``."""
        writer = tf.summary.create_file_writer(str(self._directory / checkpoints.EVENTS_FOLDER))
        with writer.as_default():
            for scheduled in self._schedule:
                for epoch in range(max(int(self._position.epoch), scheduled.first_epoch), scheduled.end):
                    if self._has_settled(scheduled.stage):
                        break
                    if epoch == scheduled.first_epoch and not int(self._position.step):
                        self._begin(scheduled)
                    self._run_epoch(scheduled, epoch)
        metrics = self._write_metrics()
        checkpoints.end_of_run(self._directory).touch()
        return metrics

    def stage_at(self, path: str) -> Stage:
        """Restores a checkpoint; returns the stage that its steps are of."""
        self._checkpoint.restore(path).assert_existing_objects_matched()
        epoch, step = int(self._position.epoch), int(self._position.step)
        return self._stage_of(epoch if step or not epoch else epoch - 1).stage

    def write_model(self, path: Path) -> None:
        """Writes the model without the state of optimisers."""
        with checkpoints.writing(path.parent):
            self._model_alone.write(str(path))

    def _has_settled(self, stage: Stage) -> bool:
        return stage.has_settled([figures.get(stage.figure) for figures in self._epochs_of(stage)])

    def _epochs_of(self, stage: Stage) -> list[dict[str, Any]]:
        return [figures for figures in self._epochs if figures["stage"] == stage.name]

    def _best_of(self, stage: Stage) -> int | None:
        """The best epoch of a stage so far."""
        return checkpoints.best_epoch(self._epochs_of(stage), stage.figure)

    def _bests(self) -> list[int]:
        """The best epoch of every stage that has one, in their order."""
        return [best for each in self._schedule if (best := self._best_of(each.stage)) is not None]

    def _begin(self, scheduled: ScheduledStage) -> None:
        """Starts a stage from the best model of the one before; again so after a death before its first checkpoint."""
        if bests := self._bests():
            self._model_alone.read(str(run_files.best_path(self._directory, bests[-1]))).assert_consumed()
        scheduled.stage.step.optimizer.begin_stage()
        self._position.first_loss.assign(0.0)

    def _run_epoch(self, scheduled: ScheduledStage, epoch: int) -> None:
        """Takes the steps of an epoch that are not done yet, validates, and keeps what was found."""
        stage = scheduled.stage
        step, loss_sum = int(self._position.step), float(self._position.loss_sum)
        if stage.before_epoch is not None:
            stage.before_epoch(EpochStart(epoch - scheduled.first_epoch, step))
        steps, batch_size = stage.batches.steps, stage.batches.batch_size
        first_step, started = step, time.monotonic()
        with tqdm(
            desc=f"{stage.name} {epoch + 1 - scheduled.first_epoch}/{stage.epochs}",
            total=steps * batch_size,
            initial=step * batch_size,
            unit="ex",
            unit_scale=True,
            disable=not self._progress,
        ) as bar:
            loss_sum = self.take_steps(scheduled, epoch, step, loss_sum, bar)
            seconds = time.monotonic() - started
            if stage.after_epoch is not None:
                stage.after_epoch()
            figures = {
                "epoch": epoch + 1,
                "stage": stage.name,
                "train_loss": loss_sum / max(steps, 1),
                **stage.validate(),
                "seconds": round(seconds, 3),
                "examples_per_second": round((steps - first_step) * batch_size / seconds, 1),
            }
            found = {name: value for name, value in figures.items() if isinstance(value, float)}
            bar.set_postfix({name: f"{value:.4f}" for name, value in found.items() if name not in _TIMINGS})
        for name, value in figures.items():
            if name not in ("epoch", "stage") and value is not None:
                tf.summary.scalar(f"{stage.name}/epoch/{name}", value, step=epoch)
        self._epochs.append(figures)
        self._end_epoch(epoch + 1)

    def _end_epoch(self, epoch: int) -> None:
        """Keeps the model if it is the best, then the position.

        In this order a process may die at any moment: ``metrics.json`` never names a model that is not there, and an
        epoch without its last checkpoint is done again.
        """
        bests = self._bests()
        if bests[-1] == epoch:
            self.write_model(run_files.best_path(self._directory, epoch))
        self._write_metrics()
        self._save(epoch, 0, 0.0)
        checkpoints.remove_all_but_best(self._directory, *bests)

    def take_steps(self, scheduled: ScheduledStage, epoch: int, step: int, loss_sum: float, bar: tqdm) -> float:
        """Takes the steps of an epoch from number ``step`` on, with checkpoints on the way.

        Args:
            scheduled: the stage.
            epoch: number of the epoch in the run, from 0.
            step: steps of the epoch that are done.
            loss_sum: sum of their losses.
            bar: moves on by every example.

        Returns:
            The sum of the losses of all steps of the epoch.
        """
        stage, training = scheduled.stage, self._config.training
        plan = stage.batches.epoch(training.seed, epoch - scheduled.first_epoch)
        call = self._call_of(stage)
        while step < stage.batches.steps:
            steps = self._steps_of_next_call(stage, step)
            losses = call(plan_tensors(plan.steps(step, steps)), tf.constant(steps, tf.int64)).numpy()
            self._check_losses(losses, scheduled, epoch, step)
            step += steps
            loss_sum += float(losses.sum(dtype=np.float64))
            bar.update(steps * stage.batches.batch_size)
            bar.set_postfix(loss=f"{loss_sum / step:.4f}")
            tf.summary.scalar(f"{stage.name}/step/loss", losses.mean(), step=scheduled.steps_before(epoch) + step)
            if step % training.checkpoint_every == 0 and step < stage.batches.steps:
                self._save(epoch, step, loss_sum)
        return loss_sum

    def _call_of(self, stage: Stage) -> Any:
        """The graph of a call: a function of a plan and its number of steps, int64 []."""
        if stage.name not in self._calls:
            signature = [stage.batches.spec, tf.TensorSpec([], tf.int64)]
            # The graph of a transformer's step takes seconds to trace, and its batch is made in no time beside it.
            unrolled = 1 if self._model.config.reads_subwords else _UNROLLED
            self._calls[stage.name] = tf.function(
                lambda plan, steps: take_steps(stage, plan, steps, unrolled), input_signature=signature
            )
        return self._calls[stage.name]

    def _steps_of_next_call(self, stage: Stage, step: int) -> int:
        """Steps up to the next look at the losses, never beyond a checkpoint or the epoch."""
        every = self._config.training.checkpoint_every
        per_call = _SEQUENCES_PER_CALL if self._model.config.reads_subwords else _EXAMPLES_PER_CALL
        at_once = max(1, per_call // stage.batches.batch_size)
        return min(at_once, every - step % every, stage.batches.steps - step)

    def _check_losses(self, losses: np.ndarray, scheduled: ScheduledStage, epoch: int, step: int) -> None:
        """Stops a training whose loss is NaN or infinite, or more than twice that of the stage's first steps."""
        at_first = self._position.first_loss
        if float(at_first) == 0.0:
            at_first.assign(float(losses.mean()))
        bad = first_bad_step(losses, float(at_first))
        if bad is None:
            return
        stage, number, at = scheduled.stage, epoch - scheduled.first_epoch, step + bad.place
        seed = self._config.training.seed
        batch = next(epoch_batches(stage.batches, seed=seed, epoch=number, first_step=at))
        raise diverged(bad, StepPlace(stage.name, number + 1, at + 1), batch, self._dataset, self._config)

    def _save(self, epoch: int, step: int, loss_sum: float) -> None:
        self._position.assign(epoch, step, loss_sum)
        with checkpoints.writing(self._directory):
            self._checkpoints.save(checkpoint_number=self._stage_of(epoch).steps_before(epoch) + step)

    def _stage_of(self, epoch: int) -> ScheduledStage:
        """The stage of an epoch; the last one after the end of the run."""
        return [each for each in self._schedule if each.first_epoch <= epoch][-1]

    def _write_metrics(self) -> dict[str, Any]:
        stages = {each.stage.name: each.stage.batches for each in self._schedule}
        done = [stages[figures["stage"]] for figures in self._epochs]
        metrics = {
            "epochs": self._epochs,
            "best_epoch": bests[-1] if (bests := self._bests()) else None,
            "steps": sum(batches.steps for batches in done),
            "examples": sum(batches.steps * batches.batch_size for batches in done),
            "parameters": sum(int(np.prod(variable.shape)) for variable in self._model.trainable_variables),
        }
        checkpoints.write_json(self._directory / run_files.METRICS_FILE, metrics)
        return metrics


def take_steps(stage: Stage, plan: Any, steps: tf.Tensor, unrolled: int) -> tf.Tensor:
    """Takes planned steps inside a graph, one after the other.

    Args:
        stage: whose batches and step they are.
        plan: of the steps.
        steps: int64 [], their number.
        unrolled: steps of one pass of the loop.

    Returns:
        float32 [steps], their losses.
    """
    batch_of = stage.batches.batches(plan)
    losses = tf.TensorArray(tf.float32, size=tf.cast(steps, tf.int32))
    # The passes of a loop wait for each other. Within one, a batch is made while the step before it runs.
    whole = tf.zeros([], tf.int64)
    if unrolled > 1:
        whole = steps - steps % unrolled
        for first in tf.range(tf.zeros([], tf.int64), whole, unrolled):
            for offset, batch in enumerate([batch_of(first + offset) for offset in range(unrolled)]):
                losses = losses.write(tf.cast(first, tf.int32) + offset, stage.step.take(batch, None)[0])
    for position in tf.range(whole, steps):
        losses = losses.write(tf.cast(position, tf.int32), stage.step.take(batch_of(position), None)[0])
    return losses.stack()


def _states(stages: list[Stage]) -> dict[str, Any]:
    """What a checkpoint holds of the stages, by name.

    The state of every optimiser is ``optimizer``, or ``optimizer_of_<stage>`` where the stage has another one. Weights
    that are no part of the model are ``weights_of_<stage>``.
    """
    states: dict[str, Any] = {}
    for stage in stages:
        state = stage.step.optimizer.state
        if not any(state is known for known in states.values()):
            states[f"optimizer_of_{stage.name}" if states else "optimizer"] = state
    return states | {f"weights_of_{stage.name}": stage.weights for stage in stages if stage.weights is not None}
