"""The item, query and user tables of a dataset as tensors, and the features that the towers read from them.

Joins are gathers inside the graph: a training step has row numbers, and reads features.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from dpsr.data.batches.arrays import graph_array
from dpsr.data.batches.sequences import SequenceLengths, gathered_sequences, rows_of_bags
from dpsr.data.dataset.tables import Bags, Dataset

TITLE_TOKENS = 12
"""Most tokens that are read of an item of the history, its first ones: words come before bigrams and trigrams."""


class TextFeatures(NamedTuple):
    """What a text encoder reads, B texts."""

    tokens: tf.RaggedTensor
    """int32 [B, None] words, bigrams and trigrams."""
    subwords: tf.RaggedTensor | None = None
    """int32 [B, None] whole sequences, ``[CLS] ... [SEP]``; None where no model reads them."""


class QueryFeatures(NamedTuple):
    """What the query tower reads, B rows."""

    tokens: tf.RaggedTensor
    """int32 [B, None]."""
    profile: dict[str, tf.Tensor]
    """int32 [B] for each profile column."""
    history: tf.RaggedTensor
    """int32 [B, None] item rows, oldest first, at most ``history_length``."""
    history_titles: tf.RaggedTensor | None = None
    """int32 [B, None] first tokens of the last ``history_titles`` of these items; None where no model reads them."""
    subwords: tf.RaggedTensor | None = None
    """int32 [B, None] whole sequences, ``[CLS] ... [SEP]``; None where no model reads them."""

    @property
    def text(self) -> TextFeatures:
        """The text of the queries."""
        return TextFeatures(self.tokens, self.subwords)

    def with_text(self, text: TextFeatures) -> QueryFeatures:
        """The same queries with other texts."""
        return self._replace(tokens=text.tokens, subwords=text.subwords)


class ItemFeatures(NamedTuple):
    """What the item tower reads, N rows."""

    tokens: tf.RaggedTensor
    """int32 [N, None]."""
    categorical: dict[str, tf.Tensor]
    """int32 [N] for each categorical column."""
    subwords: tf.RaggedTensor | None = None
    """int32 [N, None] whole sequences, ``[CLS] ... [SEP]`` over all text columns; None where no model reads them."""
    encoded: tf.Tensor | None = None
    """float32 [N, w] vectors of a frozen text encoder; None where no model reads them."""

    @property
    def text(self) -> TextFeatures:
        """The text of the items."""
        return TextFeatures(self.tokens, self.subwords)


class FeatureTables:
    """The item, query and user tables as tensors; joins are gathers inside the graph."""

    def __init__(
        self,
        dataset: Dataset,
        history_length: int,
        history_titles: int = 0,
        *,
        subwords: SequenceLengths | None = None,
        encoded: np.ndarray | None = None,
    ) -> None:
        """Makes the tables readable by graphs.

        Args:
            dataset: an opened dataset.
            history_length: the most item rows of a history; 0 leaves histories empty.
            history_titles: the most items of a history whose titles are read too; 0 leaves them out.
            subwords: the most subwords of a sequence; None leaves subwords out.
            encoded: vectors of a frozen text encoder, float32 [items, w]; memory-mapped ones stay in their file.

        Raises:
            DatasetError: subwords of a dataset that has none.
            ValueError: other than one vector for each item.
        """
        self._history_length = history_length
        self._history_titles = history_titles
        self._titles = None
        if history_titles:
            titles = first_tokens(dataset.item_tokens)
            self._titles = graph_array(titles.values), graph_array(titles.row_splits)
        self._item_tokens = graph_array(dataset.item_tokens.values), graph_array(dataset.item_tokens.row_splits)
        self._item_categorical = _Columns(dataset.item_categorical)
        self._query_tokens = graph_array(dataset.query_tokens.values), graph_array(dataset.query_tokens.row_splits)
        # One row more than there are users stands for the unknown user: no profile, no history.
        self._unknown_user = len(dataset.history)
        profile = {name: np.append(ids, 0) for name, ids in dataset.user_profile.items()}
        self._user_profile = _Columns(profile)
        self._history_values = graph_array(dataset.history.values)
        self._history_starts = graph_array(dataset.history.row_splits)  # [users + 1], so the unknown user has a start
        self._subwords = None if subwords is None else _SubwordTables(dataset, subwords)
        if encoded is not None and len(encoded) != dataset.schema.num_items:
            raise ValueError(f"{len(encoded):,} encoded items, expected {dataset.schema.num_items:,}")
        self._encoded = None if encoded is None else graph_array(encoded)

    def queries(self, interactions: tf.Tensor) -> QueryFeatures:
        """Joins records with queries and users.

        Args:
            interactions: int32 [B, 5], the fields of INTERACTION.
        """
        query_rows = interactions[:, 0]
        text = TextFeatures(
            tf.gather(_ragged(*self._query_tokens), query_rows),
            None if self._subwords is None else self._subwords.queries(query_rows),
        )
        return self.with_user_context(text, interactions[:, 1], interactions[:, 4])

    def with_user_context(self, text: TextFeatures, user: tf.Tensor, history_end: tf.Tensor) -> QueryFeatures:
        """Joins the texts of queries with users.

        Args:
            text: B queries.
            user: int32 [B], -1 for an unknown user.
            history_end: int32 [B].
        """
        user = tf.where(user < 0, self._unknown_user, user)
        history = self._history(user, history_end)
        return QueryFeatures(
            tokens=text.tokens,
            profile=self._user_profile.gather(user),
            history=history,
            history_titles=self._titles_of(history),
            subwords=text.subwords,
        )

    def items(self, item_rows: tf.Tensor) -> ItemFeatures:
        """The features of items.

        Args:
            item_rows: int32 [N].
        """
        return ItemFeatures(
            tokens=tf.gather(_ragged(*self._item_tokens), item_rows),
            categorical=self._item_categorical.gather(item_rows),
            subwords=None if self._subwords is None else self._subwords.items(item_rows),
            encoded=None if self._encoded is None else tf.gather(self._encoded, item_rows),
        )

    def _titles_of(self, history: tf.RaggedTensor) -> tf.RaggedTensor | None:
        return None if self._titles is None else titles_of(history, _ragged(*self._titles), self._history_titles)

    def _history(self, user: tf.Tensor, history_end: tf.Tensor) -> tf.RaggedTensor:
        if not self._history_length:
            splits = tf.zeros([tf.size(user) + 1], tf.int64)
            return tf.RaggedTensor.from_row_splits(tf.zeros([0], tf.int32), splits, validate=False)
        start = tf.gather(self._history_starts, user)
        end = start + tf.cast(history_end, tf.int64)
        positions = tf.ragged.range(tf.maximum(start, end - self._history_length), end)
        return positions.with_flat_values(tf.gather(self._history_values, positions.flat_values))


Features = TypeVar("Features", QueryFeatures, ItemFeatures)


def concatenated(first: Features, second: Features) -> Features:
    """The rows of both, one after the other; what is None in the first is None."""

    def joined(ours: Any, theirs: Any) -> Any:
        return None if ours is None else tf.concat([ours, theirs], axis=0)

    return tf.nest.map_structure(joined, first, second)


def first_tokens(bags: Bags) -> Bags:
    """The first ``TITLE_TOKENS`` ids of every bag."""
    starts, lengths = bags.row_splits[:-1], np.minimum(np.diff(bags.row_splits), TITLE_TOKENS)
    row_splits = np.concatenate([[0], np.cumsum(lengths)])
    values = bags.values[np.arange(row_splits[-1]) + np.repeat(starts - row_splits[:-1], lengths)]
    return Bags(values, row_splits)


def titles_of(history: tf.RaggedTensor, titles: tf.RaggedTensor, most: int) -> tf.RaggedTensor:
    """The titles of the last items of histories, one after the other.

    Args:
        history: int32 [B, None] item rows, oldest first.
        titles: int32 [items, None].
        most: items of a history that are read, the latest ones.

    Returns:
        int32 [B, None].
    """
    return tf.gather(titles, history[:, -most:]).merge_dims(1, 2)


class _SubwordTables:
    """The subwords of queries and items; a sequence is made of a row's subwords inside the graph."""

    def __init__(self, dataset: Dataset, lengths: SequenceLengths) -> None:
        self._special = dataset.subwords_schema
        self._lengths = lengths
        queries, items = dataset.query_subwords, dataset.item_subwords
        self._queries = graph_array(queries.values), graph_array(queries.row_splits)
        self._items = graph_array(items.values), graph_array(rows_of_bags(items, len(dataset.schema.text)))

    def queries(self, rows: tf.Tensor) -> tf.RaggedTensor:
        """Sequences of some queries, int32 [B] -> int32 [B, None]."""
        return self._sequences(*self._queries, rows, self._lengths.query)

    def items(self, rows: tf.Tensor) -> tf.RaggedTensor:
        """Sequences of some items, int32 [N] -> int32 [N, None]."""
        return self._sequences(*self._items, rows, self._lengths.item)

    def _sequences(self, values: tf.Tensor, starts: tf.Tensor, rows: tf.Tensor, length: int) -> tf.RaggedTensor:
        starts = tf.convert_to_tensor(starts)
        bounds = tf.gather(starts, rows), tf.gather(starts, rows + 1)
        return gathered_sequences(tf.convert_to_tensor(values), *bounds, self._special, length)


class _Columns:
    """Columns of ids side by side, so that the ids of a row are adjacent in memory."""

    def __init__(self, columns: dict[str, np.ndarray]) -> None:
        self._names = list(columns)
        self._ids = graph_array(np.stack(list(columns.values()), axis=1).astype(np.int32)) if columns else None

    def gather(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """The ids of some rows [N], int32 [N] for each column."""
        if self._ids is None:
            return {}
        return dict(zip(self._names, tf.unstack(tf.gather(self._ids, rows), axis=1), strict=True))


def _ragged(values: tf.Tensor, row_splits: tf.Tensor) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_row_splits(values, row_splits, validate=False)
