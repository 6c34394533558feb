"""The tables of features that a model reads."""

from __future__ import annotations

from dpsr.config import ModelConfig
from dpsr.data.batches.features import FeatureTables
from dpsr.data.batches.sequences import SequenceLengths
from dpsr.data.dataset.tables import Dataset


def sequence_lengths(config: ModelConfig) -> SequenceLengths | None:
    """The most subwords that the model reads of a text; None where it reads none."""
    transformer = config.transformer
    if not config.reads_subwords:
        return None
    return SequenceLengths(transformer.max_query_length, transformer.max_item_length)


def feature_tables(config: ModelConfig, dataset: Dataset) -> FeatureTables:
    """The tables of a dataset, with what the model reads of them.

    Raises:
        DatasetError: the model reads subwords, and the dataset has none.
    """
    return FeatureTables(dataset, config.history_length, config.history_titles, subwords=sequence_lengths(config))
