"""A file of trained weights, read back for the same dataset, seed and settings only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from dpsr.data.dataset.tables import Dataset


def fingerprint(dataset: Dataset, *settings: object) -> str:
    """Hex digest of everything that decides trained weights: the files of the dataset, and settings (JSON values)."""
    files = {name: entry["sha256"] for name, entry in dataset.manifest["files"].items()}
    return sha256(json.dumps([files, *settings], sort_keys=True).encode()).hexdigest()


def file_identity(path: Path | None) -> list[object] | None:
    """What tells versions of a file apart: its path, size and time; None without a file."""
    if path is None or not path.exists():
        return None
    found = path.stat()
    return [str(path), found.st_size, found.st_mtime_ns]


def read_weights(path: Path, key: str) -> list[np.ndarray] | None:
    """Weights of a file; None where it is missing, damaged or of another fingerprint."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None
            return [stored[f"weights_{row}"] for row in range(len(stored.files) - 1)]
    except (OSError, ValueError, KeyError, BadZipFile):
        return None


def write_weights(path: Path, key: str, weights: Sequence[np.ndarray]) -> None:
    """Writes the file beside its place, and renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    arrays: dict[str, Any] = {f"weights_{row}": value for row, value in enumerate(weights)}
    with partial.open("wb") as file:
        np.savez(file, key=np.array(key), **arrays)
    partial.rename(path)
