"""The items that an index is built over: those of the dataset, or of a file of items that came later."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.config import Config
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Bags, Dataset, id_array
from dpsr.data.dataset.texts import joined_texts
from dpsr.data.prepare.vocabulary import column_ids, token_bags
from dpsr.data.raw.readers import Source, trimmed_strings
from dpsr.data.raw.rejected import RejectedRows
from dpsr.tokenizer_cc import Tokenizer


@dataclass(frozen=True)
class Catalogue:
    """Items as the item tower reads them; item row i is row i of the index."""

    item_ids: np.ndarray
    """object (str) or int64 [items]."""
    tokens: Bags
    categorical: dict[str, np.ndarray]
    """int32 [items] for each categorical column, ids of the dataset's vocabularies."""
    table: pa.Table
    """The columns as given."""

    def __len__(self) -> int:
        """The number of items."""
        return len(self.item_ids)

    @classmethod
    def of_dataset(cls, dataset: Dataset) -> Catalogue:
        """The items that the dataset was prepared with."""
        return cls(dataset.item_ids, dataset.item_tokens, dataset.item_categorical, dataset.item_table())

    @classmethod
    def read(cls, path: str, config: Config, dataset: Dataset) -> Catalogue:
        """The items of a file, none of which need have been there when the model was trained.

        Args:
            path: file or glob, with the columns of ``data.items`` (and those of ``index.filter_range``).
            config: names and maps the columns.
            dataset: its tokenizer and vocabularies make the ids that the model knows; a value of a categorical column
                that it does not have counts as a rare one.

        Raises:
            DatasetError: a column is missing, ids are given twice or are of another type than the dataset's, or too
                many rows cannot be used.
        """
        table = _read_table(path, config, dataset)
        tokenizer = Tokenizer.load(dataset.tokenizer_path)
        categorical = {
            column: column_ids(
                table.column(column),
                dataset.vocabularies[f"items.{column}"],
                numeric=column in dataset.schema.numeric,
            )
            for column in dataset.schema.categorical
        }
        item_ids = id_array(table.column("item_id"), dataset.schema.item_id_type)
        return cls(item_ids, token_bags(tokenizer, joined_texts(table, dataset.schema.text)), categorical, table)


def _read_table(path: str, config: Config, dataset: Dataset) -> pa.Table:
    columns = dict.fromkeys(["item_id", *dataset.schema.text, *dataset.schema.categorical, *config.index.filter_range])
    source = Source("items", config.data.items.model_copy(update={"path": path}), list(columns))
    parts: list[pa.Table] = []
    rows = 0
    with tempfile.TemporaryDirectory() as scratch, RejectedRows(Path(scratch), "items") as rejected:
        for chunk in source.chunks(rejected):
            ids = _ids(chunk.columns["item_id"], dataset.schema.item_id_type, chunk.file)
            for position in np.flatnonzero(ids.is_null().to_numpy(zero_copy_only=False)):
                rejected.add(chunk.file, int(chunk.rows[position]), "empty item_id")
            parts.append(pa.table(chunk.columns | {"item_id": ids}).filter(ids.is_valid()))
            rows += len(ids)
        # The list goes with the scratch directory; the error names the reasons.
        rejected.check(max(rows, 1), config.data.max_rejected_share, Path(path))
    if not sum(len(part) for part in parts):
        raise DatasetError(f"{path}: has no items; nothing can be indexed")
    table = pa.concat_tables(parts, promote_options="permissive").combine_chunks()
    if pc.count_distinct(table.column("item_id")).as_py() != len(table):
        counts = pc.value_counts(table.column("item_id"))
        twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
        some = ", ".join(str(value) for value in twice[:5].to_pylist())
        raise DatasetError(f"{path}: {len(twice):,} values of item_id occur more than once ({some}); keep one of each")
    return table


def _ids(ids: pa.Array, item_id_type: str, file: str) -> pa.Array:
    found = "int64" if pa.types.is_integer(ids.type) else "string"
    if found != item_id_type:
        raise DatasetError(
            f"{file}: column 'item_id' has type {ids.type}, but the item ids of the dataset are {item_id_type}; "
            "give them the same type, or prepare and train again"
        )
    return ids.cast(pa.int64()) if found == "int64" else trimmed_strings(ids)
