"""Parity of training and serving: held-out requests as a client sends them, with tokens and heads of the model.

The exporting process writes the examples; the fresh process that checks the servable reads them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from dpsr.indexing.errors import ExportError

_EXAMPLES, _ARRAYS, _VECTORS = "examples.json", "arrays.npz", "item_vectors.npy"


@dataclass(frozen=True)
class ParityExamples:
    """n requests with the tokens, heads and matching items that the Python side computes for them."""

    item_ids: list[str] | list[int]
    """By item row; rows count those that have an item, tombstones of an index in segments left out."""
    queries: list[str]
    profile: dict[str, list[str]]
    """[n] strings for each profile input of ``personalized``."""
    history: list[list[str]] | list[list[int]]
    """Item ids of each user, oldest first."""
    tokens: list[list[int]]
    """Token ids of each query."""
    anonymous_heads: np.ndarray
    """float32 [n, heads, d], of the query alone."""
    personalized_heads: np.ndarray
    """float32 [n, heads, d], with profile and history."""
    item_vectors: np.ndarray
    """float32 [items, d]."""
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
        )

    def write(self, directory: Path) -> None:
        """Writes the examples into an existing directory."""
        tree = {
            name: getattr(self, name)
            for name in ("item_ids", "queries", "profile", "history", "tokens", "no_filter", "filter")
        }
        (directory / _EXAMPLES).write_text(json.dumps(tree), encoding="utf-8")
        np.savez(
            directory / _ARRAYS,
            anonymous_heads=self.anonymous_heads,
            personalized_heads=self.personalized_heads,
            matching_rows=self.matching_rows,
            lexical_rows=self.lexical_rows,
            hybrid_rows=self.hybrid_rows,
        )
        np.save(directory / _VECTORS, self.item_vectors)

    @classmethod
    def read(cls, directory: Path) -> ParityExamples:
        """Reads the files of ``write``; the item vectors are memory-mapped."""
        tree = json.loads((directory / _EXAMPLES).read_text(encoding="utf-8"))
        with np.load(directory / _ARRAYS) as arrays:
            return cls(
                **tree,
                **arrays,
                item_vectors=np.load(directory / _VECTORS, mmap_mode="r"),
            )

    def query_input(self) -> np.ndarray:
        """The queries as an input of a signature, bytes objects [n]."""
        return _strings(self.queries)

    def personalized_inputs(self) -> dict[str, np.ndarray]:
        """The inputs of ``personalized``, without a filter; histories are padded at the end."""
        width = max((len(ids) for ids in self.history), default=0)
        numeric = bool(self.item_ids) and isinstance(self.item_ids[0], int)
        padded = [[*ids, *([-1 if numeric else ""] * (width - len(ids)))] for ids in self.history]
        history = np.array(padded, np.int64) if numeric else _strings(padded)
        profile = {column: _strings(values) for column, values in self.profile.items()}
        history = history.reshape(len(self.history), width)
        return {**self.filtered_inputs(self.no_filter), "history": history, **profile}

    def filtered_inputs(self, values: dict[str, str | float]) -> dict[str, np.ndarray]:
        """The inputs of ``filtered``, the same filter for every query."""
        rows = len(self.queries)
        filters = {
            name: _strings([value] * rows) if isinstance(value, str) else np.full(rows, value, np.float32)
            for name, value in values.items()
        }
        return {"query": self.query_input(), **filters}


def _among(rows: np.ndarray, live_rows: np.ndarray) -> np.ndarray:
    places = np.minimum(np.searchsorted(live_rows, rows), len(live_rows) - 1).astype(np.int32)
    is_item = rows >= 0
    if len(strange := rows[is_item & (live_rows[places] != rows)]):
        raise ExportError(f"a searcher finds row {strange[0]} of the index, which has no item; nothing was published")
    return np.where(is_item, places, rows)


def _strings(values: list) -> np.ndarray:
    texts = np.array(values, object)
    return np.array([text.encode() for text in texts.flat], object).reshape(texts.shape)
