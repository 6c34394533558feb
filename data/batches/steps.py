"""The batches of any consecutive steps of an epoch, on one machine and on a cluster.

An epoch is planned on the host. The plan of some steps, a few hundred bytes, goes with the call of a graph, which makes
the batches of these steps from files that it maps into memory. Nothing has a state: the same (seed, epoch, step) gives
the same batch, on whichever machine the graph runs and wherever an interrupted epoch is entered again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from dpsr.data.batches.arrays import graph_array
from dpsr.data.batches.blocks import FIELDS, BlockOrder, Blocks, Windows, read_windows
from dpsr.data.dataset.schema import DatasetError

_CATALOGUE_KEY = (0, 1)
"""Key of the seeds of the catalogue's epochs, which differ from those of the log's."""


class LogPlan(NamedTuple):
    """Some consecutive steps of the log; a few hundred bytes."""

    seed: np.ndarray
    """int64 [2], of the first step; the second number grows by one with every step."""
    windows: Windows
    """Their records."""


class CataloguePlan(NamedTuple):
    """Some consecutive steps of the catalogue; four bytes an example."""

    seed: np.ndarray
    """int64 [2], as in ``LogPlan``."""
    items: np.ndarray
    """int32 [steps, B]."""


class EpochPlan(Protocol):
    """The order of the examples of one epoch."""

    def steps(self, first_step: int, steps: int) -> Any:
        """The plan of steps ``first_step`` to ``first_step + steps - 1``, at least one."""


class BatchSource(Protocol):
    """Plans epochs over one kind of examples, and makes the batches of planned steps."""

    spec: Any
    """A plan of ``tf.TensorSpec``."""
    steps: int
    """Steps of an epoch; every example comes once, and the last batch is filled up from the start of the order."""
    batch_size: int
    """Examples of a step."""

    def epoch(self, seed: int, epoch: int) -> EpochPlan:
        """The plan of an epoch, from 0; the same arguments give the same batches."""

    def batches(self, plan: Any) -> Callable[[tf.Tensor], Any]:
        """What makes the batch of the plan's step of a number, int64 [] from 0, inside a graph."""


class RecordMaker(Protocol):
    """Makes the batch of a step of its records, as ``BatchMaker``."""

    @property
    def batch_size(self) -> int:
        """B, examples of a step."""

    @property
    def batch_records(self) -> int:
        """Records of a step."""

    def of_records(self, records: tf.Tensor, seed: tf.Tensor) -> Any:
        """The batch of records, int32 [batch_records, 5], and a seed, int64 [2]."""


class WeightedRecordMaker(RecordMaker, Protocol):
    """Makes the batch of a step of records that have weights, as ``BatchMaker``."""

    def of_records(self, records: tf.Tensor, seed: tf.Tensor, weights: tf.Tensor | None = None) -> Any:
        """As ``RecordMaker.of_records``, with the weights of the records, float32 [batch_records]."""


class ItemMaker(Protocol):
    """Makes the batch of a step of its items, as ``BatchMaker``."""

    @property
    def batch_size(self) -> int:
        """B, items of a step."""

    def of_items(self, item_rows: tf.Tensor, seed: tf.Tensor) -> Any:
        """The batch of items, int32 [B], and a seed, int64 [2]."""


class LogBatches:
    """Batches of a file of records: every record once an epoch, in shuffled order."""

    spec = LogPlan(
        tf.TensorSpec([2], tf.int64),
        Windows(
            tf.TensorSpec([], tf.int64), tf.TensorSpec([None, 3], tf.int64), tf.TensorSpec([None, None, 2], tf.int64)
        ),
    )

    def __init__(self, maker: RecordMaker, records_file: str | os.PathLike[str]) -> None:
        """Prepares to read a file.

        Args:
            maker: makes batches of records.
            records_file: of ``data.dataset.records``, shuffled when it was written.

        Raises:
            DatasetError: the file is empty, or not a file of records.
        """
        self._maker = maker
        self._blocks = Blocks(records_file)
        self._file = graph_array(np.memmap(records_file, np.uint8, mode="r"))
        self.batch_size = maker.batch_size
        self.steps = -(-self._blocks.num_records // maker.batch_records)

    def epoch(self, seed: int, epoch: int) -> _LogEpoch:
        """As ``BatchSource.epoch``."""
        order_seed, draws_seed = epoch_seeds(seed, epoch)
        return _LogEpoch(self._blocks.order(order_seed), draws_seed, self._maker.batch_records)

    def batches(self, plan: LogPlan) -> Callable[[tf.Tensor], Any]:
        """As ``BatchSource.batches``."""
        records, _ = read_windows(tf.convert_to_tensor(self._file), self._blocks.layout, plan.windows)
        records = tf.reshape(records, [-1, self._maker.batch_records, FIELDS])
        return lambda position: self._maker.of_records(records[position], _seed_of_step(plan.seed, position))


class WeightedLogBatches(LogBatches):
    """Batches of the same records in the same order, with a weight of each."""

    def __init__(self, maker: WeightedRecordMaker, records_file: str | os.PathLike[str], weights: np.ndarray) -> None:
        """As ``LogBatches``; ``weights`` float32 [records], in the order of the file."""
        super().__init__(maker, records_file)
        self._weighted_maker = maker
        self._weights = graph_array(weights)

    def batches(self, plan: LogPlan) -> Callable[[tf.Tensor], Any]:
        """As ``BatchSource.batches``."""
        maker = self._weighted_maker
        file, of_file = tf.convert_to_tensor(self._file), tf.convert_to_tensor(self._weights)
        records, weights = read_windows(file, self._blocks.layout, plan.windows, of_file)
        records = tf.reshape(records, [-1, maker.batch_records, FIELDS])
        weights = tf.reshape(weights, [-1, maker.batch_records])
        return lambda position: maker.of_records(
            records[position], _seed_of_step(plan.seed, position), weights[position]
        )


class CatalogueBatches:
    """Batches of the catalogue: every item once an epoch, in random order."""

    def __init__(self, maker: ItemMaker, item_rows: np.ndarray) -> None:
        """Prepares to make batches of items.

        Args:
            maker: makes batches of items.
            item_rows: the items, int32 [n].

        Raises:
            DatasetError: there is no item.
        """
        if not len(item_rows):
            raise DatasetError("the catalogue holds no item to train on")
        self._maker = maker
        self._item_rows = item_rows
        self.batch_size = maker.batch_size
        self.steps = -(-len(item_rows) // maker.batch_size)
        self.spec = CataloguePlan(tf.TensorSpec([2], tf.int64), tf.TensorSpec([None, maker.batch_size], tf.int32))

    def epoch(self, seed: int, epoch: int) -> _CatalogueEpoch:
        """As ``BatchSource.epoch``."""
        order_seed, draws_seed = epoch_seeds(seed, epoch, *_CATALOGUE_KEY)
        order = np.random.default_rng(order_seed).permutation(self._item_rows)
        return _CatalogueEpoch(order, draws_seed, self.batch_size)

    def batches(self, plan: CataloguePlan) -> Callable[[tf.Tensor], Any]:
        """As ``BatchSource.batches``."""
        items = tf.convert_to_tensor(plan.items)
        return lambda position: self._maker.of_items(items[position], _seed_of_step(plan.seed, position))


class _LogEpoch(NamedTuple):
    order: BlockOrder
    draws_seed: int
    batch_records: int

    def steps(self, first_step: int, steps: int) -> LogPlan:
        windows = self.order.windows(first_step * self.batch_records, steps * self.batch_records)
        return LogPlan(np.array([self.draws_seed, first_step]), windows)


class _CatalogueEpoch(NamedTuple):
    order: np.ndarray
    draws_seed: int
    batch_size: int

    def steps(self, first_step: int, steps: int) -> CataloguePlan:
        places = np.arange(first_step * self.batch_size, (first_step + steps) * self.batch_size)
        items = np.take(self.order, places, mode="wrap").reshape(steps, self.batch_size)
        return CataloguePlan(np.array([self.draws_seed, first_step]), items)


def epoch_batches(source: BatchSource, *, seed: int, epoch: int, first_step: int = 0) -> Iterator[Any]:
    """The batches of an epoch one by one, outside a graph, from step ``first_step`` on; one call of a graph each."""
    plan = source.epoch(seed, epoch)
    make = tf.function(lambda of_step: source.batches(of_step)(tf.zeros([], tf.int64)), input_signature=[source.spec])
    for step in range(first_step, source.steps):
        yield make(plan_tensors(plan.steps(step, 1)))


def plan_tensors(plan: Any) -> Any:
    """A plan with a tensor in place of every array, as a graph takes it."""
    return tf.nest.map_structure(tf.constant, plan)


def epoch_seeds(seed: int, epoch: int, *key: int) -> tuple[int, int]:
    """Independent non-negative seeds for the order and for the draws of an epoch, others for every key."""
    sequence = np.random.SeedSequence([seed % (1 << 64), epoch], spawn_key=key)
    state = sequence.generate_state(2, np.uint64)
    return int(state[0] >> 1), int(state[1] >> 1)


def _seed_of_step(first: np.ndarray | tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    return first + tf.stack([tf.zeros([], tf.int64), position])
