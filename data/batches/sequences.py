"""Sequences of subwords as a transformer reads them: ``[CLS] ... [SEP]``, cut to a greatest length."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dpsr.data.dataset.schema import SubwordsSchema
from dpsr.data.dataset.tables import Bags, Dataset

MARKS = 2
"""Special tokens of a sequence of one text: one before it, one behind it."""


class SequenceLengths(NamedTuple):
    """The most subwords of a sequence, special tokens included; longer texts lose their end."""

    query: int
    item: int

    @property
    def pair(self) -> int:
        """Of ``[CLS] query [SEP] product [SEP]``, which has one special token less than two sequences."""
        return self.query + self.item - 1


def sequences(subwords: tf.RaggedTensor, special: SubwordsSchema, length: int) -> tf.RaggedTensor:
    """Puts special tokens around texts, which are cut where they are too long.

    Args:
        subwords: int32 [B, None], without special tokens.
        special: ids of the special tokens.
        length: most subwords of a sequence, at least 2.

    Returns:
        int32 [B, None].
    """
    splits = subwords.row_splits
    return gathered_sequences(subwords.values, splits[:-1], splits[1:], special, length)


def gathered_sequences(
    values: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor, special: SubwordsSchema, length: int
) -> tf.RaggedTensor:
    """As ``sequences``, of texts that are ``values[starts:ends]`` each (int64 [B] both)."""
    kept = tf.ragged.range(starts, tf.minimum(ends, starts + (length - MARKS)), row_splits_dtype=tf.int64)
    rows = tf.range(kept.nrows(), dtype=tf.int64)
    row_splits = kept.row_splits + MARKS * tf.range(kept.nrows() + 1, dtype=tf.int64)
    inner = tf.range(tf.size(kept.values, tf.int64), dtype=tf.int64) + MARKS * kept.value_rowids() + 1
    first, last = tf.fill(tf.shape(rows), special.cls), tf.fill(tf.shape(rows), special.sep)
    # dynamic_stitch takes places of 32 bits, more than a batch can have.
    places = [tf.cast(place, tf.int32) for place in (row_splits[:-1], row_splits[1:] - 1, inner)]
    tokens = tf.dynamic_stitch(places, [first, last, tf.gather(values, kept.values)])
    return tf.RaggedTensor.from_row_splits(tokens, row_splits, validate=False)


def rows_of_bags(bags: Bags, fields: int) -> np.ndarray:
    """Where the bags of every ``fields`` consecutive rows begin, int64 [rows / fields + 1]."""
    return bags.row_splits if fields == 1 else np.ascontiguousarray(bags.row_splits[::fields])


def truncated(dataset: Dataset, lengths: SequenceLengths) -> list[str]:
    """How many queries and items of a dataset lose their end, one line for each kind that does.

    Args:
        dataset: has subwords.
        lengths: the most subwords of a sequence.
    """
    found = []
    for name, starts, length in (
        ("queries", dataset.query_subwords.row_splits, lengths.query),
        ("items", rows_of_bags(dataset.item_subwords, len(dataset.schema.text)), lengths.item),
    ):
        sizes = np.diff(starts) + MARKS
        longer = int((sizes > length).sum())
        if longer:
            found.append(
                f"{longer:,} of {len(sizes):,} {name} have more than {length} subwords and lose their end (the longest "
                f"has {int(sizes.max()):,})"
            )
    return found
