"""The files of a checkpoint directory beside the checkpoints, and whether a run may continue from them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpsr.config import Config
from dpsr.data.dataset.directory import sha256
from dpsr.data.dataset.schema import LABELS_FILE, Schema
from dpsr.data.dataset.tables import Dataset
from dpsr.model.architectures import TWO_TOWER
from dpsr.model.run_files import (
    BEST_PREFIX,
    METRICS_FILE,
    MODEL_FILE,
    SECTIONS,
    TEACHERS_FOLDER,
    CheckpointError,
    check_same_dataset,
    read_tree,
)
from dpsr.model.text_encoders.checkpoint_config import WEIGHTS_FILE, self_contained

DIVERGED_FILE = "diverged.json"
EVENTS_FOLDER = "events"
EVALUATOR_FOLDER = "evaluator"
CHECKPOINT_PREFIX = "ckpt"
MINED_PREFIX = "mined"
_REMOTE_TASK = re.compile(r"remote target /job:(\w+)/replica:\d+/task:(\d+)")
"""The task of a cluster in which an error arose."""

# Keys that may change between two runs of one training, as no step depends on them.
_FREE_KEYS = {"epochs", "patience", "checkpoint_every", "keep_checkpoints"}
_CONTINUED = ("training", "distillation")
"""Sections of stages that may go on for more epochs."""


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
    for name in SECTIONS:
        section = getattr(config, name)
        tree[name] = section.model_dump(mode="json", exclude=free if name in _CONTINUED else {"patience"})
    tree["model"] = self_contained(config.model).model_dump(mode="json")
    return tree


def check_resumable(directory: Path, description: dict[str, Any]) -> None:
    """Checks that a training may continue from the checkpoints of a directory.

    Raises:
        CheckpointError: the checkpoints come from another dataset or configuration; names every difference.
    """
    stored = read_tree(directory)
    check_same_dataset(directory, Schema.from_json(stored["schema"]), Schema.from_json(description["schema"]))
    differences = [
        f"{section}.{key} = {stored[section][key]!r} there, {value!r} here"
        for section in SECTIONS
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


def best_epoch(epochs: list[dict[str, Any]], figure: str = "valid_top1") -> int | None:
    """The epoch with the highest figure of a name, the later of equals; the last one where nothing was validated."""
    if not epochs:
        return None
    return max(epochs, key=lambda figures: (figures.get(figure) or 0.0, figures["epoch"]))["epoch"]


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
