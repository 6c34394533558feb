"""The towers over a dataset: item vectors for the index, query heads for its tuning and its check."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from dpsr.data.batches.features import ItemFeatures
from dpsr.data.batches.sequences import sequences
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.catalogue import Catalogue
from dpsr.indexing.embedded_rows import EmbeddedRows
from dpsr.model.feature_tables import feature_tables, sequence_lengths
from dpsr.model.inference_model import for_inference
from dpsr.model.interface import Model


def embed_items(model: Model, dataset: Dataset, *, batch_size: int = 4096, progress: bool = True) -> np.ndarray:
    """The item tower over the dataset's items; see ``embed_catalogue``.

    Returns:
        float32 [items, d], unit vectors; item row i is row i.
    """
    return embed_catalogue(model, Catalogue.of_dataset(dataset), batch_size=batch_size, progress=progress)


def embed_catalogue(
    model: Model,
    catalogue: Catalogue,
    *,
    batch_size: int = 4096,
    progress: bool = True,
    resume_from: EmbeddedRows | None = None,
) -> np.ndarray:
    """The item tower over a whole catalogue.

    Args:
        model: the towers.
        catalogue: item row i becomes row i of the result.
        batch_size: items embedded at a time.
        progress: show a progress bar.
        resume_from: holds the rows embedded by an earlier export, and receives the others.

    Returns:
        float32 [items, d], unit vectors; the array of ``resume_from`` where it is given.

    Raises:
        DatasetError: the model reads subwords, and the catalogue has none.
    """
    special, lengths, texts = model.schema.subwords, sequence_lengths(model.config), [catalogue.texts.tokens]
    if lengths is not None:
        if catalogue.texts.subwords is None:
            raise DatasetError("the model reads subwords, and the catalogue has none; run `dpsr prepare` again")
        texts.append(catalogue.texts.subwords)
    model = for_inference(model)

    def item_vectors(
        bags: list[tf.RaggedTensor], categorical: dict[str, tf.Tensor], encoded: list[tf.Tensor]
    ) -> tf.Tensor:
        subwords = None
        if lengths is not None and special is not None:
            subwords = sequences(bags[1], special, lengths.item)
        return model.item_vectors(ItemFeatures(bags[0], categorical, subwords, *encoded))

    columns = {name: tf.TensorSpec([None], tf.int32) for name in catalogue.categorical}
    frozen = [] if model.item_encoders is None else [tf.TensorSpec([None, model.item_encoders.width], tf.float32)]
    encode = None if model.item_encoders is None else model.item_encoders.reader(catalogue.table)
    signature = [[tf.RaggedTensorSpec([None, None], tf.int32, ragged_rank=1)] * len(texts), columns, frozen]
    embed = tf.function(item_vectors, input_signature=signature, autograph=False)
    shape = (len(catalogue), model.config.dimension)
    vectors = np.empty(shape, np.float32) if resume_from is None else resume_from.vectors
    done = 0 if resume_from is None else resume_from.done
    with tqdm(total=len(catalogue), initial=done, desc="embedding items", unit="row", disable=not progress) as bar:
        for start in range(done, len(catalogue), batch_size):
            end = min(start + batch_size, len(catalogue))
            taken = [bags.take(np.arange(start, end)) for bags in texts]
            vectors[start:end] = embed(
                [tf.RaggedTensor.from_row_splits(bags.values, bags.row_splits, validate=False) for bags in taken],
                {name: tf.constant(ids[start:end]) for name, ids in catalogue.categorical.items()},
                [] if encode is None else [tf.constant(encode(start, end))],
            )
            bar.update(end - start)
            if resume_from is not None:
                resume_from.advance(end)
    return vectors


def embed_queries(model: Model, dataset: Dataset, records: np.ndarray, *, batch_size: int = 1024) -> np.ndarray:
    """The query tower over interactions, each with the profile and the history of its user.

    Args:
        model: the towers.
        dataset: the tables that the records point into.
        records: INTERACTION [n].
        batch_size: queries embedded at a time.

    Returns:
        float32 [n, heads, d], unit vectors.
    """
    tables = feature_tables(model.config, dataset)
    embed = tf.function(
        lambda fields: model.query_heads(tables.queries(fields)),
        input_signature=[tf.TensorSpec([None, 5], tf.int32)],
        autograph=False,
    )
    fields = np.ascontiguousarray(records).view(np.int32).reshape(len(records), 5)
    heads = np.empty((len(fields), model.config.heads, model.config.dimension), np.float32)
    for start in range(0, len(fields), batch_size):
        batch = fields[start : start + batch_size]
        heads[start : start + len(batch)] = embed(tf.constant(batch))
    return heads
