"""A table in shards on parameter servers: ids go there, sums of rows come back, and one gradient a bag goes there.

What crosses the network of a lookup is the ids and one vector a bag; of an update, one vector a bag. The rows stay
where they are, and so do their gradients: gather, sum, grouping by row and AdaGrad are done by the kernels of
``ops_cc`` on the shard's device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from dpsr.ops_cc.embedding_bag import Combiner, apply_adagrad, embedding_bag

NUM_KINDS = 4
"""Kinds of ids that a table may tell apart."""

Weigh = Callable[[tf.RaggedTensor], tf.Tensor | None]
"""The weight of every occurrence in some bags, float32 [nnz]; None where all are 1."""


@dataclass(frozen=True)
class Shard:
    """Rows ``first_row..first_row + rows - 1`` of a table, on a device."""

    device: str
    first_row: int
    rows: int


@dataclass(frozen=True)
class Placement:
    """Where a table is, and how vectors travel."""

    shards: tuple[Shard, ...]
    """Together all rows, in their order, each row once."""
    wire: tf.DType = tf.float32
    """Type of bag sums and bag gradients on their way: float32, or bfloat16."""


def sharded_variable(shards: Sequence[Shard], draw: Callable[[Shard], tf.Tensor], name: str) -> Any:
    """Makes a matrix of what ``draw`` gives for every shard, float32 [rows, d], on the shard's device.

    Returns:
        A variable, or for several shards what TensorFlow has for that: in a checkpoint it is one variable too, so that
        the file fits any other shards.
    """
    parts = []
    for shard in shards:
        with tf.device(shard.device):
            parts.append(tf.Variable(draw(shard), name=name))
    return parts[0] if len(parts) == 1 else tf.__internal__.distribute.ShardedVariable(parts, name=name)


def parts_of(matrix: Any) -> list[tf.Variable]:
    """The variables of ``sharded_variable``, one a shard."""
    return [matrix] if isinstance(matrix, tf.Variable) else list(matrix.variables)


class ShardedTable:
    """Lookups and updates of a matrix and its accumulator in shards."""

    def __init__(self, placement: Placement, matrix: Any, combiner: Combiner, *, kinds: Any = None) -> None:
        """Looks up in a matrix that ``sharded_variable`` made of the shards of the placement.

        Args:
            placement: the shards.
            matrix: their variables.
            combiner: as ``EmbeddingTable``.
            kinds: uint8 [rows], below ``NUM_KINDS``, as ``EmbeddingTable``; everywhere without being sent.
        """
        self._placement = placement
        self._parts = parts_of(matrix)
        self._combiner = combiner
        self._kinds = kinds

    def lookup(self, bags: tf.RaggedTensor, weigh: Weigh) -> tf.Tensor:
        """As ``EmbeddingTable.lookup``; rounded to the type of the wire on the way."""
        if _are_of_one(bags):
            ids, position = tf.unique(bags.values)
            return tf.gather(self._sums(_bags_of_one(ids), _all_one, "sum"), position)
        return self._sums(bags, weigh, self._combiner)

    def apply_gradient(
        self,
        accumulator: Any,
        bags: tf.RaggedTensor,
        gradient: tf.Tensor,
        weigh: Weigh,
        learning_rate: float,
    ) -> None:
        """As ``EmbeddingTable.apply_gradient``."""
        combiner = self._combiner
        if _are_of_one(bags):
            ids, position = tf.unique(bags.values)
            gradient = tf.math.unsorted_segment_sum(gradient, position, tf.size(ids))
            bags, weigh, combiner = _bags_of_one(ids), _all_one, "sum"
        if len(self._placement.shards) > 1 and combiner != "sum":
            gradient, combiner = gradient * _scales(bags, weigh(bags), combiner), "sum"
        gradient = tf.cast(gradient, self._placement.wire)
        pieces = zip(self._pieces(bags, weigh), self._parts, parts_of(accumulator), strict=True)
        for (shard, piece, weights), table, squares in pieces:
            with tf.device(shard.device):
                apply_adagrad(
                    table,
                    squares,
                    piece,
                    tf.cast(gradient, tf.float32),
                    learning_rate=learning_rate,
                    combiner=combiner,
                    weights=weights,
                )

    def _sums(self, bags: tf.RaggedTensor, weigh: Weigh, combiner: Combiner) -> tf.Tensor:
        """The combined bags, of the shards' partial sums."""
        in_parts = len(self._placement.shards) > 1
        sums = []
        for (shard, piece, weights), table in zip(self._pieces(bags, weigh), self._parts, strict=True):
            with tf.device(shard.device):
                part = embedding_bag(table, piece, combiner="sum" if in_parts else combiner, weights=weights)
                part = tf.cast(part, self._placement.wire)
            sums.append(tf.cast(part, tf.float32))
        if not in_parts:
            return sums[0]
        return tf.add_n(sums) if combiner == "sum" else tf.add_n(sums) * _scales(bags, weigh(bags), combiner)

    def _pieces(self, bags: tf.RaggedTensor, weigh: Weigh) -> Iterator[tuple[Shard, tf.RaggedTensor, tf.Tensor | None]]:
        """What every shard gets of the bags: the ids that are its rows, counted from its first, and their weights."""
        if len(self._placement.shards) == 1:
            (shard,) = self._placement.shards
            with tf.device(shard.device):
                there = _move(bags)
                weights = weigh(there)
            # Outside of the scope: what the caller does between two pieces would be done on the shard's device.
            yield shard, there, weights
            return
        of_whole_bags = None if self._kinds is None or weigh is _all_one else _kind_counts(self._kinds, bags)
        weights = weigh(bags) if of_whole_bags is None else None
        for shard in self._placement.shards:
            own = (bags.values >= shard.first_row) & (bags.values < shard.first_row + shard.rows)
            piece = tf.ragged.boolean_mask(bags, bags.with_values(own))
            piece = piece.with_values(piece.values - shard.first_row)
            with tf.device(shard.device):
                there = _move(piece)
                # A weight for every id would be as many bytes as the ids; a few counts a bag travel instead.
                of_shard = None if of_whole_bags is None else self._weights_there(there, of_whole_bags, shard)
            if of_whole_bags is None and weights is not None:
                of_shard = tf.boolean_mask(weights, own)
            yield shard, there, of_shard

    def _weights_there(self, piece: tf.RaggedTensor, counts: tf.Tensor, shard: Shard) -> tf.Tensor:
        """The weights of a shard's ids by their kinds, given how many of every kind the whole bags hold."""
        counts = tf.reshape(tf.cast(counts, tf.float32), [-1])
        return 1.0 / tf.sqrt(tf.gather(counts, _places_of_kinds(self._kinds, piece, piece.values + shard.first_row)))


def _move(bags: tf.RaggedTensor) -> tf.RaggedTensor:
    """The same bags in the device of the caller's scope; 32-bit lengths travel, or nothing where all are 1."""
    values = tf.identity(bags.values)
    if _are_of_one(bags):
        return _bags_of_one(values)
    with tf.device(None):
        lengths = tf.cast(bags.row_lengths(), tf.int32)
    return tf.RaggedTensor.from_row_lengths(values, tf.cast(lengths, tf.int64), validate=False)


def _kind_counts(kinds: Any, bags: tf.RaggedTensor) -> tf.Tensor:
    """How many ids of every kind each of the bags holds, int32 [B, NUM_KINDS]."""
    places, size = _places_of_kinds(kinds, bags, bags.values), bags.nrows() * NUM_KINDS
    return tf.reshape(tf.math.unsorted_segment_sum(tf.ones_like(bags.values), places, size), [-1, NUM_KINDS])


def _places_of_kinds(kinds: Any, bags: tf.RaggedTensor, ids: tf.Tensor) -> tf.Tensor:
    """Where the count of an id's kind is among those of all bags, int64 [nnz]."""
    return bags.value_rowids() * NUM_KINDS + tf.cast(tf.gather(tf.convert_to_tensor(kinds), ids), tf.int64)


def _scales(bags: tf.RaggedTensor, weights: tf.Tensor | None, combiner: Combiner) -> tf.Tensor:
    """What the weighted sum of every bag is multiplied by, float32 [B, 1]."""
    if weights is None:
        total = tf.cast(bags.row_lengths(), tf.float32)
    else:
        total = tf.reduce_sum(bags.with_values(weights if combiner == "mean" else weights * weights), axis=1)
    total = tf.where(total > 0, total, 1.0)
    return (1.0 / total if combiner == "mean" else tf.math.rsqrt(total))[:, tf.newaxis]


def _all_one(bags: tf.RaggedTensor) -> None:
    """The weights of bags of one: what they are makes no difference."""


def _are_of_one(bags: tf.RaggedTensor) -> bool:
    """Whether every bag is known to have one id."""
    length = bags.uniform_row_length
    return length is not None and tf.get_static_value(length) == 1


def _bags_of_one(ids: tf.Tensor) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_uniform_row_length(ids, 1, validate=False)
