"""Training over workers and parameter servers: the steps of an epoch, in pieces that any worker can take.

The model, its checkpoints and the order of the examples are those of one machine (``model.trainer``). A piece is a few
consecutive steps of the epoch's order; what a worker needs for it is in the call (a ``StepPlan`` of some hundred
bytes), in files that it maps into memory (the dataset), and on the parameter servers. It has no state of its own: a
piece whose worker died is done by another one.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from dpsr.cluster.loads import DENSE, loads_of_model
from dpsr.cluster.placement import place
from dpsr.cluster.tasks import PS, WORKER, ClusterError, Task
from dpsr.config import Config
from dpsr.data.mapped import ArrayFiles
from dpsr.data.pipeline import EpochPlan, StepPlan, StepReader
from dpsr.data.schema import split_file
from dpsr.data.tables import Dataset
from dpsr.model.negatives import count_random_negatives
from dpsr.model.shards import Placement, Shard
from dpsr.model.trainer import Training
from dpsr.ops_cc import library

_PIECES_AHEAD = 2
"""Pieces given out for every worker, so that none waits for the chief."""
_POLL_SECONDS = 0.05


class Progress(tf.Module):
    """What the workers report, beside the tables: nothing of it is in a checkpoint."""

    def __init__(self, num_workers: int) -> None:
        """Starts at nothing."""
        super().__init__()
        self.pieces = tf.Variable(0, dtype=tf.int64)
        self.loss_sum = tf.Variable(0.0, dtype=tf.float64)
        self.steps = tf.Variable(tf.zeros([num_workers], tf.int64))
        """Steps of every worker."""
        self.staleness = tf.Variable(0, dtype=tf.int64)
        """Updates by others between reading and updating, over all steps."""


class _ProgressNow(NamedTuple):
    """The values of ``Progress`` at one moment."""

    pieces: tf.Tensor
    loss_sum: tf.Tensor
    steps: tf.Tensor
    staleness: tf.Tensor


class ClusterTraining(Training):
    """A training whose steps are taken by workers, on tables that parameter servers hold."""

    def __init__(self, config: Config, dataset: Dataset, task: Task, coordinator: Any, *, progress: bool) -> None:
        """Builds the model on the parameter servers and restores the latest checkpoint.

        Args:
            config: the run.
            dataset: what it learns from; every worker sees it under the same path.
            task: the chief.
            coordinator: a ``ClusterCoordinator`` of this cluster.
            progress: show a progress bar.
        """
        _check_supported(config)
        num_ps, num_workers = len(task.addresses[PS]), len(task.addresses[WORKER])
        placed = place(loads_of_model(config, dataset.schema), num_ps, config.cluster.split_above_bytes)
        wire = tf.as_dtype(config.cluster.wire)
        placements = {
            name: Placement(tuple(Shard(ps_device(part.ps), part.first_row, part.rows) for part in parts), wire)
            for name, parts in placed.items()
            if name != DENSE
        }
        files = ArrayFiles(config.checkpoint_dir.parent / "cluster" / "arrays")
        dense_device = ps_device(placed[DENSE][0].ps)
        super().__init__(config, dataset, progress, tensor=files, placements=placements, dense_device=dense_device)
        self._coordinator = coordinator
        self._num_workers = num_workers
        self._file = dataset.directory / split_file("train")
        training = config.training
        self._reader = StepReader(
            self._tables,
            self._file,
            batch_size=training.batch_size,
            random_negatives=count_random_negatives(config.loss.mixing_ratio, config.loss.group_size),
            num_items=dataset.schema.num_items,
            tensor=files,
        )
        with tf.device(dense_device):
            self._progress_of_workers = Progress(num_workers)
        self._dense_device = dense_device
        self._piece = tf.function(self._take_piece).get_concrete_function(_plan_spec(), tf.TensorSpec([], tf.int64))
        self._read_progress = tf.function(self._progress_now)
        self._last_checkpoint = time.monotonic()

    def take_steps(self, epoch: int, step: int, loss_sum: float, bar: tqdm) -> float:
        """As on one machine, in pieces that workers take."""
        training, cluster = self._config.training, self._config.cluster
        plan = EpochPlan(self._file, batch_size=training.batch_size, seed=training.seed, epoch=epoch)
        steps_of_piece = max(1, cluster.examples_per_call // training.batch_size)
        all_steps = self._training.steps
        while step < all_steps:
            first, before = step, self._read_progress()
            given, done, last_change = 0, 0, time.monotonic()
            while True:
                while (
                    step < all_steps
                    and given - done < _PIECES_AHEAD * self._num_workers
                    and time.monotonic() - self._last_checkpoint < cluster.checkpoint_seconds
                ):
                    size = min(steps_of_piece, all_steps - step)
                    self._coordinator.schedule(self._piece, (plan.steps(step, size), np.int64(size)))
                    step, given = step + size, given + 1
                if self._coordinator.done():
                    break
                time.sleep(_POLL_SECONDS)
                now = self._read_progress()
                if int(now.pieces - before.pieces) != done:
                    done, last_change = int(now.pieces - before.pieces), time.monotonic()
                    self._show(epoch, first, before, now, loss_sum, bar)
                elif time.monotonic() - last_change > cluster.stall_timeout:
                    raise ClusterError(
                        f"no worker has finished a piece of work for {cluster.stall_timeout:g} s; look at the workers' "
                        "logs, or raise cluster.stall_timeout if they are that slow"
                    )
            self._coordinator.join()
            now = self._read_progress()
            counted = float(tf.reduce_sum(now.steps - before.steps))
            # A piece that was done twice has counted twice.
            loss_sum += float(now.loss_sum - before.loss_sum) * (step - first) / max(counted, 1.0)
            self._check_losses(np.array([loss_sum / step]), epoch, first)
            if step < all_steps:
                self._save(epoch, step, loss_sum)
                self._last_checkpoint = time.monotonic()
        return loss_sum

    def _take_piece(self, plan: StepPlan, steps: tf.Tensor) -> None:
        """What a worker does in one call."""
        records = self._reader.records(plan)
        total, started = tf.constant(0.0, tf.float64), self._step.optimizer.iterations.read_value()
        for position in tf.range(steps):
            total += tf.cast(self._step(self._reader.batch(plan, records, position)), tf.float64)
        device = library.load().dpsr_task().device
        worker = tf.strings.to_number(tf.strings.regex_replace(device, r".*/task:(\d+)/.*", r"\1"), tf.int64)
        progress = self._progress_of_workers
        with tf.control_dependencies([total]):
            others = self._step.optimizer.iterations.read_value() - started - steps
            reports = [
                progress.loss_sum.assign_add(total),
                progress.staleness.assign_add(others),
                progress.steps.scatter_add(tf.IndexedSlices(steps[tf.newaxis], worker[tf.newaxis])),
            ]
        with tf.control_dependencies(reports):
            progress.pieces.assign_add(1)

    def _progress_now(self) -> _ProgressNow:
        progress = self._progress_of_workers
        return _ProgressNow(
            *(v.read_value() for v in (progress.pieces, progress.loss_sum, progress.steps, progress.staleness))
        )

    def _show(
        self, epoch: int, first: int, before: _ProgressNow, now: _ProgressNow, loss_sum: float, bar: tqdm
    ) -> None:
        done = now.steps - before.steps
        counted = int(tf.reduce_sum(done))
        batch_size = self._config.training.batch_size
        mean = float(now.loss_sum - before.loss_sum) / max(counted, 1)
        bar.update(min(self._training.steps, first + counted) * batch_size - bar.n)
        bar.set_postfix(loss=f"{(loss_sum + mean * counted) / max(first + counted, 1):.4f}")


def _check_supported(config: Config) -> None:
    """Checks that a run asks for nothing that workers cannot do from a ``StepPlan`` alone.

    Raises:
        ClusterError: it does; names the keys.
    """
    asked = {
        "pretraining.epochs": config.pretraining.epochs > 0,
        "pretraining.mixed_share": config.mixed_rows > 0,
        "training.typo_share": config.training.typo_share > 0,
        "model.combiner": config.model.combiner == "sqrtn_by_kind",
        "model.initial_idf": config.model.initial_idf,
    }
    if any(asked.values()):
        keys = ", ".join(key for key, is_asked in asked.items() if is_asked)
        raise ClusterError(f"{keys}: only on one machine so far; leave them out of the configuration of a cluster")


def _plan_spec() -> StepPlan:
    return StepPlan(
        tf.TensorSpec([], tf.int64),
        tf.TensorSpec([2], tf.int64),
        tf.TensorSpec([None, 3], tf.int64),
        tf.TensorSpec([None, None, 2], tf.int64),
    )


def ps_device(index: int) -> str:
    """The device of a parameter server."""
    return f"/job:{PS}/replica:0/task:{index}/device:CPU:0"


def worker_device(index: int) -> str:
    """The device of a worker."""
    return f"/job:{WORKER}/replica:0/task:{index}/device:CPU:0"
