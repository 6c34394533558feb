"""Training batches: what a step learns from, joined with the tables inside the graph.

Everything random is a function of (seed, epoch, step), never of state: a run that is interrupted continues with exactly
the batches that it has not seen, and any worker of a cluster makes the batch of any step (``data.steps``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dpsr.data.batches.augmentation import ItemTexts, QueryTexts
from dpsr.data.batches.blocks import FIELDS, Blocks
from dpsr.data.batches.features import FeatureTables, ItemFeatures, QueryFeatures
from dpsr.data.dataset.tables import DatasetError

_PRETRAINING = 1


class Batch(NamedTuple):
    """One training step: B examples and R random negatives that all of them share."""

    queries: QueryFeatures
    """B rows."""
    items: ItemFeatures
    """B positives, then R random negatives."""
    query_rows: tf.Tensor
    """int32 [B]; -1 - item row for a query of the item's own words, which nobody typed."""
    item_rows: tf.Tensor
    """int32 [B + R]."""


@dataclass(frozen=True)
class BatchMaker:
    """Makes the batch of a step of its records or items; the same arguments always give the same batch."""

    tables: FeatureTables
    batch_size: int
    """B, examples of a step."""
    random_negatives: int
    """R, items drawn uniformly (with replacement) from the catalogue at each step."""
    num_items: int
    """Size of the catalogue."""
    query_texts: QueryTexts | None = None
    """Gives some logged queries a typo."""
    item_texts: ItemTexts | None = None
    """Makes the queries that nobody typed."""
    mixed_rows: int = 0
    """The last so many of the B examples of a step of the log are random items with words of their own as the query."""

    @property
    def batch_records(self) -> int:
        """Records of a step of the log."""
        return self.batch_size - self.mixed_rows

    def of_records(self, records: tf.Tensor, seed: tf.Tensor) -> Batch:
        """The batch of a step of the log.

        Args:
            records: int32 [B - mixed_rows, 5], the fields of INTERACTION.
            seed: int64 [2], another one for every step.
        """
        records = tf.ensure_shape(records, [self.batch_records, FIELDS])
        queries, query_rows, positives = self.tables.queries(records), records[:, 0], records[:, 2]
        if self.query_texts:
            queries = queries._replace(tokens=self.query_texts.with_typos(queries.tokens, query_rows, seed))
        if self.mixed_rows:
            drawn = tf.random.stateless_uniform(
                [self.mixed_rows], _mixed_seed(seed), maxval=self.num_items, dtype=tf.int32
            )
            queries = tf.nest.map_structure(_one_below_the_other, queries, self._asked_by_themselves(drawn, seed))
            query_rows = tf.concat([query_rows, -1 - drawn], axis=0)
            positives = tf.concat([positives, drawn], axis=0)
        return self._with_negatives(queries, query_rows, positives, seed)

    def of_items(self, item_rows: tf.Tensor, seed: tf.Tensor) -> Batch:
        """The batch of a step of pre-training, in which items are asked for by random words of their own.

        Args:
            item_rows: int32 [B].
            seed: int64 [2], another one for every step.
        """
        item_rows = tf.ensure_shape(item_rows, [self.batch_size])
        return self._with_negatives(self._asked_by_themselves(item_rows, seed), -1 - item_rows, item_rows, seed)

    def _with_negatives(
        self, queries: QueryFeatures, query_rows: tf.Tensor, positives: tf.Tensor, seed: tf.Tensor
    ) -> Batch:
        shape = [self.random_negatives]
        negatives = tf.random.stateless_uniform(shape, seed, maxval=self.num_items, dtype=tf.int32)
        item_rows = tf.concat([positives, negatives], axis=0)
        return Batch(queries, self.tables.items(item_rows), query_rows, item_rows)

    def _asked_by_themselves(self, item_rows: tf.Tensor, seed: tf.Tensor) -> QueryFeatures:
        if self.item_texts is None:
            raise ValueError("queries that nobody typed need item_texts to be made of")
        nobody = tf.fill(tf.shape(item_rows), -1)
        return self.tables.with_user_context(self.item_texts.queries(item_rows, seed), nobody, tf.zeros_like(item_rows))


def training_batches(
    batches: BatchMaker,
    records_files: Sequence[str | os.PathLike[str]],
    *,
    seed: int,
    epoch: int,
    skip_steps: int = 0,
    worker: int = 0,
    num_workers: int = 1,
) -> tf.data.Dataset:
    """One epoch of training batches; the same arguments always give the same batches.

    An epoch has ``ceil(records / batches.batch_records)`` steps and every record once; the last batch, where it is
    short, is filled up from the start of the same order, so that shapes never change. With several workers each has its
    own share of the records, the shares differ by one record at most, and all have as many steps as the largest needs.

    Args:
        batches: what a batch is made of.
        records_files: files of ``data.records``, shuffled when they were written.
        seed: together with ``epoch`` decides every order and every draw.
        epoch: number of the epoch.
        skip_steps: leaves out the first steps, as an interrupted epoch has done them already.
        worker: number of this worker, from 0.
        num_workers: workers that share the records.

    Returns:
        A dataset of Batch, ``queries`` [B], ``items`` [B + R].

    Raises:
        DatasetError: there are fewer records than workers, or a file is none of records.
    """
    blocks = Blocks(records_files, worker, num_workers)
    order_seed, draws_seed = epoch_seeds(seed, epoch, worker)
    of_log = batches.batch_records
    steps = -(-blocks.most_records // of_log)
    _check_skipped(skip_steps, steps, of_log)
    start = skip_steps * of_log % blocks.num_records  # the order goes round
    records = blocks.shuffled(order_seed, start).rebatch(of_log, drop_remainder=True).take(steps - skip_steps)

    def make(step: tf.Tensor, records: tf.Tensor) -> Batch:
        return batches.of_records(records, tf.stack([tf.constant(draws_seed, tf.int64), step]))

    made = records.enumerate(start=skip_steps).map(make, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return made.prefetch(tf.data.AUTOTUNE)


def pretraining_batches(
    batches: BatchMaker, *, seed: int, epoch: int, skip_steps: int = 0, worker: int = 0, num_workers: int = 1
) -> tf.data.Dataset:
    """One epoch of pre-training: every item once, in random order, with random words of its own text as the query.

    Arguments, order, shares of workers and the filling of the last batch are those of ``training_batches``, with items
    in the place of records; every epoch draws other words.

    Raises:
        DatasetError: there are fewer items than workers.
    """
    num_items, batch_size = batches.num_items, batches.batch_size
    if num_items < num_workers:
        raise DatasetError(f"{num_items} items are too few for {num_workers} workers")
    low, high = num_items * worker // num_workers, num_items * (worker + 1) // num_workers
    order, draws_seed = order_of_items(seed, epoch, low, high, worker)
    order = tf.constant(order)
    steps = steps_of_pretraining(num_items, batch_size, num_workers)
    _check_skipped(skip_steps, steps, batch_size)

    def make(step: tf.Tensor) -> Batch:
        rows = tf.gather(order, (step * batch_size + tf.range(batch_size, dtype=tf.int64)) % (high - low))
        return batches.of_items(rows, tf.stack([tf.constant(draws_seed, tf.int64), step]))

    steps_left = tf.data.Dataset.range(skip_steps, steps)
    return steps_left.map(make, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def steps_of_pretraining(num_items: int, batch_size: int, num_workers: int = 1) -> int:
    """The steps of an epoch of ``pretraining_batches``."""
    of_largest_share = -(-num_items // num_workers)
    return -(-of_largest_share // batch_size)


def epoch_seeds(seed: int, epoch: int, worker: int, *phase: int) -> tuple[int, int]:
    """Independent non-negative seeds for the order and the draws of a worker's epoch, others in every phase."""
    spawn_key = (worker, *phase) if worker or phase else ()
    sequence = np.random.SeedSequence([seed % (1 << 64), epoch], spawn_key=spawn_key)
    state = sequence.generate_state(2, np.uint64)
    return int(state[0] >> 1), int(state[1] >> 1)


def order_of_items(seed: int, epoch: int, low: int, high: int, worker: int = 0) -> tuple[np.ndarray, int]:
    """The items ``low..high - 1`` as an epoch of a worker's pre-training goes through them, and the seed of its draws.

    Returns:
        int32 [high - low], and a whole number.
    """
    order_seed, draws_seed = epoch_seeds(seed, epoch, worker, _PRETRAINING)
    order = low + np.random.default_rng(order_seed).permutation(high - low)
    return order.astype(np.int32), draws_seed


def _one_below_the_other(
    first: tf.Tensor | tf.RaggedTensor | None, second: tf.Tensor | tf.RaggedTensor | None
) -> tf.Tensor | tf.RaggedTensor | None:
    return None if first is None else tf.concat([first, second], axis=0)


def _mixed_seed(step_seed: tf.Tensor) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(step_seed, 1)


def _check_skipped(skip_steps: int, steps: int, examples: int) -> None:
    if not 0 <= skip_steps <= steps:
        raise ValueError(f"skip_steps = {skip_steps}, but an epoch has {steps} steps of {examples} examples")
