"""Training over workers and parameter servers: the steps of an epoch, in work units that any worker can take.

The model, its checkpoints and the order of the examples are those of one machine (``training.loop``). A work unit
is a run of consecutive steps of the epoch's order. What a worker needs for it is in the call (a plan of
``data.batches.steps``, a few hundred bytes), in files that the worker maps into memory (the dataset), and on the
parameter servers. A worker keeps no state between work units: the work unit of a worker that died is repeated by
another worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from dpsr.cluster.loads import DENSE, expected_loads
from dpsr.cluster.placement import place
from dpsr.cluster.tasks import PS, WORKER, Task
from dpsr.cluster.watchdog import Watchdog
from dpsr.config import Config
from dpsr.data.batches.arrays import arrays_in_files
from dpsr.data.batches.steps import EpochPlan
from dpsr.data.dataset.tables import Dataset
from dpsr.model.shards import Placement, Shard
from dpsr.ops_cc import library
from dpsr.training.loop import Training
from dpsr.training.recipes import make_recipe
from dpsr.training.stages import ScheduledStage, Stage

_UNITS_AHEAD = 2
"""Work units given out for every worker, so that none waits for the chief."""
_POLL_SECONDS = 0.05
_REPORT_SECONDS = 5.0


class Progress(tf.Module):
    """What the workers report, in variables beside the tables; checkpoints do not contain it."""

    def __init__(self, num_workers: int) -> None:
        """Starts at zero."""
        super().__init__()
        self.work_units = tf.Variable(0, dtype=tf.int64)
        self.loss_sum = tf.Variable(0.0, dtype=tf.float64)
        self.steps = tf.Variable(tf.zeros([num_workers], tf.int64))
        """Steps of every worker."""
        self.staleness = tf.Variable(0, dtype=tf.int64)
        """Updates by other workers between a step's reading and its own update, summed over all steps."""


class _ProgressNow(NamedTuple):
    """The values of ``Progress`` at one moment."""

    work_units: tf.Tensor
    loss_sum: tf.Tensor
    steps: tf.Tensor
    staleness: tf.Tensor


class ClusterTraining(Training):
    """A training whose steps are taken by workers, on tables that parameter servers hold."""

    def __init__(
        self, config: Config, dataset: Dataset, task: Task, coordinator: Any, watchdog: Watchdog, *, progress: bool
    ) -> None:
        """Builds the model on the parameter servers and restores the latest checkpoint.

        Args:
            config: the run.
            dataset: what it learns from; every worker sees it under the same path.
            task: the chief.
            coordinator: a ``ClusterCoordinator`` of this cluster.
            watchdog: expects the next work unit after each.
            progress: show a progress bar.

        ``first_step`` is the number of steps that the checkpoint contains.
        """
        num_ps, num_workers = len(task.addresses[PS]), len(task.addresses[WORKER])
        placed = place(expected_loads(config, dataset), num_ps, config.cluster.split_above_bytes)
        wire = tf.as_dtype(config.cluster.wire)
        placements = {
            name: Placement(tuple(Shard(ps_device(part.ps), part.first_row, part.rows) for part in parts), wire)
            for name, parts in placed.items()
            if name != DENSE
        }
        dense_device = ps_device(placed[DENSE][0].ps)
        with arrays_in_files(config.checkpoint_dir.parent / "cluster" / "arrays"):
            recipe = make_recipe(config, dataset, placements=placements, dense_device=dense_device)
        for stage in recipe.stages:
            stage.step.optimizer.wire = wire
            stage.step.optimizer.workers = num_workers
        super().__init__(config, dataset, recipe, progress=progress)
        self._coordinator = coordinator
        self._num_workers = num_workers
        with tf.device(dense_device):
            self._progress_of_workers = Progress(num_workers)
        self._dense_device = dense_device
        self._work_units: dict[str, Any] = {}
        self._read_progress = tf.function(self._progress_now)
        self._watchdog = watchdog
        self._saved_at = self._reported_at = time.monotonic()
        self._reported = self._read_progress()
        self.first_step = self._steps_behind()
        # Optimisers that share their state count the same steps.
        self._optimizers = {id(each.state): each for each in (stage.step.optimizer for stage in recipe.stages)}.values()
        self._first_iteration = self._iterations()

    def take_steps(self, scheduled: ScheduledStage, epoch: int, step: int, loss_sum: float, bar: tqdm) -> float:
        """As ``Training.take_steps``, in work units that workers take."""
        batches = scheduled.stage.batches
        plan = batches.epoch(self._config.training.seed, epoch - scheduled.first_epoch)
        while step < batches.steps:
            first, before = step, self._read_progress()
            show = partial(self._show, scheduled, epoch, first, before, loss_sum, bar)
            step = self._give_out(scheduled.stage, plan, step, show)
            now = self._read_progress()
            show(now)
            counted = float(tf.reduce_sum(now.steps - before.steps))
            # The steps of a repeated work unit have counted twice.
            loss_sum += float(now.loss_sum - before.loss_sum) * (step - first) / max(counted, 1.0)
            self._check_losses(np.array([loss_sum / max(step, 1)]), scheduled, epoch, first)
            if step < batches.steps:
                self._save(epoch, step, loss_sum)
        self._watchdog.expect("validating after an epoch", self._config.cluster.stall_timeout)
        return loss_sum

    def _give_out(self, stage: Stage, plan: EpochPlan, step: int, show: Callable[[_ProgressNow], None]) -> int:
        """Schedules steps from number ``step`` on, up to the next checkpoint or the end of the epoch, and waits.

        Returns:
            The number of the first step that was not taken.
        """
        cluster, before, take = self._config.cluster, self._read_progress(), self.work_unit(stage)
        end, steps_of_unit = stage.batches.steps, max(1, cluster.examples_per_call // stage.batches.batch_size)
        steps_of_unit = stage.step.optimizer.whole_updates(steps_of_unit)
        given = done = 0
        self._expect_work(before)
        while True:
            is_last = step == end or time.monotonic() - self._saved_at > cluster.checkpoint_seconds
            while not is_last and step < end and given - done < _UNITS_AHEAD * self._num_workers:
                size = min(steps_of_unit, end - step)
                self._coordinator.schedule(take, (plan.steps(step, size), np.int64(size)))
                step, given = step + size, given + 1
            if self._coordinator.done():
                if is_last:
                    self._coordinator.join()
                    return step
                done = given
                continue
            time.sleep(_POLL_SECONDS)
            now = self._read_progress()
            if int(now.work_units - before.work_units) > done:
                done = min(int(now.work_units - before.work_units), given)
                self._expect_work(now)
                show(now)

    def _save(self, epoch: int, step: int, loss_sum: float) -> None:
        self._watchdog.expect("writing a checkpoint", self._config.cluster.stall_timeout)
        started = time.monotonic()
        super()._save(epoch, step, loss_sum)
        self._saved_at = time.monotonic()
        tf.summary.scalar("cluster/checkpoint_seconds", self._saved_at - started, step=self._steps_behind())

    def _expect_work(self, now: _ProgressNow) -> None:
        """Expects the next work unit within ``cluster.stall_timeout``; names the workers with the fewest steps."""
        steps = now.steps.numpy()
        slowest = ", ".join(f"{WORKER} {index} ({count})" for index, count in enumerate(steps) if count == steps.min())
        seconds = self._config.cluster.stall_timeout
        self._watchdog.expect(
            f"waiting {seconds:g} s for any worker to finish a work unit; the fewest steps have {slowest}: see "
            "whether these and the parameter servers hang, or raise cluster.stall_timeout",
            seconds,
        )

    def work_unit(self, stage: Stage) -> Any:
        """The function that a worker runs in one call, of a plan and its number of steps, int64 []."""
        if stage.name not in self._work_units:
            take = tf.function(partial(self._take_work_unit, stage))
            signature = stage.batches.spec, tf.TensorSpec([], tf.int64)
            self._work_units[stage.name] = take.get_concrete_function(*signature)
        return self._work_units[stage.name]

    def _take_work_unit(self, stage: Stage, plan: Any, steps: tf.Tensor) -> None:
        batch_of, optimizer = stage.batches.batches(plan), stage.step.optimizer
        started = optimizer.iterations().read_value()
        total = optimizer.take_steps(
            steps,
            self._config.cluster.dense_sync_steps_at(stage.batches.batch_size),
            lambda position, copies: stage.step.take(batch_of(position), copies),
        )
        device = library.load().dpsr_task().device
        worker = tf.strings.to_number(tf.strings.regex_replace(device, r".*/task:(\d+)/.*", r"\1"), tf.int64)
        progress = self._progress_of_workers
        with tf.control_dependencies([total]):
            others = optimizer.iterations().read_value() - started - steps
            reports = [
                progress.loss_sum.assign_add(total),
                progress.staleness.assign_add(others),
                progress.steps.scatter_add(tf.IndexedSlices(steps[tf.newaxis], worker[tf.newaxis])),
            ]
        with tf.control_dependencies(reports):
            progress.work_units.assign_add(1)

    def _progress_now(self) -> _ProgressNow:
        progress = self._progress_of_workers
        return _ProgressNow(
            *(v.read_value() for v in (progress.work_units, progress.loss_sum, progress.steps, progress.staleness))
        )

    def _show(
        self,
        scheduled: ScheduledStage,
        epoch: int,
        first: int,
        before: _ProgressNow,
        loss_sum: float,
        bar: tqdm,
        now: _ProgressNow,
    ) -> None:
        counted, batches = int(tf.reduce_sum(now.steps - before.steps)), scheduled.stage.batches
        done = min(batches.steps, first + counted)
        bar.update(done * batches.batch_size - bar.n)
        of_these = float(now.loss_sum - before.loss_sum) / max(counted, 1)
        bar.set_postfix(loss=f"{(loss_sum + of_these * (done - first)) / max(done, 1):.4f}")
        if time.monotonic() - self._reported_at > _REPORT_SECONDS:
            self._report(now, scheduled.stage, scheduled.steps_before(epoch) + done)

    def _report(self, now: _ProgressNow, stage: Stage, step: int) -> None:
        """Writes to TensorBoard what happened since the last report."""
        seconds = time.monotonic() - self._reported_at
        before, self._reported, self._reported_at = self._reported, now, time.monotonic()
        steps = (now.steps - before.steps).numpy()
        done, examples_per_step = max(int(steps.sum()), 1), stage.batches.batch_size / seconds
        tf.summary.scalar(f"{stage.name}/step/loss", float(now.loss_sum - before.loss_sum) / done, step=step)
        tf.summary.scalar("cluster/examples_per_second", steps.sum() * examples_per_step, step=step)
        for worker, count in enumerate(steps):
            tf.summary.scalar(f"cluster/examples_per_second/{WORKER}_{worker}", count * examples_per_step, step=step)
        tf.summary.scalar("cluster/staleness", float(now.staleness - before.staleness) / done, step=step)

    def _steps_behind(self) -> int:
        """The steps of the run up to its position."""
        epoch = int(self._position.epoch)
        return self._stage_of(epoch).steps_before(epoch) + int(self._position.step)

    def _iterations(self) -> int:
        """The steps of all optimisers."""
        return sum(int(optimizer.iterations()) for optimizer in self._optimizers)

    def counts(self) -> dict[str, Any]:
        """Steps that were scheduled and steps that were applied since this coordinator started, also by worker.

        More steps are applied than scheduled where a worker died within a work unit, since another worker repeats the
        work unit from its first step.
        """
        now = self._read_progress()
        return {
            "steps_scheduled": self._steps_behind() - self.first_step,
            "steps_applied": self._iterations() - self._first_iteration,
            "steps_by_worker": now.steps.numpy().tolist(),
            "staleness": float(now.staleness) / max(int(tf.reduce_sum(now.steps)), 1),
        }


def ps_device(index: int) -> str:
    """The device of a parameter server."""
    return f"/job:{PS}/replica:0/task:{index}/device:CPU:0"


def worker_device(index: int) -> str:
    """The device of a worker."""
    return f"/job:{WORKER}/replica:0/task:{index}/device:CPU:0"
