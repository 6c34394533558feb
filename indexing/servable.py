"""The servable: text and ids in, items out, all of it in one SavedModel.

``query -> tokenizer -> query tower -> heads -> index -> merge -> item ids``. Profile values and history items are
looked up inside the graph, so a client sends what it has: strings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from dpsr.data.batches.features import QueryFeatures, TextFeatures, first_tokens, titles_of
from dpsr.data.batches.sequences import sequences
from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.catalogue import Catalogue, ItemRows
from dpsr.indexing.dense.ann import Index
from dpsr.indexing.dense.searcher import DenseSearcher
from dpsr.indexing.filters import Filters, stripped
from dpsr.indexing.request_inputs import query_specs, user_specs
from dpsr.indexing.searcher import Queries, Searcher
from dpsr.indexing.servable_module import TowerModule, id_tensor, lookup_table
from dpsr.indexing.signature import profile_inputs
from dpsr.model.feature_tables import sequence_lengths
from dpsr.model.inference_model import for_inference
from dpsr.model.interface import Model
from dpsr.tokenizer_cc.subword_op import SubwordLayer
from dpsr.tokenizer_cc.tokenize_op import TokenizeLayer


class RetrievalModule(TowerModule):
    """Tokenizer, query tower, searcher and item ids as one exportable module.

    Only the query tower's variables become part of it: the item vectors of the index stand for the item tower.
    """

    def __init__(
        self,
        model: Model,
        dataset: Dataset,
        searcher: Searcher,
        filters: Filters,
        *,
        catalogue: ItemRows | None = None,
    ) -> None:
        """Joins tokenizer, query tower, searcher and tables, and traces the signatures.

        Args:
            model: the trained towers, or those of ``for_inference``, which takes care of the speed.
            dataset: tokenizer, vocabularies, and the items that histories are made of.
            searcher: finds items of ``catalogue``, row by row.
            filters: over the same items; those of the searcher.
            catalogue: the items that are found; those of ``dataset`` by default.

        Raises:
            ExportError: a profile column has the name of another input; see ``profile_inputs``.
        """
        model = for_inference(model)
        catalogue = catalogue or Catalogue.of_dataset(dataset)
        super().__init__(catalogue.item_ids, searcher, filters)
        self.tokenize_layer = TokenizeLayer(str(dataset.tokenizer_path))
        self._lengths = sequence_lengths(model.config)
        if self._lengths is not None:
            self._special = dataset.subwords_schema
            self.subword_layer = SubwordLayer(str(dataset.subwords_path))
        self._history_length = model.config.history_length
        self._history_titles = model.config.history_titles if model.has_history else 0
        if self._history_titles:  # as variables: constants of a graph are limited to 2 GB
            titles = first_tokens(dataset.item_tokens)
            self._title_values = tf.Variable(titles.values, trainable=False, name="title_tokens")
            self._title_row_splits = tf.Variable(titles.row_splits, trainable=False, name="title_row_splits")
        self._history_ids = self._item_ids
        if not np.array_equal(catalogue.item_ids, dataset.item_ids):
            self._history_ids = tf.Variable(id_tensor(dataset.item_ids), trainable=False, name="history_ids")
        self._row_of_item = tf.lookup.StaticHashTable(_RowsOfIds(self._history_ids), default_value=-1)
        self._profile_inputs = profile_inputs(dataset.schema.profile)
        self._profile_tables = {
            column: _profile_table(dataset.vocabularies[f"users.{column}"]) for column in dataset.schema.profile
        }
        # A function hides the model from the tracking of attributes, which would save the item tower too.
        self._query_heads: Callable[[QueryFeatures], tf.Tensor] = lambda queries: model.query_heads(queries)
        query = query_specs()
        self._trace(
            query,
            {
                "personalized": (
                    self._serve_personalized,
                    query | user_specs(dataset.schema) | filters.specs | self._mode_specs,
                ),
                "tokenize": (self._tokenize, query),
            },
        )
        self._query_tower_variables = self._captured(model.variables)

    def _queries(self, inputs: Mapping[str, tf.Tensor], mode: tf.Tensor | None = None) -> Queries:
        """Queries of users of whom nothing is known."""
        query = inputs["query"]
        missing = tf.zeros_like(query, tf.int32)
        no_items = tf.RaggedTensor.from_row_splits(
            tf.zeros([0], tf.int32), tf.zeros([tf.shape(query)[0] + 1], tf.int64), validate=False
        )
        text = self._read(query)
        profile = dict.fromkeys(self._profile_tables, missing)
        features = QueryFeatures(text.tokens, profile, no_items, no_items, text.subwords)
        return Queries(query, features, self._wanted(tf.shape(query)[0], mode))

    def _heads(self, queries: Queries) -> tf.Tensor:
        return self._query_heads(queries.features)

    def _serve_personalized(
        self, query: tf.Tensor, history: tf.Tensor, mode: tf.Tensor | None = None, **named: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        rows = self._history_rows(history)
        text = self._read(query)
        features = QueryFeatures(
            tokens=text.tokens,
            profile={
                column: self._profile_tables[column].lookup(stripped(named[name]))
                for column, name in self._profile_inputs.items()
            },
            history=rows,
            history_titles=self._titles_of(rows),
            subwords=text.subwords,
        )
        queries = Queries(query, features, self._wanted(tf.shape(query)[0], mode))
        return self._retrieve(queries, {name: named[name] for name in self.filters.specs})

    def _tokenize(self, query: tf.Tensor) -> dict[str, tf.Tensor]:
        tokens = self.tokenize_layer(query)
        return {"values": tokens.values, "row_splits": tokens.row_splits}

    def _read(self, query: tf.Tensor) -> TextFeatures:
        subwords = None
        if self._lengths is not None:
            subwords = sequences(self.subword_layer(query), self._special, self._lengths.query)
        return TextFeatures(self.tokenize_layer(query), subwords)

    def _titles_of(self, rows: tf.RaggedTensor) -> tf.RaggedTensor | None:
        if not self._history_titles:
            return None
        titles = tf.RaggedTensor.from_row_splits(
            self._title_values.value(), self._title_row_splits.value(), validate=False
        )
        return titles_of(rows, titles, self._history_titles)

    def _history_rows(self, item_ids: tf.Tensor) -> tf.RaggedTensor:
        """The rows of the known items, the most recent ``history_length`` of them; int32 [B, None]."""
        if self._id_dtype == tf.string:
            item_ids = stripped(item_ids)  # as the dataset has them
        rows = self._row_of_item.lookup(item_ids)
        known = (rows >= 0) & (item_ids != self._no_item)
        recent = tf.cumsum(tf.cast(known, tf.int32), axis=1, reverse=True) <= self._history_length
        return tf.ragged.boolean_mask(rows, known & recent)


def dense_servable(
    model: Model,
    dataset: Dataset,
    index: Index,
    *,
    filter_range: Sequence[str] = (),
) -> RetrievalModule:
    """The servable of a dataset's items that finds them by their vectors alone.

    Args:
        model: the trained towers.
        dataset: what they were trained on.
        index: over its items' vectors, row by row.
        filter_range: numeric columns that a request may restrict to a range.

    Raises:
        ExportError: a column has the name of another input, or is not there; see ``profile_inputs``, ``Filters``.
    """
    model = for_inference(model)
    filters = Filters(dataset.item_table(), dataset.schema.categorical, filter_range)
    searcher = DenseSearcher(index, model.query_heads, filters)
    return RetrievalModule(model, dataset, searcher, filters)


class _RowsOfIds(tf.lookup.KeyValueTensorInitializer):
    """Fills a table with the places of ids in a variable, whose file may be of any size.

    The stock initializer keeps keys and values as constants of the graph, whose message may have 2 GiB at most.
    """

    def __init__(self, ids: tf.Variable) -> None:
        super().__init__(tf.zeros([0], ids.dtype), tf.zeros([0], tf.int32))
        self._ids = ids

    def initialize(self, table: tf.lookup.StaticHashTable) -> tf.Operation:
        """Adds the rows; a loaded SavedModel does it once the variable is restored."""
        ids = self._ids.read_value()
        return tf.raw_ops.LookupTableImportV2(
            table_handle=table.resource_handle, keys=ids, values=tf.range(tf.size(ids), dtype=tf.int32)
        )


def _profile_table(vocabulary: Sequence[str]) -> tf.lookup.StaticHashTable:
    """Value -> id as in the dataset: "" is missing (0), entry i is i + 1, anything else is out of vocabulary."""
    ids = {value: position + 1 for position, value in enumerate(vocabulary)} | {"": 0}
    return lookup_table(tf.constant(list(ids), tf.string), list(ids.values()), default=len(vocabulary) + 1)
