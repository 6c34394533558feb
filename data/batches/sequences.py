"""Sequences of subwords as a transformer reads them: ``[CLS] ... [SEP]``, cut to a greatest length."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dpsr.data.dataset.schema import SubwordsSchema
from dpsr.data.dataset.tables import Bags, Dataset
from dpsr.ops_cc.sequences import between_marks

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
    return between_marks(values, starts, ends, first=special.cls, last=special.sep, length=length)


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
