"""Parity of training and serving: held-out requests as a client sends them, with the model's heads for them.

The exporting process writes the examples; the fresh process that checks the servable reads them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.data.dataset.texts import one_array
from dpsr.indexing.errors import ExportError

_EXAMPLES, _ARRAYS, _ITEM_IDS = "examples.json", "arrays.npz", "item_ids.arrow"
FOUND_FILE = "found.npz"
"""Beside the examples: the item rows that ``dpsr.indexing.verify`` found for them."""


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

    item_ids: pa.Array
    """Strings or int64, by item row; rows count those that have an item: not tombstones of an index in segments."""
    inputs: dict[str, np.ndarray]
    """[n, ...] for each input of ``serving_default`` but ``mode``; strings as bytes objects."""
    heads: np.ndarray
    """float32 [n, heads, d], of the query alone; [n, 0, 0] where no vectors are searched."""
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

    def rows_of(self, item_ids: np.ndarray) -> np.ndarray:
        """The item rows of ids as a servable answers them (object of bytes, or int64); int32, -1 for what is none."""
        distinct, places = np.unique(item_ids, return_inverse=True)
        # The few ids that were found make the table that all items are looked up in.
        value_set = pa.array(distinct, pa.large_binary() if distinct.dtype == object else pa.int64())
        found = pc.index_in(self.item_ids.cast(value_set.type), value_set=value_set)
        known = found.is_valid().to_numpy(zero_copy_only=False)
        rows = np.full(len(distinct), -1, np.int32)
        rows[found.drop_null().to_numpy()] = np.flatnonzero(known)
        return rows[places].reshape(item_ids.shape)

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
        tree = {name: getattr(self, name) for name in ("no_filter", "filter")}
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
        table = pa.table({"item_id": self.item_ids})
        with pa.OSFile(str(directory / _ITEM_IDS), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)

    @classmethod
    def read(cls, directory: Path) -> ParityExamples:
        """Reads the files of ``write``; the item ids are memory-mapped."""
        tree = json.loads((directory / _EXAMPLES).read_text(encoding="utf-8"))
        with np.load(directory / _ARRAYS) as file:
            arrays = dict(file)
        inputs = tree.pop("inputs")
        heads, personalized = arrays.pop("personalized_heads"), tree.pop("personalized", None)
        return cls(
            **tree,
            **arrays,
            inputs={name: _array(values, np.dtype(dtype)) for name, (values, dtype) in inputs.items()},
            item_ids=one_array(
                pa.ipc.open_file(pa.memory_map(str(directory / _ITEM_IDS))).read_all().column("item_id")
            ),
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
        numeric = pa.types.is_integer(self.item_ids.type)
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


def arrow_ids(item_ids: np.ndarray) -> pa.Array:
    """Item ids, object (str) or int64 [n]."""
    return pa.array(item_ids, pa.large_string() if item_ids.dtype == object else pa.int64())


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
