"""Training on one machine: epochs, checkpoints, exact resume, validation and metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from dpsr.config import Config
from dpsr.data.batches.features import ToTensor
from dpsr.data.batches.pipeline import pretraining_batches, training_batches
from dpsr.data.dataset.schema import split_file
from dpsr.data.dataset.tables import Dataset
from dpsr.model.shards import Placement
from dpsr.model.two_tower import TwoTower
from dpsr.tokenizer_cc import Tokenizer
from dpsr.training import checkpoints
from dpsr.training.divergence import Step, diverged, first_bad_step
from dpsr.training.head_assignment import HeadAssignment
from dpsr.training.inputs import batch_maker
from dpsr.training.negatives import HardNegatives, KnownPositives
from dpsr.training.progress import Phase, Position, phases
from dpsr.training.step import TrainingStep, take_steps
from dpsr.training.traced_checkpoint import TracedCheckpoint
from dpsr.training.validation import Validation

# Steps are taken in one call of the graph until about so many examples are done: long enough to hide the call, short
# enough for a lively progress bar.
_EXAMPLES_PER_CALL = 16_384
_SHOWN = ("train_loss", "valid_loss", "valid_top1")


def train(config: Config, dataset: Dataset, *, resume: bool = True, progress: bool = True) -> dict[str, Any]:
    """Trains the two towers, and leaves checkpoints, ``model.json``, ``metrics.json`` and TensorBoard events.

    The same configuration, seed and dataset give the same losses on the same machine, also across interruptions.

    Args:
        config: the run; everything lands in ``config.checkpoint_dir``.
        dataset: what ``dpsr prepare`` wrote.
        resume: continue from the latest checkpoint where there is one, else remove it and start anew.
        progress: show a progress bar.

    Returns:
        What ``metrics.json`` holds: ``epochs``, one entry each (``epoch``, ``phase``, ``train_loss``, ``valid_loss``,
        ``valid_top1``, ``seconds``, ``examples_per_second``), ``best_epoch``, the one with the highest ``valid_top1``,
        whose model ``trained.load_trained`` loads, and ``steps``, ``examples``, ``parameters``.

    Raises:
        CheckpointError: the checkpoints there come from another dataset or configuration.
        TrainingDivergedError: the loss became NaN or infinite, or grew far above that of the untrained model; the
            examples of the first bad step are in ``diverged.json``.
    """
    start_run(config, dataset, resume=resume)
    return Training(config, dataset, progress).run()


def start_run(config: Config, dataset: Dataset, *, resume: bool) -> None:
    """Makes the checkpoint directory ready for a run, as ``train`` is told; raises as it does."""
    directory = config.checkpoint_dir
    directory.mkdir(parents=True, exist_ok=True)
    description = checkpoints.describe(config, dataset.schema)
    checkpoints.remove_unfinished(directory)
    if not resume:
        checkpoints.clear(directory)
    elif (directory / checkpoints.MODEL_FILE).exists():
        checkpoints.check_resumable(directory, description)
    checkpoints.end_of_run(directory).unlink(missing_ok=True)
    checkpoints.write_json(directory / checkpoints.MODEL_FILE, description)


class Training:
    """The state of one training and its loop; ``take_steps`` is where a cluster does otherwise."""

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        progress: bool,
        *,
        tensor: ToTensor = tf.constant,
        placements: Mapping[str, Placement] | None = None,
        dense_device: str | None = None,
    ) -> None:
        """Builds the model and restores the latest checkpoint.

        Args:
            config: the run.
            dataset: what it learns from.
            progress: show a progress bar.
            tensor: how the dataset's arrays get into the graph.
            placements: where every table is; on this machine if None.
            dense_device: where the dense layers are; on this machine if None.
        """
        self._config = config
        self._dataset = dataset
        self._progress = progress
        self._directory = config.checkpoint_dir
        self._pretraining, self._training = phases(config, dataset)
        self._batches = batch_maker(config, dataset, tensor=tensor)
        loss, schema, arrays = config.loss, dataset.schema, config.arrays_dir
        clicked = hard = choice = None
        if loss.mask_clicked:
            clicked = KnownPositives.of_dataset(dataset, arrays, tensor=tensor)
        if loss.hard_negatives:
            hard = HardNegatives.of_dataset(dataset, loss.hard_negatives, self._batches.tables, arrays, tensor=tensor)
        if loss.head_column:
            choice = HeadAssignment.of_dataset(dataset, loss.head_column, config.model.heads, tensor=tensor)
        tokenizer = Tokenizer.load(dataset.tokenizer_path) if config.model.reads_tokenizer else None
        # Random items are the positives of the mixed rows.
        mixed = self._training.steps * config.mixed_rows / schema.num_items
        with tf.device(dense_device):
            self._model = TwoTower(
                config.model,
                schema,
                seed=config.training.seed,
                tokenizer=tokenizer,
                placements=placements,
                tensor=tensor,
            )
            self._step = TrainingStep(
                self._model,
                loss,
                config.training,
                dataset.clicks_per_item("train") + mixed,
                clicked=clicked,
                hard=hard,
                choice=choice,
                tensor=tensor,
            )
        self._steps_of_call = {
            self._pretraining: tf.function(partial(take_steps, self._step, pretraining=True)),
            self._training: tf.function(partial(take_steps, self._step, pretraining=False)),
        }
        self._validation = Validation(config, dataset, self._batches.tables, self._model, self._step)
        self._position = Position()
        self._checkpoint = TracedCheckpoint(model=self._model, optimizer=self._step.optimizer, position=self._position)
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
            self._epochs = checkpoints.read_epochs(self._directory)[: int(self._position.epoch)]

    def run(self) -> dict[str, Any]:
        """Trains to the end; returns what ``metrics.json`` holds."""
        writer = tf.summary.create_file_writer(str(self._directory / checkpoints.EVENTS_FOLDER))
        with writer.as_default():
            for epoch in range(int(self._position.epoch), self._training.first_epoch + self._training.epochs):
                if self._has_settled():
                    break
                figures = self._run_epoch(epoch)
                for name, value in figures.items():
                    if name not in ("epoch", "phase") and value is not None:
                        tf.summary.scalar(f"{figures['phase']}/epoch/{name}", value, step=epoch)
                self._epochs.append(figures)
                self._end_epoch(epoch + 1)
        metrics = self._write_metrics()
        checkpoints.end_of_run(self._directory).touch()
        return metrics

    def validate(self, path: str) -> dict[str, float | None]:
        """The validation figures of a checkpoint."""
        self._checkpoint.restore(path).assert_existing_objects_matched()
        return self._validation()

    def write_model(self, path: Path) -> None:
        """Writes the model without what only training needs."""
        with checkpoints.writing(path.parent):
            self._model_alone.write(str(path))

    def _has_settled(self) -> bool:
        """Whether the last ``patience`` epochs brought nothing better; a split without examples never tells."""
        patience = self._config.training.patience
        found = [figures["valid_top1"] for figures in self._epochs if figures["phase"] == self._training.name]
        if not patience or len(found) <= patience or None in found:
            return False
        return max(found[-patience:]) <= max(found[:-patience])

    def _end_epoch(self, epoch: int) -> None:
        """Keeps the model if it is the best, then the position.

        In this order a process may die at any moment: ``metrics.json`` never names a model that is not there, and an
        epoch without its last checkpoint is done again.
        """
        best = checkpoints.best_epoch(self._epochs)
        if best == epoch:
            self.write_model(checkpoints.best_path(self._directory, epoch))
        self._write_metrics()
        self._save(epoch, 0, 0.0)
        checkpoints.remove_all_but_best(self._directory, best)

    def _run_epoch(self, epoch: int) -> dict[str, Any]:
        phase = self._phase_of(epoch)
        batch_size = self._config.training.batch_size
        step, loss_sum = int(self._position.step), float(self._position.loss_sum)
        first_step, started = step, time.monotonic()
        with tqdm(
            desc=f"{phase.name} {epoch + 1 - phase.first_epoch}/{phase.epochs}",
            total=phase.steps * batch_size,
            initial=step * batch_size,
            unit="ex",
            unit_scale=True,
            disable=not self._progress,
        ) as bar:
            loss_sum = self.take_steps(epoch, step, loss_sum, bar)
            seconds = time.monotonic() - started
            figures = {
                "epoch": epoch + 1,
                "phase": phase.name,
                "train_loss": loss_sum / max(phase.steps, 1),
                **self._validation(),
                "seconds": round(seconds, 3),
                "examples_per_second": round((phase.steps - first_step) * batch_size / seconds, 1),
            }
            bar.set_postfix({key: f"{figures[key]:.4f}" for key in _SHOWN if figures[key] is not None})
        return figures

    def _phase_of(self, epoch: int) -> Phase:
        return self._pretraining if epoch < self._training.first_epoch else self._training

    def take_steps(self, epoch: int, step: int, loss_sum: float, bar: tqdm) -> float:
        """Takes the steps of an epoch from number ``step`` on, with checkpoints on the way.

        Args:
            epoch: number of the epoch, from 0.
            step: steps of it that are done.
            loss_sum: sum of their losses.
            bar: moves on by every example.

        Returns:
            The sum of the losses of all steps of the epoch.
        """
        phase, training = self._phase_of(epoch), self._config.training
        batches = iter(self._epoch_batches(epoch, step))
        while step < phase.steps:
            losses = self._steps_of_call[phase](batches, tf.constant(self._steps_of_next_call(phase, step))).numpy()
            self._check_losses(losses, epoch, step)
            step += len(losses)
            loss_sum += float(losses.sum(dtype=np.float64))
            bar.update(len(losses) * training.batch_size)
            bar.set_postfix(loss=f"{loss_sum / step:.4f}")
            tf.summary.scalar(f"{phase.name}/step/loss", losses.mean(), step=phase.steps_before(epoch) + step)
            if step % training.checkpoint_every == 0 and step < phase.steps:
                self._save(epoch, step, loss_sum)
        return loss_sum

    def _steps_of_next_call(self, phase: Phase, step: int) -> int:
        """Steps up to the next look at the losses, never beyond a checkpoint or the epoch."""
        training = self._config.training
        at_once = max(1, _EXAMPLES_PER_CALL // training.batch_size)
        to_checkpoint = training.checkpoint_every - step % training.checkpoint_every
        return min(at_once, to_checkpoint, phase.steps - step)

    def _epoch_batches(self, epoch: int, skip_steps: int) -> tf.data.Dataset:
        phase = self._phase_of(epoch)
        order = {"seed": self._config.training.seed, "epoch": epoch - phase.first_epoch, "skip_steps": skip_steps}
        if phase is self._pretraining:
            return pretraining_batches(self._batches, **order)
        return training_batches(self._batches, [self._dataset.directory / split_file("train")], **order)

    def _check_losses(self, losses: np.ndarray, epoch: int, step: int) -> None:
        """Stops a training whose loss is no number, or far above what it was before anything was learnt."""
        at_first = self._position.first_loss
        if float(at_first) == 0.0:
            at_first.assign(float(losses.mean()))
        bad = first_bad_step(losses, float(at_first))
        if bad is None:
            return
        phase, at = self._phase_of(epoch), step + bad.place
        batch = next(iter(self._epoch_batches(epoch, at)))
        where = Step(phase.name, epoch + 1 - phase.first_epoch, at + 1)
        raise diverged(bad, where, batch, self._dataset, self._config)

    def _save(self, epoch: int, step: int, loss_sum: float) -> None:
        self._position.assign(epoch, step, loss_sum)
        phase = self._phase_of(epoch)
        with checkpoints.writing(self._directory):
            self._checkpoints.save(checkpoint_number=phase.steps_before(epoch) + step)

    def _write_metrics(self) -> dict[str, Any]:
        done = len(self._epochs)
        steps = self._phase_of(done).steps_before(done)
        metrics = {
            "epochs": self._epochs,
            "best_epoch": checkpoints.best_epoch(self._epochs),
            "steps": steps,
            "examples": steps * self._config.training.batch_size,
            "parameters": sum(int(np.prod(variable.shape)) for variable in self._model.trainable_variables),
        }
        checkpoints.write_json(self._directory / checkpoints.METRICS_FILE, metrics)
        return metrics
