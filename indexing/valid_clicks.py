"""Clicks of the valid split, which choose how the searchers of a servable are joined."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dpsr.data.dataset.schema import INTERACTION, SKIP
from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.catalogue import ItemRows

TUNING_CLICKS = 2000


class ValidClicks(NamedTuple):
    """Clicks that the model was not trained on, n of them."""

    records: np.ndarray
    """INTERACTION [n], by users of whom nothing is known."""
    texts: list[str]
    """Their queries."""
    rows: np.ndarray
    """int32 [n], the clicked items as rows of the catalogue."""


def valid_clicks(dataset: Dataset, catalogue: ItemRows, *, seed: int, first: int = 0) -> ValidClicks:
    """A sample of at most 2,000 clicks on items of a catalogue.

    Args:
        dataset: holds the split; without a log there is none, as the queries then are words of items.
        catalogue: the items.
        seed: decides the sample.
        first: place in the split, by time, from which on clicks are taken.
    """
    if not dataset.num_interactions("train"):
        return ValidClicks(np.empty(0, INTERACTION), [], np.empty(0, np.int32))
    return _sampled(dataset, catalogue, seed, first)


def made_clicks(dataset: Dataset, catalogue: ItemRows, *, seed: int) -> ValidClicks:
    """The same of a dataset without a log: queries made of words of an item each, which count as clicks on it."""
    return _sampled(dataset, catalogue, seed, 0)


def _sampled(dataset: Dataset, catalogue: ItemRows, seed: int, first: int) -> ValidClicks:
    count = dataset.num_interactions("valid")
    places = np.arange(min(first, count), count)
    chosen = np.random.default_rng(seed).choice(len(places), min(len(places), TUNING_CLICKS), replace=False)
    records = dataset.interactions_at("valid", places[np.sort(chosen)])
    records = anonymous(records[records["event"] != SKIP])
    rows = rows_of(dataset.item_ids[records["item"]], catalogue.item_ids)
    records, rows = records[rows >= 0], rows[rows >= 0]
    return ValidClicks(records, dataset.query_texts().take(records["query"]).to_pylist(), rows)


def gain(ranks: npt.ArrayLike) -> np.ndarray:
    """What an item at a rank, from 1, adds to the nDCG of a query that led to it alone; float64, of any shape.

    Joined lists are chosen by its mean, which values depth more than the reciprocal rank does.
    """
    return 1.0 / np.log2(1.0 + np.asarray(ranks, np.float64))


def anonymous(records: np.ndarray) -> np.ndarray:
    """The queries of some records as of users of whom nothing is known, INTERACTION [n]."""
    unknown = records.copy()
    unknown["user"], unknown["history_end"] = -1, 0
    return unknown


def rows_of(wanted: np.ndarray, item_ids: np.ndarray) -> np.ndarray:
    """The row of each of some items among ``item_ids``, int32 [n]; -1 for one that is not among them."""
    found = set(wanted.tolist())
    row_of = {item: row for row, item in enumerate(item_ids) if item in found}
    return np.array([row_of.get(item, -1) for item in wanted.tolist()], np.int32)
