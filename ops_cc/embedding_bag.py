"""Embedding tables of bags of ids: the lookup of all bags in one pass, and sparse AdaGrad in another."""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

from dpsr.ops_cc import library

Combiner = Literal["sum", "mean", "sqrtn"]


def embedding_bag(
    table: tf.Variable, bags: tf.RaggedTensor, *, combiner: Combiner, weights: tf.Tensor | None = None
) -> tf.Tensor:
    """Combines the rows of every bag; it has no gradient by the table, which ``apply_adagrad`` stands for.

    Args:
        table: float32 [rows, d], a variable on a CPU.
        bags: int32 [B, None], ids in 0..rows - 1.
        combiner: the weighted sum of the rows, that over the sum of the weights (``mean``), or over the square root of
            the sum of their squares (``sqrtn``).
        weights: float32 [nnz], of every occurrence; all 1 if None.

    Returns:
        float32 [B, d]; an empty bag is a row of zeros.

    Raises:
        tf.errors.InvalidArgumentError: an id is no row of the table, or the bags are none.
    """
    return library.load().dpsr_embedding_bag(
        table=table.handle,
        values=bags.values,
        row_splits=bags.row_splits,
        weights=_or_none(weights),
        combiner=combiner,
    )


def apply_adagrad(
    table: tf.Variable,
    accumulator: tf.Variable,
    bags: tf.RaggedTensor,
    gradient: tf.Tensor,
    *,
    learning_rate: float | tf.Tensor,
    combiner: Combiner,
    weights: tf.Tensor | None = None,
) -> None:
    """Moves the rows that occur in the bags by one AdaGrad step; the same bits for any number of threads.

    The gradient of a row is the sum over its occurrences, a bag that holds an id twice counting twice.

    Args:
        table: float32 [rows, d], a variable on a CPU.
        accumulator: float32 [rows, d], above 0.
        bags: int32 [B, None], as they were looked up.
        gradient: float32 [B, d], of the loss by ``embedding_bag(table, bags, ...)``.
        learning_rate: step size.
        combiner: as the bags were looked up.
        weights: as the bags were looked up.

    Raises:
        tf.errors.InvalidArgumentError: as ``embedding_bag``; or the shapes of the arguments do not fit each other.
    """
    library.load().dpsr_embedding_bag_adagrad(
        table=table.handle,
        accumulator=accumulator.handle,
        values=bags.values,
        row_splits=bags.row_splits,
        weights=_or_none(weights),
        gradient=gradient,
        learning_rate=learning_rate,
        combiner=combiner,
    )


def _or_none(weights: tf.Tensor | None) -> tf.Tensor:
    return tf.zeros([0]) if weights is None else weights


def kind_weights(kinds: tf.Tensor, bags: tf.RaggedTensor) -> tf.Tensor:
    """Weighs the ids of bags so that the kinds of ids count alike, however many of each a bag holds.

    Args:
        kinds: uint8 [rows], the kind of every id.
        bags: int32 [B, None], ids in 0..rows - 1.

    Returns:
        float32 [nnz]: one over the square root of how many ids of the same kind are in the same bag.

    Raises:
        tf.errors.InvalidArgumentError: an id has no kind, or the bags are none.
    """
    return library.load().dpsr_kind_weights(kinds=kinds, values=bags.values, row_splits=bags.row_splits)
