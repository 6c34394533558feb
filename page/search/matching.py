"""Filters on the page, for lists of methods that have none."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from dpsr.data.raw.values import numbers, trimmed_strings
from dpsr.page.contract import Range
from dpsr.page.search.catalogue import Catalogue


def matching(catalogue: Catalogue, rows: np.ndarray, filters: Mapping[str, str | Range]) -> np.ndarray:
    """Which items match all filters, as those of a servable do: an item without a value matches none of its column.

    Args:
        catalogue: has the columns.
        rows: of the items, int64 [n].
        filters: column -> value, or bounds, inclusive.

    Returns:
        bool [n].
    """
    matched = np.ones(len(rows), bool)
    for column, wanted in filters.items():
        texts = pa.array(catalogue.texts(column, rows), pa.string())
        if isinstance(wanted, Range):
            values = numbers(texts).to_numpy(zero_copy_only=False).astype(np.float32)
            least = -math.inf if wanted.least is None else wanted.least
            most = math.inf if wanted.most is None else wanted.most
            if math.isfinite(least) or math.isfinite(most):
                matched &= (values >= least) & (values <= most)
        elif wanted.strip():
            found = trimmed_strings(texts).to_pylist()
            matched &= np.array([text == wanted.strip() for text in found], bool)
    return matched
