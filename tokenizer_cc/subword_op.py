"""Subwords as a TensorFlow op, whose model file is an asset of the SavedModel."""

from __future__ import annotations

import functools
import os

import tensorflow as tf

from dpsr.tokenizer_cc.op_layer import FileState, OpLayer, OpNames, encode_with_file, file_state
from dpsr.tokenizer_cc.subwords import SubwordTokenizer

_NAMES = OpNames(
    "dpsr_anonymous_subwords",
    "dpsr_subwords_handle",
    "dpsr_subwords_load",
    "dpsr_subwords",
    "dpsr_subwords_with_file",
)


class SubwordLayer(OpLayer):
    """Encodes subwords inside a graph; gives the ids of ``SubwordTokenizer.encode_batch`` for the same bytes.

    Special tokens are neither put before nor behind. The model file is an asset, as that of a ``TokenizeLayer``.

    Example:
        >>> subwords = SubwordLayer("dataset/subwords.model")
        >>> subwords(tf.constant(["steel sink"])).row_splits
        <tf.Tensor: shape=(2,), dtype=int64, numpy=array([0, 2])>
    """

    def __init__(self, model_path: str | os.PathLike[str]) -> None:
        """Loads a ``subwords.model``.

        Raises:
            FileNotFoundError: there is no such file.
            SubwordError: the file cannot be used; the message says why.
        """
        tokenizer = SubwordTokenizer.load(model_path)
        super().__init__(_NAMES, model_path, tokenizer.fingerprint, name="subword_layer")
        self.num_ids = tokenizer.num_ids


def subwords(texts: tf.Tensor, model: str | os.PathLike[str]) -> tf.RaggedTensor:
    """Encodes a batch, eagerly or in a graph, which reads the file on the machine where it runs.

    A file that has changed is loaded again; a function traced before the change raises an error. A SavedModel holds a
    ``SubwordLayer`` instead, whose asset is the file.

    Args:
        texts: string [B]; any bytes.
        model: the path of a ``subwords.model``.

    Returns:
        int32 [B, None]: the subword ids of each text.

    Raises:
        FileNotFoundError: there is no such file.
        SubwordError: the file cannot be used; the message says why.
    """
    path = os.path.abspath(model)
    return encode_with_file(_NAMES, texts, path, _fingerprint_of_file(path, file_state(path)))


@functools.lru_cache(maxsize=4)
def _fingerprint_of_file(path: str, state: FileState) -> str:
    """Fingerprint of a file in one state."""
    return SubwordTokenizer.load(path).fingerprint
