"""The servable: text and ids in, items out, all of it in one SavedModel.

``query -> tokenizer -> query tower -> heads -> index -> merge -> item ids``. Profile values and history items are
looked up inside the graph, so a client sends what it has: strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dpsr.config import DpsrError
from dpsr.data.pipeline import QueryFeatures
from dpsr.data.tables import Dataset
from dpsr.indexing.ann import Index
from dpsr.model.two_tower import TwoTower
from dpsr.ops_cc.head_merge import merge_heads
from dpsr.tokenizer_cc.tokenize_op import TokenizeLayer

_OP_NAMESPACES = ["Scann"]
_INPUTS = ("query", "history")


class ExportError(DpsrError, ValueError):
    """A model that cannot be published; the message says what was found and what to do."""


def profile_inputs(columns: Iterable[str]) -> dict[str, str]:
    """Names the inputs of profile columns: a tensor's name has only ASCII letters, digits and ``_``, the rest is ``_``.

    Returns:
        column -> input.

    Raises:
        ExportError: two inputs would have one name.
    """
    names: dict[str, str] = {}
    for column in columns:
        name = re.sub(r"[^a-zA-Z0-9_]", "_", column)
        name = name if name[0].isalpha() else f"arg_{name}"
        if name in (*_INPUTS, *names.values()):
            raise ExportError(
                f"profile column {column!r} would be input {name!r} of the servable, which is another one already; "
                "rename the column"
            )
        names[column] = name
    return names


class Servable(tf.Module):
    """Tokenizer, query tower, index and item ids as one exportable module.

    Only the query tower's variables become part of it: the item tower lives on in the index.
    """

    def __init__(self, model: TwoTower, dataset: Dataset, index: Index) -> None:
        """Puts the parts together.

        Args:
            model: the trained towers.
            dataset: tokenizer, item ids and vocabularies.
            index: over the item vectors of ``dataset``, row by row.

        Raises:
            ExportError: a profile column has the name of another input; see ``profile_inputs``.
        """
        super().__init__(name="servable")
        self.index = index
        self.release = index.release
        self.k = index.k
        self.tokenize_layer = TokenizeLayer(str(dataset.tokenizer_path))
        self._history_length = model.config.history_length
        self._id_dtype = tf.int64 if dataset.schema.item_id_type == "int64" else tf.string
        self._no_item: int | bytes = -1 if self._id_dtype == tf.int64 else b""
        self._item_ids = tf.Variable(_id_tensor(dataset.item_ids, self._id_dtype), trainable=False, name="item_ids")
        self._row_of_item = _lookup_table(
            _id_tensor(dataset.item_ids, self._id_dtype), np.arange(len(dataset.item_ids)), default=-1
        )
        self._profile_inputs = profile_inputs(dataset.schema.profile)
        self._profile_tables = {
            column: _profile_table(dataset.vocabularies[f"users.{column}"]) for column in dataset.schema.profile
        }
        # A function hides the model from the tracking of attributes, which would save the item tower too.
        self._query_heads: Callable[[QueryFeatures], tf.Tensor] = lambda queries: model.query_heads(queries)
        self._traced = self._trace()
        used = {id(v) for function in self._traced.values() for v in function.variables}
        self._query_tower_variables = [variable for variable in model.variables if id(variable) in used]

    def save(self, path: Path) -> None:
        """Writes the SavedModel with its four signatures."""
        options = tf.saved_model.SaveOptions(namespace_whitelist=_OP_NAMESPACES)
        tf.saved_model.save(self, str(path), signatures=dict(self._traced), options=options)

    def _trace(self) -> dict[str, Any]:
        query = {"query": tf.TensorSpec([None], tf.string, "query")}
        history = {"history": tf.TensorSpec([None, None], self._id_dtype, "history")}
        profile = {name: tf.TensorSpec([None], tf.string, name) for name in self._profile_inputs.values()}
        signatures: dict[str, tuple[Callable[..., dict[str, tf.Tensor]], dict[str, tf.TensorSpec]]] = {
            "serving_default": (self._serve, query),
            "personalized": (self._serve_personalized, query | profile | history),
            "embed_query": (self._embed, query),
            "tokenize": (self._tokenize, query),
        }
        return {
            name: tf.function(function, autograph=False).get_concrete_function(**inputs)
            for name, (function, inputs) in signatures.items()
        }

    def _serve(self, query: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._retrieve(self._anonymous(query))

    def _serve_personalized(self, query: tf.Tensor, history: tf.Tensor, **profile: tf.Tensor) -> dict[str, tf.Tensor]:
        features = QueryFeatures(
            tokens=self.tokenize_layer(query),
            profile={
                column: self._profile_tables[column].lookup(tf.strings.strip(profile[name]))
                for column, name in self._profile_inputs.items()
            },
            history=self._history_rows(history),
        )
        return self._retrieve(features)

    def _embed(self, query: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"heads": self._query_heads(self._anonymous(query))}

    def _tokenize(self, query: tf.Tensor) -> dict[str, tf.Tensor]:
        tokens = self.tokenize_layer(query)
        return {"values": tokens.values, "row_splits": tokens.row_splits}

    def _anonymous(self, query: tf.Tensor) -> QueryFeatures:
        """A query of a user of whom nothing is known."""
        missing = tf.zeros_like(query, tf.int32)
        no_items = tf.RaggedTensor.from_row_splits(
            tf.zeros([0], tf.int32), tf.zeros([tf.shape(query)[0] + 1], tf.int64), validate=False
        )
        return QueryFeatures(self.tokenize_layer(query), dict.fromkeys(self._profile_tables, missing), no_items)

    def _history_rows(self, item_ids: tf.Tensor) -> tf.RaggedTensor:
        """The rows of the known items, the most recent ``history_length`` of them; int32 [B, None]."""
        if self._id_dtype == tf.string:
            item_ids = tf.strings.strip(item_ids)  # as the dataset has them
        rows = self._row_of_item.lookup(item_ids)
        known = (rows >= 0) & (item_ids != self._no_item)
        recent = tf.cumsum(tf.cast(known, tf.int32), axis=1, reverse=True) <= self._history_length
        return tf.ragged.boolean_mask(rows, known & recent)

    def _retrieve(self, features: QueryFeatures) -> dict[str, tf.Tensor]:
        """Every head's k nearest items, merged (paper, section 4.2)."""
        heads = self._query_heads(features)
        num_heads, dimension = heads.shape[1:]
        rows, scores = self.index.search(tf.reshape(heads, [-1, dimension]))
        by_head = [-1, num_heads, self.k]
        rows, scores, found_by = merge_heads(tf.reshape(rows, by_head), tf.reshape(scores, by_head), self.k)
        item_id = tf.where(rows >= 0, tf.gather(self._item_ids, tf.maximum(rows, 0)), self._no_item)
        return {"item_id": item_id, "score": scores, "head": found_by}


def _id_tensor(ids: np.ndarray, dtype: tf.DType) -> tf.Tensor:
    return tf.constant(ids.tolist() if dtype == tf.string else np.asarray(ids, np.int64), dtype)


def _lookup_table(keys: tf.Tensor, values: Sequence[int] | np.ndarray, *, default: int) -> tf.lookup.StaticHashTable:
    initializer = tf.lookup.KeyValueTensorInitializer(keys, tf.constant(values, tf.int32))
    return tf.lookup.StaticHashTable(initializer, default)


def _profile_table(vocabulary: Sequence[str]) -> tf.lookup.StaticHashTable:
    """Value -> id as in the dataset: "" is missing (0), entry i is i + 1, anything else is out of vocabulary."""
    ids = {value: position + 1 for position, value in enumerate(vocabulary)} | {"": 0}
    return _lookup_table(tf.constant(list(ids), tf.string), list(ids.values()), default=len(vocabulary) + 1)
