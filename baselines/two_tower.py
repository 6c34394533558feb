"""The two towers as a retriever."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from dpsr.baselines.examples import Examples
from dpsr.baselines.retrievers import CatalogueRetriever
from dpsr.data.batches.features import FeatureTables
from dpsr.data.dataset.tables import Dataset
from dpsr.model.two_tower import TwoTower
from dpsr.tokenizer_cc import Tokenizer


class TwoTowerRetriever(CatalogueRetriever):
    """The model by exact search: an item's score is its best inner product with any head, as in retrieval."""

    def __init__(self, model: TwoTower, dataset: Dataset, item_vectors: np.ndarray) -> None:
        """Prepares the query tower's inputs.

        Args:
            model: the trained towers.
            dataset: the tables of users and their histories, and the tokenizer.
            item_vectors: float32 [items, d], the catalogue through the item tower.
        """
        super().__init__(len(item_vectors))
        self._model = model
        self._tables = FeatureTables(dataset, model.config.history_length, model.config.history_titles)
        self._tokenizer = Tokenizer.load(dataset.tokenizer_path)
        self._columns = np.ascontiguousarray(item_vectors.T)
        items, dimension = item_vectors.shape
        self.index = f"exact: {model.config.heads} x {items:,} inner products of {dimension}"

    def query_heads(self, examples: Examples) -> np.ndarray:
        """Embeds the texts with their users, float32 [n, heads, d]."""
        fields = np.ascontiguousarray(examples.records).view("<i4").reshape(len(examples), -1)
        values, row_splits = self._tokenizer.encode_batch(examples.texts.tolist())
        # The text may have been changed since it was logged: its tokens replace those of the stored query.
        queries = self._tables.queries(tf.constant(fields))._replace(
            tokens=tf.RaggedTensor.from_row_splits(values, row_splits)
        )
        return self._model.query_heads(queries).numpy()

    def score_all(self, examples: Examples) -> np.ndarray:
        """As ``CatalogueRetriever.score_all``."""
        heads = self.query_heads(examples)
        scores = self.head_scores(heads[:, 0])
        for head in range(1, heads.shape[1]):
            np.maximum(scores, self.head_scores(heads[:, head]), out=scores)
        return scores

    def head_scores(self, heads: np.ndarray) -> np.ndarray:
        """Cosines of one head of every query with the whole catalogue, float32 [n, d] -> [n, items]."""
        scores: np.ndarray = heads @ self._columns
        return scores
