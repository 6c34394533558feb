"""The tokenizer as a TensorFlow op, whose model file is an asset of the SavedModel."""

from __future__ import annotations

import functools
import os

import tensorflow as tf

from dpsr.tokenizer_cc.op_layer import FileState, OpLayer, OpNames, encode_with_file, file_state
from dpsr.tokenizer_cc.tokenizer import Tokenizer

_NAMES = OpNames(
    "dpsr_anonymous_tokenizer",
    "dpsr_tokenizer_handle",
    "dpsr_tokenizer_load",
    "dpsr_tokenize",
    "dpsr_tokenize_with_file",
)


class TokenizeLayer(OpLayer):
    """Tokenizes inside a graph; gives the ids of ``Tokenizer.encode_batch`` for the same bytes.

    The model file is an asset: ``tf.saved_model.save`` copies it, and a loaded SavedModel needs no other file. All
    layers of a process whose files have equal content share one copy in memory.

    Example:
        >>> tokenize = TokenizeLayer("dataset/tokenizer.model")
        >>> tokenize(tf.constant(["steel sink"])).row_splits
        <tf.Tensor: shape=(2,), dtype=int64, numpy=array([ 0, 12])>
    """

    def __init__(self, model_path: str | os.PathLike[str]) -> None:
        """Loads a ``tokenizer.model``.

        Raises:
            FileNotFoundError: there is no such file.
            ModelFileError: the file cannot be used; the message says why.
        """
        tokenizer = Tokenizer.load(model_path)
        super().__init__(_NAMES, model_path, tokenizer.fingerprint, name="tokenize_layer")
        self.num_ids = tokenizer.num_ids


def tokenize(texts: tf.Tensor, model: str | os.PathLike[str]) -> tf.RaggedTensor:
    """``dpsr.tokenizer_cc.tokenize``."""
    path = os.path.abspath(model)
    return encode_with_file(_NAMES, texts, path, _fingerprint_of_file(path, file_state(path)))


@functools.lru_cache(maxsize=4)
def _fingerprint_of_file(path: str, state: FileState) -> str:
    """Fingerprint of a file in one state."""
    return Tokenizer.load(path).fingerprint
