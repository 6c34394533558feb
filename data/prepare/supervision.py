"""Human supervision: labelled pairs of a query and an item, of files and of people's judgements."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.data.dataset.pairs import pair_keys
from dpsr.data.dataset.schema import LABEL
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.judgements import JudgedPairs
from dpsr.data.prepare.vocabulary import RowIndex
from dpsr.data.raw.readers import Source
from dpsr.data.raw.rejected import RejectedRows
from dpsr.data.raw.values import numbers, trimmed_strings


def read_labels(
    source: Source | JudgedPairs,
    items: RowIndex,
    item_ids_as: Callable[[pa.Array], pa.Array],
    queries: RowIndex,
    rejected: RejectedRows,
    advance: Callable[[int], object],
) -> np.ndarray:
    """Reads labelled pairs.

    Args:
        source: the raw input with ``query``, ``item_id`` and ``label``.
        items: the catalogue's ids.
        item_ids_as: casts ids to the catalogue's type; null where that cannot be.
        queries: the query texts; grows by those that no click has.
        rejected: takes the rows that cannot be used.
        advance: takes the number of rows after each chunk.

    Returns:
        LABEL [n] in the order of the input.
    """
    parts = [np.empty(0, dtype=LABEL)]
    for chunk in source.chunks(rejected):
        columns, size = chunk.columns, len(chunk.rows)
        query, label = trimmed_strings(columns["query"]), labels_of(columns["label"])
        item = items.find(item_ids_as(columns["item_id"]))
        usable = np.ones(size, dtype=bool)
        for reason, column, good in (
            ("empty query", "query", query.is_valid().to_numpy(zero_copy_only=False)),
            ("unknown item_id", "item_id", item >= 0),
            ("unreadable label", "label", label.is_valid().to_numpy(zero_copy_only=False)),
        ):
            for position in np.flatnonzero(usable & ~good):
                chunk.reject(rejected, int(position), reason, column)
            usable &= good
        part = np.empty(int(usable.sum()), dtype=LABEL)
        part["query"] = queries.add(query.filter(pa.array(usable)))
        part["item"], part["label"] = item[usable], pc.fill_null(label, 0.0).to_numpy()[usable]
        parts.append(part)
        advance(size)
    return np.concatenate(parts)


def supervision_labels(before: Dataset) -> np.ndarray:
    """The labels of a dataset without those of judgements, LABEL [n]: the store has these all the time."""
    labels = before.labels()
    return labels[: len(labels) - before.manifest["inputs"].get("judgements", {}).get("labels", 0)]


def all_labels(supervised: Sequence[np.ndarray], judged: np.ndarray, num_items: int) -> np.ndarray:
    """Labels of supervision, then those of judgements, which replace the former of the same pair; LABEL [n].

    Args:
        supervised: LABEL [n] each.
        judged: LABEL [m].
        num_items: size of the catalogue.
    """
    labels = np.concatenate([np.empty(0, LABEL), *supervised])
    kept = ~np.isin(pair_keys(labels, num_items), pair_keys(judged, num_items))
    return np.concatenate([labels[kept], judged])


def labels_of(column: pa.Array) -> pa.Array:
    """Labels as float64 [n]; null where the value is not a finite float32."""
    found = numbers(column)
    fits = pc.less_equal(pc.abs(found), float(np.finfo(np.float32).max))
    return pc.if_else(fits, found, pa.scalar(None, pa.float64()))
