"""The model of a run: read from its checkpoints, or a published checkpoint as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import tensorflow as tf

from dpsr.config import Config
from dpsr.data.dataset.tables import Dataset
from dpsr.model import run_files
from dpsr.model.encoded_items import EncodedItems
from dpsr.model.factory import build_model
from dpsr.model.frozen_encoder import FrozenEncoders
from dpsr.model.interface import Model, OtherRun
from dpsr.model.run_files import CheckpointError
from dpsr.model.text_encoders.checkpoint_config import resolved


def load_model(config: Config, dataset: Dataset) -> Model:
    """The trained model of a run, or the published checkpoint that it would start from, where nothing was trained.

    Args:
        config: the run; without an epoch of any stage, or without checkpoints, ``model.transformer.initial`` is the
            model.
        dataset: what the run learns from.

    Raises:
        CheckpointError: as ``load_trained``, or fresh towers are not the identity on the text vectors.
        PublishedCheckpointError, SubwordError: the published checkpoint cannot be used.
    """
    trained = (config.checkpoint_dir / run_files.MODEL_FILE).exists()
    if config.model.initial is None or (trained and not config.learns_nothing):
        return load_trained(config.checkpoint_dir, dataset)
    model = resolved(config.model)
    as_it_is = {"heads": 1, "residual": True, "dimension": model.transformer.width}
    if any(getattr(model, key) != value for key, value in as_it_is.items()):
        found = ", ".join(f"model.{key} = {json.dumps(getattr(model, key))}" for key in as_it_is)
        wanted = ", ".join(f"model.{key} = {json.dumps(value)}" for key, value in as_it_is.items())
        raise CheckpointError(
            f"{config.checkpoint_dir}: nothing was trained, and towers of {found} put random weights behind "
            f"{config.model.initial}; run `dpsr train` first, or serve the checkpoint as it is by {wanted}"
        )
    return build_model(model, dataset.schema, seed=config.training.seed)


def load_trained(checkpoint_dir: str | Path, dataset: Dataset | None = None) -> Model:
    """Loads the model of the last stage's best epoch, or of the latest checkpoint before an epoch is done.

    Args:
        checkpoint_dir: a run's ``checkpoint_dir``.
        dataset: checked to be the one that the model was trained on.

    Raises:
        CheckpointError: no checkpoint was found, or it belongs to another dataset.
    """
    directory = Path(checkpoint_dir)
    description = run_files.read_description(directory)
    if dataset is not None:
        run_files.check_same_dataset(directory, description.schema, dataset.schema)
    best = run_files.read_best_epoch(directory)
    path = run_files.best_path(directory, best) if best else tf.train.latest_checkpoint(directory)
    if path is None:
        raise CheckpointError(f"{directory}: no checkpoint was written yet; run `dpsr train` first")
    encoders = encoded = None
    if description.items != "own":
        encoders = load_teachers(directory)
        encoded = EncodedItems(encoders.width, alone=description.items == "teacher")
    try:
        model = build_model(
            description.model,
            description.schema,
            architecture=description.architecture,
            seed=description.seed,
            encoded=encoded,
        )
    except ValueError as error:
        raise CheckpointError(f"{directory / run_files.MODEL_FILE}: {error}; upgrade dpsr, or train anew") from None
    try:
        # The state of optimisers stays in the file: only training needs it.
        tf.train.Checkpoint(model=model).read(str(path)).assert_existing_objects_matched().expect_partial()
    except (tf.errors.OpError, AssertionError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); train anew with --no-resume") from None
    model.item_encoders = encoders
    return model


def other_runs(work_dirs: Mapping[str, str]) -> dict[str, OtherRun]:
    """Other trained runs, each with the dataset that it was trained on; nothing is loaded before it is asked for.

    Args:
        work_dirs: name -> a run's ``work_dir``.

    Raises:
        CheckpointError: a directory holds no trained run; when it is asked for, one that cannot be loaded.
        DatasetError: when it is asked for, its dataset cannot be read.
    """
    for name, work_dir in work_dirs.items():
        if not (Path(work_dir) / "checkpoints" / run_files.MODEL_FILE).is_file():
            raise CheckpointError(
                f"evaluation.runs: {name!r}: {work_dir} holds no trained run (no "
                f"checkpoints/{run_files.MODEL_FILE}); name the work_dir of one, or run `dpsr train` for it first"
            )
    return {name: partial(_load_run, Path(work_dir)) for name, work_dir in work_dirs.items()}


def _load_run(work_dir: Path) -> tuple[Model, Dataset]:
    dataset = Dataset.load(work_dir / "dataset")
    return load_trained(work_dir / "checkpoints", dataset), dataset


def load_teachers(checkpoint_dir: Path) -> FrozenEncoders:
    """The teachers that a run keeps in its checkpoint directory.

    Raises:
        FrozenEncoderError: they are missing, or cannot be read.
    """
    return FrozenEncoders.load(checkpoint_dir / run_files.TEACHERS_FOLDER, teacher_arrays(checkpoint_dir))


def teacher_arrays(checkpoint_dir: Path) -> Path:
    """Directory of the teachers' vectors of a run, below its ``arrays``."""
    return checkpoint_dir.parent / "arrays" / "teacher"
