"""Rows of one file, as its reader hands them out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa


class Rows(NamedTuple):
    """Some rows of a file."""

    numbers: np.ndarray
    """int64 [n]; the number of each row in the file, from 1, without a header."""
    lines: np.ndarray | None
    """int64 [n]; the number of the first line of each row in a text file, from 1; None for Parquet."""
    columns: dict[str, pa.Array]
    """The columns asked for, by their names in the file, [n]."""
