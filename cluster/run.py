"""Training on this machine, or as the task of a cluster that ``TF_CONFIG`` names."""

from __future__ import annotations

import os

from dpsr.cluster.tasks import CHIEF, EVALUATOR
from dpsr.cluster.tf_config import task_of_environment
from dpsr.config import Config


def train(config: Config, *, resume: bool = True, progress: bool = True) -> None:
    """Trains on this machine, or runs one task of a ``TF_CONFIG`` cluster until the training is over.

    Args:
        config: the run, the same for every task.
        resume: resume from the last checkpoint instead of starting anew; on a cluster, that of the chief counts.
        progress: show a progress bar.

    Raises:
        ClusterError: names the task and the remedy.
        CheckpointError, TrainingDivergedError: as ``training.trainer.train``.
    """
    task = task_of_environment(os.environ)
    if task is None:
        from dpsr.data.dataset.tables import Dataset

        dataset = Dataset.load(config.dataset_dir)  # a missing dataset is said before TensorFlow is imported
        from dpsr.training.trainer import train as train_here

        train_here(config, dataset, resume=resume, progress=progress)
    elif task.job == CHIEF:
        from dpsr.cluster.chief import supervise

        supervise(task, config, resume=resume, progress=progress)
    elif task.job == EVALUATOR:
        from dpsr.cluster.evaluator import evaluate_checkpoints

        evaluate_checkpoints(task, config)
    else:
        from dpsr.cluster.server import serve

        serve(task, config)
