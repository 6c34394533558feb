"""Texts by row inside a graph."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import tensorflow as tf

from dpsr.data.batches.arrays import graph_array
from dpsr.ops_cc.text_rows import text_rows


class Texts:
    """Texts as arrays of UTF-8 bytes and offsets: smaller than string tensors, and a graph can map them from files."""

    def __init__(self, texts: pa.Array) -> None:
        """Makes the texts readable by graphs.

        Args:
            texts: strings, none of them null.
        """
        if texts.null_count:
            raise ValueError(f"{texts.null_count} of {len(texts)} texts are null; put an empty one in their place")
        texts = texts.cast(pa.large_string())
        _, offsets, data = texts.buffers()
        bounds = np.frombuffer(offsets or bytes(8), np.int64)[texts.offset : texts.offset + len(texts) + 1]
        self._data = graph_array(np.frombuffer(data or b"", np.uint8)[bounds[0] : bounds[-1]])
        self._offsets = graph_array(bounds - bounds[0])

    def take(self, rows: tf.Tensor) -> tf.Tensor:
        """The texts of some rows, int32 [N]; string [N]."""
        return text_rows(self._data, self._offsets, rows)
