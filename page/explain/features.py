"""The features of one query, as the servable reads them from a request."""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dpsr.data.batches.features import TITLE_TOKENS, QueryFeatures
from dpsr.data.batches.sequences import sequences
from dpsr.data.dataset.tables import Dataset
from dpsr.model.feature_tables import sequence_lengths
from dpsr.model.two_tower import TwoTower
from dpsr.tokenizer_cc import Tokenizer
from dpsr.tokenizer_cc.subwords import Subword, SubwordTokenizer
from dpsr.tokenizer_cc.tokenizer import Token


class ReadQuery(NamedTuple):
    """A query and its user, with the names of what the towers read of the text."""

    features: QueryFeatures
    """One row."""
    tokens: list[Token]
    """In the order of ``features.tokens``."""
    subwords: list[Subword]
    """Those between the first and the last id of ``features.subwords``; none where no tower reads them."""


class QueryReader:
    """Makes features of texts; thread-safe."""

    def __init__(self, dataset: Dataset) -> None:
        """Opens the tokenizers of a dataset."""
        self.dataset = dataset
        self.tokenizer = Tokenizer.load(dataset.tokenizer_path)
        self._subwords: SubwordTokenizer | None = None
        self._lock = threading.Lock()

    @property
    def subwords(self) -> SubwordTokenizer:
        """Of a dataset that has them; read at the first use."""
        with self._lock:
            if self._subwords is None:
                self._subwords = SubwordTokenizer.load(self.dataset.subwords_path)
            return self._subwords

    def read(self, model: TwoTower, query: str, profile: dict[str, str], history: np.ndarray) -> ReadQuery:
        """The features of a query.

        Args:
            model: reads them.
            query: its text.
            profile: value by profile column; a column that is left out has no value.
            history: int64 [n] item rows, oldest first; negative ones are unknown.
        """
        config, tokens = model.config, self.tokenizer.tokens(query)
        subwords: list[Subword] = []
        sequence = None
        if (lengths := sequence_lengths(config)) is not None:
            subwords = self.subwords.tokens(query)
            ids = _one_row([subword.id for subword in subwords])
            sequence = sequences(ids, self.dataset.subwords_schema, lengths.query)
            subwords = subwords[: int(sequence.row_lengths()[0]) - 2]
        read = history[history >= 0]
        read = read[max(0, len(read) - config.history_length) :].astype(np.int32)
        titles = None
        if model.has_history and config.history_titles:
            latest = read[max(0, len(read) - config.history_titles) :]
            of_items = [self.dataset.item_tokens[row][:TITLE_TOKENS].tolist() for row in latest.tolist()]
            titles = _one_row([token for bag in of_items for token in bag])
        features = QueryFeatures(
            tokens=_one_row([token.id for token in tokens]),
            profile={
                column: tf.constant([self._profile_id(column, profile.get(column, ""))], tf.int32)
                for column in self.dataset.schema.profile
            },
            history=_one_row(read.tolist()),
            history_titles=titles,
            subwords=sequence,
        )
        return ReadQuery(features, tokens, subwords)

    def _profile_id(self, column: str, value: str) -> int:
        """As the dataset has it: 0 for no value, one more than the place in the vocabulary, or out of vocabulary."""
        vocabulary = self.dataset.vocabularies[f"users.{column}"]
        value = value.strip()
        if not value:
            return 0
        return vocabulary.index(value) + 1 if value in vocabulary else len(vocabulary) + 1


def _one_row(ids: list[int]) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_row_splits(
        tf.constant(ids, tf.int32), tf.constant([0, len(ids)], tf.int64), validate=False
    )
