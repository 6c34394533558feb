"""What a run writes beside its checkpoints, as it is read: what its model is, and the figures of its epochs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from dpsr.config import (
    DistillationConfig,
    InteractionConfig,
    LossConfig,
    MlmConfig,
    ModelConfig,
    PretrainingConfig,
    TrainingConfig,
)
from dpsr.data.dataset.schema import Schema
from dpsr.errors import DpsrError
from dpsr.model.architectures import TWO_TOWER

MODEL_FILE = "model.json"
METRICS_FILE = "metrics.json"
TEACHERS_FOLDER = "teachers"
BEST_PREFIX = "best"
SECTIONS = {
    "model": ModelConfig,
    "loss": LossConfig,
    "mlm": MlmConfig,
    "interaction": InteractionConfig,
    "pretraining": PretrainingConfig,
    "training": TrainingConfig,
    "distillation": DistillationConfig,
}
"""The sections of the configuration that a training step depends on."""
_YOUNGER = {"mlm", "interaction", "distillation"}
"""Sections that older files lack; each then has its defaults."""


class CheckpointError(DpsrError, ValueError):
    """A checkpoint that is missing, damaged, or of another dataset or configuration."""


class Description(NamedTuple):
    """What an untrained model is built from."""

    architecture: str
    """As ``model.factory.build_model`` knows it."""
    model: ModelConfig
    schema: Schema
    seed: int
    items: str
    """``distillation.items``."""


def read_description(directory: Path) -> Description:
    """Reads ``model.json``.

    Raises:
        CheckpointError: the file is missing, or does not describe a model.
    """
    tree = read_tree(directory)
    return Description(
        tree["architecture"],
        ModelConfig(**tree["model"]),
        Schema.from_json(tree["schema"]),
        tree["training"]["seed"],
        tree["distillation"]["items"],
    )


def check_same_dataset(directory: Path, stored: Schema, found: Schema) -> None:
    """Checks that a checkpoint and a dataset belong together.

    Raises:
        CheckpointError: the tokenizers or the schemas differ; names both.
    """
    if stored.tokenizer_fingerprint != found.tokenizer_fingerprint:
        raise CheckpointError(
            f"{directory}: the checkpoint was trained with tokenizer {stored.tokenizer_fingerprint}, the dataset has "
            f"{found.tokenizer_fingerprint}; train anew (--no-resume), or use the dataset of the checkpoint"
        )
    before, now = stored.to_json(), found.to_json()
    differences = [f"{key} = {before[key]!r} there, {now[key]!r} here" for key in now if before[key] != now[key]]
    if differences:
        raise CheckpointError(
            f"{directory}: the checkpoint was trained on another dataset ({'; '.join(differences)}); "
            "train anew (--no-resume), or use the dataset of the checkpoint"
        )


def read_epochs(directory: Path) -> list[dict[str, Any]]:
    """The figures of the epochs done so far, from ``metrics.json``; none without such a file."""
    try:
        epochs = json.loads((directory / METRICS_FILE).read_text(encoding="utf-8"))["epochs"]
        # Runs before stages existed have the name under `phase`.
        return [{"stage" if key == "phase" else key: value for key, value in epoch.items()} for epoch in epochs]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{directory / METRICS_FILE}: cannot be read: {error}; train with --no-resume") from None


def read_best_epoch(directory: Path) -> int | None:
    """The epoch whose model is that of the run, from ``metrics.json``; None before the end of the first."""
    if not read_epochs(directory):
        return None
    return json.loads((directory / METRICS_FILE).read_text(encoding="utf-8"))["best_epoch"]


def best_path(directory: Path, epoch: int) -> Path:
    """Path of the model of an epoch, which exists if the epoch was the best so far."""
    return directory / f"{BEST_PREFIX}-{epoch}"


def read_tree(directory: Path) -> dict[str, Any]:
    """The JSON tree of ``model.json``, with the defaults of keys that are younger than the file.

    Raises:
        CheckpointError: the file is missing, or does not describe a model.
    """
    path = directory / MODEL_FILE
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no trained model here; run `dpsr train` first") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not JSON: {error}; train again with --no-resume") from None
    if not isinstance(tree, dict) or not {"schema", *SECTIONS} - _YOUNGER <= tree.keys():
        raise CheckpointError(f"{path}: does not describe a model; train again with --no-resume")
    try:
        Schema.from_json(tree["schema"])
        # A key or section that is younger than the file has its default, which changes nothing.
        sections = {name: section(**tree.get(name, {})).model_dump(mode="json") for name, section in SECTIONS.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: does not describe a model: {error}; train again with --no-resume") from None
    return {"architecture": TWO_TOWER, "initial": None, "labels": None} | tree | sections
