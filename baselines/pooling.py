"""Pooling of similarity matrices of any size to a grid of a fixed one (Pang et al., AAAI 2016, section 3.2)."""

from __future__ import annotations

import tensorflow as tf


def dynamic_pooling(matrix: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, grid: tuple[int, int]) -> tf.Tensor:
    """The largest value of each cell of a grid over the filled part of a matrix; cells overlap where it is smaller.

    Args:
        matrix: float32 [B, q, n, f].
        rows: rows of each matrix that have a word, int32 [B]; the cells of a matrix without a word are 0.
        columns: the same of its columns, int32 [B].
        grid: rows and columns of the grid.

    Returns:
        float32 [B, rows of the grid, columns of the grid, f].
    """
    pooled = _pool(matrix, rows, grid[0])
    pooled = tf.transpose(_pool(tf.transpose(pooled, [0, 2, 1, 3]), columns, grid[1]), [0, 2, 1, 3])
    return tf.where(tf.logical_and(rows > 0, columns > 0)[:, None, None, None], pooled, 0.0)


def _pool(matrix: tf.Tensor, sizes: tf.Tensor, cells: int) -> tf.Tensor:
    """The largest values of ``cells`` even parts of the second axis, float32 [B, q, n, f] -> [B, cells, n, f]."""
    places = tf.range(tf.shape(matrix)[1])[None, :]
    found = []
    for cell in range(cells):
        start = sizes * cell // cells
        end = tf.maximum(start + 1, -(-sizes * (cell + 1) // cells))
        inside = tf.logical_and(places >= start[:, None], places < end[:, None])
        found.append(tf.reduce_max(tf.where(inside[:, :, None, None], matrix, matrix.dtype.min), axis=1))
    return tf.stack(found, axis=1)
