"""Special tokens around parts of a row of tokens, in one operation."""

from __future__ import annotations

import tensorflow as tf

from dpsr.ops_cc import library


def between_marks(
    values: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor, *, first: int, last: int, length: int
) -> tf.RaggedTensor:
    """Puts a token before and one behind parts of ``values``, which are cut where they are too long.

    Args:
        values: int32 [nnz].
        starts: int64 [B]; part i is ``values[starts[i]:ends[i]]``.
        ends: int64 [B].
        first: token before each part.
        last: token behind it.
        length: most tokens of a sequence, at least 2.

    Returns:
        int32 [B, None].

    Raises:
        tf.errors.InvalidArgumentError: a part is outside the values, or ends before it starts.
    """
    found = library.load().dpsr_sequences(
        values=values, starts=starts, ends=ends, first=first, last=last, length=length
    )
    return tf.RaggedTensor.from_row_splits(found.tokens, found.row_splits, validate=False)
