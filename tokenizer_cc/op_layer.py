"""What the ops of all tokenizers share: a model file that is an asset of the SavedModel, and ids as a ragged tensor."""

from __future__ import annotations

import os
from typing import NamedTuple

import tensorflow as tf

from dpsr.ops_cc import library


class OpNames(NamedTuple):
    """The ops of one kind of tokenizer."""

    anonymous: str
    handle: str
    load: str
    encode: str
    encode_with_file: str = ""
    """Where there is one."""


class _ModelResource(tf.saved_model.experimental.TrackableResource):
    """The C++ tokenizer of a model file; restored and loaded with the SavedModel that holds it."""

    def __init__(self, names: OpNames, asset: tf.saved_model.Asset, shared_name: str) -> None:
        super().__init__()
        self._ops = library.load()
        self._names = names
        self._asset = asset
        self._shared_name = shared_name
        self._initialize()

    def _create_resource(self) -> tf.Tensor:
        if tf.executing_eagerly() or tf.inside_function():
            return getattr(self._ops, self._names.anonymous)()
        # In the graph of a SavedModel a session runs the node at every request, always for one tokenizer; its name is
        # its content, as a session may hold several tokenizers.
        return getattr(self._ops, self._names.handle)(shared_name=self._shared_name)

    def _initialize(self) -> None:
        getattr(self._ops, self._names.load)(self.resource_handle, self._asset.asset_path)


class OpLayer(tf.Module):
    """Encodes texts inside a graph.

    The model file is an asset: ``tf.saved_model.save`` copies it, and a loaded SavedModel needs no other file. All
    layers of a process whose files have equal content share one copy in memory.
    """

    def __init__(self, names: OpNames, model_path: str | os.PathLike[str], fingerprint: str, *, name: str) -> None:
        """Loads a model file, whose fingerprint the caller has read."""
        super().__init__(name=name)
        self.fingerprint = fingerprint
        self._encode = getattr(library.load(), names.encode)
        # An absolute path: relative ones are resolved when the SavedModel is written, perhaps from elsewhere.
        self._asset = tf.saved_model.Asset(os.path.abspath(model_path))
        self._resource = _ModelResource(names, self._asset, f"{names.handle}_{fingerprint}")

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Encodes a batch.

        Args:
            texts: string [B]; any bytes.

        Returns:
            int32 [B, None]: the ids of each text.
        """
        values, row_splits = self._encode(self._resource.resource_handle, texts)
        return tf.RaggedTensor.from_row_splits(values, row_splits, validate=False)


def encode_with_file(names: OpNames, texts: tf.Tensor, path: str, fingerprint: str) -> tf.RaggedTensor:
    """int32 [B, None]: encodes texts, string [B], by a file that is read on the machine where the graph runs."""
    values, row_splits = getattr(library.load(), names.encode_with_file)(
        tf.convert_to_tensor(texts, tf.string), model_path=path, fingerprint=fingerprint
    )
    return tf.RaggedTensor.from_row_splits(values, row_splits, validate=False)


FileState = tuple[int, int, int]
"""Inode, time and size of a file: a changed file is read again."""


def file_state(path: str | os.PathLike[str]) -> FileState:
    """The state of a file; FileNotFoundError if there is none."""
    status = os.stat(path)
    return status.st_ino, status.st_mtime_ns, status.st_size
