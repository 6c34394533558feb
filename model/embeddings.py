"""Embedding tables of bags of ids, with their own sparse AdaGrad.

A table is looked up once a step for all its bags, and the gradient stops at the combined bags: the rows that a step
touched are updated explicitly, in one pass; ``docs/performance.md`` has the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from dpsr.data.batches.arrays import MappedArray
from dpsr.model.shards import Placement, Shard, ShardedTable, sharded_variable
from dpsr.ops_cc.embedding_bag import (
    Combiner,
    apply_adagrad,
    apply_adagrad_to_bags,
    embedding_bag,
    embedding_bags,
    kind_weights,
)

TableBags = dict[str, tf.RaggedTensor]
"""Lookups by table name: bags of row numbers, int32 [B, None]."""
TableValues = dict[str, tf.Tensor]
"""Combined rows by table name, float32 [B, d]."""


class EmbeddingTable(tf.Module):
    """Rows of embeddings for ids ``0..rows - 1``; the lookup of a bag of ids combines its rows into one vector."""

    def __init__(
        self,
        rows: int,
        dimension: int,
        *,
        scale: float,
        seed: tuple[int, int],
        combiner: Combiner = "sqrtn",
        decay: float = 1.0,
        placement: Placement | None = None,
        kinds: tf.Variable | tf.Tensor | MappedArray | None = None,
        row_scales: np.ndarray | None = None,
        first_rows: np.ndarray | None = None,
    ) -> None:
        """Draws the table from a normal distribution.

        Args:
            rows: number of ids.
            dimension: width d of a row.
            scale: standard deviation of the entries.
            seed: the same seed draws the same table.
            combiner: ``sqrtn`` keeps the norm of a bag about the same whatever its length; see ``embedding_bag``.
            decay: weight of an id over the weight of the next id of its bag; the last id weighs 1.
            placement: the table's shards on parameter servers; on this machine if None.
            kinds: uint8 [rows], below 4. The ids of each kind are combined apart, by the sum over the square root of
                their number, and the kinds of a bag are added; requires ``combiner = "sum"`` and ``decay = 1``. A
                table in shards reads them on the worker and beside every shard, so they are a mapped array there.
            row_scales: float32 [rows], factor of every drawn row; 1 if None.
            first_rows: float32 [rows, d], in the place of a draw.
        """
        super().__init__()
        self.rows = rows
        self.combiner: Combiner = combiner
        self.decay = decay
        self.kinds = kinds
        self.placement = placement
        self.embeddings: tf.Variable
        self.accumulator: tf.Variable | None = None

        def draw(shard: Shard) -> tf.Tensor:
            if first_rows is not None:
                return tf.constant(first_rows[shard.first_row : shard.first_row + shard.rows])
            drawn = scale * drawn_rows(shard.first_row, shard.rows, dimension, seed)
            if row_scales is None:
                return drawn
            return drawn * row_scales[shard.first_row : shard.first_row + shard.rows, np.newaxis]

        if placement is not None:
            self.embeddings = sharded_variable(placement.shards, draw, "table")
            self._sharded = ShardedTable(placement, self.embeddings, combiner, kinds=kinds)
            return
        with tf.device("CPU:0"):  # where the kernels are; a table is larger than what a step moves
            self.embeddings = tf.Variable(draw(Shard("CPU:0", 0, rows)), name="table")

    def lookup(self, bags: tf.RaggedTensor) -> tf.Tensor:
        """Combines the rows of every bag.

        Args:
            bags: int32 [B, None].

        Returns:
            float32 [B, d]; an empty bag is a row of zeros.
        """
        if self.placement is not None:
            return self._sharded.lookup(bags, self.weights)
        return embedding_bag(self.embeddings, bags, combiner=self.combiner, weights=self.weights(bags))

    def start_training(self, initial_accumulator: float) -> None:
        """Creates the AdaGrad accumulators; a table for lookups alone has none."""
        if self.placement is not None:
            columns = self.embeddings.shape[1]

            def fill(shard: Shard) -> tf.Tensor:
                return tf.fill([shard.rows, columns], initial_accumulator)

            self.accumulator = sharded_variable(self.placement.shards, fill, "accumulator", trainable=False)
            return
        with tf.device("CPU:0"):
            filled = tf.fill(self.embeddings.shape, initial_accumulator)
            self.accumulator = tf.Variable(filled, trainable=False, name="accumulator")

    def apply_gradient(self, bags: tf.RaggedTensor, gradient: tf.Tensor, learning_rate: float) -> None:
        """Updates the rows that occur in the bags by one AdaGrad step.

        Args:
            bags: int32 [B, None], as they were looked up.
            gradient: float32 [B, d], of the loss by ``lookup(bags)``.
            learning_rate: step size.

        Raises:
            RuntimeError: ``start_training`` was not called.
        """
        if self.accumulator is None:
            raise RuntimeError("the table has no AdaGrad accumulators: call start_training first")
        if self.placement is not None:
            self._sharded.apply_gradient(self.accumulator, bags, gradient, self.weights, learning_rate)
            return
        apply_adagrad(
            self.embeddings,
            self.accumulator,
            bags,
            gradient,
            learning_rate=learning_rate,
            combiner=self.combiner,
            weights=self.weights(bags),
        )

    def weights(self, bags: tf.RaggedTensor) -> tf.Tensor | None:
        """The weight of every occurrence, float32 [nnz]; None where all are 1."""
        if self.kinds is not None:
            return kind_weights(tf.convert_to_tensor(self.kinds), bags)
        if self.decay == 1.0:
            return None
        ends = tf.gather(bags.row_splits[1:], bags.value_rowids())
        age = ends - 1 - tf.range(tf.size(bags.values, tf.int64))
        return tf.pow(self.decay, tf.cast(age, tf.float32))


def drawn_rows(first_row: int, rows: int, columns: int, seed: tuple[int, int]) -> tf.Tensor:
    """A range of rows of a matrix of ``tf.random.stateless_normal``, without drawing the others.

    Args:
        first_row: first row of the range.
        rows: rows in the range.
        columns: of the matrix.
        seed: of the matrix.

    Returns:
        float32 [rows, columns].
    """
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
    low, high = map(int, counter.numpy())
    # The generator counts up by one for every four numbers, in 128 bits.
    skipped, surplus = divmod(first_row * columns, 4)
    count = (high << 64) + low + skipped
    counter = tf.constant([count % (1 << 64), (count >> 64) % (1 << 64)], tf.uint64)
    shape = tf.constant([surplus + rows * columns], tf.int64)
    philox = tf.random.Algorithm.PHILOX.value
    numbers = tf.raw_ops.StatelessRandomNormalV2(shape=shape, key=key, counter=counter, alg=philox, dtype=tf.float32)
    return tf.reshape(numbers[surplus:], [rows, columns])


def lookup_together(tables: Sequence[EmbeddingTable], bags: Sequence[tf.RaggedTensor]) -> list[tf.Tensor]:
    """``EmbeddingTable.lookup`` of each list of bags in its table, in one operation where all are on this machine."""
    if not tables:
        return []
    if not _are_local(tables):
        return _looked_up_in_shards(tables, bags)
    return embedding_bags(
        [table.embeddings for table in tables],
        bags,
        combiners=[table.combiner for table in tables],
        weights=[table.weights(each) for table, each in zip(tables, bags, strict=True)],
    )


def apply_gradients_together(
    tables: Sequence[EmbeddingTable],
    bags: Sequence[tf.RaggedTensor],
    gradients: Sequence[tf.Tensor],
    learning_rate: float,
) -> None:
    """``EmbeddingTable.apply_gradient`` of each list of bags in its table; all bags of a table count as one list.

    Args:
        tables: of every list of bags; a table may occur more than once.
        bags: int32 [B, None] each, as they were looked up.
        gradients: float32 [B, d] by every list.
        learning_rate: step size.
    """
    if not tables:
        return
    distinct = list(dict.fromkeys(tables))
    if not distinct:
        return
    if not _are_local(tables):
        for table in distinct:
            own = _places(table, tables)
            table.apply_gradient(
                _one_list([bags[place] for place in own]), _one_list([gradients[place] for place in own]), learning_rate
            )
        return
    accumulators = [table.accumulator for table in distinct if table.accumulator is not None]
    if len(accumulators) < len(distinct):
        raise RuntimeError("a table has no AdaGrad accumulators: call start_training first")
    apply_adagrad_to_bags(
        [table.embeddings for table in distinct],
        accumulators,
        [distinct.index(table) for table in tables],
        bags,
        gradients,
        learning_rate=learning_rate,
        combiners=[table.combiner for table in tables],
        weights=[table.weights(each) for table, each in zip(tables, bags, strict=True)],
    )


def _looked_up_in_shards(tables: Sequence[EmbeddingTable], bags: Sequence[tf.RaggedTensor]) -> list[tf.Tensor]:
    """All bags of a table in one lookup, as in its update, so that the ids travel to its shards once."""
    found: dict[int, tf.Tensor] = {}
    for table in dict.fromkeys(tables):
        own = _places(table, tables)
        values = table.lookup(_one_list([bags[place] for place in own]))
        sizes = [bags[place].nrows() for place in own]
        found |= zip(own, [values] if len(own) == 1 else tf.split(values, tf.stack(sizes), num=len(own)), strict=True)
    return [found[place] for place in range(len(tables))]


def _places(table: EmbeddingTable, tables: Sequence[EmbeddingTable]) -> list[int]:
    return [place for place, each in enumerate(tables) if each is table]


def _one_list(lists: Sequence[tf.Tensor | tf.RaggedTensor]) -> tf.Tensor | tf.RaggedTensor:
    return lists[0] if len(lists) == 1 else tf.concat(lists, axis=0)


def _are_local(tables: Sequence[EmbeddingTable]) -> bool:
    return all(table.placement is None for table in tables)
