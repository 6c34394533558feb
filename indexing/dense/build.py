"""The index of an export, as it is configured."""

from __future__ import annotations

import numpy as np

from dpsr.config import IndexConfig
from dpsr.indexing.dense.ann import Index


def build_index(config: IndexConfig, vectors: np.ndarray, heads: np.ndarray) -> Index:
    """The configured index over items, float32 [items, d], tuned on the heads of queries, float32 [n, m, d]."""
    return Index.build(
        vectors,
        config.k,
        queries=heads.reshape(-1, heads.shape[-1]),
        exact_below=config.exact_below,
        # Half-way between the bar and exactness, so that queries it was not tuned on pass the bar too.
        target_recall=(1.0 + config.min_recall) / 2,
        precision=config.precision,
    )
