"""One step of training: the loss of a batch, and the updates of the tables and the dense layers."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tf_keras

from dpsr.config import LossConfig, TrainingConfig
from dpsr.data.pipeline import Batch, QueryFeatures
from dpsr.model.losses import hinge_loss, sampled_softmax_loss, three_part_hinge_loss
from dpsr.model.negatives import (
    ClickedItems,
    HardNegatives,
    batch_negative_mask,
    expected_occurrences,
    random_negative_mask,
    split_into_groups,
)
from dpsr.model.scoring import soft_dot_product
from dpsr.model.two_tower import TableBags, TableValues, TwoTower


def batch_loss(
    heads: tf.Tensor,
    vectors: tf.Tensor,
    query_rows: tf.Tensor,
    item_rows: tf.Tensor,
    config: LossConfig,
    attention_temperature: float,
    occurrences: tf.Tensor | None = None,
    clicked: tf.Tensor | None = None,
    hard: tf.RaggedTensor | None = None,
) -> tf.Tensor:
    """The loss of a batch over its mixture of batch negatives and random negatives, and over hard negatives.

    Args:
        heads: float32 [B, m, d]; B is a multiple of the group size b.
        vectors: float32 [B + R + H, d]; the positives, the random negatives, and the hard ones.
        query_rows: int32 [B].
        item_rows: int32 [B + R].
        config: the loss.
        attention_temperature: beta of the soft dot product.
        occurrences: float32 [items], for ``popularity_correction``: ``negatives.expected_occurrences``. The softmax
            then takes ``log`` of it off every logit, as sampled softmax must to estimate the one over all items. Hard
            negatives are not sampled, and keep their logits.
        clicked: bool [B, B + R], True where an item is no negative of a row: ``negatives.ClickedItems``.
        hard: [B, None] with H values, whatever they are: the hard negatives of every row, against itself alone.

    Returns:
        float32 [], the mean over the B rows.
    """
    rows = tf.shape(heads)[0]
    of_hard = None
    if hard is not None:
        vectors, hard_vectors = tf.split(vectors, [tf.shape(vectors)[0] - tf.size(hard.values), tf.size(hard.values)])
        of_hard = _own_scores(tf.gather(heads, hard.value_rowids()), hard_vectors, attention_temperature)
    positive, negatives, mask = _scores(heads, vectors, query_rows, item_rows, config, attention_temperature, clicked)
    if occurrences is not None:
        corrections = config.temperature * tf.math.log(tf.gather(occurrences, item_rows))
        positive -= corrections[:rows]
        negatives -= _by_negative(corrections, rows, config)
    hard_mask = tf.zeros([rows, 0], tf.bool)
    hard_negatives = tf.zeros([rows, 0])
    if hard is not None:
        hard_negatives = hard.with_values(of_hard).to_tensor()
        hard_mask = tf.sequence_mask(hard.row_lengths(), tf.shape(hard_negatives)[1])
    if config.kind == "three_part":
        return three_part_hinge_loss(positive, hard_negatives, hard_mask, negatives, mask, config.thresholds)
    if hard is not None:
        negatives, mask = tf.concat([negatives, hard_negatives], 1), tf.concat([mask, hard_mask], 1)
    if config.kind == "hinge":
        return hinge_loss(positive, negatives, mask, config.margin)
    return sampled_softmax_loss(positive, negatives, mask, config.temperature)


def _scores(
    heads: tf.Tensor,
    vectors: tf.Tensor,
    query_rows: tf.Tensor,
    item_rows: tf.Tensor,
    config: LossConfig,
    beta: float,
    clicked: tf.Tensor | None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Scores of the positives [B], of the negatives [B, N] (batch, then random), and which of these count [B, N]."""
    rows = tf.shape(heads)[0]
    positives, randoms = tf.split(vectors, [rows, tf.shape(vectors)[0] - rows])
    positive_rows = item_rows[:rows]
    negatives, masks = [], []
    if config.mixing_ratio < 1.0:
        grouped_heads, grouped_items = (split_into_groups(values, config.group_size) for values in (heads, positives))
        of_group = soft_dot_product(grouped_heads, grouped_items, beta)
        positive = tf.reshape(tf.linalg.diag_part(of_group), [rows])
        names = [split_into_groups(values, config.group_size) for values in (query_rows, positive_rows)]
        negatives.append(tf.reshape(of_group, [rows, config.group_size]))
        masks.append(tf.reshape(batch_negative_mask(*names), [rows, config.group_size]))
    else:
        positive = _own_scores(heads, positives, beta)
    if config.mixing_ratio > 0.0:
        negatives.append(soft_dot_product(heads, randoms, beta))
        masks.append(random_negative_mask(positive_rows, item_rows[rows:]))
    mask = tf.concat(masks, axis=1)
    if clicked is not None:
        mask &= ~_negatives_of(clicked, rows, config)
    return positive, tf.concat(negatives, axis=1), mask


def _own_scores(heads: tf.Tensor, vectors: tf.Tensor, beta: float) -> tf.Tensor:
    """The score of every row's own item: float32 [n, m, d] and [n, d] to [n]."""
    return tf.reshape(soft_dot_product(heads[:, tf.newaxis], vectors[:, tf.newaxis], beta), [tf.shape(heads)[0]])


def _negatives_of(values: tf.Tensor, rows: tf.Tensor, config: LossConfig) -> tf.Tensor:
    """Picks from [B, B + R] what belongs to the negatives of every row, as ``batch_loss`` lines them up: [B, N]."""
    of_positives, of_randoms = values[:, :rows], values[:, rows:]
    parts = []
    if config.mixing_ratio < 1.0:
        group = config.group_size
        columns = group * (tf.range(rows) // group)[:, tf.newaxis] + tf.range(group)
        parts.append(tf.gather(of_positives, columns, batch_dims=1))
    if config.mixing_ratio > 0.0:
        parts.append(of_randoms)
    return tf.concat(parts, axis=1)


def _by_negative(values: tf.Tensor, rows: tf.Tensor, config: LossConfig) -> tf.Tensor:
    """Spreads a value of each of the B + R items over the negatives of every row, as ``batch_loss`` lines them up."""
    spread = []
    if config.mixing_ratio < 1.0:
        spread.append(tf.repeat(split_into_groups(values[:rows], config.group_size), config.group_size, axis=0))
    if config.mixing_ratio > 0.0:
        spread.append(tf.broadcast_to(values[rows:], [rows, tf.size(values) - rows]))
    return tf.concat(spread, axis=1)


class TrainingStep(tf.Module):
    """The loss and the AdaGrad updates of a model, whose optimiser state it holds.

    The tape watches the combined bags, never the tables: a gradient of [B, d] for each input goes to its table's
    explicit sparse update.
    """

    def __init__(
        self,
        model: TwoTower,
        loss: LossConfig,
        training: TrainingConfig,
        clicks: np.ndarray,
        *,
        clicked: ClickedItems | None = None,
        hard: HardNegatives | None = None,
    ):
        """Creates the accumulators of the tables and of the dense layers.

        Args:
            model: what is trained.
            loss: what is minimised.
            training: the learning rates.
            clicks: [items], how often an item is the positive of a training example.
            clicked: what is no negative of a query because it was clicked there at another time.
            hard: negatives of single queries.
        """
        super().__init__()
        self._model = model
        self._loss = loss
        self._clicked = clicked
        self._hard = hard
        self._occurrences = (
            tf.constant(expected_occurrences(clicks, loss.mixing_ratio, loss.group_size))
            if loss.popularity_correction
            else None
        )
        self._table_learning_rate = training.table_learning_rate
        self._token_dropout = training.token_dropout
        self._seed = training.seed
        for table in model.tables.values():
            table.start_training(training.initial_accumulator)
        self._dense = [*model.query_tower.trainable_variables, *model.item_tower.trainable_variables]
        self.optimizer = tf_keras.optimizers.Adagrad(
            training.learning_rate, initial_accumulator_value=training.initial_accumulator, jit_compile=False
        )
        self.optimizer.build(self._dense)
        self._dense_part = self._loss_and_gradients
        if training.compile_dense:
            self._dense_part = tf.function(self._loss_and_gradients, jit_compile=True)

    def loss(self, batch: Batch) -> tf.Tensor:
        """The loss of a batch, without hard negatives; changes nothing."""
        model = self._model
        heads, vectors = model.query_heads(batch.queries), model.item_vectors(batch.items)
        return self._batch_loss(heads, vectors, batch.query_rows, batch.item_rows, None, None)

    def __call__(self, batch: Batch) -> tf.Tensor:
        """Takes one step; returns the loss before it."""
        model = self._model
        clicked = None if self._clicked is None else self._clicked.mask(batch.query_rows, batch.item_rows)
        query_bags, item_bags = model.query_bags(self._thin(batch.queries)), model.item_bags(batch.items)
        hard = None
        if self._hard is not None:
            hard, features = self._hard.of_queries(batch.query_rows)
            item_bags = _join(item_bags, model.item_bags(features))
        bags = _join(query_bags, item_bags)
        values = model.lookup(bags)
        # Split before the tape: the gradient of a slice is as large as what it was cut from.
        query_values, item_values = _first_rows(values, query_bags), _last_rows(values, item_bags)
        loss, (query_gradients, item_gradients, dense_gradients) = self._dense_part(
            query_values, item_values, batch.query_rows, batch.item_rows, clicked, hard
        )
        for name, table_bags in bags.items():
            parts = [gradients[name] for gradients in (query_gradients, item_gradients) if name in gradients]
            gradient = tf.concat(parts, axis=0) if len(parts) > 1 else parts[0]
            model.tables[name].apply_gradient(table_bags, gradient, self._table_learning_rate)
        self.optimizer.apply_gradients(zip(dense_gradients, self._dense, strict=True))
        return loss

    def _loss_and_gradients(
        self, query_values: TableValues, item_values: TableValues, *names: tf.Tensor | tf.RaggedTensor | None
    ) -> tuple[tf.Tensor, tuple[TableValues, TableValues, list[tf.Tensor]]]:
        """The dense part of a step, between the lookups and the updates."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([*query_values.values(), *item_values.values(), *self._dense])
            loss = self._batch_loss(self._model.heads(query_values), self._model.vectors(item_values), *names)
        return loss, tape.gradient(loss, (query_values, item_values, self._dense))

    def _thin(self, queries: QueryFeatures) -> QueryFeatures:
        """Leaves out ``token_dropout`` of the query tokens, others in every step of a run."""
        if not self._token_dropout:
            return queries
        seed = tf.stack([tf.constant(self._seed, tf.int64), self.optimizer.iterations])
        draws = tf.random.stateless_uniform(tf.shape(queries.tokens.values), seed)
        kept = queries.tokens.with_values(draws >= self._token_dropout)
        return queries._replace(tokens=tf.ragged.boolean_mask(queries.tokens, kept))

    def _batch_loss(
        self,
        heads: tf.Tensor,
        vectors: tf.Tensor,
        query_rows: tf.Tensor,
        item_rows: tf.Tensor,
        clicked: tf.Tensor | None,
        hard: tf.RaggedTensor | None,
    ) -> tf.Tensor:
        beta = self._model.config.attention_temperature
        return batch_loss(
            heads, vectors, query_rows, item_rows, self._loss, beta, self._occurrences, clicked=clicked, hard=hard
        )


def _join(first: TableBags, second: TableBags) -> TableBags:
    """All bags of one table in one lookup: the first's rows, then the second's."""
    both = first.keys() & second.keys()
    joined = {name: tf.concat([first[name], second[name]], axis=0) for name in sorted(both)}
    return {**first, **second, **joined}


def _first_rows(values: TableValues, bags: TableBags) -> TableValues:
    return {name: values[name][: table_bags.nrows()] for name, table_bags in bags.items()}


def _last_rows(values: TableValues, bags: TableBags) -> TableValues:
    """The last rows of every table; ``[-0:]`` would be all of them, but an item bag has always rows."""
    return {name: values[name][-table_bags.nrows() :] for name, table_bags in bags.items()}
