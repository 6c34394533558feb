"""Training batches: shuffled blocks of fixed-width records, joined with the tables inside the graph.

The records on disk are already shuffled, so an epoch shuffles blocks of them, and then the rows of a window of blocks:
nearly as random as shuffling rows, at a fraction of the cost. Everything random is a function of (seed, epoch,
position), never of state: a run that is interrupted continues with exactly the batches that it has not seen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from dpsr.data.augmentation import ItemTexts, QueryTexts
from dpsr.data.records import HEADER_BYTES, Field, Layout, common_layout, num_records
from dpsr.data.schema import INTERACTION
from dpsr.data.tables import Bags, Dataset, DatasetError

_FIELDS = len(INTERACTION.names or ())
_BLOCK_RECORDS = 8192
_WINDOW_BLOCKS = 8
TITLE_TOKENS = 12
"""Of an item of the history so many tokens are read at most, its first ones: words come before bigrams and trigrams."""
_PRETRAINING = 1

ToTensor = Callable[[np.ndarray], Any]
"""Makes of an array what TensorFlow takes for a tensor: ``tf.constant``, or ``data.mapped.ArrayFiles``."""


class QueryFeatures(NamedTuple):
    """What the query tower reads, B rows."""

    tokens: tf.RaggedTensor
    """int32 [B, None]."""
    profile: dict[str, tf.Tensor]
    """int32 [B] for each profile column."""
    history: tf.RaggedTensor
    """int32 [B, None] item rows, oldest first, at most ``history_length``."""
    history_titles: tf.RaggedTensor | None = None
    """int32 [B, None] first tokens of the last ``history_titles`` of these items; None where no model reads them."""


class ItemFeatures(NamedTuple):
    """What the item tower reads, N rows."""

    tokens: tf.RaggedTensor
    """int32 [N, None]."""
    categorical: dict[str, tf.Tensor]
    """int32 [N] for each categorical column."""


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


class JoinedTables:
    """The item, query and user tables as tensors; joins are gathers inside the graph."""

    def __init__(
        self, dataset: Dataset, history_length: int, history_titles: int = 0, *, tensor: ToTensor = tf.constant
    ) -> None:
        """Copies the tables to TensorFlow.

        Args:
            dataset: an opened dataset.
            history_length: the most item rows of a history; 0 leaves histories empty.
            history_titles: the most items of a history whose titles are read too; 0 leaves them out.
            tensor: how an array gets there.
        """
        self._history_length = history_length
        self._history_titles = history_titles
        self._titles = None
        if history_titles:
            titles = first_tokens(dataset.item_tokens)
            self._titles = tensor(titles.values), tensor(titles.row_splits)
        self._item_tokens = tensor(dataset.item_tokens.values), tensor(dataset.item_tokens.row_splits)
        self._item_categorical = _Columns(dataset.item_categorical, tensor)
        self._query_tokens = tensor(dataset.query_tokens.values), tensor(dataset.query_tokens.row_splits)
        # One row more than there are users stands for the unknown user: no profile, no history.
        self._unknown_user = len(dataset.history)
        profile = {name: np.append(ids, 0) for name, ids in dataset.user_profile.items()}
        self._user_profile = _Columns(profile, tensor)
        self._history_values = tensor(dataset.history.values)
        self._history_starts = tensor(dataset.history.row_splits)  # [users + 1], so the unknown user has a start

    def queries(self, interactions: tf.Tensor) -> QueryFeatures:
        """Joins records with queries and users.

        Args:
            interactions: int32 [B, 5], the fields of INTERACTION.
        """
        return self.asked_by(
            tf.gather(_ragged(*self._query_tokens), interactions[:, 0]), interactions[:, 1], interactions[:, 4]
        )

    def asked_by(self, tokens: tf.RaggedTensor, user: tf.Tensor, history_end: tf.Tensor) -> QueryFeatures:
        """Joins queries that are given by their tokens with users.

        Args:
            tokens: int32 [B, None].
            user: int32 [B], -1 for nobody.
            history_end: int32 [B].
        """
        user = tf.where(user < 0, self._unknown_user, user)
        history = self._history(user, history_end)
        return QueryFeatures(
            tokens=tokens,
            profile=self._user_profile.gather(user),
            history=history,
            history_titles=self._titles_of(history),
        )

    def items(self, item_rows: tf.Tensor) -> ItemFeatures:
        """The features of items.

        Args:
            item_rows: int32 [N].
        """
        return ItemFeatures(
            tokens=tf.gather(_ragged(*self._item_tokens), item_rows),
            categorical=self._item_categorical.gather(item_rows),
        )

    def _titles_of(self, history: tf.RaggedTensor) -> tf.RaggedTensor | None:
        return None if self._titles is None else titles_of(history, _ragged(*self._titles), self._history_titles)

    def _history(self, user: tf.Tensor, history_end: tf.Tensor) -> tf.RaggedTensor:
        if not self._history_length:
            splits = tf.zeros([tf.size(user) + 1], tf.int64)
            return tf.RaggedTensor.from_row_splits(tf.zeros([0], tf.int32), splits, validate=False)
        start = tf.gather(self._history_starts, user)
        end = start + tf.cast(history_end, tf.int64)
        positions = tf.ragged.range(tf.maximum(start, end - self._history_length), end)
        return positions.with_flat_values(tf.gather(self._history_values, positions.flat_values))


def first_tokens(bags: Bags) -> Bags:
    """The first ``TITLE_TOKENS`` ids of every bag."""
    starts, lengths = bags.row_splits[:-1], np.minimum(np.diff(bags.row_splits), TITLE_TOKENS)
    row_splits = np.concatenate([[0], np.cumsum(lengths)])
    values = bags.values[np.arange(row_splits[-1]) + np.repeat(starts - row_splits[:-1], lengths)]
    return Bags(values, row_splits)


def titles_of(history: tf.RaggedTensor, titles: tf.RaggedTensor, most: int) -> tf.RaggedTensor:
    """The titles of the last items of histories, one after the other.

    Args:
        history: int32 [B, None] item rows, oldest first.
        titles: int32 [items, None].
        most: so many items of a history are read.

    Returns:
        int32 [B, None].
    """
    return tf.gather(titles, history[:, -most:]).merge_dims(1, 2)


def training_batches(
    tables: JoinedTables,
    records_files: Sequence[str | os.PathLike[str]],
    *,
    batch_size: int,
    random_negatives: int,
    num_items: int,
    seed: int,
    epoch: int,
    skip_steps: int = 0,
    worker: int = 0,
    num_workers: int = 1,
    query_texts: QueryTexts | None = None,
    item_texts: ItemTexts | None = None,
    mixed_rows: int = 0,
) -> tf.data.Dataset:
    """One epoch of training batches; the same arguments always give the same batches.

    An epoch has ``ceil(records / batch_size)`` steps and every record once; the last batch, where it is short, is
    filled up from the start of the same order, so that shapes never change. With several workers each has its own
    share of the records, the shares differ by one record at most, and all have as many steps as the largest needs.

    Args:
        tables: the joined tables.
        records_files: files of ``data.records``, shuffled when they were written.
        batch_size: B, examples of a step.
        random_negatives: R, items drawn uniformly (with replacement) from the catalogue at each step.
        num_items: size of the catalogue.
        seed: together with ``epoch`` decides every order and every draw.
        epoch: number of the epoch.
        skip_steps: leaves out the first steps, as an interrupted epoch has done them already.
        worker: number of this worker, from 0.
        num_workers: workers that share the records.
        query_texts: gives some queries a typo.
        item_texts: makes the queries of ``mixed_rows``.
        mixed_rows: the last so many of the B examples are random items with words of their own as the query, and an
            epoch has ``ceil(records / (B - mixed_rows))`` steps.

    Returns:
        A dataset of Batch, ``queries`` [B], ``items`` [B + R].

    Raises:
        DatasetError: there are fewer records than workers, or a file is none of records.
    """
    blocks = _Blocks(records_files, worker, num_workers)
    order_seed, draws_seed = _derived_seeds(seed, epoch, worker)
    of_log = batch_size - mixed_rows
    steps = -(-blocks.most_records // of_log)
    _check_skipped(skip_steps, steps, of_log)
    start = skip_steps * of_log % blocks.num_records  # the order goes round
    records = blocks.shuffled(order_seed, start).rebatch(of_log, drop_remainder=True).take(steps - skip_steps)

    def join(step: tf.Tensor, interactions: tf.Tensor) -> Batch:
        interactions = tf.ensure_shape(interactions, [of_log, _FIELDS])
        seed = tf.constant(draws_seed, tf.int64)
        batch = _join(tables, step, interactions, seed, random_negatives, num_items)
        step_seed = tf.stack([seed, step])
        if query_texts:
            batch = _with_typos(batch, query_texts, step_seed)
        if item_texts and mixed_rows:
            batch = _with_mixed_rows(batch, tables, item_texts, mixed_rows, num_items, step_seed)
        return batch

    batches = records.enumerate(start=skip_steps).map(join, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batches.prefetch(tf.data.AUTOTUNE)


def _join(
    tables: JoinedTables,
    step: tf.Tensor,
    interactions: tf.Tensor,
    negatives_seed: tf.Tensor,
    random_negatives: int,
    num_items: int,
) -> Batch:
    """The batch of a step: its records and its random negatives with all their features."""
    seed = tf.stack([negatives_seed, step])
    negatives = tf.random.stateless_uniform([random_negatives], seed, maxval=num_items, dtype=tf.int32)
    item_rows = tf.concat([interactions[:, 2], negatives], axis=0)
    return Batch(tables.queries(interactions), tables.items(item_rows), interactions[:, 0], item_rows)


class StepPlan(NamedTuple):
    """Where the records of some consecutive steps of an epoch are; small enough to go with every call."""

    first_step: np.ndarray
    """int64 []."""
    seeds: np.ndarray
    """int64 [2], of the order and of the negatives."""
    windows: np.ndarray
    """int64 [W, 3]: number of a window, and which of its shuffled rows are meant, from and to."""
    blocks: np.ndarray
    """int64 [W, 8, 2]: first record and number of records of a window's blocks; none where there are fewer."""


class EpochPlan:
    """The order of an epoch as ``training_batches`` has it, from which the records of any step can be told."""

    def __init__(self, records_file: str | os.PathLike[str], *, batch_size: int, seed: int, epoch: int) -> None:
        """Shuffles the blocks; the arguments are those of ``training_batches``."""
        blocks = _Blocks([records_file], 0, 1)
        self._batch_size = batch_size
        self._num_records = blocks.num_records
        self._seeds = np.array(_derived_seeds(seed, epoch, 0), np.int64)
        self._blocks = blocks.in_order(int(self._seeds[0]))[:, 1:]
        self._window_starts = _window_starts(self._blocks[:, 1])

    def steps(self, first_step: int, steps: int) -> StepPlan:
        """The plan of steps ``first_step`` to ``first_step + steps - 1``, at least one."""
        position, missing, windows = first_step * self._batch_size % self._num_records, steps * self._batch_size, []
        while missing:
            number = int(np.searchsorted(self._window_starts, position, side="right")) - 1
            start = int(self._window_starts[number])
            end = int(self._window_starts[number + 1]) if number + 1 < len(self._window_starts) else self._num_records
            taken = min(missing, end - position)
            windows.append((number, position - start, position - start + taken))
            position, missing = (position + taken) % self._num_records, missing - taken
        blocks = np.zeros((len(windows), _WINDOW_BLOCKS, 2), np.int64)
        for row, (number, _, _) in enumerate(windows):
            of_window = self._blocks[number * _WINDOW_BLOCKS : (number + 1) * _WINDOW_BLOCKS]
            blocks[row, : len(of_window)] = of_window
        return StepPlan(np.array(first_step, np.int64), self._seeds, np.array(windows, np.int64), blocks)


class StepReader:
    """Makes the batches of any steps of any epoch, from nothing but their plan and the files of the dataset."""

    def __init__(
        self,
        tables: JoinedTables,
        records_file: str | os.PathLike[str],
        *,
        batch_size: int,
        random_negatives: int,
        num_items: int,
        tensor: ToTensor,
    ) -> None:
        """Prepares to read; the arguments are those of ``training_batches``, ``tensor`` that of ``JoinedTables``."""
        self._tables = tables
        self._layout = common_layout([records_file])
        self._file = tensor(np.memmap(records_file, np.uint8, mode="r"))
        self._batch_size = batch_size
        self._random_negatives = random_negatives
        self._num_items = num_items

    def records(self, plan: StepPlan) -> tf.Tensor:
        """The records of a plan's steps in their order, int32 [steps, B, 5]."""
        record_bytes = self._layout.record_bytes
        file, parts = tf.convert_to_tensor(self._file), tf.TensorArray(tf.uint8, 0, True, infer_shape=False)
        for row in tf.range(tf.shape(plan.windows)[0]):
            window, blocks = plan.windows[row], plan.blocks[row]
            starts = HEADER_BYTES + blocks[:, 0] * record_bytes
            sizes = blocks[:, 1] * record_bytes
            texts = [tf.slice(file, starts[at : at + 1], sizes[at : at + 1]) for at in range(_WINDOW_BLOCKS)]
            rows = tf.reshape(tf.concat(texts, axis=0), [-1, record_bytes])
            rows = tf.random.experimental.stateless_shuffle(rows, tf.stack([plan.seeds[0], window[0]]))
            parts = parts.write(row, rows[window[1] : window[2]])
        fields = _unpack(tf.reshape(parts.concat(), [-1, record_bytes]), self._layout)
        return tf.reshape(fields, [-1, self._batch_size, _FIELDS])

    def batch(self, plan: StepPlan, records: tf.Tensor, position: tf.Tensor) -> Batch:
        """The batch of the plan's step ``position`` (int64 [], from 0), given all its ``records``."""
        step = plan.first_step + position
        return _join(self._tables, step, records[position], plan.seeds[1], self._random_negatives, self._num_items)


def pretraining_batches(
    tables: JoinedTables,
    item_texts: ItemTexts,
    *,
    batch_size: int,
    random_negatives: int,
    num_items: int,
    seed: int,
    epoch: int,
    skip_steps: int = 0,
    worker: int = 0,
    num_workers: int = 1,
) -> tf.data.Dataset:
    """One epoch of pre-training: every item once, in random order, with random words of its own text as the query.

    Arguments, order, shares of workers and the filling of the last batch are those of ``training_batches``, with items
    in the place of records; every epoch draws other words.

    Raises:
        DatasetError: there are fewer items than workers.
    """
    if num_items < num_workers:
        raise DatasetError(f"{num_items} items are too few for {num_workers} workers")
    order_seed, draws_seed = _derived_seeds(seed, epoch, worker, _PRETRAINING)
    low, high = num_items * worker // num_workers, num_items * (worker + 1) // num_workers
    order = tf.constant(low + np.random.default_rng(order_seed).permutation(high - low), tf.int32)
    steps = steps_of_pretraining(num_items, batch_size, num_workers)
    _check_skipped(skip_steps, steps, batch_size)

    def join(step: tf.Tensor) -> Batch:
        step_seed = tf.stack([tf.constant(draws_seed, tf.int64), step])
        positives = tf.gather(order, (step * batch_size + tf.range(batch_size, dtype=tf.int64)) % (high - low))
        negatives = tf.random.stateless_uniform([random_negatives], step_seed, maxval=num_items, dtype=tf.int32)
        item_rows = tf.concat([positives, negatives], axis=0)
        features = _queries_of_items(tables, item_texts, positives, step_seed)
        return Batch(features, tables.items(item_rows), -1 - positives, item_rows)

    steps_left = tf.data.Dataset.range(skip_steps, steps)
    return steps_left.map(join, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def steps_of_pretraining(num_items: int, batch_size: int, num_workers: int = 1) -> int:
    """The steps of an epoch of ``pretraining_batches``."""
    of_largest_share = -(-num_items // num_workers)
    return -(-of_largest_share // batch_size)


def _with_typos(batch: Batch, query_texts: QueryTexts, step_seed: tf.Tensor) -> Batch:
    tokens = query_texts.with_typos(batch.queries.tokens, batch.query_rows, step_seed)
    return batch._replace(queries=batch.queries._replace(tokens=tokens))


def _with_mixed_rows(
    batch: Batch, tables: JoinedTables, item_texts: ItemTexts, rows: int, num_items: int, step_seed: tf.Tensor
) -> Batch:
    """The batch with random items, and words of their own as queries, behind its examples."""
    of_log = tf.shape(batch.query_rows)[0]
    drawn = tf.random.stateless_uniform([rows], _mixed_seed(step_seed), maxval=num_items, dtype=tf.int32)
    of_items = _queries_of_items(tables, item_texts, drawn, step_seed)
    item_rows = tf.concat([batch.item_rows[:of_log], drawn, batch.item_rows[of_log:]], axis=0)
    return Batch(
        tf.nest.map_structure(_one_below_the_other, batch.queries, of_items),
        tables.items(item_rows),
        tf.concat([batch.query_rows, -1 - drawn], axis=0),
        item_rows,
    )


def _queries_of_items(
    tables: JoinedTables, item_texts: ItemTexts, item_rows: tf.Tensor, seed: tf.Tensor
) -> QueryFeatures:
    nobody = tf.fill(tf.shape(item_rows), -1)
    return tables.asked_by(item_texts.queries(item_rows, seed), nobody, tf.zeros_like(item_rows))


def _one_below_the_other(
    first: tf.Tensor | tf.RaggedTensor | None, second: tf.Tensor | tf.RaggedTensor | None
) -> tf.Tensor | tf.RaggedTensor | None:
    return None if first is None else tf.concat([first, second], axis=0)


def _mixed_seed(step_seed: tf.Tensor) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(step_seed, 1)


def _check_skipped(skip_steps: int, steps: int, examples: int) -> None:
    if not 0 <= skip_steps <= steps:
        raise ValueError(f"skip_steps = {skip_steps}, but an epoch has {steps} steps of {examples} examples")


class _Blocks:
    """One worker's share of the records of some files, as blocks of at most ``_BLOCK_RECORDS``."""

    def __init__(self, files: Sequence[str | os.PathLike[str]], worker: int, num_workers: int) -> None:
        if not 0 <= worker < num_workers:
            raise ValueError(f"worker = {worker}, but there are {num_workers} workers, counted from 0")
        self._files = [os.fspath(file) for file in files]
        self._layout = common_layout(self._files)
        self._sizes = [num_records(file) for file in self._files]
        total = sum(self._sizes)
        if total < num_workers:
            missing = "no record to train on" if not total else f"{total} records, too few for {num_workers} workers"
            raise DatasetError(f"{', '.join(self._files)}: holds {missing}")
        self._share = total * worker // num_workers, total * (worker + 1) // num_workers
        self.num_records = self._share[1] - self._share[0]
        self.most_records = -(-total // num_workers)
        """Records of the largest share of all workers."""

    def shuffled(self, seed: int, start: int) -> tf.data.Dataset:
        """The shuffled order from record ``start`` on, then the same order for ever, in pieces int32 [n, 5]."""
        blocks = self.in_order(seed)
        window_starts = _window_starts(blocks[:, 2])
        first = int(np.searchsorted(window_starts, start, side="right")) - 1
        rest = self._windows(blocks, seed, first, start - int(window_starts[first]))
        return rest.concatenate(self._windows(blocks, seed, 0, 0).repeat())

    def in_order(self, seed: int) -> np.ndarray:
        """Every block as (file, first record, records) in the order of a seed, int64 [blocks, 3]."""
        blocks = self._table()
        return blocks[np.random.default_rng(seed).permutation(len(blocks))]

    def _windows(self, blocks: np.ndarray, seed: int, first: int, skip: int) -> tf.data.Dataset:
        """Shuffled windows from number ``first`` on, without the first ``skip`` rows of that one."""
        sizes, record_bytes = tf.constant(self._sizes, tf.int64), self._layout.record_bytes

        def read(block: tf.Tensor) -> tf.data.Dataset:
            file, first_record, length = block[0], block[1], block[2]
            return tf.data.FixedLengthRecordDataset(
                tf.gather(self._files, file),
                record_bytes=length * record_bytes,
                header_bytes=HEADER_BYTES + first_record * record_bytes,
                footer_bytes=(tf.gather(sizes, file) - first_record - length) * record_bytes,
                buffer_size=_BLOCK_RECORDS * record_bytes,
            )

        def shuffle(window: tf.Tensor, texts: tf.Tensor) -> tf.Tensor:
            rows = tf.reshape(tf.io.decode_raw(tf.strings.reduce_join(texts), tf.uint8), [-1, record_bytes])
            rows = tf.random.experimental.stateless_shuffle(rows, tf.stack([tf.constant(seed, tf.int64), window]))
            return _unpack(rows[tf.where(window == first, skip, 0) :], self._layout)

        texts = tf.data.Dataset.from_tensor_slices(blocks[first * _WINDOW_BLOCKS :]).flat_map(read)
        return texts.batch(_WINDOW_BLOCKS).enumerate(start=first).map(shuffle)

    def _table(self) -> np.ndarray:
        """Every block as (file, first record, records), int64 [blocks, 3]."""
        (low, high), start, rows = self._share, 0, []
        for file, size in enumerate(self._sizes):
            first, last = max(low - start, 0), min(high - start, size)
            rows += [(file, at, min(_BLOCK_RECORDS, last - at)) for at in range(first, last, _BLOCK_RECORDS)]
            start += size
        return np.array(rows, dtype=np.int64)


def _window_starts(block_lengths: np.ndarray) -> np.ndarray:
    """How many records are before each window, given the blocks' numbers of records."""
    lengths = np.add.reduceat(block_lengths, np.arange(0, len(block_lengths), _WINDOW_BLOCKS))
    return np.cumsum(lengths) - lengths


def _unpack(packed: tf.Tensor, layout: Layout) -> tf.Tensor:
    """As ``Layout.unpack``: uint8 [n, bytes] as the fields of INTERACTION, int32 [n, 5]."""
    columns = tf.unstack(tf.transpose(packed), num=layout.record_bytes)

    def value(field: Field) -> tf.Tensor:
        # Five bytes hold a shifted field of more than 24 bits; four need no 64-bit numbers.
        dtype = tf.uint32 if field.num_bytes <= 4 else tf.uint64
        parts = columns[field.first_byte : field.first_byte + field.num_bytes]
        whole = tf.cast(parts[0], dtype)
        for byte, part in enumerate(parts[1:], start=1):
            whole = tf.bitwise.bitwise_or(
                whole, tf.bitwise.left_shift(tf.cast(part, dtype), tf.constant(8 * byte, dtype))
            )
        whole = tf.bitwise.right_shift(whole, tf.constant(field.shift, dtype))
        return tf.cast(tf.bitwise.bitwise_and(whole, tf.constant(field.mask, dtype)), tf.int32)

    query, user, item, past = map(value, layout.fields)
    event, history_end = tf.bitwise.bitwise_and(past, 3), tf.bitwise.right_shift(past, 2)
    return tf.stack([query, user - 1, item, event, history_end], axis=1)


class _Columns:
    """Columns of ids side by side, so that a row is in one place of the memory."""

    def __init__(self, columns: dict[str, np.ndarray], tensor: ToTensor) -> None:
        self._names = list(columns)
        self._ids = tensor(np.stack(list(columns.values()), axis=1).astype(np.int32)) if columns else None

    def gather(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """The ids of some rows [N], int32 [N] for each column."""
        if self._ids is None:
            return {}
        return dict(zip(self._names, tf.unstack(tf.gather(self._ids, rows), axis=1), strict=True))


def _derived_seeds(seed: int, epoch: int, worker: int, *phase: int) -> tuple[int, int]:
    """Independent non-negative seeds for the order and the draws of a worker's epoch, others in every phase."""
    spawn_key = (worker, *phase) if worker or phase else ()
    sequence = np.random.SeedSequence([seed % (1 << 64), epoch], spawn_key=spawn_key)
    state = sequence.generate_state(2, np.uint64)
    return int(state[0] >> 1), int(state[1] >> 1)


def _ragged(values: tf.Tensor, row_splits: tf.Tensor) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_row_splits(values, row_splits, validate=False)
