"""Texts by row inside a graph."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import tensorflow as tf

from dpsr.data.batches.features import ToTensor
from dpsr.ops_cc.text_rows import text_rows


class Texts:
    """Texts as two arrays, which can lie in files, where strings of TensorFlow cannot; they are smaller, too."""

    def __init__(self, texts: pa.Array, *, tensor: ToTensor = tf.constant) -> None:
        """Copies the texts to TensorFlow.

        Args:
            texts: strings, none of them null.
            tensor: how an array gets there.
        """
        if texts.null_count:
            raise ValueError(f"{texts.null_count} of {len(texts)} texts are null; put an empty one in their place")
        texts = texts.cast(pa.large_string())
        _, offsets, data = texts.buffers()
        bounds = np.frombuffer(offsets or bytes(8), np.int64)[texts.offset : texts.offset + len(texts) + 1]
        self._data = tensor(np.frombuffer(data or b"", np.uint8)[bounds[0] : bounds[-1]])
        self._offsets = tensor(bounds - bounds[0])

    def take(self, rows: tf.Tensor) -> tf.Tensor:
        """The texts of some rows, int32 [N]; string [N]."""
        return text_rows(self._data, self._offsets, rows)
