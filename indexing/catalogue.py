"""The items that an index is built over: those of the dataset, or those of a later file."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from dpsr.config import Config
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset, id_array
from dpsr.data.dataset.texts import take_rows, with_small_strings
from dpsr.data.prepare.entities import catalogue_ids, item_kinds, read_features, without_duplicates
from dpsr.data.prepare.vocabulary import column_ids
from dpsr.data.raw.readers import Source
from dpsr.data.raw.rejected import RejectedRows
from dpsr.data.raw.values import whole_ids
from dpsr.indexing.item_texts import EncodedTexts, GivenTexts, ItemTexts, of_items
from dpsr.tokenizer_cc import Tokenizer
from dpsr.tokenizer_cc.subwords import SubwordTokenizer


@dataclass(frozen=True)
class ItemRows:
    """Items by the rows of an index, as filters, words and answers read them."""

    item_ids: np.ndarray
    """object (str) or int64 [rows]; "" or -1 where a row has no item."""
    table: pa.Table
    """The columns as given, without values where a row has no item."""
    removed: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32), kw_only=True)
    """int32, the rows without an item, ascending: tombstones of an index in segments."""

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.item_ids)

    @property
    def num_items(self) -> int:
        """The number of rows that have an item."""
        return len(self) - len(self.removed)

    @property
    def live_rows(self) -> np.ndarray:
        """The rows that have an item, int32 [num_items], ascending."""
        return np.delete(np.arange(len(self), dtype=np.int32), self.removed)

    @classmethod
    def of_dataset(cls, dataset: Dataset) -> ItemRows:
        """The items that the dataset was prepared with."""
        return ItemRows(dataset.item_ids, dataset.item_table())

    @classmethod
    def read(cls, path: str, config: Config, dataset: Dataset) -> ItemRows:
        """The items of a file, which the dataset need not contain.

        Args:
            path: file or glob, with the columns of ``data.items`` (and those of ``index.filter_range``).
            config: names and maps the columns.
            dataset: says the type of the ids.

        Raises:
            DatasetError: a column is missing, ids are given twice or are of another type than the dataset's, or too
                many rows cannot be used.
        """
        table = _read_table(path, config, dataset)
        return ItemRows(id_array(table.column("item_id"), dataset.schema.item_id_type), table)


@dataclass(frozen=True)
class Catalogue(ItemRows):
    """Items as the item tower reads them; item row i is row i of an index over them."""

    texts: ItemTexts
    categorical: dict[str, np.ndarray]
    """int32 [items] for each categorical column, ids of the dataset's vocabularies."""

    def take(self, rows: np.ndarray) -> Catalogue:
        """Some items, in the given order.

        Args:
            rows: integers [n], of this catalogue.
        """
        return Catalogue(
            self.item_ids[rows],
            take_rows(self.table, rows),
            self.texts.take(rows),
            {column: ids[rows] for column, ids in self.categorical.items()},
        )

    def placed(self, order: np.ndarray) -> ItemRows:
        """The items in the rows of an index.

        Args:
            order: integers [rows], the item of every row; negative for none.
        """
        removed = np.flatnonzero(order < 0).astype(np.int32)
        item_ids = self.item_ids[order]
        item_ids[removed] = "" if item_ids.dtype == object else -1
        return ItemRows(item_ids, with_small_strings(take_rows(self.table, order)), removed=removed)

    @classmethod
    def of_dataset(cls, dataset: Dataset) -> Catalogue:
        """As ``ItemRows.of_dataset``."""
        subwords = None
        if dataset.schema.subwords is not None:
            subwords = of_items(dataset.item_subwords, len(dataset.schema.text))
        texts = EncodedTexts(dataset.item_tokens, subwords)
        return cls(dataset.item_ids, dataset.item_table(), texts, dataset.item_categorical)

    @classmethod
    def read(cls, path: str, config: Config, dataset: Dataset) -> Catalogue:
        """As ``ItemRows.read``; the training data need not contain the items.

        Args:
            path: file or glob.
            config: names and maps the columns.
            dataset: its tokenizer and vocabularies make the ids that the model knows; a value of a categorical column
                that it does not have counts as a rare one.

        Raises:
            DatasetError: as ``ItemRows.read``.
        """
        rows = ItemRows.read(path, config, dataset)
        table = rows.table
        tokenizer = Tokenizer.load(dataset.tokenizer_path)
        categorical = {
            column: column_ids(
                table.column(column),
                dataset.vocabularies[f"items.{column}"],
                numeric=column in dataset.schema.numeric,
            )
            for column in dataset.schema.categorical
        }
        subwords = None
        if dataset.schema.subwords is not None:
            subwords = SubwordTokenizer.load(dataset.subwords_path)
        return cls(rows.item_ids, table, GivenTexts(table, dataset.schema.text, tokenizer, subwords), categorical)


def _read_table(path: str, config: Config, dataset: Dataset) -> pa.Table:
    items = config.data.items.model_copy(
        update={
            "path": path,
            "text": list(dataset.schema.text),
            "categorical": [name for name in dataset.schema.categorical if name not in dataset.schema.numeric],
            "numeric": [*dataset.schema.numeric, *config.index.filter_range],
        }
    )
    source = Source("items", items, item_kinds(items))
    rows = 0

    def advance(more: int) -> None:
        nonlocal rows
        rows += more

    with tempfile.TemporaryDirectory() as scratch, RejectedRows(Path(scratch), "items") as rejected:
        found = read_features(source, lambda ids: _ids(ids, dataset.schema.item_id_type, path), rejected, advance)
        # The list goes with the scratch directory; the error names the reasons and the first row.
        rejected.check(max(rows + rejected.malformed, 1), config.data.max_rejected_share, Path(path))
        if not len(found):
            raise DatasetError(f"{path}: has no items; nothing can be indexed")
        return without_duplicates(source, found, rejected, None)


def _ids(ids: pa.Array, item_id_type: str, path: str) -> pa.Array:
    found = catalogue_ids(ids)
    if item_id_type == "int64":
        found = whole_ids(ids)
    elif pa.types.is_integer(found.type):
        raise DatasetError(
            f"{path}: column 'item_id' has type {ids.type}, but the item ids of the dataset are {item_id_type}; "
            "give them the same type, or prepare and train again"
        )
    if ids.null_count < len(ids) and found.null_count == len(found):
        raise DatasetError(
            f"{path}: column 'item_id' holds {ids.drop_null()[0].as_py()!r}, ..., but the item ids of the dataset are "
            f"{item_id_type}; give them the same type, or prepare and train again"
        )
    return found
