"""The towers over a dataset: item vectors for the index, query heads to tune and to check it with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from dpsr.data.pipeline import JoinedTables
from dpsr.data.tables import Dataset
from dpsr.model.two_tower import TwoTower


def embed_items(model: TwoTower, dataset: Dataset, *, batch_size: int = 4096, progress: bool = True) -> np.ndarray:
    """The item tower over the whole catalogue.

    Args:
        model: the towers.
        dataset: the catalogue; item row i becomes row i of the result.
        batch_size: items embedded at a time.
        progress: show a progress bar.

    Returns:
        float32 [items, d], unit vectors.
    """
    tables = JoinedTables(dataset, history_length=0)
    embed = tf.function(
        lambda rows: model.item_vectors(tables.items(rows)), input_signature=[tf.TensorSpec([None], tf.int32)]
    )
    rows = np.arange(dataset.schema.num_items, dtype=np.int32)
    return _in_batches(embed, rows, (model.config.dimension,), batch_size, "embedding items", progress)


def embed_queries(model: TwoTower, dataset: Dataset, records: np.ndarray, *, batch_size: int = 1024) -> np.ndarray:
    """The query tower over interactions, each with the profile and the history of its user.

    Args:
        model: the towers.
        dataset: the tables that the records point into.
        records: INTERACTION [n].
        batch_size: queries embedded at a time.

    Returns:
        float32 [n, heads, d], unit vectors.
    """
    tables = JoinedTables(dataset, model.config.history_length)
    embed = tf.function(
        lambda fields: model.query_heads(tables.queries(fields)), input_signature=[tf.TensorSpec([None, 5], tf.int32)]
    )
    fields = np.ascontiguousarray(records).view(np.int32).reshape(len(records), 5)
    return _in_batches(embed, fields, (model.config.heads, model.config.dimension), batch_size, "", False)


def _in_batches(
    embed: Callable[[tf.Tensor], tf.Tensor],
    inputs: np.ndarray,
    shape: tuple[int, ...],
    batch_size: int,
    title: str,
    progress: bool,
) -> np.ndarray:
    outputs = np.empty((len(inputs), *shape), np.float32)
    with tqdm(total=len(inputs), desc=title, unit="row", disable=not progress) as bar:
        for start in range(0, len(inputs), batch_size):
            batch = inputs[start : start + batch_size]
            outputs[start : start + len(batch)] = embed(tf.constant(batch)).numpy()
            bar.update(len(batch))
    return outputs
