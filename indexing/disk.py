"""The disk space that an export needs, compared with what is free."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from dpsr.config import IndexConfig
from dpsr.data.dataset.schema import Schema
from dpsr.data.dataset.texts import joined_texts
from dpsr.indexing.catalogue import Catalogue
from dpsr.indexing.errors import ExportError
from dpsr.model.interface import Model

_ID_OVERHEAD = 8
"""Bytes of a string besides its characters."""
_FIXED = 16 << 20
"""Graph, examples, warm-up requests, manifest."""
_MARGIN = 1.1


def export_bytes(
    config: IndexConfig,
    schema: Schema,
    model: Model,
    catalogue: Catalogue,
    *,
    rows: int | None = None,
    embedded: int | None = None,
) -> int:
    """An upper estimate of what an export writes, in bytes.

    Until the export ends, the disk holds the vectors twice: as embedded and in the index.

    Args:
        config: what is built.
        schema: of the dataset.
        model: its query tower is part of the servable.
        catalogue: the items.
        rows: of the index; as many as items by default.
        embedded: items that are embedded; all by default.
    """
    columns = len(schema.categorical) + len(config.filter_range)
    # A word and the space behind it have two bytes at least.
    words = sum(catalogue.table.column(column).nbytes for column in schema.text) // 2 if config.mode != "dense" else 0
    return bytes_of(
        config,
        catalogue.table.column("item_id"),
        model.config.dimension,
        model.variables,
        columns=columns,
        words=words,
        rows=rows,
        embedded=embedded,
    )


def bytes_of(
    config: IndexConfig,
    item_ids: pa.ChunkedArray,
    dimension: int,
    variables: Iterable[tf.Variable],
    *,
    columns: int,
    words: int,
    rows: int | None = None,
    embedded: int | None = None,
) -> int:
    """``export_bytes`` by the sizes that it depends on.

    Args:
        config: the index.
        item_ids: strings or integers [items].
        dimension: of a vector.
        variables: of the query tower.
        columns: columns that are filtered by.
        words: in the texts of all items, at most.
        rows: as ``export_bytes``.
        embedded: as ``export_bytes``.
    """
    items = max(len(item_ids), rows or 0)
    vectors = 4 * dimension * (items + (len(item_ids) if embedded is None else embedded))
    exact = items < config.exact_below
    codes = 0 if exact else items * (-(-dimension // 2) + 8)
    weights = sum(4 * int(np.prod(variable.shape)) for variable in variables)
    held = 12 * items * columns  # by row, and the rows of every value
    ids = 8 * items
    if not pa.types.is_integer(item_ids.type):
        characters = pc.sum(pc.binary_length(item_ids)).as_py()
        ids = characters * items // len(item_ids) + _ID_OVERHEAD * items
    if config.mode != "dense":
        held += 4 * words + 16 * items  # each word is a posting and, once, a term
    # Four copies: of the servable, of the histories' table, of the parity examples, and beside the fingerprints.
    return int(_MARGIN * (vectors + codes + weights + held + 4 * ids + 8 * items)) + _FIXED


def most_words(table: pa.Table, text: Sequence[str]) -> int:
    """The most words that text columns may hold: each has a byte, and one before the next."""
    lengths = [pc.binary_length(texts) for column in text for texts in joined_texts(table, [column])]
    return sum((pc.sum(of_texts).as_py() + len(of_texts)) // 2 for of_texts in lengths)


def require_free(directory: Path, needed: int) -> None:
    """Creates a directory and checks the free space of its file system.

    Raises:
        ExportError: less than ``needed`` bytes are free; the message states both.
    """
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise ExportError(
            f"{directory}: the export needs about {_megabytes(needed)}, but only {_megabytes(free)} are free; make "
            "room (index.keep_versions decides how many old versions stay), or set another work_dir"
        )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
