"""One step of training: the loss of a batch, and the updates of the tables and the dense weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from dpsr.config import LossConfig
from dpsr.data.batches.arrays import graph_array
from dpsr.data.batches.batch import Batch
from dpsr.data.batches.features import QueryFeatures, concatenated
from dpsr.model.embeddings import lookup_together
from dpsr.model.two_tower import TwoTower
from dpsr.ops_cc.group_loss import LossAndGradients
from dpsr.training.head_assignment import HeadAssignment
from dpsr.training.losses import batch_loss
from dpsr.training.negatives import HardNegatives, KnownPositives, expected_occurrences
from dpsr.training.optimizers import Copies, Optimizer

_DRAWS = 1 << 16
"""Seeds that the dropout of one tower may take, counted up from its own."""


class MatchingStep:
    """The matching objective: queries find their items among negatives (paper, sections 4.3 and 4.4).

    The tape watches the combined bags, never the tables: the gradient of each, [B, d], goes to the explicit sparse
    update of its table.
    """

    def __init__(
        self,
        model: TwoTower,
        loss: LossConfig,
        optimizer: Optimizer,
        *,
        token_dropout: float = 0.0,
        seed: int = 1,
        clicks: np.ndarray | None = None,
        known_positives: KnownPositives | None = None,
        hard_negatives: HardNegatives | None = None,
        head_assignment: HeadAssignment | None = None,
    ) -> None:
        """Chooses what a step minimises.

        Args:
            model: what is trained.
            loss: kind and sizes of the loss.
            optimizer: takes the steps.
            token_dropout: share of the query tokens that a step leaves out.
            seed: of the dropout.
            clicks: [items], how often an item is the positive of an example; takes the expected occurrences of batch
                and random negatives off their logits (``loss.popularity_correction``).
            known_positives: items excluded from the negatives of a query.
            hard_negatives: negatives of single queries.
            head_assignment: the head that a row trains; without it, the soft dot product of all.
        """
        self.optimizer = optimizer
        self._model = model
        self._loss = loss
        self._token_dropout = token_dropout
        self._seed = seed
        self._known_positives = known_positives
        self._hard_negatives = hard_negatives
        self._head_assignment = head_assignment
        self._occurrences = None
        if clicks is not None:
            self._occurrences = graph_array(expected_occurrences(clicks, loss.mixing_ratio, loss.group_size))

    def __call__(self, batch: Batch) -> tf.Tensor:
        """Takes one step on the variables; returns the loss before it."""
        return self.take(batch, None)[0]

    def take(self, batch: Batch, copies: Copies | None) -> tuple[tf.Tensor, Copies | None]:
        """Takes one step.

        Args:
            batch: the examples.
            copies: the dense weights that are read and updated; None for the variables.

        Returns:
            The loss before the step, float32 [], and the copies after it.
        """
        model, optimizer = self._model, self.optimizer
        known = None
        if self._known_positives is not None:
            known = self._known_positives.mask(batch.query_rows, batch.item_rows)
        queries, items, hard = self._thin(batch.queries, copies), batch.items, None
        if self._hard_negatives is not None:
            hard, features = self._hard_negatives.of_queries(batch.query_rows)
            items = concatenated(items, features)
        query_bags, item_bags = model.query_inputs.bags(queries), model.item_inputs.bags(items)
        tables = [model.tables[name] for name in (*query_bags, *item_bags)]
        bags = [*query_bags.values(), *item_bags.values()]
        values = lookup_together(tables, bags)
        query_values = dict(zip(query_bags, values, strict=False))
        item_values = dict(zip(item_bags, values[len(query_bags) :], strict=True))
        weights = optimizer.weights(copies)
        sources: tuple[Any, ...] = query_values, item_values, weights
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(tf.nest.flatten(sources))
            heads = model.project_query(queries, query_values, weights, self._dropout_seed(copies, 0))
            vectors = model.project_item(items, item_values, weights, self._dropout_seed(copies, 1))
        found = self._batch_loss(heads, vectors, batch, known, hard)
        gradients = tape.gradient([heads, vectors], sources, output_gradients=[found.heads, found.vectors])
        of_queries, of_items, of_weights = gradients
        optimizer.update_tables(tables, bags, [*of_queries.values(), *of_items.values()])
        return found.loss, optimizer.update_weights(of_weights, copies)

    def loss(self, batch: Batch) -> tf.Tensor:
        """The loss of a batch without known positives, hard negatives and dropout, float32 []; changes nothing."""
        heads, vectors = self._model.query_heads(batch.queries), self._model.item_vectors(batch.items)
        return self._batch_loss(heads, vectors, batch, None, None).loss

    def _thin(self, queries: QueryFeatures, copies: Copies | None) -> QueryFeatures:
        """Leaves out ``token_dropout`` of the query tokens, others in every step of a run."""
        if not self._token_dropout:
            return queries
        seed = tf.stack([tf.constant(self._seed, tf.int64), self.optimizer.iterations(copies)])
        draws = tf.random.stateless_uniform(tf.shape(queries.tokens.values), seed)
        kept = queries.tokens.with_values(draws >= self._token_dropout)
        return queries._replace(tokens=tf.ragged.boolean_mask(queries.tokens, kept))

    def _dropout_seed(self, copies: Copies | None, tower: int) -> tf.Tensor | None:
        """The seed of the dropout of a tower, int64 [2]; another one in every step of a run, None without dropout."""
        if not (self._model.config.reads_subwords and self._model.config.transformer.dropout):
            return None
        number = 2 * self.optimizer.iterations(copies) + tower
        return tf.stack([tf.constant(self._seed, tf.int64), _DRAWS * (1 + number)])

    def _batch_loss(
        self,
        heads: tf.Tensor,
        vectors: tf.Tensor,
        batch: Batch,
        known: tf.Tensor | None,
        hard: tf.RaggedTensor | None,
    ) -> LossAndGradients:
        rows = batch.query_rows, batch.item_rows
        beta = self._model.config.attention_temperature
        if self._head_assignment is None:
            return batch_loss(heads, vectors, *rows, self._loss, beta, self._occurrences, known, hard)
        assigned = self._head_assignment(heads, vectors, *rows)
        own = tf.gather(heads, assigned, batch_dims=1)[:, tf.newaxis]
        found = batch_loss(own, vectors, *rows, self._loss, beta, self._occurrences, known, hard)
        return found._replace(heads=tf.one_hot(assigned, tf.shape(heads)[1])[:, :, tf.newaxis] * found.heads)
