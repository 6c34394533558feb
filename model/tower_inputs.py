"""The inputs of the towers: which tables they read, the bags that a batch looks up there, and the vectors they become.

Both classes describe a model without holding a variable, so that a cluster can be planned without building one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from dpsr.config import ModelConfig
from dpsr.data.batches.features import ItemFeatures, QueryFeatures, TextFeatures
from dpsr.data.dataset.schema import Schema
from dpsr.model.embeddings import TableBags, TableValues
from dpsr.model.encoded_items import EncodedInput, EncodedItems
from dpsr.model.text_encoders.bag import BagEncoder
from dpsr.model.text_encoders.encoder import TextEncoder
from dpsr.model.text_encoders.registry import text_encoder


class QueryInputs:
    """Text, profile and history: what the query tower reads."""

    def __init__(self, config: ModelConfig, schema: Schema, encoded: EncodedItems | None = None) -> None:
        """Takes the inputs that the configuration asks for and the dataset has."""
        rows = schema.token_rows
        self.texts = [text_encoder(config, schema, "query")]
        """The text of a query; with ``model.shared_tokens`` encoded as that of an item. Where the item tower reads
        frozen vectors too, a shared table cannot stand for them, and queries have one of their own beside it."""
        if encoded is not None and not encoded.alone and config.shared_tokens and config.text_encoder == "bag":
            self.texts.append(BagEncoder("query_tokens", rows))
        self.taught_tables: set[str] = set()
        """Tables of query tokens that stand for frozen vectors of items."""
        if encoded is not None:
            self.taught_tables = set(self.texts[-1].tables)
        self.head_texts = [
            BagEncoder(f"query_tokens.{head}", rows) for head in range(config.heads if config.head_tables else 0)
        ]
        """Of every head its own text, with ``model.head_tables``."""
        self._profile = {f"user.{column}": rows for column, rows in schema.profile.items()} if config.profile else {}
        self._history = {}
        if config.history_length > 0 and schema.num_users > 0:
            self._history = {"history": schema.num_items}
            if config.history_titles:
                self._history["history_titles"] = rows

    @property
    def tables(self) -> dict[str, int]:
        """Name and rows of every table."""
        tables: dict[str, int] = {}
        for text in (*self.texts, *self.head_texts):
            tables |= text.tables
        return tables | self._profile | self._history

    @property
    def token_tables(self) -> set[str]:
        """Names of the tables whose rows are token ids of the query."""
        return {name for text in (*self.texts, *self.head_texts) for name in text.tables}

    @property
    def num_vectors(self) -> int:
        """Number of vectors that all heads read."""
        return len(self.texts) + len(self._profile) + len(self._history)

    @property
    def has_history(self) -> bool:
        """Whether the tower reads the history."""
        return bool(self._history)

    def bags(self, queries: QueryFeatures) -> TableBags:
        """The lookups of some queries.

        Raises:
            ValueError: the batch was joined without the titles of the history.
        """
        bags: TableBags = {}
        for text in (*self.texts, *self.head_texts):
            bags |= text.bags(queries.text)
        bags |= {name: _bags_of_one(queries.profile[name.removeprefix("user.")]) for name in self._profile}
        if "history" in self._history:
            bags["history"] = queries.history
        if "history_titles" in self._history:
            if queries.history_titles is None:
                raise ValueError("the model reads the titles of the history, and the batch was joined without them")
            bags["history_titles"] = queries.history_titles
        return bags

    def vectors(
        self, queries: QueryFeatures, values: TableValues, weights: Mapping[str, Any], seed: tf.Tensor | None = None
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """The inputs of the tower's dense layers.

        Args:
            queries: B rows.
            values: what was looked up for ``bags(queries)``.
            weights: of the text encoders by name; those without weights may be missing.
            seed: int64 [2], of the dropout of a training step; None drops nothing.

        Returns:
            float32 [B, d] each: the inputs of all heads, and one more for every head that has its own.
        """
        shared = [_encoded(text, queries.text, values, weights, seed) for text in self.texts]
        shared += [values[name] for name in (*self._profile, *self._history)]
        return shared, [_encoded(text, queries.text, values, weights, seed) for text in self.head_texts]


class ItemInputs:
    """Text, categories and vectors of a frozen encoder: what the item tower reads."""

    def __init__(self, config: ModelConfig, schema: Schema, encoded: EncodedItems | None = None) -> None:
        """Takes the inputs that the dataset has; none where frozen vectors alone are the item vectors."""
        self.texts: list[TextEncoder] = []
        self._categories: dict[str, int] = {}
        self.projected: EncodedInput | None = None
        """Frozen vectors as one more input."""
        if encoded is not None and encoded.alone:
            return
        self.texts = [text_encoder(config, schema, "item")]
        self._categories = {f"item.{column}": rows for column, rows in schema.categorical.items()}
        if encoded is not None:
            self.projected = EncodedInput(encoded, config.dimension)

    @property
    def tables(self) -> dict[str, int]:
        """Name and rows of every table."""
        return {name: rows for text in self.texts for name, rows in text.tables.items()} | self._categories

    @property
    def token_tables(self) -> set[str]:
        """Names of the tables whose rows are token ids."""
        return {name for text in self.texts for name in text.tables}

    @property
    def num_vectors(self) -> int:
        """Number of vectors that the tower reads; 0 where there is no item tower."""
        return len(self.texts) + len(self._categories) + (self.projected is not None)

    def bags(self, items: ItemFeatures) -> TableBags:
        """The lookups of some items."""
        columns = {name: _bags_of_one(items.categorical[name.removeprefix("item.")]) for name in self._categories}
        return {name: bags for text in self.texts for name, bags in text.bags(items.text).items()} | columns

    def vectors(
        self, items: ItemFeatures, values: TableValues, weights: Mapping[str, Any], seed: tf.Tensor | None = None
    ) -> list[tf.Tensor]:
        """The inputs of the tower's dense layers, float32 [N, d] each; arguments as ``QueryInputs.vectors``."""
        found = [_encoded(text, items.text, values, weights, seed) for text in self.texts]
        found += [values[name] for name in self._categories]
        if self.projected is not None:
            found.append(self.projected(items.encoded, weights[self.projected.name]))
        return found


def tower_inputs(
    config: ModelConfig, schema: Schema, encoded: EncodedItems | None = None
) -> tuple[QueryInputs, ItemInputs]:
    """The inputs of the query tower and of the item tower."""
    return QueryInputs(config, schema, encoded), ItemInputs(config, schema, encoded)


def encoders_of(query: QueryInputs, item: ItemInputs) -> dict[str, TextEncoder | EncodedInput]:
    """What may have dense weights among the inputs of both towers, by name, each once."""
    found: dict[str, TextEncoder | EncodedInput] = {
        text.name: text for text in (*query.texts, *query.head_texts, *item.texts)
    }
    if item.projected is not None:
        found[item.projected.name] = item.projected
    return found


def join_bags(first: TableBags, second: TableBags) -> TableBags:
    """The bags of both, those of a common table concatenated."""
    both = first.keys() & second.keys()
    joined = {name: tf.concat([first[name], second[name]], axis=0) for name in sorted(both)}
    return {**first, **second, **joined}


def _encoded(
    text: TextEncoder, texts: TextFeatures, values: TableValues, weights: Mapping[str, Any], seed: tf.Tensor | None
) -> tf.Tensor:
    return text(texts, values, weights.get(text.name, ()), seed)


def _bags_of_one(ids: tf.Tensor) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_uniform_row_length(ids, 1, validate=False)
