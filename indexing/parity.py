"""Parity of training and serving: held-out requests as a client sends them, with the model's heads for them.

The exporting process writes the examples; the fresh process that checks the servable reads them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dpsr.indexing.errors import ExportError

_EXAMPLES, _ARRAYS, _VECTORS = "examples.json", "arrays.npz", "item_vectors.npy"


@dataclass(frozen=True)
class PersonalizedExamples:
    """What belongs to n requests beside their text."""

    tokens: list[list[int]]
    """Token ids of each query."""
    profile: dict[str, list[str]]
    """[n] strings for each profile input."""
    history: list[list[str]] | list[list[int]]
    """Item ids of each user, oldest first."""
    heads: np.ndarray
    """float32 [n, heads, d], with profile and history."""


@dataclass(frozen=True)
class ParityExamples:
    """n requests with the heads and matching items that the Python side computes for them."""

    item_ids: list[str] | list[int]
    """By item row; rows count those that have an item, tombstones of an index in segments left out."""
    inputs: dict[str, np.ndarray]
    """[n, ...] for each input of ``serving_default`` but ``mode``; strings as bytes objects."""
    heads: np.ndarray
    """float32 [n, heads, d], of the query alone; [n, 0, 0] where no vectors are searched."""
    item_vectors: np.ndarray
    """float32 [items, d]; [0, 0] where no vectors are searched."""
    personalized: PersonalizedExamples | None = None
    """Of a servable that has the signatures ``personalized`` and ``tokenize``."""
    no_filter: dict[str, str | float] = field(default_factory=dict)
    """For each filter input the value that lets everything through."""
    filter: dict[str, str | float] = field(default_factory=dict)
    """A value for each filter input, such that at least one item matches."""
    matching_rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    """int32, the item rows that match ``filter``."""
    lexical_rows: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.int32))
    """int32 [n, k], the lists of the lexical searcher; [0, 0] where there is none."""
    hybrid_rows: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.int32))
    """int32 [n, k], the joined lists of both searchers for the query alone; [0, 0] with one searcher."""
    remembered_rows: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.int32))
    """int32 [n, c], the items clicked for each query, in any order among -1; [0, 0] without a memory."""

    @property
    def searches_vectors(self) -> bool:
        """Whether a model and its heads stand for the answers."""
        return self.heads.shape[2] > 0

    @cached_property
    def row_of(self) -> dict[object, int]:
        """Item id -> item row."""
        return {item: row for row, item in enumerate(self.item_ids)}

    def among_items(self, live_rows: np.ndarray) -> ParityExamples:
        """The examples with rows of the index replaced by item rows.

        Args:
            live_rows: int32 [items], the rows of the index that have an item, ascending.

        Raises:
            ExportError: a row without an item was found.
        """
        return replace(
            self,
            matching_rows=_among(self.matching_rows, live_rows),
            lexical_rows=_among(self.lexical_rows, live_rows),
            hybrid_rows=_among(self.hybrid_rows, live_rows),
            remembered_rows=_among(self.remembered_rows, live_rows),
        )

    def write(self, directory: Path) -> None:
        """Writes the examples into an existing directory."""
        tree = {name: getattr(self, name) for name in ("item_ids", "no_filter", "filter")}
        tree["inputs"] = {name: (_texts(values), str(values.dtype)) for name, values in self.inputs.items()}
        heads = np.empty((0, 0, 0), np.float32)
        if self.personalized is not None:
            tree["personalized"] = {name: getattr(self.personalized, name) for name in ("profile", "history", "tokens")}
            heads = self.personalized.heads
        (directory / _EXAMPLES).write_text(json.dumps(tree), encoding="utf-8")
        np.savez(
            directory / _ARRAYS,
            heads=self.heads,
            personalized_heads=heads,
            matching_rows=self.matching_rows,
            lexical_rows=self.lexical_rows,
            hybrid_rows=self.hybrid_rows,
            remembered_rows=self.remembered_rows,
        )
        np.save(directory / _VECTORS, self.item_vectors)

    @classmethod
    def read(cls, directory: Path) -> ParityExamples:
        """Reads the files of ``write``; the item vectors are memory-mapped."""
        tree = json.loads((directory / _EXAMPLES).read_text(encoding="utf-8"))
        with np.load(directory / _ARRAYS) as file:
            arrays = dict(file)
        inputs = tree.pop("inputs")
        heads, personalized = arrays.pop("personalized_heads"), tree.pop("personalized", None)
        return cls(
            **tree,
            **arrays,
            inputs={name: _array(values, np.dtype(dtype)) for name, (values, dtype) in inputs.items()},
            item_vectors=np.load(directory / _VECTORS, mmap_mode="r"),
            personalized=None if personalized is None else PersonalizedExamples(**personalized, heads=heads),
        )

    def __len__(self) -> int:
        """n."""
        return len(self.heads)

    def query(self, row: int) -> str:
        """A query, as errors name it."""
        return ", ".join(f"{name} {_texts(values[row])!r}" for name, values in self.inputs.items())

    def personalized_inputs(self, of: PersonalizedExamples) -> dict[str, np.ndarray]:
        """The inputs of ``personalized``, without a filter; histories are padded at the end."""
        width = max((len(ids) for ids in of.history), default=0)
        numeric = bool(self.item_ids) and isinstance(self.item_ids[0], int)
        padded = [[*ids, *([-1 if numeric else ""] * (width - len(ids)))] for ids in of.history]
        history = np.array(padded, np.int64) if numeric else strings(padded)
        profile = {column: strings(values) for column, values in of.profile.items()}
        history = history.reshape(len(of.history), width)
        return {**self.filtered_inputs(self.no_filter), "history": history, **profile}

    def filtered_inputs(self, values: dict[str, str | float]) -> dict[str, np.ndarray]:
        """The inputs of ``filtered``, the same filter for every query."""
        rows = len(self)
        filters = {
            name: strings([value] * rows) if isinstance(value, str) else np.full(rows, value, np.float32)
            for name, value in values.items()
        }
        return {**self.inputs, **filters}


def _among(rows: np.ndarray, live_rows: np.ndarray) -> np.ndarray:
    places = np.minimum(np.searchsorted(live_rows, rows), len(live_rows) - 1).astype(np.int32)
    is_item = rows >= 0
    if len(strange := rows[is_item & (live_rows[places] != rows)]):
        raise ExportError(f"a searcher finds row {strange[0]} of the index, which has no item; nothing was published")
    return np.where(is_item, places, rows)


def strings(values: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Texts as an input of a signature, bytes objects of the shape of ``values``."""
    texts = np.array(values, object)
    encoded = [text if isinstance(text, bytes) else text.encode() for text in texts.flat]
    return np.array(encoded, object).reshape(texts.shape)


def _texts(values: Any) -> Any:
    """Values of an input for JSON and for errors: bytes as text, arrays as lists."""
    if isinstance(values, bytes):
        return values.decode(errors="surrogateescape")
    values = values.tolist() if isinstance(values, np.ndarray | np.generic) else values
    return [_texts(value) for value in values] if isinstance(values, list) else values


def _array(values: list, dtype: np.dtype) -> np.ndarray:
    if dtype != np.dtype(object):
        return np.array(values, dtype)
    texts = np.array(values, object)
    encoded = [text.encode(errors="surrogateescape") for text in texts.flat]
    return np.array(encoded, object).reshape(texts.shape)
