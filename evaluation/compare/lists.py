"""The file of one method's ranked lists, from which every measure is computed without running the method again."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile, ZipFile

import numpy as np

CLICKS, TYPOS, JUDGED = "clicks", "typos", "judged"
"""Arrays of ranked lists, int32 [n, w], -1 for no item: of clicks, clicks with a typo, judged queries."""
CLICK_RANKS, TYPO_RANKS = "click_ranks", "typo_ranks"
"""Ranks of the clicked items among the candidates of Top-k, int32 [n], from 1."""
PAIR_SCORES = "pair_scores"
"""Scores of the judged pairs, query after query, float32 [pairs]."""
_FACTS = "facts"
_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error)


@dataclass(frozen=True)
class ListFacts:
    """What the process that made the lists says about the method."""

    retrieves: bool
    scores: bool
    index: str
    """Search structure in words."""
    index_bytes: int | None = None
    """Bytes of the item side; None where the method does not say."""
    valid_ndcg: float | None = None
    """Mean nDCG of at most 1,000 clicks of the valid split; None without lists or without such clicks."""
    pairs_per_second: float | None = None
    """Speed of a method that only scores given pairs."""
    seconds: float = 0.0
    """Time of the lists, without the building of the method."""
    weights: dict[str, float] = field(default_factory=dict)
    """Chosen weights of mixtures."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the reader."""


def write_lists(path: Path, facts: ListFacts, arrays: dict[str, np.ndarray]) -> None:
    """Writes a file of lists beside its place, and renames it; arrays have the names above."""
    named: dict[str, Any] = {**arrays, _FACTS: np.array(json.dumps(asdict(facts)))}
    write_beside(path, lambda file: np.savez_compressed(file, **named))


def read_facts(path: Path) -> ListFacts | None:
    """Reads the facts of a file whose arrays are whole; None where it is missing or damaged."""
    try:
        with ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        return ListFacts(**json.loads(str(read_array(path, _FACTS))))
    except _DAMAGED:
        return None


def read_array(path: Path, name: str) -> np.ndarray | None:
    """Reads one array; None where the method has none of this name."""
    with np.load(path, allow_pickle=False) as stored:
        return stored[name] if name in stored.files else None


def read_whole(path: Path) -> dict[str, np.ndarray] | None:
    """Reads all arrays of a small file; None where it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except _DAMAGED:
        return None


def write_beside(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file beside its place and renames it; a failure, as a full disk, leaves nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            write(file)
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
