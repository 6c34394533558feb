"""Synthetic queries that are sampled once, so that a teacher embeds each of them once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import tensorflow as tf

from dpsr.data.batches.augmentation import ItemTexts
from dpsr.data.batches.features import TextFeatures
from dpsr.data.batches.text_reader import TextReader
from dpsr.data.batches.texts import Texts

_ROWS = 4096
"""Items whose queries are sampled together; their seed is a function of the first one."""


class QueryPool:
    """As many synthetic queries of every item; row ``item * queries_per_item + i`` of the pool is its i-th."""

    def __init__(self, texts: pa.Array, queries_per_item: int, read: TextReader) -> None:
        """Takes the queries.

        Args:
            texts: strings [items * queries_per_item].
            queries_per_item: queries of an item.
            read: tokenizes them inside a graph.
        """
        self.texts = texts
        self._rows_of_bytes = Texts(texts)
        self._queries_per_item = queries_per_item
        self._read = read

    def rows(self, item_rows: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """A random one of the queries of every item, int32 [N] -> int32 [N]; the same for the same seed, int64 [2]."""
        drawn = tf.random.stateless_uniform(tf.shape(item_rows), seed, maxval=self._queries_per_item, dtype=tf.int32)
        return item_rows * self._queries_per_item + drawn

    def queries(self, item_rows: tf.Tensor, seed: tf.Tensor) -> TextFeatures:
        """What encoders read of ``rows(item_rows, seed)``, N queries."""
        return self._read(self._rows_of_bytes.take(self.rows(item_rows, seed)))


def sampled_queries(path: Path, item_texts: ItemTexts, num_items: int, queries_per_item: int, seed: int) -> pa.Array:
    """Samples the texts of a pool, or reads them where they have been sampled.

    Args:
        path: of an Arrow IPC file, named by all that decides its content.
        item_texts: sample queries.
        num_items: items of the catalogue.
        queries_per_item: queries of an item.
        seed: the same seed samples the same ones.

    Returns:
        large_string [items * queries_per_item].
    """
    if not path.exists():
        sample = tf.function(item_texts.query_texts, autograph=False, reduce_retracing=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        part, schema = path.with_suffix(".part"), pa.schema({"query": pa.large_string()})
        with pa.OSFile(str(part), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for first in range(0, num_items, _ROWS):
                rows = tf.range(first, min(first + _ROWS, num_items))
                texts = np.stack(
                    [
                        sample(rows, tf.constant([seed, first * queries_per_item + number], tf.int64)).numpy()
                        for number in range(queries_per_item)
                    ],
                    axis=1,
                )
                writer.write_table(pa.table({"query": pa.array(texts.ravel(), pa.large_binary())}).cast(schema))
        part.replace(path)
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all().column("query").combine_chunks()
