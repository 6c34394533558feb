"""The files of a checkpoint directory beside the checkpoints, and whether a run may continue from them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from dpsr.config import (
    Config,
    DistillationConfig,
    InteractionConfig,
    LossConfig,
    MlmConfig,
    ModelConfig,
    PretrainingConfig,
    TrainingConfig,
)
from dpsr.data.dataset.directory import sha256
from dpsr.data.dataset.schema import LABELS_FILE, Schema
from dpsr.data.dataset.tables import Dataset
from dpsr.errors import DpsrError
from dpsr.model.architectures import TWO_TOWER
from dpsr.model.text_encoders.checkpoint_config import WEIGHTS_FILE, self_contained

MODEL_FILE = "model.json"
METRICS_FILE = "metrics.json"
DIVERGED_FILE = "diverged.json"
EVENTS_FOLDER = "events"
EVALUATOR_FOLDER = "evaluator"
TEACHERS_FOLDER = "teachers"
CHECKPOINT_PREFIX = "ckpt"
BEST_PREFIX = "best"
MINED_PREFIX = "mined"
_REMOTE_TASK = re.compile(r"remote target /job:(\w+)/replica:\d+/task:(\d+)")
"""The task of a cluster in which an error arose."""

# Keys that may change between two runs of one training, as no step depends on them.
_FREE_KEYS = {"epochs", "patience", "checkpoint_every", "keep_checkpoints"}
_SECTIONS = {
    "model": ModelConfig,
    "loss": LossConfig,
    "mlm": MlmConfig,
    "interaction": InteractionConfig,
    "pretraining": PretrainingConfig,
    "training": TrainingConfig,
    "distillation": DistillationConfig,
}
_CONTINUED = ("training", "distillation")
"""Sections of stages that may go on for more epochs."""
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


def describe(config: Config, dataset: Dataset) -> dict[str, Any]:
    """All that a training step depends on, as the JSON tree of ``model.json``.

    The sizes of a published checkpoint are part of it, its folder is not: the weights are in the run's own checkpoints.

    Raises:
        PublishedCheckpointError: the checkpoint that the model starts from cannot be used.
    """
    initial = config.model.initial
    # A rate that rises and falls depends on the number of epochs.
    free = _FREE_KEYS - {"epochs"} if config.training.has_schedule else _FREE_KEYS
    tree: dict[str, Any] = {
        "architecture": TWO_TOWER,
        "schema": dataset.schema.to_json(),
        "labels": dataset.manifest["files"].get(LABELS_FILE, {}).get("sha256"),
        "initial": None if initial is None else sha256(Path(initial) / WEIGHTS_FILE),
    }
    for name in _SECTIONS:
        section = getattr(config, name)
        tree[name] = section.model_dump(mode="json", exclude=free if name in _CONTINUED else {"patience"})
    tree["model"] = self_contained(config.model).model_dump(mode="json")
    return tree


def read_description(directory: Path) -> Description:
    """Reads ``model.json``.

    Raises:
        CheckpointError: the file is missing, or does not describe a model.
    """
    tree = _read_tree(directory)
    return Description(
        tree["architecture"],
        ModelConfig(**tree["model"]),
        Schema.from_json(tree["schema"]),
        tree["training"]["seed"],
        tree["distillation"]["items"],
    )


def check_resumable(directory: Path, description: dict[str, Any]) -> None:
    """Checks that a training may continue from the checkpoints of a directory.

    Raises:
        CheckpointError: the checkpoints come from another dataset or configuration; names every difference.
    """
    stored = _read_tree(directory)
    check_same_dataset(directory, Schema.from_json(stored["schema"]), Schema.from_json(description["schema"]))
    differences = [
        f"{section}.{key} = {stored[section][key]!r} there, {value!r} here"
        for section in _SECTIONS
        for key, value in description[section].items()
        if stored[section][key] != value
    ]
    if stored["initial"] != description["initial"]:
        differences.append(
            f"model.transformer.initial has weights of SHA-256 {stored['initial']} there, {description['initial']} here"
        )
    if stored["labels"] != description["labels"]:
        differences.append("the labelled pairs of the dataset are others than there")
    if stored["architecture"] != description["architecture"]:
        differences.insert(0, f"architecture = {stored['architecture']!r} there, {description['architecture']!r} here")
    if differences:
        raise CheckpointError(
            f"{directory}: holds checkpoints of another configuration ({'; '.join(differences)}); "
            "restore these values, choose another work_dir, or start anew with --no-resume"
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


def best_epoch(epochs: list[dict[str, Any]], figure: str = "valid_top1") -> int | None:
    """The epoch with the highest figure of a name, the later of equals; the last one where nothing was validated."""
    if not epochs:
        return None
    return max(epochs, key=lambda figures: (figures.get(figure) or 0.0, figures["epoch"]))["epoch"]


def read_best_epoch(directory: Path) -> int | None:
    """The epoch whose model is that of the run, from ``metrics.json``; None before the end of the first."""
    if not read_epochs(directory):
        return None
    return json.loads((directory / METRICS_FILE).read_text(encoding="utf-8"))["best_epoch"]


def best_path(directory: Path, epoch: int) -> Path:
    """Path of the model of an epoch, which exists if the epoch was the best so far."""
    return directory / f"{BEST_PREFIX}-{epoch}"


def remove_all_but_best(directory: Path, *epochs: int | None) -> None:
    """Removes the models of epochs that are no longer the best of their stage."""
    kept = {f"{BEST_PREFIX}-{epoch}" for epoch in epochs}
    for path in directory.glob(f"{BEST_PREFIX}-*"):
        if path.name.partition(".")[0] not in kept:
            path.unlink(missing_ok=True)


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Turns the error of a full disk into a ``CheckpointError``, and removes unfinished checkpoints.

    Raises:
        CheckpointError: no space is left on the disk.
    """
    try:
        yield
    except Exception as error:
        text = str(error)
        if "No space left on device" not in text and "Disk quota exceeded" not in text:
            raise
        remove_unfinished(directory)
        task = _REMOTE_TASK.search(text)
        raise CheckpointError(
            f"{directory}{f' (written to by {task[1]} {task[2]})' if task else ''}: the disk is full, and no "
            "checkpoint can be written; free some space (training.keep_checkpoints is how many are kept) and start "
            "again: the training resumes from the last whole one"
        ) from None


def remove_unfinished(directory: Path) -> None:
    """Removes the files of a process that died while it wrote a checkpoint."""
    for path in directory.glob("*_temp"):
        shutil.rmtree(path, ignore_errors=True)


def end_of_run(directory: Path) -> Path:
    """Path of a file that exists from the end of a training until another one starts."""
    return directory / "finished"


def write_json(path: Path, tree: Any) -> None:
    """Writes a JSON file atomically."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with writing(path.parent):
            beside.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
            beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def clear(directory: Path) -> None:
    """Removes the files of an earlier training from a checkpoint directory, and no others."""
    remove_unfinished(directory)
    for pattern in (f"{CHECKPOINT_PREFIX}-*", f"{BEST_PREFIX}-*", f"{MINED_PREFIX}-*.npy", "checkpoint"):
        for path in directory.glob(pattern):
            path.unlink(missing_ok=True)
    for name in (MODEL_FILE, METRICS_FILE, DIVERGED_FILE, end_of_run(directory).name):
        (directory / name).unlink(missing_ok=True)
    for folder in (EVENTS_FOLDER, EVALUATOR_FOLDER, TEACHERS_FOLDER):
        shutil.rmtree(directory / folder, ignore_errors=True)


def _read_tree(directory: Path) -> dict[str, Any]:
    path = directory / MODEL_FILE
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no trained model here; run `dpsr train` first") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not JSON: {error}; train again with --no-resume") from None
    if not isinstance(tree, dict) or not {"schema", *_SECTIONS} - _YOUNGER <= tree.keys():
        raise CheckpointError(f"{path}: does not describe a model; train again with --no-resume")
    try:
        Schema.from_json(tree["schema"])
        # A key or section that is younger than the file has its default, which changes nothing.
        sections = {name: section(**tree.get(name, {})).model_dump(mode="json") for name, section in _SECTIONS.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: does not describe a model: {error}; train again with --no-resume") from None
    return {"architecture": TWO_TOWER, "initial": None, "labels": None} | tree | sections
