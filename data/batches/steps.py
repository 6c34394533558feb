"""Any steps of an epoch by themselves: what a worker of a cluster makes its batches of.

The batches are those of ``data.pipeline``, without its state: the chief plans an epoch, a plan of some steps goes with
the call, and the worker needs nothing else but files that it maps into memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from dpsr.data.batches.blocks import FIELDS, BlockOrder, Blocks, Windows, read_windows
from dpsr.data.batches.features import ToTensor
from dpsr.data.batches.pipeline import Batch, BatchMaker, epoch_seeds, order_of_items


class LogPlan(NamedTuple):
    """Some consecutive steps of the log; some hundred bytes."""

    seed: np.ndarray
    """int64 [2], of the first step; those of the next have one more in the second place."""
    windows: Windows
    """Their records."""


class CataloguePlan(NamedTuple):
    """Some consecutive steps of pre-training; four bytes an example."""

    seed: np.ndarray
    """int64 [2], as in ``LogPlan``."""
    items: np.ndarray
    """int32 [steps, B]."""


class EpochPlan(Protocol):
    """The order of an epoch, from which any steps can be told."""

    def steps(self, first_step: int, steps: int) -> LogPlan | CataloguePlan:
        """The plan of steps ``first_step`` to ``first_step + steps - 1``, at least one."""


class Steps(Protocol):
    """Plans epochs of one kind, and makes the batches of a plan's steps."""

    spec: Any
    """A plan of ``tf.TensorSpec``."""

    def epoch(self, seed: int, epoch: int) -> EpochPlan:
        """The plan of an epoch; the arguments are those of ``training_batches``."""

    def batches(self, plan: Any) -> Callable[[tf.Tensor], Batch]:
        """What makes the batch of the plan's step of a number, int64 [] from 0, inside a graph."""


class LogSteps:
    """Steps of ``training_batches``."""

    spec = LogPlan(
        tf.TensorSpec([2], tf.int64),
        Windows(
            tf.TensorSpec([], tf.int64), tf.TensorSpec([None, 3], tf.int64), tf.TensorSpec([None, None, 2], tf.int64)
        ),
    )

    def __init__(
        self, batches: BatchMaker, records_file: str | os.PathLike[str], *, tensor: ToTensor = tf.constant
    ) -> None:
        """Prepares to read a file of records.

        Args:
            batches: what a batch is made of.
            records_file: of ``data.records``.
            tensor: how its bytes get into the graph.
        """
        self._batches = batches
        self._blocks = Blocks([records_file])
        self._file = tensor(np.memmap(records_file, np.uint8, mode="r"))

    def epoch(self, seed: int, epoch: int) -> _LogEpoch:
        """As ``Steps.epoch``."""
        order_seed, draws_seed = epoch_seeds(seed, epoch, 0)
        return _LogEpoch(self._blocks.order(order_seed), draws_seed, self._batches.batch_records)

    def batches(self, plan: LogPlan) -> Callable[[tf.Tensor], Batch]:
        """As ``Steps.batches``."""
        records = read_windows(tf.convert_to_tensor(self._file), self._blocks.layout, plan.windows)
        records = tf.reshape(records, [-1, self._batches.batch_records, FIELDS])
        return lambda position: self._batches.of_records(records[position], _seed_of_step(plan.seed, position))


class CatalogueSteps:
    """Steps of ``pretraining_batches``."""

    def __init__(self, batches: BatchMaker) -> None:
        """Prepares to make ``batches`` of items."""
        self._batches = batches
        self.spec = CataloguePlan(tf.TensorSpec([2], tf.int64), tf.TensorSpec([None, batches.batch_size], tf.int32))

    def epoch(self, seed: int, epoch: int) -> _CatalogueEpoch:
        """As ``Steps.epoch``."""
        order, draws_seed = order_of_items(seed, epoch, 0, self._batches.num_items)
        return _CatalogueEpoch(order, draws_seed, self._batches.batch_size)

    def batches(self, plan: CataloguePlan) -> Callable[[tf.Tensor], Batch]:
        """As ``Steps.batches``."""
        items = tf.convert_to_tensor(plan.items)
        return lambda position: self._batches.of_items(items[position], _seed_of_step(plan.seed, position))


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


def _seed_of_step(first: np.ndarray | tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    return first + tf.stack([tf.zeros([], tf.int64), position])
