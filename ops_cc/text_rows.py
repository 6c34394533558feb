"""Texts by row, out of one array of bytes and offsets in memory or in a file."""

from __future__ import annotations

import tensorflow as tf

from dpsr.ops_cc import library


def text_rows(data: tf.Tensor, offsets: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Gathers texts by row.

    Args:
        data: uint8 [n], the bytes of all texts.
        offsets: int64 [texts + 1]; text i is ``data[offsets[i]:offsets[i + 1]]``.
        rows: int32 [N], numbers of texts.

    Returns:
        string [N].

    Raises:
        tf.errors.InvalidArgumentError: a row is out of range.
    """
    return library.load().dpsr_text_rows(
        bytes=tf.convert_to_tensor(data), offsets=tf.convert_to_tensor(offsets), rows=rows
    )
