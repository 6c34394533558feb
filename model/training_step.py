"""One step of training: the loss of a batch, and the updates of the tables and the dense layers."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tf_keras

from dpsr.config import LossConfig, TrainingConfig
from dpsr.data.pipeline import Batch, QueryFeatures
from dpsr.model.losses import hinge_loss, sampled_softmax_loss
from dpsr.model.negatives import (
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
    batch: Batch,
    config: LossConfig,
    attention_temperature: float,
    occurrences: tf.Tensor | None = None,
) -> tf.Tensor:
    """The loss of a batch over its mixture of batch negatives and random negatives.

    Args:
        heads: float32 [B, m, d]; B is a multiple of the group size b.
        vectors: float32 [B + R, d]; the positives, then the random negatives.
        batch: names the query and item of every row.
        config: the loss.
        attention_temperature: beta of the soft dot product.
        occurrences: float32 [items], for ``popularity_correction``: ``negatives.expected_occurrences``. The softmax
            then takes ``log`` of it off every logit, as sampled softmax must to estimate the one over all items.

    Returns:
        float32 [], the mean over the B rows.
    """
    rows = tf.shape(heads)[0]
    positive, negatives, mask = _scores(heads, vectors, batch, config, attention_temperature)
    if occurrences is not None:
        corrections = config.temperature * tf.math.log(tf.gather(occurrences, batch.item_rows))
        positive -= corrections[:rows]
        negatives -= _by_negative(corrections, rows, config)
    if config.kind == "hinge":
        return hinge_loss(positive, negatives, mask, config.margin)
    return sampled_softmax_loss(positive, negatives, mask, config.temperature)


def _scores(
    heads: tf.Tensor, vectors: tf.Tensor, batch: Batch, config: LossConfig, beta: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Scores of the positives [B], of the negatives [B, N] (batch, then random), and which of these count [B, N]."""
    rows = tf.shape(heads)[0]
    positives, positive_rows = vectors[:rows], batch.item_rows[:rows]
    negatives, masks = [], []
    if config.mixing_ratio < 1.0:
        grouped_heads, grouped_items = (split_into_groups(values, config.group_size) for values in (heads, positives))
        of_group = soft_dot_product(grouped_heads, grouped_items, beta)
        positive = tf.reshape(tf.linalg.diag_part(of_group), [rows])
        names = [split_into_groups(values, config.group_size) for values in (batch.query_rows, positive_rows)]
        negatives.append(tf.reshape(of_group, [rows, config.group_size]))
        masks.append(tf.reshape(batch_negative_mask(*names), [rows, config.group_size]))
    else:
        positive = tf.reshape(soft_dot_product(heads[:, tf.newaxis], positives[:, tf.newaxis], beta), [rows])
    if config.mixing_ratio > 0.0:
        negatives.append(soft_dot_product(heads, vectors[rows:], beta))
        masks.append(random_negative_mask(positive_rows, batch.item_rows[rows:]))
    return positive, tf.concat(negatives, axis=1), tf.concat(masks, axis=1)


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

    def __init__(self, model: TwoTower, loss: LossConfig, training: TrainingConfig, clicks: np.ndarray):
        """Creates the accumulators of the tables and of the dense layers.

        Args:
            model: what is trained.
            loss: what is minimised.
            training: the learning rates.
            clicks: [items], how often an item is the positive of a training example.
        """
        super().__init__()
        self._model = model
        self._loss = loss
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

    def loss(self, batch: Batch) -> tf.Tensor:
        """The loss of a batch; changes nothing."""
        model = self._model
        return self._batch_loss(model.query_heads(batch.queries), model.item_vectors(batch.items), batch)

    def __call__(self, batch: Batch) -> tf.Tensor:
        """Takes one step; returns the loss before it."""
        model = self._model
        query_bags, item_bags = model.query_bags(self._thin(batch.queries)), model.item_bags(batch.items)
        bags = _join(query_bags, item_bags)
        values = model.lookup(bags)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([*values.values(), *self._dense])
            heads = model.heads(_first_rows(values, query_bags))
            vectors = model.vectors(_last_rows(values, item_bags))
            loss = self._batch_loss(heads, vectors, batch)
        gradients, dense_gradients = tape.gradient(loss, (values, self._dense))
        for name, gradient in gradients.items():
            model.tables[name].apply_gradient(bags[name], gradient, self._table_learning_rate)
        self.optimizer.apply_gradients(zip(dense_gradients, self._dense, strict=True))
        return loss

    def _thin(self, queries: QueryFeatures) -> QueryFeatures:
        """Leaves out ``token_dropout`` of the query tokens, others in every step of a run."""
        if not self._token_dropout:
            return queries
        seed = tf.stack([tf.constant(self._seed, tf.int64), self.optimizer.iterations])
        draws = tf.random.stateless_uniform(tf.shape(queries.tokens.values), seed)
        kept = queries.tokens.with_values(draws >= self._token_dropout)
        return queries._replace(tokens=tf.ragged.boolean_mask(queries.tokens, kept))

    def _batch_loss(self, heads: tf.Tensor, vectors: tf.Tensor, batch: Batch) -> tf.Tensor:
        beta = self._model.config.attention_temperature
        return batch_loss(heads, vectors, batch, self._loss, beta, self._occurrences)


def _join(query_bags: TableBags, item_bags: TableBags) -> TableBags:
    """All bags of one table in one lookup: the queries' rows first, then the items'."""
    both = query_bags.keys() & item_bags.keys()
    joined = {name: tf.concat([query_bags[name], item_bags[name]], axis=0) for name in sorted(both)}
    return {**query_bags, **item_bags, **joined}


def _first_rows(values: TableValues, bags: TableBags) -> TableValues:
    return {name: values[name][: table_bags.nrows()] for name, table_bags in bags.items()}


def _last_rows(values: TableValues, bags: TableBags) -> TableValues:
    return {name: values[name][-table_bags.nrows() :] for name, table_bags in bags.items()}
