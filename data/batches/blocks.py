"""The order of an epoch: the records on disk in shuffled blocks, and within a window of blocks in shuffled rows.

The records are shuffled when they are written, so this is nearly as random as shuffling rows, at a fraction of the
cost. The order is a function of a seed alone, and can be entered anywhere.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dpsr.data.dataset.records import HEADER_BYTES, Field, Layout, num_records
from dpsr.data.dataset.schema import INTERACTION, DatasetError

FIELDS = len(INTERACTION.names or ())
_BLOCK_RECORDS = 8192
_WINDOW_BLOCKS = 8


class Blocks:
    """The records of a file, as blocks of at most ``_BLOCK_RECORDS``."""

    def __init__(self, file: str | os.PathLike[str]) -> None:
        """Counts the records.

        Raises:
            DatasetError: the file is empty, or not a file of records.
        """
        self.layout = Layout.read(file)
        self.num_records = num_records(file)
        if not self.num_records:
            raise DatasetError(f"{os.fspath(file)}: holds no record to train on")

    def order(self, seed: int) -> BlockOrder:
        """The shuffled order of a seed."""
        starts = np.arange(0, self.num_records, _BLOCK_RECORDS)
        blocks = np.stack([starts, np.minimum(_BLOCK_RECORDS, self.num_records - starts)], axis=1)
        blocks = blocks[np.random.default_rng(seed).permutation(len(blocks))]
        return BlockOrder(blocks, self.num_records, seed)


class Windows(NamedTuple):
    """Where some consecutive records of an order are; a few hundred bytes, which go with every call of a graph."""

    seed: np.ndarray
    """int64 [], of the order."""
    rows: np.ndarray
    """int64 [W, 3]: number of a window, and the range of its shuffled rows, first and end."""
    blocks: np.ndarray
    """int64 [W, 8, 2]: first record and number of records of a window's blocks, 0 and 0 where it has fewer than 8."""


class BlockOrder:
    """Where the records of any range of a shuffled order are."""

    def __init__(self, blocks: np.ndarray, num_records: int, seed: int) -> None:
        """Takes the blocks in their order.

        Args:
            blocks: int64 [blocks, 2], first record and number of records.
            num_records: of all blocks.
            seed: of the order of the rows within a window.
        """
        self._blocks = blocks
        self._num_records = num_records
        self._seed = seed
        self._window_starts = _window_starts(blocks[:, 1])

    def windows(self, position: int, records: int) -> Windows:
        """Where ``records`` records are, at least one, from ``position`` on; the order repeats after its end."""
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


def read_windows(
    file: tf.Tensor, layout: Layout, windows: Windows, weights: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Reads records inside a graph.

    Args:
        file: uint8 [bytes], a whole file of records.
        layout: of the file.
        windows: where the records are.
        weights: float32 [records], of every record of the file.

    Returns:
        int32 [n, 5], in their order, and float32 [n], their weights; None without ``weights``.
    """
    record_bytes, parts = layout.record_bytes, tf.TensorArray(tf.uint8, 0, True, infer_shape=False)
    row_bytes = record_bytes if weights is None else record_bytes + tf.float32.size
    for row in tf.range(tf.shape(windows.rows)[0]):
        window, blocks = windows.rows[row], windows.blocks[row]
        starts = HEADER_BYTES + blocks[:, 0] * record_bytes
        sizes = blocks[:, 1] * record_bytes
        texts = [tf.slice(file, starts[at : at + 1], sizes[at : at + 1]) for at in range(_WINDOW_BLOCKS)]
        rows = tf.reshape(tf.concat(texts, axis=0), [-1, record_bytes])
        if weights is not None:
            of_blocks = [tf.slice(weights, blocks[at, :1], blocks[at, 1:]) for at in range(_WINDOW_BLOCKS)]
            rows = tf.concat([rows, tf.bitcast(tf.concat(of_blocks, axis=0), tf.uint8)], axis=1)
        rows = tf.random.experimental.stateless_shuffle(rows, tf.stack([windows.seed, window[0]]))
        parts = parts.write(row, rows[window[1] : window[2]])
    read = tf.reshape(parts.concat(), [-1, row_bytes])
    records = unpack(read[:, :record_bytes], layout)
    return records, None if weights is None else tf.bitcast(read[:, record_bytes:], tf.float32)


def _window_starts(block_lengths: np.ndarray) -> np.ndarray:
    """Number of records before each window, given the number of records of each block."""
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
