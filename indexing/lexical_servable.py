"""The servable of words alone: ``query -> terms -> postings -> item ids``, without a tower and without vectors."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.catalogue import ItemRows
from dpsr.indexing.filters import Filters
from dpsr.indexing.request_inputs import query_specs, user_specs
from dpsr.indexing.searcher import Queries, Searcher
from dpsr.indexing.servable_module import ServableModule
from dpsr.tokenizer_cc.tokenize_op import TokenizeLayer


class LexicalModule(ServableModule):
    """Searcher, tokenizer and item ids as one exportable module.

    It has the signatures of ``RetrievalModule`` but ``embed_query``. Profile and history are inputs of
    ``personalized``, so that clients do not change with the mode; nothing reads them.
    """

    def __init__(self, dataset: Dataset, items: ItemRows, searcher: Searcher, filters: Filters) -> None:
        """Joins searcher and ids, and traces the signatures.

        Args:
            dataset: the tokenizer of the signature ``tokenize``, and the inputs of ``personalized``.
            items: those that are found.
            searcher: finds them by the texts of queries, row by row.
            filters: over the same items; those of the searcher.

        Raises:
            ExportError: a profile column has the name of another input; see ``profile_inputs``.
        """
        super().__init__(items.item_ids, searcher, filters)
        self.tokenize_layer = TokenizeLayer(str(dataset.tokenizer_path))
        query, user = query_specs(), user_specs(dataset.schema)
        personalized = (self._serve_personalized, query | user | filters.specs | self._mode_specs)
        self._trace(query, {"personalized": personalized, "tokenize": (self._tokenize, query)})

    def _queries(self, inputs: Mapping[str, tf.Tensor], mode: tf.Tensor | None = None) -> Queries:
        query = inputs["query"]
        return Queries(query, None, self._wanted(tf.shape(query)[0], mode))

    def _serve_personalized(
        self, query: tf.Tensor, mode: tf.Tensor | None = None, **named: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        return self._retrieve(self._queries({"query": query}, mode), {name: named[name] for name in self.filters.specs})

    def _tokenize(self, query: tf.Tensor) -> dict[str, tf.Tensor]:
        tokens = self.tokenize_layer(query)
        return {"values": tokens.values, "row_splits": tokens.row_splits}
