"""A trained model, read from the checkpoints of its run."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from dpsr.data.dataset.tables import Dataset
from dpsr.model.factory import build_model
from dpsr.model.interface import Model
from dpsr.training import checkpoints
from dpsr.training.checkpoints import CheckpointError


def load_trained(checkpoint_dir: str | Path, dataset: Dataset | None = None) -> Model:
    """Loads the model of the best epoch by validation, or of the latest checkpoint before an epoch is done.

    Args:
        checkpoint_dir: a run's ``checkpoint_dir``.
        dataset: checked to be the one that the model was trained on.

    Raises:
        CheckpointError: no checkpoint was found, or it belongs to another dataset.
    """
    directory = Path(checkpoint_dir)
    description = checkpoints.read_description(directory)
    if dataset is not None:
        checkpoints.check_same_dataset(directory, description.schema, dataset.schema)
    best = checkpoints.best_epoch(checkpoints.read_epochs(directory))
    path = checkpoints.best_path(directory, best) if best else tf.train.latest_checkpoint(directory)
    if path is None:
        raise CheckpointError(f"{directory}: no checkpoint was written yet; run `dpsr train` first")
    try:
        model: Model = build_model(
            description.model, description.schema, architecture=description.architecture, seed=description.seed
        )
    except ValueError as error:
        raise CheckpointError(f"{directory / checkpoints.MODEL_FILE}: {error}; upgrade dpsr, or train anew") from None
    try:
        # The state of optimisers stays in the file: only training needs it.
        tf.train.Checkpoint(model=model).read(str(path)).assert_existing_objects_matched().expect_partial()
    except (tf.errors.OpError, AssertionError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); train anew with --no-resume") from None
    return model
