"""The matching objective of a training step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dpsr.config import LossConfig
from dpsr.data.batches.arrays import graph_array
from dpsr.data.batches.batch import Batch
from dpsr.data.batches.features import ItemFeatures, concatenated
from dpsr.model.two_tower import TwoTower
from dpsr.ops_cc.group_loss import LossAndGradients
from dpsr.training.head_assignment import HeadAssignment
from dpsr.training.losses import batch_loss
from dpsr.training.negatives import HardNegatives, KnownPositives, expected_occurrences
from dpsr.training.optimizers import Optimizer
from dpsr.training.tower_step import TowerStep
from dpsr.training.wrong_pairs import rivals, wrong_pair_loss


class _Negatives(NamedTuple):
    """What the loss of a step needs beside its batch."""

    known: tf.Tensor | None
    """bool [B, B + R], the items that a query is known to lead to."""
    hard: tf.RaggedTensor | None
    """Item rows [B, None], the hard negatives of every query."""


class MatchingStep(TowerStep):
    """The matching objective: queries find their items among negatives (paper, sections 4.3 and 4.4)."""

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
        num_items: int = 1,
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
            num_items: size of the catalogue.
        """
        super().__init__(model, optimizer, token_dropout=token_dropout, seed=seed)
        self._loss = loss
        self._known_positives = known_positives
        self._hard_negatives = hard_negatives
        self._head_assignment = head_assignment
        self._num_items = num_items
        self._occurrences = None
        if clicks is not None:
            self._occurrences = graph_array(expected_occurrences(clicks, loss.mixing_ratio, loss.group_size))

    def prepare(self, batch: Batch) -> tuple[ItemFeatures, _Negatives]:
        """As ``TowerStep.prepare``: the batch's items, then the hard negatives, then those of wrong pairs."""
        known, hard, items = None, None, batch.items
        if self._known_positives is not None:
            known = self._known_positives.mask(batch.query_rows, batch.item_rows)
        if self._hard_negatives is not None:
            hard, features = self._hard_negatives.of_queries(batch.query_rows)
            items = concatenated(items, features)
        if batch.wrong is not None:
            items = concatenated(items, batch.wrong.items)
        return items, _Negatives(known, hard)

    def loss(self, batch: Batch) -> tf.Tensor:
        """The loss of a batch without known positives, hard negatives and dropout, float32 []; changes nothing."""
        heads, vectors = self._model.query_heads(batch.queries), self._model.item_vectors(batch.items)
        return self.objective(heads, vectors, batch, _Negatives(None, None)).loss

    def objective(self, heads: tf.Tensor, vectors: tf.Tensor, batch: Batch, prepared: _Negatives) -> LossAndGradients:
        """As ``TowerStep.objective``."""
        if batch.wrong is None:
            return self._of_examples(heads, vectors, batch, prepared)
        size, items = tf.shape(batch.query_rows)[0], tf.shape(batch.item_rows)[0]
        first_wrong = tf.shape(vectors)[0] - tf.shape(batch.wrong.item_rows)[0]
        found = self._of_examples(heads[:size], vectors[:first_wrong], batch, prepared)
        wrong = wrong_pair_loss(
            heads[size:],
            vectors[first_wrong:],
            vectors[:items],
            batch.wrong.no_rivals,
            rivals=rivals(batch.item_rows.shape[0], self._num_items),
            temperature=self._loss.temperature,
            rows=tf.cast(size, tf.float32),
        )
        return LossAndGradients(
            found.loss + wrong.loss,
            tf.concat([found.heads, wrong.heads], axis=0),
            tf.concat([found.vectors, wrong.vectors], axis=0),
        )

    def _of_examples(
        self, heads: tf.Tensor, vectors: tf.Tensor, batch: Batch, prepared: _Negatives
    ) -> LossAndGradients:
        """The loss of the B examples; heads [B, m, d] and vectors [B + R + H, d]."""
        rows = batch.query_rows, batch.item_rows
        beta = self._model.config.attention_temperature
        if self._head_assignment is None:
            return batch_loss(heads, vectors, *rows, self._loss, beta, self._occurrences, *prepared, batch.weights)
        assigned = self._head_assignment(heads, vectors, *rows)
        own = tf.gather(heads, assigned, batch_dims=1)[:, tf.newaxis]
        found = batch_loss(own, vectors, *rows, self._loss, beta, self._occurrences, *prepared, batch.weights)
        return found._replace(heads=tf.one_hot(assigned, tf.shape(heads)[1])[:, :, tf.newaxis] * found.heads)
