"""The tables of a dataset directory as memory-mapped NumPy arrays."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dpsr.data.dataset.directory import standing
from dpsr.data.dataset.records import num_records, read_records, record_blocks, records_at
from dpsr.data.dataset.schema import (
    AGE,
    FORMAT_VERSION,
    ITEMS_FILE,
    LABEL,
    LABELS_FILE,
    MANIFEST_FILE,
    SKIPS_FILE,
    SPLITS,
    SUBWORDS_FILE,
    TOKENIZER_FILE,
    DatasetError,
    Schema,
    SubwordsSchema,
    ages_file,
    split_file,
)
from dpsr.data.dataset.texts import one_array


@dataclass(frozen=True)
class Bags:
    """Lists of ids in CSR form: row ``i`` is ``values[row_splits[i]:row_splits[i + 1]]``."""

    values: np.ndarray
    """int32 [nnz]."""
    row_splits: np.ndarray
    """int64 [rows + 1]."""

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.row_splits) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        """The ids of one row, int32 [n]."""
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} bags")
        row %= len(self)
        return self.values[self.row_splits[row] : self.row_splits[row + 1]]

    def take(self, rows: np.ndarray) -> Bags:
        """The given rows, in the given order.

        Args:
            rows: integers [n] in 0 <= row < len(self).

        Returns:
            n bags.
        """
        rows = np.asarray(rows, dtype=np.int64)
        starts, lengths = self.row_splits[rows], self.row_splits[rows + 1] - self.row_splits[rows]
        row_splits = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(lengths, out=row_splits[1:])
        positions = np.arange(row_splits[-1], dtype=np.int64) + np.repeat(starts - row_splits[:-1], lengths)
        return Bags(np.asarray(self.values)[positions], row_splits)


@dataclass(frozen=True)
class Dataset:
    """A dataset directory: tables are memory-mapped and read-only, records are read on request."""

    directory: Path
    manifest: dict[str, Any]
    schema: Schema
    item_ids: np.ndarray
    """object (str) or int64 [items]."""
    item_tokens: Bags
    item_categorical: dict[str, np.ndarray]
    """int32 [items] for each categorical column."""
    query_tokens: Bags
    user_profile: dict[str, np.ndarray]
    """int32 [users] for each profile column."""
    history: Bags
    """Item rows of each user in the order of time."""
    vocabularies: dict[str, list[str]]
    """``items.<column>`` or ``users.<column>`` -> values; entry i has id i + 1."""

    @classmethod
    def load(cls, directory: str | Path) -> Dataset:
        """Opens a dataset directory that ``dpsr prepare`` wrote.

        Raises:
            DatasetError: the directory is missing, incomplete, damaged or of another format.
        """
        directory = standing(Path(directory))
        manifest = _read_manifest(directory)
        schema = Schema.from_json(manifest["schema"])
        item_ids = _read_arrow(directory / ITEMS_FILE, ["item_id"]).column("item_id")
        return cls(
            directory=directory,
            manifest=manifest,
            schema=schema,
            item_ids=id_array(item_ids, schema.item_id_type),
            item_tokens=load_bags(directory / "items", "tokens", schema.num_items),
            item_categorical=_columns(directory / "items", schema.categorical, schema.num_items),
            query_tokens=load_bags(directory / "queries", "tokens", schema.num_queries),
            user_profile=_columns(directory / "users", schema.profile, schema.num_users),
            history=load_bags(directory / "users", "history", schema.num_users),
            vocabularies=_vocabularies(directory, schema),
        )

    @property
    def has_log(self) -> bool:
        """Whether the interactions come from a log; without a log they are synthetic, sampled from the items' texts."""
        return bool(self.manifest["inputs"]["interactions"]["files"])

    @property
    def tokenizer_path(self) -> Path:
        """The tokenizer's model file."""
        return self.directory / TOKENIZER_FILE

    @property
    def subwords_path(self) -> Path:
        """The subword tokenizer's model file; see ``subwords_schema``."""
        return self.directory / SUBWORDS_FILE

    @property
    def subwords_schema(self) -> SubwordsSchema:
        """``schema.subwords`` of a dataset that has subwords.

        Raises:
            DatasetError: it has none.
        """
        if self.schema.subwords is None:
            raise DatasetError(
                f"{self.directory}: was prepared without subwords, which a transformer reads; run `dpsr prepare` again "
                'with model.text_encoder = "transformer" or a section [tokenizer.subwords]'
            )
        return self.schema.subwords

    @cached_property
    def item_subwords(self) -> Bags:
        """Subwords of the texts of the items without special tokens, int32; row ``item * F + f`` is text column f of F.

        Raises:
            DatasetError: the dataset has no subwords, or damaged ones.
        """
        return self._subwords("items", self.schema.num_items * len(self.schema.text))

    @cached_property
    def query_subwords(self) -> Bags:
        """Subwords of the queries without special tokens, int32 [queries]; raises as ``item_subwords``."""
        return self._subwords("queries", self.schema.num_queries)

    def _subwords(self, folder: str, rows: int) -> Bags:
        _ = self.subwords_schema
        return load_bags(self.directory / folder, "subwords", rows)

    def item_table(self) -> pa.Table:
        """The catalogue as given: ``item_id``, text and categorical columns; the row number is the item row."""
        return _read_arrow(self.directory / ITEMS_FILE)

    def user_table(self) -> pa.Table:
        """The users: ``user_id`` and, as given, profile columns; the row number is the user row."""
        return _read_arrow(self.directory / "users/users.arrow")

    def query_texts(self) -> pa.Array:
        """Distinct query texts, large_string [queries]."""
        return one_array(_read_arrow(self.directory / "queries/queries.arrow").column("query"))

    def user_ids(self) -> pa.Array:
        """User ids as given, large_string or int64 [users]."""
        return one_array(_read_arrow(self.directory / "users/users.arrow", ["user_id"]).column("user_id"))

    def interactions(self, split: str) -> np.ndarray:
        """All records of a split in memory, INTERACTION [n]: ``train`` shuffled, ``valid`` and ``test`` by time.

        A log may exceed the memory: see ``interaction_blocks`` and ``interactions_at``.
        """
        return read_records(self._split_path(split))

    def interaction_blocks(self, split: str) -> Iterator[np.ndarray]:
        """The records of a split, a million at a time, INTERACTION [n] each; in the order of ``interactions``."""
        return record_blocks(self._split_path(split))

    def num_interactions(self, split: str) -> int:
        """The number of records of a split."""
        return num_records(self._split_path(split))

    def ages(self, split: str) -> np.ndarray:
        """The age of every record of a split at the last time of the log, uint16 [n], in its order.

        One is ``manifest["ages"]["step"]`` units of the log's clock: microseconds, or the unit of its integers.

        Raises:
            DatasetError: the dataset has no times.
        """
        if "ages" not in self.manifest:
            raise DatasetError(
                f"{self.directory}: keeps no times of its clicks (time unit: {self.manifest['time']['unit']}); map the "
                "log's time column with data.interactions.columns.timestamp, and run `dpsr prepare` without --append"
            )
        path = self.directory / ages_file(split)
        ages = np.memmap(path, AGE, "r") if path.stat().st_size else np.empty(0, AGE)
        if len(ages) != self.num_interactions(split):
            raise DatasetError(
                f"{path}: has {len(ages):,} ages for {self.num_interactions(split):,} records; run `dpsr prepare` again"
            )
        return ages

    def interactions_at(self, split: str, places: np.ndarray) -> np.ndarray:
        """The records of a split at the given places (integers [n], in 0..num_interactions - 1), INTERACTION [n]."""
        return records_at(self._split_path(split), places)

    def clicks_per_item(self, split: str) -> np.ndarray:
        """The number of records of a split on each item, int64 [items]."""
        counts = np.zeros(self.schema.num_items, dtype=np.int64)
        for records in self.interaction_blocks(split):
            counts += np.bincount(records["item"], minlength=len(counts))
        return counts

    def skip_blocks(self) -> Iterator[np.ndarray]:
        """The records of ``skips``, a million at a time, INTERACTION [n] each."""
        return record_blocks(self.directory / SKIPS_FILE)

    def _split_path(self, split: str) -> Path:
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
        return self.directory / split_file(split)

    def skips(self) -> np.ndarray:
        """Items shown and skipped in the train period, INTERACTION [n], by time."""
        return read_records(self.directory / SKIPS_FILE)

    def labels(self) -> np.ndarray:
        """Labelled pairs of the supervision input, LABEL [n], in its order; none where there was no such input."""
        path = self.directory / LABELS_FILE
        return np.load(path, allow_pickle=False) if path.exists() else np.empty(0, dtype=LABEL)


def load_schema(directory: str | Path) -> Schema:
    """The schema of a dataset directory, of which only the manifest is read.

    Raises:
        DatasetError: the directory is missing, incomplete or of another format.
    """
    return Schema.from_json(_read_manifest(standing(Path(directory)))["schema"])


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(
            f"{directory}: not a dataset ({MANIFEST_FILE} is missing); run `dpsr prepare` first"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not JSON: {error}; run `dpsr prepare` again") from None
    if manifest.get("format") != FORMAT_VERSION:
        raise DatasetError(
            f"{path}: format {manifest.get('format')!r}, but this version reads {FORMAT_VERSION}; "
            "run `dpsr prepare` again"
        )
    for name, entry in manifest["files"].items():
        file = directory / name
        if not file.is_file():
            raise DatasetError(f"{file}: is missing from the dataset; run `dpsr prepare` again")
        if file.stat().st_size != entry["bytes"]:
            raise DatasetError(
                f"{file}: has {file.stat().st_size} bytes, the manifest says {entry['bytes']}; run `dpsr prepare` again"
            )
    return manifest


def _read_arrow(path: Path, columns: Sequence[str] = ()) -> pa.Table:
    """A table of the dataset; only the given columns, where there are any."""
    try:
        file = pa.memory_map(str(path))
        options = pa.ipc.IpcReadOptions()
        if columns:
            schema = pa.ipc.open_file(file).schema
            options.included_fields = sorted(schema.get_field_index(column) for column in columns)
        return pa.ipc.open_file(file, options=options).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}; run `dpsr prepare` again") from None


def _read_array(path: Path, dtype: type, length: int | None) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}; run `dpsr prepare` again") from None
    if array.dtype != dtype or array.ndim != 1 or (length is not None and len(array) != length):
        expected = f"{np.dtype(dtype)} [{'any' if length is None else length}]"
        raise DatasetError(
            f"{path}: found {array.dtype} {list(array.shape)}, expected {expected}; run `dpsr prepare` again"
        )
    return array


def load_bags(directory: Path, name: str, rows: int) -> Bags:
    """Memory-maps the ``rows`` bags of ``<name>.values.npy`` and ``<name>.row_splits.npy``.

    Raises:
        DatasetError: a file cannot be read, or has another type or length.
    """
    values = _read_array(directory / f"{name}.values.npy", np.int32, None)
    row_splits = _read_array(directory / f"{name}.row_splits.npy", np.int64, rows + 1)
    if row_splits[0] != 0 or row_splits[-1] != len(values):
        raise DatasetError(
            f"{directory / name}.row_splits.npy: spans {row_splits[0]}..{row_splits[-1]}, but there are "
            f"{len(values)} values; run `dpsr prepare` again"
        )
    return Bags(values, row_splits)


def _columns(directory: Path, columns: Iterable[str], rows: int) -> dict[str, np.ndarray]:
    return {column: _read_array(directory / f"{column}.npy", np.int32, rows) for column in columns}


def _vocabularies(directory: Path, schema: Schema) -> dict[str, list[str]]:
    names = [f"items.{column}" for column in schema.categorical] + [f"users.{column}" for column in schema.profile]
    vocabularies = {}
    for name in names:
        path = directory / "vocabularies" / f"{name}.json"
        try:
            vocabularies[name] = json.loads(path.read_text("utf-8"))
        except (ValueError, OSError) as error:
            raise DatasetError(f"{path}: cannot be read: {error}; run `dpsr prepare` again") from None
    return vocabularies


def id_array(column: pa.ChunkedArray, item_id_type: str) -> np.ndarray:
    """Item ids as ``Dataset.item_ids`` has them: int64 or object (str) [n]."""
    if item_id_type == "int64":
        return column.to_numpy()
    return np.array(column.to_pylist(), dtype=object)
