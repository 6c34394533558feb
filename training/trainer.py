"""Training on one machine."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm

from dpsr.config import Config, ConfigError
from dpsr.data.dataset.tables import Dataset
from dpsr.model import run_files
from dpsr.model.feature_tables import truncation_notes
from dpsr.training import checkpoints
from dpsr.training.loop import Training
from dpsr.training.recipes import make_recipe


def train(config: Config, dataset: Dataset, *, resume: bool = True, progress: bool = True) -> dict[str, Any]:
    """Trains a model, and leaves checkpoints, ``model.json``, ``metrics.json`` and TensorBoard events.

    The same configuration, seed and dataset give the same losses on the same machine, also across interruptions.

    Args:
        config: the run; its files are written to ``config.checkpoint_dir``.
        dataset: what ``dpsr prepare`` wrote.
        resume: continue from the latest checkpoint where there is one, else remove it and start anew.
        progress: show a progress bar.

    Returns:
        The content of ``metrics.json``: ``epochs``, one entry each (``epoch``, ``stage``, ``train_loss``,
        ``valid_loss``, ``valid_top1``, ``seconds``, ``examples_per_second``), ``best_epoch``, the one with the highest
        ``valid_top1``, whose model ``load_trained`` loads, and ``steps``, ``examples``, ``parameters``.

    Raises:
        ConfigError: no stage has an epoch, or ``index.mode`` serves no model.
        PublishedCheckpointError, SubwordError: ``model.transformer.initial`` cannot be used.
        CheckpointError: the checkpoints there come from another dataset or configuration.
        TrainingDivergedError: the loss became NaN or infinite, or more than twice that of the stage's first steps; the
            examples of the first bad step are in ``diverged.json``.
    """
    start_run(config, dataset, resume=resume)
    for note in truncation_notes(config.model, dataset) if progress else ():
        tqdm.write(note)
    return Training(config, dataset, make_recipe(config, dataset, progress=progress), progress=progress).run()


def start_run(config: Config, dataset: Dataset, *, resume: bool) -> None:
    """Prepares the checkpoint directory of a run; arguments and errors are those of ``train``."""
    if config.index.mode == "lexical":
        raise ConfigError(
            'index.mode = "lexical" serves no model, so there is nothing to train; `dpsr export` needs `dpsr prepare` '
            "alone. Set another mode to train one"
        )
    if config.learns_nothing:
        raise ConfigError(
            "no stage has an epoch, so there is nothing to train; `dpsr evaluate` and `dpsr export` use "
            f"model.transformer.initial = {config.model.initial!r} as it is, without `dpsr train`"
        )
    directory = config.checkpoint_dir
    directory.mkdir(parents=True, exist_ok=True)
    description = checkpoints.describe(config, dataset)
    checkpoints.remove_unfinished(directory)
    if not resume:
        checkpoints.clear(directory)
    elif (directory / run_files.MODEL_FILE).exists():
        checkpoints.check_resumable(directory, description)
    checkpoints.end_of_run(directory).unlink(missing_ok=True)
    checkpoints.write_json(directory / run_files.MODEL_FILE, description)
