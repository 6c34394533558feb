"""Sequences put together from pieces of several arrays of ids, inside a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from dpsr.data.batches.arrays import graph_array
from dpsr.data.batches.sequences import MARKS
from dpsr.data.dataset.tables import Dataset
from dpsr.tokenizer_cc.subwords import SubwordTokenizer


class Pieces(NamedTuple):
    """Where the pieces of B sequences are, P to each: ``array[start:start + length]`` of an array that P says."""

    starts: tf.Tensor
    """int64 [B, P]."""
    lengths: tf.Tensor
    """int64 [B, P]."""


class Sequences(NamedTuple):
    """Sequences of pieces, and where the pieces of each array went."""

    tokens: tf.RaggedTensor
    """int32 [B, None]."""
    places: tuple[tf.RaggedTensor, ...]
    """For each array int32 [B * pieces of it, None]: positions in ``tokens.values``, ascending."""


def put_together(arrays: Sequence[Any], array_of_piece: Sequence[int], pieces: Pieces) -> Sequences:
    """Copies the pieces of each sequence one after the other.

    Args:
        arrays: int32, a tensor or what is made one.
        array_of_piece: of each of the P pieces of a sequence, the number of its array.
        pieces: where they are.
    """
    rows, number = tf.shape(pieces.lengths)[0], np.asarray(array_of_piece)
    ends = tf.cumsum(tf.reshape(pieces.lengths, [-1]))
    begins = tf.reshape(ends, [rows, len(number)]) - pieces.lengths
    places, values = [], []
    for array, ids in enumerate(arrays):
        columns = np.flatnonzero(number == array)
        starts, lengths, to = (
            tf.reshape(tf.gather(part, columns, axis=1), [-1]) for part in (pieces.starts, pieces.lengths, begins)
        )
        sources = tf.ragged.range(starts, starts + lengths, row_splits_dtype=tf.int64)
        shift = tf.repeat(to - sources.row_splits[:-1], lengths)
        places.append(
            sources.with_values(tf.cast(tf.range(tf.size(shift, tf.int64), dtype=tf.int64) + shift, tf.int32))
        )
        values.append(tf.gather(tf.convert_to_tensor(ids), sources.values))
    tokens = tf.dynamic_stitch([of_array.values for of_array in places], values)
    row_splits = tf.concat([[0], tf.reshape(ends, [rows, len(number)])[:, -1]], axis=0)
    return Sequences(tf.RaggedTensor.from_row_splits(tokens, row_splits, validate=False), tuple(places))


class FieldPieces:
    """The text columns of items, each behind its name (Muhamed et al. 2023: all fields with their field names)."""

    def __init__(self, dataset: Dataset) -> None:
        """Makes names and texts readable by graphs.

        Args:
            dataset: has subwords.
        """
        special, columns = dataset.subwords_schema, dataset.schema.text
        tokenizer = SubwordTokenizer.load(dataset.subwords_path)
        names, splits = tokenizer.encode_batch([column.replace("_", " ") for column in columns])
        self._fields = len(columns)
        self.marks = np.concatenate([[special.cls, special.sep], names]).astype(np.int32)
        """int32: [CLS], [SEP], and the subwords of the columns' names."""
        self._names = (splits[:-1] + MARKS).astype(np.int64), np.diff(splits).astype(np.int64)
        items = dataset.item_subwords
        self.values = graph_array(items.values)
        """int32, the subwords of all items."""
        self._row_splits = graph_array(items.row_splits)

    @property
    def pieces(self) -> int:
        """Pieces of an item: a name and a text for each field."""
        return 2 * self._fields

    @property
    def arrays(self) -> list[int]:
        """For each piece the number of its array: 0 ``marks``, 1 ``values``."""
        return [0, 1] * self._fields

    def of_items(self, item_rows: tf.Tensor, length: int, *, seed: tf.Tensor | None = None) -> Pieces:
        """The fields of items; a field without text has no name either.

        Args:
            item_rows: int32 [B].
            length: most subwords of an item; the rest is cut off.
            seed: int64 [2] of the order of an item's fields; None for that of the columns.
        """
        first = tf.cast(item_rows, tf.int64)[:, tf.newaxis] * self._fields
        bounds = tf.gather(tf.convert_to_tensor(self._row_splits), first + np.arange(self._fields + 1))
        starts, sizes = bounds[:, :-1], bounds[:, 1:] - bounds[:, :-1]
        name_starts, name_sizes = (tf.broadcast_to(part, tf.shape(starts)) for part in self._names)
        name_sizes = tf.where(sizes > 0, name_sizes, 0)
        starts, sizes = tf.stack([name_starts, starts], axis=2), tf.stack([name_sizes, sizes], axis=2)
        if seed is not None:
            order = tf.argsort(tf.random.stateless_uniform(tf.shape(starts)[:2], seed), axis=1)
            starts, sizes = tf.gather(starts, order, batch_dims=1), tf.gather(sizes, order, batch_dims=1)
        starts, sizes = (tf.reshape(part, [-1, self.pieces]) for part in (starts, sizes))
        before = tf.cumsum(sizes, axis=1, exclusive=True)
        return Pieces(starts, tf.clip_by_value(length - before, 0, sizes))


def query_pieces(row_splits: Any, query_rows: tf.Tensor, length: int) -> Pieces:
    """The subwords of queries (int32 [B]), at most ``length`` each, a piece a query."""
    row_splits = tf.convert_to_tensor(row_splits)
    starts, ends = tf.gather(row_splits, query_rows), tf.gather(row_splits, query_rows + 1)
    return Pieces(starts[:, tf.newaxis], tf.minimum(ends - starts, length)[:, tf.newaxis])


def mark(number: int, rows: tf.Tensor) -> Pieces:
    """A special token for each of some rows (int32 []): 0 [CLS], 1 [SEP] of ``FieldPieces.marks``."""
    shape = tf.stack([rows, 1])
    return Pieces(tf.fill(shape, tf.constant(number, tf.int64)), tf.fill(shape, tf.constant(1, tf.int64)))


def by_sequence(places: tf.RaggedTensor, pieces: int) -> tf.RaggedTensor:
    """The places of one array by sequence, [B, None], where a sequence has ``pieces`` of it: [B * pieces, None]."""
    return tf.RaggedTensor.from_row_splits(places.values, places.row_splits[::pieces], validate=False)


def side_by_side(parts: Sequence[Pieces]) -> Pieces:
    """The pieces of each sequence one after the other."""
    return Pieces(*(tf.concat(columns, axis=1) for columns in zip(*parts, strict=True)))
