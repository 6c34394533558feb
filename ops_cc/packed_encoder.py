"""The text encoder that is served: weights packed once, one operation from tokens to one vector of each text.

A matrix lies in the order in which products read it, the same for every instruction set, so a SavedModel keeps it and
nothing is packed when it is loaded or called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from dpsr.errors import DpsrError
from dpsr.ops_cc import library
from dpsr.ops_cc.text_encoder import EncoderShape, EncoderWeights, Pooling

Precision = Literal["float32", "int8"]
Floats = npt.NDArray[np.float32]

_PANEL_COLUMNS = 32
_BYTE_ROWS = 4


class PackingError(DpsrError, ValueError):
    """Weights that cannot be packed: shapes that do not fit each other, or values that are not finite."""


class PackedEncoder(NamedTuple):
    """An encoder as the operation reads it; NumPy arrays, tensors, or variables of a servable.

    ``ops_cc/core/encoder/inference.h`` has the places of matrices and vectors within a block.
    """

    words: Any
    """float32 [V, H]."""
    positions: Any
    """float32 [P, H], the token type's embedding added."""
    embedding_norm: Any
    """float32 [2, H], scale and offset of the layer norm after the embeddings (``pre``: after the last block)."""
    vectors: Any
    """float32 [blocks, n], biases, scales of int8 matrices, layer norms."""
    panels: Any
    """float32 or int8 [blocks, m], the matrices."""
    shape: EncoderShape

    @property
    def precision(self) -> Precision:
        """Of the matrices."""
        return "int8" if tf.as_dtype(self.panels.dtype) == tf.int8 else "float32"

    def map(self, function: Callable[[Any], Any]) -> PackedEncoder:
        """The same with a function of every array: ``tf.Variable``, to keep them in a SavedModel of any size."""
        arrays = {name: function(getattr(self, name)) for name in self._fields if name != "shape"}
        return self._replace(**arrays)


def pack_encoder(weights: EncoderWeights, shape: EncoderShape, *, precision: Precision) -> PackedEncoder:
    """Lays weights out for ``encode_packed``.

    ``int8`` quantises a matrix by its columns: 127 is the greatest magnitude of each.

    Args:
        weights: tensors, variables or arrays.
        shape: sizes, activation and place of the layer norms.
        precision: of the matrices; embeddings, biases and layer norms stay float32.

    Returns:
        NumPy arrays.

    Raises:
        PackingError: a weight's shape does not fit ``shape``, or a value is not finite.
    """
    width, intermediate = shape.width, shape.intermediate
    words = _checked("words", weights.words, (None, width))
    positions = _checked("positions", weights.positions, (None, width))
    type_embedding = _checked("type_embedding", weights.type_embedding, (width,))
    norm = [_checked(name, getattr(weights, name), (width,)) for name in ("embedding_scale", "embedding_offset")]
    vectors, panels = [], []
    for number, block in enumerate(weights.blocks):

        def of_block(name: str, *expected: int, block: Any = block, number: int = number) -> Floats:
            return _checked(f"blocks[{number}].{name}", getattr(block, name), expected)

        block_vectors, block_panels = [], []
        for name, inputs, outputs in (
            ("qkv", width, 3 * width),
            ("attention", width, width),
            ("intermediate", width, intermediate),
            ("output", intermediate, width),
        ):
            kernel, bias = of_block(f"{name}_kernel", inputs, outputs), of_block(f"{name}_bias", outputs)
            packed, scales = _panels(kernel) if precision == "float32" else _byte_panels(kernel)
            block_panels.append(packed)
            block_vectors += [bias, *scales]
        block_vectors += [
            of_block(f"{name}_{part}", width) for name in ("attention", "output") for part in ("scale", "offset")
        ]
        vectors.append(np.concatenate([_padded(vector, _PANEL_COLUMNS) for vector in block_vectors]))
        panels.append(np.concatenate([packed.ravel() for packed in block_panels]))
    if not panels:
        raise PackingError("the encoder has no blocks; expected at least one")
    return PackedEncoder(words, positions + type_embedding, np.stack(norm), np.stack(vectors), np.stack(panels), shape)


def encode_packed(tokens: tf.RaggedTensor, packed: PackedEncoder, *, pooling: Pooling) -> tf.Tensor:
    """One vector of each text: ``pool(encode(tokens, ...))`` of the weights that were packed.

    Groups of texts are shared out among the threads of TensorFlow; a text's vector has the same bits alone and in any
    batch, for any number of threads. An int8 encoder has the same integers on every processor.

    Args:
        tokens: int32 [B, None].
        packed: weights.
        pooling: the first token's state (``cls``), or the mean of all.

    Returns:
        float32 [B, H]; zeros for a text without tokens.

    Raises:
        tf.errors.InvalidArgumentError: an id that is no row of the words, or a text longer than the positions.
    """
    shape = packed.shape
    return library.load().dpsr_packed_encoder(
        values=tokens.values,
        row_splits=tf.cast(tokens.row_splits, tf.int64),
        words=packed.words,
        positions=packed.positions,
        embedding_norm=packed.embedding_norm,
        vectors=packed.vectors,
        panels=packed.panels,
        heads=shape.heads,
        intermediate=shape.intermediate,
        activation=shape.activation,
        norm=shape.norm,
        norm_epsilon=shape.norm_epsilon,
        position_offset=shape.position_offset,
        pooling=pooling,
    )


def _checked(name: str, weight: Any, expected: tuple[int | None, ...]) -> Floats:
    array = np.asarray(weight, np.float32)
    fits = array.ndim == len(expected) and all(
        size in (None, found) for size, found in zip(expected, array.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in expected)
        raise PackingError(f"{name} has shape {list(array.shape)}; expected [{wanted}], from the encoder's shape")
    if not np.isfinite(array).all():
        raise PackingError(f"{name} has values that are not finite; train again, or take an earlier checkpoint")
    return array


def _padded(array: npt.NDArray[Any], multiple: int, axis: int = 0) -> npt.NDArray[Any]:
    """Filled up with zeros to a multiple of a size along an axis."""
    missing = -array.shape[axis] % multiple
    return np.pad(array, [(0, missing if each == axis else 0) for each in range(array.ndim)])


def _panels(kernel: Floats) -> tuple[Floats, list[Floats]]:
    """Float32 [panels, inputs, 32]."""
    columns = _padded(kernel, _PANEL_COLUMNS, axis=1)
    return columns.reshape(len(kernel), -1, _PANEL_COLUMNS).transpose(1, 0, 2), []


def _byte_panels(kernel: Floats) -> tuple[npt.NDArray[np.int8], list[Floats]]:
    """Int8 [panels, inputs / 4, 32, 4]; scale and sum of the integers of every column."""
    scales = np.abs(kernel).max(0) / np.float32(127)
    integers = np.round(kernel / np.where(scales > 0, scales, 1)).astype(np.int8)
    rows = _padded(_padded(integers, _PANEL_COLUMNS, axis=1), _BYTE_ROWS)
    panels = rows.reshape(-1, _BYTE_ROWS, rows.shape[1] // _PANEL_COLUMNS, _PANEL_COLUMNS).transpose(2, 0, 3, 1)
    return panels, [scales, integers.sum(0, dtype=np.int64).astype(np.float32)]
