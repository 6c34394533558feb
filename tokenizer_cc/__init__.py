"""The C++ tokenizer: its Python interface and its TensorFlow op.

Example:
    >>> builder = VocabularyBuilder(max_vocabulary=1000, min_count=1, oov_buckets=10, bigrams=True, trigrams=True)
    >>> builder.add(["stainless steel sink", "steel hammer"])
    >>> tokenizer = builder.build()
    >>> [token.text for token in tokenizer.tokens("Steel hammer")][:3]
    ['steel', 'hammer', 'steel hammer']
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dpsr.tokenizer_cc.tokenizer import ModelFileError, Token, Tokenizer, VocabularyBuilder

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["ModelFileError", "Token", "Tokenizer", "VocabularyBuilder", "tokenize"]


def tokenize(texts: tf.Tensor, model: str | os.PathLike[str]) -> tf.RaggedTensor:
    """Tokenizes a batch in TensorFlow, eagerly or in a graph, which reads the file on the machine where it runs.

    TensorFlow is imported here. A file that has changed is loaded again; a function traced before the change raises an
    error. A SavedModel holds a ``tokenize_op.TokenizeLayer`` instead, whose asset is the file.

    Args:
        texts: string [B]; any bytes.
        model: the path of a ``tokenizer.model``.

    Returns:
        int32 [B, None]: the ids of each text.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: the file cannot be used; the message says why.
    """
    from dpsr.tokenizer_cc import tokenize_op

    return tokenize_op.tokenize(texts, model)
