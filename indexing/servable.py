"""The servable: text and ids in, items out, all of it in one SavedModel.

``query -> tokenizer -> query tower -> heads -> index -> merge -> item ids``. Profile values and history items are
looked up inside the graph, so a client sends what it has: strings.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dpsr.config import IndexConfig
from dpsr.data.batches.features import QueryFeatures, TextFeatures, first_tokens, titles_of
from dpsr.data.batches.sequences import sequences
from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.catalogue import Catalogue, ItemRows
from dpsr.indexing.dense.ann import Index
from dpsr.indexing.dense.searcher import DenseSearcher
from dpsr.indexing.filters import Filters, stripped
from dpsr.indexing.searcher import Found, Queries, Searcher
from dpsr.indexing.signature import MODE_INPUT, profile_inputs
from dpsr.model.feature_tables import sequence_lengths
from dpsr.model.inference_model import for_inference
from dpsr.model.interface import Model
from dpsr.tokenizer_cc.subword_op import SubwordLayer
from dpsr.tokenizer_cc.tokenize_op import TokenizeLayer

FILTER_CANDIDATES = IndexConfig().filter_candidates
"""Nearest items of each head that a filter searches by default."""
_OP_NAMESPACES = ["Scann"]


class RetrievalModule(tf.Module):
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
        super().__init__(name="servable")
        model = for_inference(model)
        catalogue = catalogue or Catalogue.of_dataset(dataset)
        self.filters = filters
        self.searcher = searcher
        self.release = self.searcher.release
        self.num_items = catalogue.num_items
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
        self._id_dtype = tf.int64 if dataset.schema.item_id_type == "int64" else tf.string
        self._no_item: int | bytes = -1 if self._id_dtype == tf.int64 else b""
        self._item_ids = tf.Variable(_id_tensor(catalogue.item_ids, self._id_dtype), trainable=False, name="item_ids")
        self._history_ids = self._item_ids
        if not np.array_equal(catalogue.item_ids, dataset.item_ids):
            ids = _id_tensor(dataset.item_ids, self._id_dtype)
            self._history_ids = tf.Variable(ids, trainable=False, name="history_ids")
        self._row_of_item = tf.lookup.StaticHashTable(_RowsOfIds(self._history_ids), default_value=-1)
        self._profile_inputs = profile_inputs(dataset.schema.profile)
        self._profile_tables = {
            column: _profile_table(dataset.vocabularies[f"users.{column}"]) for column in dataset.schema.profile
        }
        # A function hides the model from the tracking of attributes, which would save the item tower too.
        self._query_heads: Callable[[QueryFeatures], tf.Tensor] = lambda queries: model.query_heads(queries)
        self._mode_table = None
        if modes := searcher.modes:
            self._mode_table = _lookup_table(tf.constant([*modes]), [*modes.values()], default=0)
        self._traced = self._trace()
        # Compared by handle: a kernel that reads a variable by its handle leaves no trace in the function's variables.
        used = {id(handle) for function in self._traced.values() for handle in _captured(function)}
        self._query_tower_variables = [variable for variable in model.variables if id(variable.handle) in used]

    def save(self, path: Path) -> None:
        """Writes the SavedModel with its signatures."""
        options = tf.saved_model.SaveOptions(namespace_whitelist=_OP_NAMESPACES)
        tf.saved_model.save(self, str(path), signatures=dict(self._traced), options=options)

    def _trace(self) -> dict[str, Any]:
        query = {"query": tf.TensorSpec([None], tf.string, "query")}
        mode = {MODE_INPUT: tf.TensorSpec([None], tf.string, MODE_INPUT)} if self.searcher.modes else {}
        history = {"history": tf.TensorSpec([None, None], self._id_dtype, "history")}
        profile = {name: tf.TensorSpec([None], tf.string, name) for name in self._profile_inputs.values()}
        filters = self.filters.specs
        signatures: dict[str, tuple[Callable[..., dict[str, tf.Tensor]], dict[str, tf.TensorSpec]]] = {
            "serving_default": (self._serve, query | mode),
            "personalized": (self._serve_personalized, query | profile | history | filters | mode),
            "embed_query": (self._embed, query),
            "tokenize": (self._tokenize, query),
        }
        if self.filters:
            signatures["filtered"] = (self._serve_filtered, query | filters | mode)
        defaults = self.filters.defaults | {MODE_INPUT: tf.constant([""])}
        return {name: _with_defaults(function, inputs, defaults) for name, (function, inputs) in signatures.items()}

    def _serve(self, query: tf.Tensor, mode: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        return self._answer(self.searcher.search(self._anonymous(query, mode)))

    def _serve_filtered(
        self, query: tf.Tensor, mode: tf.Tensor | None = None, **filters: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        return self._retrieve(self._anonymous(query, mode), filters)

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
        queries = Queries(query, features, self._wanted(query, mode))
        return self._retrieve(queries, {name: named[name] for name in self.filters.specs})

    def _embed(self, query: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"heads": self._query_heads(self._anonymous(query).features)}

    def _tokenize(self, query: tf.Tensor) -> dict[str, tf.Tensor]:
        tokens = self.tokenize_layer(query)
        return {"values": tokens.values, "row_splits": tokens.row_splits}

    def _wanted(self, query: tf.Tensor, mode: tf.Tensor | None) -> tf.Tensor | None:
        """The searchers that each row of a request asks for, int32 [B]; None without a choice."""
        if mode is None or self._mode_table is None:
            return None
        wanted = self._mode_table.lookup(stripped(mode))
        known = ", ".join(filter(None, self.searcher.modes))
        unknown = tf.debugging.Assert(
            tf.reduce_all(wanted > 0), [f"input {MODE_INPUT} has to be one of {known}:", mode]
        )
        with tf.control_dependencies([unknown]):
            return tf.broadcast_to(wanted, tf.shape(query))

    def _anonymous(self, query: tf.Tensor, mode: tf.Tensor | None = None) -> Queries:
        """Queries of users of whom nothing is known."""
        missing = tf.zeros_like(query, tf.int32)
        no_items = tf.RaggedTensor.from_row_splits(
            tf.zeros([0], tf.int32), tf.zeros([tf.shape(query)[0] + 1], tf.int64), validate=False
        )
        text = self._read(query)
        profile = dict.fromkeys(self._profile_tables, missing)
        features = QueryFeatures(text.tokens, profile, no_items, no_items, text.subwords)
        return Queries(query, features, self._wanted(query, mode))

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

    def _retrieve(self, queries: Queries, filters: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The k best items that match the filters, and how many fewer than k were found."""
        if filters:
            wanted = self.filters.requested(filters, tf.shape(queries.texts)[0])
            found = self.searcher.search_matching(queries, wanted)
        else:
            found = self.searcher.search(queries)
        missing = tf.reduce_sum(tf.cast(found.rows < 0, tf.int32), axis=1)
        return {**self._answer(found), "shortfall": missing}

    def _answer(self, found: Found) -> dict[str, tf.Tensor]:
        item_id = tf.where(found.rows >= 0, tf.gather(self._item_ids, tf.maximum(found.rows, 0)), self._no_item)
        return {"item_id": item_id, "score": found.scores, "head": found.heads, "source": found.sources}


def dense_servable(
    model: Model,
    dataset: Dataset,
    index: Index,
    *,
    filter_range: Sequence[str] = (),
    filter_candidates: int = FILTER_CANDIDATES,
) -> RetrievalModule:
    """The servable of a dataset's items that finds them by their vectors alone.

    Args:
        model: the trained towers.
        dataset: what they were trained on.
        index: over its items' vectors, row by row.
        filter_range: numeric columns that a request may restrict to a range.
        filter_candidates: nearest items of each head among which a filter finds the matching ones.

    Raises:
        ExportError: a column has the name of another input, or is not there; see ``profile_inputs``, ``Filters``.
    """
    model = for_inference(model)
    filters = Filters(Catalogue.of_dataset(dataset), dataset.schema.categorical, filter_range)
    searcher = DenseSearcher(index, model.query_heads, filters, filter_candidates=filter_candidates)
    return RetrievalModule(model, dataset, searcher, filters)


def _with_defaults(
    function: Callable[..., dict[str, tf.Tensor]], inputs: dict[str, tf.TensorSpec], defaults: dict[str, tf.Tensor]
) -> Any:
    """A function of tensors whose saved signature says which inputs a request may leave out, and what they are then."""
    names = sorted(inputs, key=lambda name: name in defaults)

    def call(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        return function(**dict(zip(names, tensors, strict=True)))

    # TensorFlow takes the names and the defaults from here.
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=defaults.get(name, inspect.Parameter.empty),
            )
            for name in names
        ]
    )
    return tf.function(call, input_signature=[inputs[name] for name in names], autograph=False)


def _captured(function: Any) -> Sequence[tf.Tensor]:
    return function.get_concrete_function().captured_inputs


def _id_tensor(ids: np.ndarray, dtype: tf.DType) -> tf.Tensor:
    return tf.constant(ids.tolist() if dtype == tf.string else np.asarray(ids, np.int64), dtype)


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


def _lookup_table(keys: tf.Tensor, values: Sequence[int] | np.ndarray, *, default: int) -> tf.lookup.StaticHashTable:
    initializer = tf.lookup.KeyValueTensorInitializer(keys, tf.constant(values, tf.int32))
    return tf.lookup.StaticHashTable(initializer, default)


def _profile_table(vocabulary: Sequence[str]) -> tf.lookup.StaticHashTable:
    """Value -> id as in the dataset: "" is missing (0), entry i is i + 1, anything else is out of vocabulary."""
    ids = {value: position + 1 for position, value in enumerate(vocabulary)} | {"": 0}
    return _lookup_table(tf.constant(list(ids), tf.string), list(ids.values()), default=len(vocabulary) + 1)
