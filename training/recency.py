"""Weights of the examples of a log by their age: what people click drifts, so the latest clicks say most."""

from __future__ import annotations

import numpy as np

from dpsr.data.dataset.schema import AGE
from dpsr.data.dataset.tables import Dataset

_MICROSECONDS_OF_DAY = 86_400_000_000


def recency_weights(dataset: Dataset, half_life: float) -> np.ndarray:
    """The weight ``2^(-age / half_life)`` of every record of the train split, over the mean of all.

    Args:
        dataset: has times.
        half_life: in days; where the log's times are integers, in their unit.

    Returns:
        float32 [n], in the order of the records.

    Raises:
        DatasetError: the dataset has no times.
    """
    ages = dataset.ages("train")
    unit = _MICROSECONDS_OF_DAY if dataset.manifest["time"]["unit"] == "timestamp" else 1
    counts = np.bincount(ages, minlength=np.iinfo(AGE).max + 1)
    youngest = int(np.flatnonzero(counts)[0])
    steps = np.maximum(np.arange(len(counts)) - youngest, 0)
    of_age = np.exp2(-steps * (dataset.manifest["ages"]["step"] / (half_life * unit)))
    return (of_age / (counts @ of_age / len(ages))).astype(np.float32)[ages]
