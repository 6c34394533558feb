"""Embedding tables of bags of ids: the lookup of all bags in one pass, and sparse AdaGrad in another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

from dpsr.ops_cc import library

Combiner = Literal["sum", "mean", "sqrtn"]


def embedding_bag(
    table: tf.Variable, bags: tf.RaggedTensor, *, combiner: Combiner, weights: tf.Tensor | None = None
) -> tf.Tensor:
    """Combines the rows of every bag; no gradient by the table: ``apply_adagrad`` applies it.

    Args:
        table: float32 [rows, d], a variable on a CPU.
        bags: int32 [B, None], ids in 0..rows - 1.
        combiner: the weighted sum of the rows, that over the sum of the weights (``mean``), or over the square root of
            the sum of their squares (``sqrtn``).
        weights: float32 [nnz], of every occurrence; all 1 if None.

    Returns:
        float32 [B, d]; an empty bag is a row of zeros.

    Raises:
        tf.errors.InvalidArgumentError: an id is outside the table, or the row splits are invalid.
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


def embedding_bags(
    tables: Sequence[tf.Variable],
    bags: Sequence[tf.RaggedTensor],
    *,
    combiners: Sequence[Combiner],
    weights: Sequence[tf.Tensor | None],
) -> list[tf.Tensor]:
    """``embedding_bag`` of several lists of bags in one operation, each with its table; one may come more than once.

    The tables are on one machine.
    """
    return list(
        library.load().dpsr_embedding_bags(
            tables=[table.handle for table in tables],
            values=[each.values for each in bags],
            row_splits=[each.row_splits for each in bags],
            weights=[_or_none(each) for each in weights],
            combiners=list(combiners),
        )
    )


def apply_adagrad_to_bags(
    tables: Sequence[tf.Variable],
    accumulators: Sequence[tf.Variable],
    tables_of_bags: Sequence[int],
    bags: Sequence[tf.RaggedTensor],
    gradients: Sequence[tf.Tensor],
    *,
    learning_rate: float | tf.Tensor,
    combiners: Sequence[Combiner],
    weights: Sequence[tf.Tensor | None],
) -> None:
    """``apply_adagrad`` of several tables in one operation; all bags of a table count as one list.

    Args:
        tables: float32 [rows, d] each, variables on one machine.
        accumulators: float32 [rows, d], above 0, of every table.
        tables_of_bags: the number of the table of every list of bags.
        bags: int32 [B, None] each, as they were looked up.
        gradients: float32 [B, d] by every list.
        learning_rate: step size.
        combiners: of every list.
        weights: of every list.

    Raises:
        tf.errors.InvalidArgumentError: as ``apply_adagrad``.
    """
    library.load().dpsr_embedding_bags_adagrad(
        tables=[table.handle for table in tables],
        accumulators=[accumulator.handle for accumulator in accumulators],
        values=[each.values for each in bags],
        row_splits=[each.row_splits for each in bags],
        weights=[_or_none(each) for each in weights],
        gradients=list(gradients),
        learning_rate=learning_rate,
        tables_of_bags=list(tables_of_bags),
        combiners=list(combiners),
    )


def apply_dense_adagrad(
    variables: Sequence[tf.Variable],
    accumulators: Sequence[tf.Variable],
    gradients: Sequence[tf.Tensor],
    *,
    learning_rate: float | tf.Tensor,
    epsilon: float,
) -> None:
    """Moves whole variables of one machine by one AdaGrad step, as ``tf_keras.optimizers.Adagrad``, in one operation.

    Args:
        variables: float32 variables.
        accumulators: float32 variables of the same shapes, not negative.
        gradients: of the same shapes.
        learning_rate: step size.
        epsilon: is added to the accumulator below the root.

    Raises:
        tf.errors.InvalidArgumentError: the shapes do not fit each other.
    """
    library.load().dpsr_adagrad(
        variables=[variable.handle for variable in variables],
        accumulators=[accumulator.handle for accumulator in accumulators],
        gradients=list(gradients),
        learning_rate=learning_rate,
        epsilon=epsilon,
    )


def _or_none(weights: tf.Tensor | None) -> tf.Tensor:
    return tf.zeros([0]) if weights is None else weights


def kind_weights(kinds: tf.Tensor, bags: tf.RaggedTensor) -> tf.Tensor:
    """Weighs the ids of bags so that each kind of id counts alike, whatever its number of ids in a bag.

    Args:
        kinds: uint8 [rows], the kind of every id.
        bags: int32 [B, None], ids in 0..rows - 1.

    Returns:
        float32 [nnz]: one over the square root of the number of ids of the same kind in the same bag.

    Raises:
        tf.errors.InvalidArgumentError: an id has no kind, or the row splits are invalid.
    """
    return library.load().dpsr_kind_weights(kinds=kinds, values=bags.values, row_splits=bags.row_splits)
