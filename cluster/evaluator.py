"""The evaluator of a cluster: scores every new checkpoint on the validation split, and keeps the best.

The chief validates at the end of every epoch; the evaluator also scores the checkpoints between, on a processor of its
own. It needs no connection to the other tasks, only their checkpoint directory.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import tensorflow as tf

from dpsr.cluster.tasks import ClusterError, Task
from dpsr.config import Config
from dpsr.data.dataset.tables import Dataset
from dpsr.model import run_files
from dpsr.training import checkpoints
from dpsr.training.loop import Training
from dpsr.training.recipes import make_recipe

_LOOK_SECONDS = 2.0


def evaluate_checkpoints(task: Task, config: Config) -> dict[str, Any]:
    """Scores each new checkpoint until the training is over.

    ``<checkpoint_dir>/evaluator/`` has ``metrics.json`` (every checkpoint with ``step``, ``stage`` and the figures of
    the stage; ``best_step``, of the last stage that has a checkpoint), the model of the best as ``best-<step>``, and
    TensorBoard events.

    Args:
        task: the evaluator.
        config: the run.

    Returns:
        The content of ``metrics.json``.

    Raises:
        ClusterError: no new checkpoint appeared for ``cluster.start_timeout`` and two intervals between checkpoints.
        CheckpointError: the checkpoints are of another dataset or configuration than this task's.
    """
    directory = config.checkpoint_dir
    patience = config.cluster.start_timeout + 2 * config.cluster.checkpoint_seconds
    last_new = time.monotonic()
    while (latest := tf.train.latest_checkpoint(directory)) is None:
        if time.monotonic() - last_new > patience:
            raise ClusterError(f"{task.name}: no checkpoint in {directory} after {patience:g} s; see the chief's log")
        time.sleep(_LOOK_SECONDS)
    scores = _Scores(config)
    print(f"{task.name}: follows {directory}", flush=True)
    while True:
        is_over = checkpoints.end_of_run(directory).exists()
        latest = tf.train.latest_checkpoint(directory)
        if latest is not None and scores.add(latest):
            last_new = time.monotonic()
        elif is_over:
            return scores.metrics
        elif time.monotonic() - last_new > patience:
            raise ClusterError(
                f"{task.name}: no new checkpoint in {directory} for {patience:g} s, and the training is not over; see "
                "the chief's log"
            )
        else:
            time.sleep(_LOOK_SECONDS)


class _Scores:
    """The scores of the checkpoints so far, and the model that they are read into."""

    def __init__(self, config: Config) -> None:
        self._folder = config.checkpoint_dir / checkpoints.EVALUATOR_FOLDER
        self._folder.mkdir(exist_ok=True)
        dataset = Dataset.load(config.dataset_dir)
        checkpoints.check_resumable(config.checkpoint_dir, checkpoints.describe(config, dataset))
        self._training = Training(config, dataset, make_recipe(config, dataset), progress=False)
        self._writer = tf.summary.create_file_writer(str(self._folder / checkpoints.EVENTS_FOLDER))
        self._done: list[dict[str, Any]] = []
        self._seen: set[str] = set()
        self._figure = ""

    @property
    def metrics(self) -> dict[str, Any]:
        last = [figures for figures in self._done if figures["stage"] == self._done[-1]["stage"]]
        best = max(last, key=lambda figures: (figures[self._figure] or 0.0, figures["step"]), default=None)
        return {"checkpoints": self._done, "best_step": best and best["step"]}

    def add(self, path: str) -> bool:
        """Scores a checkpoint; False for one that was scored before, or that was removed meanwhile."""
        step = int(Path(path).name.rpartition("-")[2])
        if path in self._seen:
            return False
        try:
            stage = self._training.stage_at(path)
            figures = {"step": step, "stage": stage.name, **stage.validate()}
        except tf.errors.NotFoundError:
            return False  # newer checkpoints have replaced it
        self._figure = stage.figure
        self._seen.add(path)
        self._done.append(figures)
        with self._writer.as_default():
            for name, value in figures.items():
                if isinstance(value, float):
                    tf.summary.scalar(f"evaluator/{name}", value, step=step)
        self._writer.flush()
        if self.metrics["best_step"] == step:
            self._training.write_model(self._folder / f"{run_files.BEST_PREFIX}-{step}")
        checkpoints.write_json(self._folder / run_files.METRICS_FILE, self.metrics)
        checkpoints.remove_all_but_best(self._folder, self.metrics["best_step"])
        print(f"evaluator: step {step}: {figures}", flush=True)
        return True
