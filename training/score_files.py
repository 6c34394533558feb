"""Scores of pairs that a file holds: those of a cross-encoder, which gives no vectors."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.dataset.texts import one_array

_COLUMNS = ("query", "item_id", "score")


class ScoredPairs(NamedTuple):
    """Pairs of a query and an item with their scores."""

    queries: pa.Array
    """large_string [n]."""
    item_rows: np.ndarray
    """int32 [n]."""
    scores: np.ndarray
    """float32 [n], in -1..1."""


def read_scores(path: str | Path, dataset: Dataset) -> ScoredPairs:
    """Reads a file of scores; pairs whose item the dataset lacks are left out.

    Args:
        path: a Parquet file with columns ``query``, ``item_id`` and ``score``.
        dataset: its items.

    Raises:
        DatasetError: the file or a column is missing, a score is not in -1..1, or no pair is left.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DatasetError(f"{path}: cannot be read as Parquet: {error}; distillation.scores names it") from None
    missing = [column for column in _COLUMNS if column not in table.column_names]
    if missing:
        raise DatasetError(
            f"{path}: column {missing[0]!r} is missing (found: {', '.join(table.column_names)}); scores need "
            f"{', '.join(_COLUMNS)}"
        )
    queries = one_array(table.column("query").cast(pa.large_string()))
    scores = table.column("score").cast(pa.float32()).to_numpy()
    bad = np.flatnonzero(~(np.abs(scores) <= 1.0))
    if len(bad):
        raise DatasetError(
            f"{path}: row {bad[0]}: score = {scores[bad[0]]}, but a cosine is in -1..1; map the scores "
            "there, for example by a sigmoid"
        )
    kind = pa.int64() if dataset.schema.item_id_type == "int64" else pa.string()
    known = pa.array(dataset.item_ids.tolist(), kind)
    rows = one_array(pc.index_in(table.column("item_id").cast(kind), value_set=known))
    kept = pc.and_(rows.is_valid(), queries.is_valid())
    if not pc.any(kept).as_py():
        raise DatasetError(f"{path}: none of its {len(table):,} pairs has an item of {dataset.directory}")
    return ScoredPairs(queries.filter(kept), rows.filter(kept).to_numpy().astype(np.int32), scores[np.asarray(kept)])
