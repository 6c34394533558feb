"""One step of training of the two towers: the loss of a batch, and the updates of the tables and the dense weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import tensorflow as tf

from dpsr.config import ModelConfig
from dpsr.data.batches.features import ItemFeatures, QueryFeatures
from dpsr.model.embeddings import lookup_together
from dpsr.model.two_tower import TwoTower
from dpsr.ops_cc.group_loss import LossAndGradients
from dpsr.training.optimizers import Copies, Optimizer

_DRAWS = 1 << 16
"""Seeds that the dropout of one tower may take, counted up from its own."""


class TowerStep(ABC):
    """An objective over the query heads and the item vectors of a batch, and the optimiser that minimises it.

    The tape watches the combined bags, never the tables: the gradient of each, [B, d], goes to the explicit sparse
    update of its table.
    """

    def __init__(self, model: TwoTower, optimizer: Optimizer, *, token_dropout: float, seed: int) -> None:
        """Takes what all objectives have in common.

        Args:
            model: what is trained.
            optimizer: takes the steps.
            token_dropout: share of the query tokens that a step leaves out.
            seed: of the dropout.
        """
        self.optimizer = optimizer
        self._model = model
        self._token_dropout = token_dropout
        self._seed = seed

    @abstractmethod
    def objective(self, heads: tf.Tensor, vectors: tf.Tensor, batch: Any, prepared: Any) -> LossAndGradients:
        """The loss of a batch, and its gradients.

        Args:
            heads: float32 [B, m, d], of the batch's queries.
            vectors: float32 [N, d], of the items that ``prepare`` returned.
            batch: the examples.
            prepared: what ``prepare`` returned beside them.
        """

    def prepare(self, batch: Any) -> tuple[ItemFeatures, Any]:
        """The items of a step, and what else its objective needs of the batch."""
        return batch.items, None

    def __call__(self, batch: Any) -> tf.Tensor:
        """Takes one step on the variables; returns the loss before it."""
        return self.take(batch, None)[0]

    def take(self, batch: Any, copies: Copies | None) -> tuple[tf.Tensor, Copies | None]:
        """Takes one step.

        Args:
            batch: the examples.
            copies: the dense weights that are read and updated; None for the variables.

        Returns:
            The loss before the step, float32 [], and the copies after it.
        """
        model, optimizer = self._model, self.optimizer
        queries = self._thin(batch.queries, copies)
        items, prepared = self.prepare(batch)
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
        found = self.objective(heads, vectors, batch, prepared)
        gradients = tape.gradient([heads, vectors], sources, output_gradients=[found.heads, found.vectors])
        of_queries, of_items, of_weights = gradients
        optimizer.update_tables(tables, bags, [*of_queries.values(), *of_items.values()])
        return found.loss, optimizer.update_weights(of_weights, copies)

    def _thin(self, queries: QueryFeatures, copies: Copies | None) -> QueryFeatures:
        """Leaves out ``token_dropout`` of the query tokens, others in every step of a run."""
        if not self._token_dropout:
            return queries
        seed = tf.stack([tf.constant(self._seed, tf.int64), self.optimizer.iterations(copies)])
        draws = tf.random.stateless_uniform(tf.shape(queries.tokens.values), seed)
        kept = queries.tokens.with_values(draws >= self._token_dropout)
        return queries._replace(tokens=tf.ragged.boolean_mask(queries.tokens, kept))

    def _dropout_seed(self, copies: Copies | None, tower: int) -> tf.Tensor | None:
        return dropout_seed(self._model.config, self._seed, self.optimizer.iterations(copies), tower)


def dropout_seed(config: ModelConfig, seed: int, iterations: tf.Tensor, tower: int) -> tf.Tensor | None:
    """The seed of the dropout of a tower, int64 [2]; another one in every step of a run, None without dropout.

    Args:
        config: the model.
        seed: of the run.
        iterations: int64 [], steps before this one.
        tower: 0 or 1.
    """
    if not (config.reads_subwords and config.transformer.dropout):
        return None
    return tf.stack([tf.constant(seed, tf.int64), _DRAWS * (1 + 2 * iterations + tower)])
