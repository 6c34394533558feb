"""The trained two towers (the paper's DPSR, section 3) by exact search over the item vectors.

Differs from the servable in the index only: every inner product is computed, so that the figures are the model's own.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.data.batches.text_reader import TextReader
from dpsr.data.dataset.tables import Dataset
from dpsr.model.feature_tables import feature_tables, sequence_lengths
from dpsr.model.inference_model import for_inference
from dpsr.model.interface import Model


class TwoTowerRetriever(ExhaustiveRetriever):
    """Scores an item by the largest inner product of its vector with any query head, as the servable does."""

    def __init__(self, model: Model, dataset: Dataset, item_vectors: np.ndarray) -> None:
        """Prepares the query tower's inputs.

        Args:
            model: the trained towers.
            dataset: tables of users and their histories, and the tokenizer.
            item_vectors: item tower's output for the catalogue, float32 [items, d].
        """
        super().__init__(len(item_vectors))
        self._model = for_inference(model)
        lengths = sequence_lengths(model.config)
        self._tables = feature_tables(model.config, dataset)
        self._read = TextReader(dataset, None if lengths is None else lengths.query)
        self._columns = np.ascontiguousarray(item_vectors.T)

    @property
    def index(self) -> str:
        """As ``ExhaustiveRetriever.index``."""
        dimension, items = self._columns.shape
        return f"exact: {self._model.config.heads} x {items:,} inner products of {dimension}"

    @property
    def index_bytes(self) -> int:
        """As ``ExhaustiveRetriever.index_bytes``: the item vectors."""
        return self._columns.nbytes

    def query_heads(self, examples: QueryExamples) -> np.ndarray:
        """Embeds query texts with profile and history of their users, float32 [n, heads, d]."""
        fields = np.ascontiguousarray(examples.records).view("<i4").reshape(len(examples), -1)
        # Texts may differ from the logged query (one typo): they take the place of those of the query table.
        text = self._read(tf.constant(examples.texts.tolist(), tf.string))
        queries = self._tables.queries(tf.constant(fields)).with_text(text)
        return self._model.query_heads(queries).numpy()

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        """As ``ExhaustiveRetriever.score_all``."""
        heads = self.query_heads(examples)
        scores = self.head_scores(heads[:, 0])
        for head in range(1, heads.shape[1]):
            np.maximum(scores, self.head_scores(heads[:, head]), out=scores)
        return scores

    def head_scores(self, heads: np.ndarray) -> np.ndarray:
        """Inner products of one head of every query with the catalogue, float32 [n, d] -> [n, items]."""
        scores: np.ndarray = heads @ self._columns
        return scores
