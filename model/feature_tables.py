"""The tables of features that a model reads."""

from __future__ import annotations

import numpy as np

from dpsr.config import ModelConfig
from dpsr.data.batches.features import FeatureTables
from dpsr.data.batches.sequences import SequenceLengths, truncated
from dpsr.data.dataset.tables import Dataset


def sequence_lengths(config: ModelConfig) -> SequenceLengths | None:
    """The most subwords that the model reads of a text; None where it reads none."""
    transformer = config.transformer
    if not config.reads_subwords:
        return None
    return SequenceLengths(transformer.max_query_length, transformer.max_item_length)


def feature_tables(config: ModelConfig, dataset: Dataset, *, encoded: np.ndarray | None = None) -> FeatureTables:
    """The tables of a dataset, with what the model reads of them.

    Args:
        config: the model.
        dataset: an opened dataset.
        encoded: as ``FeatureTables``.

    Raises:
        DatasetError: the model reads subwords, and the dataset has none.
    """
    lengths = sequence_lengths(config)
    return FeatureTables(dataset, config.history_length, config.history_titles, subwords=lengths, encoded=encoded)


def truncation_notes(config: ModelConfig, dataset: Dataset) -> list[str]:
    """How many texts are longer than what the model reads of them; see ``sequences.truncated``."""
    lengths = sequence_lengths(config)
    return [] if lengths is None else truncated(dataset, lengths)
