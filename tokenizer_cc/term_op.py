"""Terms of lexical search as TensorFlow ops, whose model file is an asset of the SavedModel."""

from __future__ import annotations

import os

import tensorflow as tf

from dpsr.ops_cc import library
from dpsr.tokenizer_cc.op_layer import OpLayer, OpNames
from dpsr.tokenizer_cc.terms import TermTokenizer

_NAMES = OpNames("dpsr_anonymous_terms", "dpsr_terms_handle", "dpsr_terms_load", "dpsr_terms")


class TermLayer(OpLayer):
    """Encodes terms inside a graph; gives the ids of ``TermTokenizer.encode_batch`` for the same bytes.

    The model file is an asset, as that of a ``TokenizeLayer``.

    Example:
        >>> terms = TermLayer("servable/terms.model")
        >>> terms(tf.constant(["steel sink"])).row_splits
        <tf.Tensor: shape=(2,), dtype=int64, numpy=array([0, 2])>
    """

    def __init__(self, model_path: str | os.PathLike[str]) -> None:
        """Loads a ``terms.model``.

        Raises:
            FileNotFoundError: there is no such file.
            ModelFileError: the file cannot be used; the message says why.
        """
        tokenizer = TermTokenizer.load(model_path)
        super().__init__(_NAMES, model_path, tokenizer.fingerprint, name="term_layer")
        self.num_terms = tokenizer.num_terms

    def encode_queries(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Encodes queries; a word that no item has falls back on those that it may be a misspelling of.

        Args:
            texts: string [B]; any bytes.

        Returns:
            ``(values, weights, row_splits)``, int32 [nnz], float32 [nnz] and int64 [B + 1], as
            ``TermTokenizer.encode_queries``.
        """
        values, weights, row_splits = library.load().dpsr_query_terms(self._resource.resource_handle, texts)
        return values, weights, row_splits


def query_keys(texts: tf.Tensor) -> tf.Tensor:
    """``terms.query_keys`` inside a graph: string [B], any bytes, to int64 [B]."""
    return library.load().dpsr_query_keys(texts)
