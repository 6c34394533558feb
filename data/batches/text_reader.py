"""Texts that no table of a dataset has, as a text encoder reads them: synthetic queries, typos, typed queries."""

from __future__ import annotations

import tensorflow as tf

from dpsr.data.batches.features import TextFeatures
from dpsr.data.batches.sequences import sequences
from dpsr.data.dataset.tables import Dataset
from dpsr.tokenizer_cc import tokenize
from dpsr.tokenizer_cc.subword_op import subwords


class TextReader:
    """Tokenizes texts inside graphs that run where the dataset is."""

    def __init__(self, dataset: Dataset, length: int | None = None) -> None:
        """Takes the tokenizers of a dataset.

        Args:
            dataset: an opened dataset.
            length: the most subwords of a sequence; None leaves subwords out.

        Raises:
            DatasetError: subwords of a dataset that has none.
        """
        self._tokenizer_path = dataset.tokenizer_path
        self._subwords_path = dataset.subwords_path
        self._length = length
        self._special = None if length is None else dataset.subwords_schema

    def __call__(self, texts: tf.Tensor) -> TextFeatures:
        """Reads texts, string [B]."""
        tokens = tokenize(texts, self._tokenizer_path)
        if self._special is None or self._length is None:
            return TextFeatures(tokens)
        return TextFeatures(tokens, sequences(subwords(texts, self._subwords_path), self._special, self._length))
