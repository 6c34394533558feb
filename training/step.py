"""One step of training: the loss of a batch, and the updates of the tables and the dense layers."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from dpsr.config import LossConfig, TrainingConfig
from dpsr.data.batches.features import QueryFeatures, ToTensor
from dpsr.data.batches.pipeline import Batch
from dpsr.model.embeddings import apply_gradients_together, lookup_together
from dpsr.model.tower_inputs import join_bags
from dpsr.model.two_tower import TableValues, TwoTower
from dpsr.ops_cc.group_loss import LossAndGradients
from dpsr.training.dense_layers import DenseLayers
from dpsr.training.head_assignment import HeadAssignment
from dpsr.training.losses import batch_loss
from dpsr.training.negatives import HardNegatives, KnownPositives, expected_occurrences

_FETCHED_TOGETHER = 4


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
        clicked: KnownPositives | None = None,
        hard: HardNegatives | None = None,
        choice: HeadAssignment | None = None,
        tensor: ToTensor = tf.constant,
    ):
        """Creates the accumulators of the tables and of the dense layers.

        Args:
            model: what is trained.
            loss: what is minimised.
            training: the learning rates.
            clicks: [items], how often an item is the positive of a training example.
            clicked: what is no negative of a query because it was clicked there at another time.
            hard: negatives of single queries.
            choice: the head that a row trains; without it, the soft dot product of all.
            tensor: how an array gets into the graph.
        """
        super().__init__()
        self._model = model
        self._loss = loss
        self._clicked = clicked
        self._hard = hard
        self._choice = choice
        self._occurrences = (
            tensor(expected_occurrences(clicks, loss.mixing_ratio, loss.group_size))
            if loss.popularity_correction
            else None
        )
        self._table_learning_rate = training.table_learning_rate
        self._token_dropout = training.token_dropout
        self._seed = training.seed
        for table in model.tables.values():
            table.start_training(training.initial_accumulator)
        self.dense = DenseLayers(
            [model.query_tower, model.item_tower],
            training.learning_rate,
            training.initial_accumulator,
            are_local=model.is_local,
        )
        self.optimizer = self.dense.optimizer

    def loss(self, batch: Batch) -> tf.Tensor:
        """The loss of a batch, without hard negatives; changes nothing."""
        model = self._model
        heads, vectors = model.query_heads(batch.queries), model.item_vectors(batch.items)
        return self._batch_loss(heads, vectors, batch.query_rows, batch.item_rows, self._occurrences, None, None).loss

    def __call__(self, batch: Batch, *, pretraining: bool = False) -> tf.Tensor:
        """Takes one step; returns the loss before it.

        Args:
            batch: the examples.
            pretraining: nobody typed the queries, and no item is more popular than another: what the log says of
                negatives is left out.
        """
        model = self._model
        of_log = not pretraining
        clicked = self._clicked.mask(batch.query_rows, batch.item_rows) if of_log and self._clicked else None
        query_bags, item_bags = model.query_bags(self._thin(batch.queries)), model.item_bags(batch.items)
        hard = None
        if of_log and self._hard is not None:
            hard, features = self._hard.of_queries(batch.query_rows)
            item_bags = join_bags(item_bags, model.item_bags(features))
        tables = [model.tables[name] for name in (*query_bags, *item_bags)]
        bags = [*query_bags.values(), *item_bags.values()]
        values = lookup_together(tables, bags)
        query_values = dict(zip(query_bags, values, strict=False))
        item_values = dict(zip(item_bags, values[len(query_bags) :], strict=True))
        loss, (query_gradients, item_gradients, dense_gradients) = self._loss_and_gradients(
            query_values,
            item_values,
            batch.query_rows,
            batch.item_rows,
            self._occurrences if of_log else None,
            clicked,
            hard,
        )
        gradients = [*query_gradients.values(), *item_gradients.values()]
        apply_gradients_together(tables, bags, gradients, self._table_learning_rate)
        self.dense.update(dense_gradients)
        return loss

    def _loss_and_gradients(
        self, query_values: TableValues, item_values: TableValues, *names: tf.Tensor | tf.RaggedTensor | None
    ) -> tuple[tf.Tensor, tuple[TableValues, TableValues, list[tf.Tensor]]]:
        """The dense part of a step, between the lookups and the updates."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([*query_values.values(), *item_values.values(), *self.dense.values])
            heads, vectors = self._model.project_query(query_values), self._model.project_item(item_values)
        found = self._batch_loss(heads, vectors, *names)
        sources = query_values, item_values, self.dense.values
        return found.loss, tape.gradient([heads, vectors], sources, output_gradients=[found.heads, found.vectors])

    def _thin(self, queries: QueryFeatures) -> QueryFeatures:
        """Leaves out ``token_dropout`` of the query tokens, others in every step of a run."""
        if not self._token_dropout:
            return queries
        seed = tf.stack([tf.constant(self._seed, tf.int64), self.dense.iterations])
        draws = tf.random.stateless_uniform(tf.shape(queries.tokens.values), seed)
        kept = queries.tokens.with_values(draws >= self._token_dropout)
        return queries._replace(tokens=tf.ragged.boolean_mask(queries.tokens, kept))

    def _batch_loss(
        self,
        heads: tf.Tensor,
        vectors: tf.Tensor,
        query_rows: tf.Tensor,
        item_rows: tf.Tensor,
        occurrences: tf.Tensor | None,
        clicked: tf.Tensor | None,
        hard: tf.RaggedTensor | None,
    ) -> LossAndGradients:
        beta = self._model.config.attention_temperature
        names = query_rows, item_rows
        if self._choice is None:
            return batch_loss(heads, vectors, *names, self._loss, beta, occurrences, clicked=clicked, hard=hard)
        choice = self._choice(heads, vectors, *names)
        chosen = tf.gather(heads, choice, batch_dims=1)[:, tf.newaxis]
        found = batch_loss(chosen, vectors, *names, self._loss, beta, occurrences, clicked=clicked, hard=hard)
        return found._replace(heads=tf.one_hot(choice, tf.shape(heads)[1])[:, :, tf.newaxis] * found.heads)


def take_steps(
    step: TrainingStep, batches: tf.data.Iterator, steps: tf.Tensor, *, pretraining: bool = False
) -> tf.Tensor:
    """Takes steps inside a graph, one after the other; fetches no batch that it does not use.

    Args:
        step: takes one.
        batches: of Batch.
        steps: int32 [], how many.
        pretraining: as in ``TrainingStep``.

    Returns:
        float32 [steps], their losses.
    """
    losses = tf.TensorArray(tf.float32, size=steps)
    # The passes of a loop wait for each other. Within one, a batch is fetched while the step before it runs.
    alone = steps - steps % _FETCHED_TOGETHER
    for first in tf.range(0, alone, _FETCHED_TOGETHER):
        for offset, batch in enumerate([next(batches) for _ in range(_FETCHED_TOGETHER)]):
            losses = losses.write(first + offset, step(batch, pretraining=pretraining))
    for position in tf.range(alone, steps):
        losses = losses.write(position, step(next(batches), pretraining=pretraining))
    return losses.stack()
