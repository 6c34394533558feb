"""A table in shards on parameter servers: ids travel there, sums of rows travel back, and gradients of bags follow.

A lookup sends the ids and receives one vector a bag; an update sends one vector a bag. Rows and their gradients never
travel: the kernels of ``ops_cc`` gather, sum, group by row and apply AdaGrad on the shard's device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from dpsr.ops_cc.embedding_bag import Combiner, apply_adagrad, embedding_bag

NUM_KINDS = 4
"""Most kinds of ids in a table."""

Weigh = Callable[[tf.RaggedTensor], tf.Tensor | None]
"""The weight of every occurrence in a list of bags, float32 [nnz]; None where all are 1."""


@dataclass(frozen=True)
class Shard:
    """Rows ``first_row..first_row + rows - 1`` of a table, on a device."""

    device: str
    first_row: int
    rows: int


@dataclass(frozen=True)
class Placement:
    """The shards of a table, and the type of vectors on the wire."""

    shards: tuple[Shard, ...]
    """All rows in their order, each row once."""
    wire: tf.DType = tf.float32
    """Type of bag sums and bag gradients on the wire: float32 or bfloat16."""


def sharded_variable(
    shards: Sequence[Shard], draw: Callable[[Shard], tf.Tensor], name: str, *, trainable: bool = True
) -> Any:
    """Makes a matrix whose rows are on the devices of their shards.

    Args:
        shards: all rows of the matrix.
        draw: gives the rows of a shard, float32 [rows, d].
        name: of the variable.
        trainable: False for accumulators.

    Returns:
        A variable; for several shards a ``ShardedVariable``, which a checkpoint stores as one variable, so that any
        other shards can read it.
    """
    variables = []
    for shard in shards:
        with tf.device(shard.device):
            variables.append(tf.Variable(draw(shard), trainable=trainable, name=name))
    return variables[0] if len(variables) == 1 else tf.__internal__.distribute.ShardedVariable(variables, name=name)


def shard_variables(matrix: Any) -> list[tf.Variable]:
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
            kinds: uint8 [rows], below ``NUM_KINDS``, as ``EmbeddingTable``; read from files on every machine.
        """
        self._placement = placement
        self._variables = shard_variables(matrix)
        self._combiner = combiner
        self._kinds = kinds

    def lookup(self, bags: tf.RaggedTensor, weigh: Weigh) -> tf.Tensor:
        """As ``EmbeddingTable.lookup``; the sums are rounded to the type of the wire."""
        if _have_one_id(bags):
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
        if _have_one_id(bags):
            ids, position = tf.unique(bags.values)
            gradient = tf.math.unsorted_segment_sum(gradient, position, tf.size(ids))
            bags, weigh, combiner = _bags_of_one(ids), _all_one, "sum"
        if len(self._placement.shards) > 1 and combiner != "sum":
            gradient, combiner = gradient * _scales(bags, weigh(bags), combiner), "sum"
        gradient = tf.cast(gradient, self._placement.wire)
        shards = zip(self._bags_of_shards(bags, weigh), self._variables, shard_variables(accumulator), strict=True)
        for (shard, own, weights), table, squares in shards:
            with tf.device(shard.device):
                apply_adagrad(
                    table,
                    squares,
                    own,
                    tf.cast(gradient, tf.float32),
                    learning_rate=learning_rate,
                    combiner=combiner,
                    weights=weights,
                )

    def _sums(self, bags: tf.RaggedTensor, weigh: Weigh, combiner: Combiner) -> tf.Tensor:
        """The combined bags, of the shards' partial sums."""
        is_split = len(self._placement.shards) > 1
        sums = []
        for (shard, own, weights), table in zip(self._bags_of_shards(bags, weigh), self._variables, strict=True):
            with tf.device(shard.device):
                part = embedding_bag(table, own, combiner="sum" if is_split else combiner, weights=weights)
                part = tf.cast(part, self._placement.wire)
            sums.append(tf.cast(part, tf.float32))
        if not is_split:
            return sums[0]
        return tf.add_n(sums) if combiner == "sum" else tf.add_n(sums) * _scales(bags, weigh(bags), combiner)

    def _bags_of_shards(
        self, bags: tf.RaggedTensor, weigh: Weigh
    ) -> Iterator[tuple[Shard, tf.RaggedTensor, tf.Tensor | None]]:
        """For every shard the ids of its rows in the bags, counted from its first row, and their weights."""
        if len(self._placement.shards) == 1:
            (shard,) = self._placement.shards
            with tf.device(shard.device):
                there = _move(bags)
                weights = weigh(there)
            # Outside of the device scope, which would else hold for what the caller does before the next shard.
            yield shard, there, weights
            return
        of_whole_bags = None if self._kinds is None or weigh is _all_one else _kind_counts(self._kinds_here(), bags)
        weights = weigh(bags) if of_whole_bags is None else None
        for shard in self._placement.shards:
            is_own = (bags.values >= shard.first_row) & (bags.values < shard.first_row + shard.rows)
            own = tf.ragged.boolean_mask(bags, bags.with_values(is_own))
            own = own.with_values(own.values - shard.first_row)
            with tf.device(shard.device):
                there = _move(own)
                # A weight for every id would be as many bytes as the ids; ``NUM_KINDS`` counts a bag travel instead.
                of_shard = None if of_whole_bags is None else self._weights_there(there, of_whole_bags, shard)
            if of_whole_bags is None and weights is not None:
                of_shard = tf.boolean_mask(weights, is_own)
            yield shard, there, of_shard

    def _kinds_here(self) -> tf.Tensor:
        """The kinds where the bags are, as one op of a graph: the counts of a lookup and its update are sent once."""
        if tf.executing_eagerly():
            return tf.convert_to_tensor(self._kinds)
        known = tf.compat.v1.get_default_graph().get_collection_ref(f"kinds of table {id(self)}")
        if not known:
            known.append(tf.convert_to_tensor(self._kinds))
        return known[0]

    def _weights_there(self, own: tf.RaggedTensor, counts: tf.Tensor, shard: Shard) -> tf.Tensor:
        """The weights of a shard's ids by their kinds, given the number of ids of every kind in the whole bags."""
        counts = tf.reshape(tf.cast(counts, tf.float32), [-1])
        return 1.0 / tf.sqrt(tf.gather(counts, _places_of_kinds(self._kinds, own, own.values + shard.first_row)))


def _move(bags: tf.RaggedTensor) -> tf.RaggedTensor:
    """Copies bags to the device of the caller's scope; lengths travel as 32-bit numbers, or not at all if all are 1."""
    values = tf.identity(bags.values)
    if _have_one_id(bags):
        return _bags_of_one(values)
    with tf.device(None):
        lengths = tf.cast(bags.row_lengths(), tf.int32)
    return tf.RaggedTensor.from_row_lengths(values, tf.cast(lengths, tf.int64), validate=False)


def _kind_counts(kinds: Any, bags: tf.RaggedTensor) -> tf.Tensor:
    """Number of ids of every kind in each bag, int32 [B, NUM_KINDS]."""
    places, size = _places_of_kinds(kinds, bags, bags.values), bags.nrows() * NUM_KINDS
    return tf.reshape(tf.math.unsorted_segment_sum(tf.ones_like(bags.values), places, size), [-1, NUM_KINDS])


def _places_of_kinds(kinds: Any, bags: tf.RaggedTensor, ids: tf.Tensor) -> tf.Tensor:
    """Index of an id's kind in the flattened counts of all bags, int64 [nnz]."""
    return bags.value_rowids() * NUM_KINDS + tf.cast(tf.gather(tf.convert_to_tensor(kinds), ids), tf.int64)


def _scales(bags: tf.RaggedTensor, weights: tf.Tensor | None, combiner: Combiner) -> tf.Tensor:
    """Factor of the weighted sum of every bag, float32 [B, 1]."""
    if weights is None:
        total = tf.cast(bags.row_lengths(), tf.float32)
    else:
        total = tf.reduce_sum(bags.with_values(weights if combiner == "mean" else weights * weights), axis=1)
    total = tf.where(total > 0, total, 1.0)
    return (1.0 / total if combiner == "mean" else tf.math.rsqrt(total))[:, tf.newaxis]


def _all_one(bags: tf.RaggedTensor) -> None:
    """Weights of bags of one id, whose combination does not depend on them."""


def _have_one_id(bags: tf.RaggedTensor) -> bool:
    """Whether the graph knows that every bag has one id."""
    length = bags.uniform_row_length
    return length is not None and tf.get_static_value(length) == 1


def _bags_of_one(ids: tf.Tensor) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_uniform_row_length(ids, 1, validate=False)
