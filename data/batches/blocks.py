"""The order of an epoch: the records on disk in shuffled blocks, and within a window of blocks in shuffled rows.

The records are shuffled already when they are written, so this is nearly as random as shuffling rows, at a fraction of
the cost. The order is a function of a seed alone, and can be entered anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dpsr.data.dataset.records import HEADER_BYTES, Field, Layout, common_layout, num_records
from dpsr.data.dataset.schema import INTERACTION
from dpsr.data.dataset.tables import DatasetError

FIELDS = len(INTERACTION.names or ())
_BLOCK_RECORDS = 8192
_WINDOW_BLOCKS = 8


class Blocks:
    """One worker's share of the records of some files, as blocks of at most ``_BLOCK_RECORDS``."""

    def __init__(self, files: Sequence[str | os.PathLike[str]], worker: int = 0, num_workers: int = 1) -> None:
        """Counts the records; the arguments are those of ``data.pipeline.training_batches``."""
        if not 0 <= worker < num_workers:
            raise ValueError(f"worker = {worker}, but there are {num_workers} workers, counted from 0")
        self._files = [os.fspath(file) for file in files]
        self.layout = common_layout(self._files)
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

    def order(self, seed: int) -> BlockOrder:
        """The same order, to be told where its records are instead of getting them."""
        return BlockOrder(self.in_order(seed), self.num_records, seed)

    def in_order(self, seed: int) -> np.ndarray:
        """Every block as (file, first record, records) in the order of a seed, int64 [blocks, 3]."""
        blocks = self._table()
        return blocks[np.random.default_rng(seed).permutation(len(blocks))]

    def _windows(self, blocks: np.ndarray, seed: int, first: int, skip: int) -> tf.data.Dataset:
        """Shuffled windows from number ``first`` on, without the first ``skip`` rows of that one."""
        sizes, record_bytes = tf.constant(self._sizes, tf.int64), self.layout.record_bytes

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
            return unpack(rows[tf.where(window == first, skip, 0) :], self.layout)

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


class Windows(NamedTuple):
    """Where some consecutive records of an order are; small enough to go with every call of a worker."""

    seed: np.ndarray
    """int64 [], of the order."""
    rows: np.ndarray
    """int64 [W, 3]: number of a window, and which of its shuffled rows are meant, from and to."""
    blocks: np.ndarray
    """int64 [W, 8, 2]: first record and number of records of a window's blocks; none where there are fewer."""


class BlockOrder:
    """An order as ``Blocks.shuffled`` has it, for records of one file."""

    def __init__(self, blocks: np.ndarray, num_records: int, seed: int) -> None:
        """Takes the blocks in their order, as ``Blocks.in_order`` gives them."""
        self._blocks = blocks[:, 1:]
        self._num_records = num_records
        self._seed = seed
        self._window_starts = _window_starts(self._blocks[:, 1])

    def windows(self, position: int, records: int) -> Windows:
        """Where ``records`` records are, at least one, from ``position`` of the order on, which goes round."""
        position, missing, rows = position % self._num_records, records, []
        while missing:
            number = int(np.searchsorted(self._window_starts, position, side="right")) - 1
            start = int(self._window_starts[number])
            end = int(self._window_starts[number + 1]) if number + 1 < len(self._window_starts) else self._num_records
            taken = min(missing, end - position)
            rows.append((number, position - start, position - start + taken))
            position, missing = (position + taken) % self._num_records, missing - taken
        blocks = np.zeros((len(rows), _WINDOW_BLOCKS, 2), np.int64)
        for row, (number, _, _) in enumerate(rows):
            of_window = self._blocks[number * _WINDOW_BLOCKS : (number + 1) * _WINDOW_BLOCKS]
            blocks[row, : len(of_window)] = of_window
        return Windows(np.array(self._seed, np.int64), np.array(rows, np.int64), blocks)


def read_windows(file: tf.Tensor, layout: Layout, windows: Windows) -> tf.Tensor:
    """Reads records inside a graph.

    Args:
        file: uint8 [bytes], a whole file of records.
        layout: of the file.
        windows: where the records are.

    Returns:
        int32 [n, 5], in their order.
    """
    record_bytes, parts = layout.record_bytes, tf.TensorArray(tf.uint8, 0, True, infer_shape=False)
    for row in tf.range(tf.shape(windows.rows)[0]):
        window, blocks = windows.rows[row], windows.blocks[row]
        starts = HEADER_BYTES + blocks[:, 0] * record_bytes
        sizes = blocks[:, 1] * record_bytes
        texts = [tf.slice(file, starts[at : at + 1], sizes[at : at + 1]) for at in range(_WINDOW_BLOCKS)]
        rows = tf.reshape(tf.concat(texts, axis=0), [-1, record_bytes])
        rows = tf.random.experimental.stateless_shuffle(rows, tf.stack([windows.seed, window[0]]))
        parts = parts.write(row, rows[window[1] : window[2]])
    return unpack(tf.reshape(parts.concat(), [-1, record_bytes]), layout)


def _window_starts(block_lengths: np.ndarray) -> np.ndarray:
    """How many records are before each window, given the blocks' numbers of records."""
    lengths = np.add.reduceat(block_lengths, np.arange(0, len(block_lengths), _WINDOW_BLOCKS))
    return np.cumsum(lengths) - lengths


def unpack(packed: tf.Tensor, layout: Layout) -> tf.Tensor:
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
