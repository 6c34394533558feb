"""Loss and Top-1 on a sample of the validation split, at the end of every epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from dpsr.config import Config
from dpsr.data.batches.batch import BatchMaker
from dpsr.data.batches.features import FeatureTables
from dpsr.data.batches.steps import LogBatches, plan_tensors
from dpsr.data.dataset.schema import INTERACTION, split_file
from dpsr.data.dataset.tables import Dataset
from dpsr.model.interface import Model
from dpsr.training.catalogue_scores import CatalogueScores
from dpsr.training.negatives import count_random_negatives
from dpsr.training.step import MatchingStep

RECALL = "valid_recall_100"
"""Figure that is computed where ``training.stop_by`` names it."""
_ROWS_AT_ONCE = 512


class Validation:
    """Loss and Top-1 of a model on a fixed sample of the validation split, against fixed random candidates."""

    def __init__(self, config: Config, dataset: Dataset, tables: FeatureTables, model: Model, step: MatchingStep):
        """Draws the examples and the candidates; the same seed draws the same ones."""
        random = np.random.default_rng(config.training.seed)
        size, most = dataset.num_interactions("valid"), config.evaluation.max_examples
        places = np.sort(random.choice(size, most, replace=False)) if size > most else np.arange(size)
        records = dataset.interactions_at("valid", places)
        self._records = records.view(np.int32).reshape(len(records), INTERACTION.itemsize // 4)
        others = min(config.evaluation.candidates - 1, dataset.schema.num_items)
        self._candidates = tf.constant(random.permutation(dataset.schema.num_items)[:others], tf.int32)
        self._scores = None
        if config.training.stop_by == RECALL:
            self._scores = CatalogueScores(model, tables, dataset.schema.num_items)
        self._tables = tables
        self._model = model
        self._step = step
        self._batches = None
        if len(records):
            maker = BatchMaker(
                tables,
                batch_size=config.training.batch_size,
                random_negatives=count_random_negatives(config.loss.mixing_ratio, config.loss.group_size),
                num_items=dataset.schema.num_items,
            )
            self._batches = LogBatches(maker, dataset.directory / split_file("valid"))
            steps = -(-len(records) // maker.batch_size)
            self._plan = plan_tensors(self._batches.epoch(config.training.seed, 0).steps(0, steps))
            self._steps = tf.constant(steps, tf.int64)
        self._candidate_vectors = tf.function(self._embed_candidates)
        self._count_wins = tf.function(
            self._wins,
            input_signature=[
                tf.TensorSpec([None, self._records.shape[1]], tf.int32),
                tf.TensorSpec([None, config.model.dimension], tf.float32),
            ],
        )
        self._mean_loss = tf.function(self._loss)

    def __call__(self) -> dict[str, float | None]:
        """The validation figures; None where the split is empty."""
        if self._batches is None:
            return {"valid_loss": None, "valid_top1": None}
        recall = {} if self._scores is None else {RECALL: self._scores.recall(self._records, 100)}
        loss = self._mean_loss(self._batches, self._plan, self._steps)
        candidates = self._candidate_vectors()
        wins = sum(
            int(self._count_wins(self._records[start : start + _ROWS_AT_ONCE], candidates))
            for start in range(0, len(self._records), _ROWS_AT_ONCE)
        )
        return {"valid_loss": float(loss), "valid_top1": wins / len(self._records), **recall}

    def _embed_candidates(self) -> tf.Tensor:
        return self._model.item_vectors(self._tables.items(self._candidates))

    def _wins(self, records: tf.Tensor, candidate_vectors: tf.Tensor) -> tf.Tensor:
        """Counts the records whose item, scored by its best head, is strictly before every other candidate."""
        heads = self._model.query_heads(self._tables.queries(records))
        positives = self._model.item_vectors(self._tables.items(records[:, 2]))
        positive = tf.reduce_max(tf.einsum("bmd,bd->bm", heads, positives), axis=1)
        scores = tf.reduce_max(tf.einsum("bmd,nd->bmn", heads, candidate_vectors), axis=1)
        is_other = records[:, 2, tf.newaxis] != self._candidates[tf.newaxis]
        best_other = tf.reduce_max(tf.where(is_other, scores, scores.dtype.min), axis=1)
        return tf.reduce_sum(tf.cast(positive > best_other, tf.int32))

    def _loss(self, batches: LogBatches, plan: Any, steps: tf.Tensor) -> tf.Tensor:
        batch_of = batches.batches(plan)
        total = tf.constant(0.0, tf.float64)
        for position in tf.range(steps):
            total += tf.cast(self._step.loss(batch_of(position)), tf.float64)
        return total / tf.cast(steps, tf.float64)
