"""Clicks of the log by item, which the prior of popularity counts."""

from __future__ import annotations

import numpy as np

from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.catalogue import ItemRows
from dpsr.indexing.valid_clicks import rows_of


def clicks_of_items(dataset: Dataset, items: ItemRows) -> np.ndarray:
    """Clicks of the train split on each of some items, int64 [rows]; 0 for those that the dataset does not have."""
    clicks = dataset.clicks_per_item("train")
    if np.array_equal(items.item_ids, dataset.item_ids):
        return clicks
    rows = rows_of(items.item_ids, dataset.item_ids)
    return np.where(rows >= 0, clicks[np.maximum(rows, 0)], 0)
