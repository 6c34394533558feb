"""Facets: how often the values of a column stand among the items found."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np

from dpsr.config import Config
from dpsr.data.dataset.directory import standing
from dpsr.data.dataset.schema import Schema
from dpsr.page.contract import FacetValue

MOST_VALUES = 20
"""Values of a facet."""


class Facets:
    """Counts values by the dataset's ids of categories, mapped into memory; thread-safe.

    A value that is rarer than ``data.min_category_count`` has no id of its own and is not counted.
    """

    def __init__(self, config: Config, schema: Schema) -> None:
        """Opens the categorical columns of a dataset."""
        folder = standing(config.dataset_dir)
        self._columns = {}
        for column in schema.categorical:
            if column not in schema.numeric:
                ids = np.load(folder / "items" / f"{column}.npy", mmap_mode="r")
                vocabulary = folder / "vocabularies" / f"items.{column}.json"
                self._columns[column] = ids, json.loads(vocabulary.read_text(encoding="utf-8"))

    def count(self, rows: np.ndarray, columns: Iterable[str]) -> dict[str, tuple[FacetValue, ...]]:
        """Counts the values among items.

        Args:
            rows: of the items, int64 [n].
            columns: those without categories are left out.

        Returns:
            Column -> its ``MOST_VALUES`` most frequent values, ties by value; no column without a value.
        """
        found = {}
        for column in columns:
            if column not in self._columns:
                continue
            ids, vocabulary = self._columns[column]
            values, counts = np.unique(ids[rows], return_counts=True)
            known = (values > 0) & (values <= len(vocabulary))
            pairs = zip(values[known].tolist(), counts[known].tolist(), strict=True)
            ordered = sorted(((-count, vocabulary[value - 1]) for value, count in pairs))[:MOST_VALUES]
            if ordered:
                found[column] = tuple(FacetValue(value=value, count=-count) for count, value in ordered)
        return found
