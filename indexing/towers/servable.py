"""The servable of a query model of another make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from dpsr.indexing.errors import ExportError
from dpsr.indexing.filters import Filters
from dpsr.indexing.searcher import Queries, Searcher
from dpsr.indexing.servable_module import TowerModule
from dpsr.indexing.towers.query_model import QueryModel


class TowersModule(TowerModule):
    """Query model, searcher and item ids as one exportable module.

    Of the query model it keeps what its call reads, variables and tables: no optimiser, no other method.
    """

    def __init__(
        self, model: QueryModel, item_ids: np.ndarray, searcher: Searcher, filters: Filters, *, text_input: str | None
    ) -> None:
        """Joins query model and searcher, and traces the signatures.

        Args:
            model: gives the heads of a query.
            item_ids: object (str) or int64 [items].
            searcher: finds these items, row by row.
            filters: over the same items; those of the searcher.
            text_input: the input that holds the words of a query; None where no words are searched.
        """
        super().__init__(item_ids, searcher, filters)
        self._text_input = text_input
        self._inputs = tuple(model.specs)
        # A function hides the model from the tracking of attributes, which would save all its methods.
        self._query_heads: Callable[[Mapping[str, tf.Tensor]], tf.Tensor] = lambda inputs: model(inputs)
        self._trace(model.specs, {})
        self._query_model_resources = self._captured(model.resources())

    def save(self, path: Path) -> None:
        """As ``TowerModule.save``.

        Raises:
            ExportError: TensorFlow cannot save the query model.
        """
        try:
            super().save(path)
        except Exception as error:  # whatever TensorFlow and the model raise
            raise ExportError(
                f"the query model cannot be saved; nothing was published: {type(error).__name__}: {error}"
            ) from error

    def _queries(self, inputs: Mapping[str, tf.Tensor], mode: tf.Tensor | None = None) -> Queries:
        features = {name: inputs[name] for name in self._inputs}
        rows = tf.shape(features[self._inputs[0]])[0]
        texts = tf.fill([rows], "") if self._text_input is None else features[self._text_input]
        return Queries(texts, features, self._wanted(rows, mode))

    def _heads(self, queries: Queries) -> tf.Tensor:
        return self._query_heads(queries.features)
