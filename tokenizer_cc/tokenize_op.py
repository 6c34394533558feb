"""The tokenizer as a TensorFlow op, whose model file is an asset of the SavedModel."""

from __future__ import annotations

import functools
import os

import tensorflow as tf

from dpsr.ops_cc import library
from dpsr.tokenizer_cc.tokenizer import Tokenizer


class _TokenizerResource(tf.saved_model.experimental.TrackableResource):
    """The C++ tokenizer of a model file; restored and loaded with the SavedModel that holds it."""

    def __init__(self, asset: tf.saved_model.Asset, fingerprint: str) -> None:
        super().__init__()
        self._ops = library.load()
        self._asset = asset
        self._shared_name = f"dpsr_tokenizer_{fingerprint}"
        self._initialize()

    def _create_resource(self) -> tf.Tensor:
        if tf.executing_eagerly() or tf.inside_function():
            return self._ops.dpsr_anonymous_tokenizer()
        # In the graph of a SavedModel a session runs the node at every request, always for one tokenizer; its name is
        # its content, as a session may hold several tokenizers.
        return self._ops.dpsr_tokenizer_handle(shared_name=self._shared_name)

    def _initialize(self) -> None:
        self._ops.dpsr_tokenizer_load(self.resource_handle, self._asset.asset_path)


class TokenizeLayer(tf.Module):
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
        super().__init__(name="tokenize_layer")
        self._ops = library.load()
        tokenizer = Tokenizer.load(model_path)
        self.fingerprint = tokenizer.fingerprint
        self.num_ids = tokenizer.num_ids
        # An absolute path: relative ones are resolved when the SavedModel is written, perhaps from elsewhere.
        self._asset = tf.saved_model.Asset(os.path.abspath(model_path))
        self._resource = _TokenizerResource(self._asset, self.fingerprint)

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Tokenizes a batch.

        Args:
            texts: string [B]; any bytes.

        Returns:
            int32 [B, None]: the ids of each text.
        """
        values, row_splits = self._ops.dpsr_tokenize(self._resource.resource_handle, texts)
        return tf.RaggedTensor.from_row_splits(values, row_splits, validate=False)


def tokenize(texts: tf.Tensor, model: str | os.PathLike[str]) -> tf.RaggedTensor:
    """``dpsr.tokenizer_cc.tokenize``."""
    status, path = os.stat(model), os.path.abspath(model)
    fingerprint = _fingerprint_of_file(path, (status.st_ino, status.st_mtime_ns, status.st_size))
    values, row_splits = library.load().dpsr_tokenize_with_file(
        tf.convert_to_tensor(texts, tf.string), model_path=path, fingerprint=fingerprint
    )
    return tf.RaggedTensor.from_row_splits(values, row_splits, validate=False)


@functools.lru_cache(maxsize=4)
def _fingerprint_of_file(path: str, state: tuple[int, int, int]) -> str:
    """Fingerprint of a file in one state (inode, time, size); a changed file is read again."""
    return Tokenizer.load(path).fingerprint
