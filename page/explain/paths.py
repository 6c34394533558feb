"""Straight paths from a query without its tokens to the query, along which gradients are integrated."""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np
import tensorflow as tf

from dpsr.data.batches.features import QueryFeatures, TextFeatures
from dpsr.model.embeddings import EmbeddingTable
from dpsr.model.text_encoders.bag import BagEncoder
from dpsr.model.text_encoders.encoder import TextEncoder
from dpsr.model.text_encoders.transformer import TransformerEncoder, TransformerWeights
from dpsr.model.two_tower import TwoTower


class Path(Protocol):
    """The path of one text among the inputs of the dense layers, for a query of one row."""

    is_subwords: bool
    """Whether its tokens are subwords."""

    def points(self, places: tf.Tensor) -> tf.Tensor:
        """What moves along the path, at places between 0 and 1, float32 [S]; the gradient is by this."""

    def vectors(self, points: tf.Tensor) -> tf.Tensor:
        """The vectors of the text, float32 [S, d], which are the inputs of the dense layers."""

    def parts(self, gradient: tf.Tensor) -> np.ndarray:
        """The part of each token, float64 [n], of a sum over places, whose gradient by the points is given."""


def path_of(model: TwoTower, text: TextEncoder, queries: QueryFeatures) -> Path:
    """The path of a text encoder.

    Raises:
        TypeError: an encoder of another kind.
    """
    if isinstance(text, BagEncoder):
        return BagPath(model.tables[text.name], queries.tokens)
    if isinstance(text, TransformerEncoder) and queries.subwords is not None:
        return SubwordPath(text, cast(TransformerWeights, model.text_weights[text.name]), queries.subwords)
    raise TypeError(f"no path is known for text encoder {text.name} of type {type(text).__name__}")


class BagPath:
    """From the empty bag: its vector, which is the sum of what each token adds, grows."""

    is_subwords = False

    def __init__(self, table: EmbeddingTable, bags: tf.RaggedTensor) -> None:
        """Looks up what each token of a bag, int32 [1, None], adds."""
        weights = table.weights(bags)
        weights = tf.ones_like(bags.values, tf.float32) if weights is None else weights
        divisor = 1.0
        if table.combiner != "sum":
            divisor = tf.reduce_sum(weights) if table.combiner == "mean" else tf.norm(weights)
        rows = tf.gather(table.embeddings, bags.values)
        self._rows = rows * tf.math.divide_no_nan(weights, divisor)[:, tf.newaxis]
        self._vector = tf.reduce_sum(self._rows, axis=0)

    def points(self, places: tf.Tensor) -> tf.Tensor:
        """As ``Path.points``: the vectors."""
        return places[:, tf.newaxis] * self._vector

    def vectors(self, points: tf.Tensor) -> tf.Tensor:
        """As ``Path.vectors``."""
        return points

    def parts(self, gradient: tf.Tensor) -> np.ndarray:
        """As ``Path.parts``."""
        found: np.ndarray = tf.linalg.matvec(self._rows, tf.reduce_sum(gradient, axis=0)).numpy().astype(np.float64)
        return found


class SubwordPath:
    """From the mask token in place of every subword: the embeddings move; the special tokens stay as they are."""

    is_subwords = True

    def __init__(self, text: TransformerEncoder, weights: TransformerWeights, sequence: tf.RaggedTensor) -> None:
        """Looks up the embeddings of a sequence, int32 [1, None]."""
        self._text, self._weights = text, weights
        ids = sequence.values
        self._length = int(ids.shape[0])
        masked = tf.concat([ids[:1], tf.fill([self._length - 2], tf.cast(text.subwords.mask, ids.dtype)), ids[-1:]], 0)
        words = tf.convert_to_tensor(weights.encoder.words)
        self._start = tf.gather(words, masked)
        self._move = tf.gather(words, ids) - self._start

    def points(self, places: tf.Tensor) -> tf.Tensor:
        """As ``Path.points``: the embeddings, float32 [S, L, H]."""
        return self._start + places[:, tf.newaxis, tf.newaxis] * self._move

    def vectors(self, points: tf.Tensor) -> tf.Tensor:
        """As ``Path.vectors``: the sequences of all places are encoded at once, each position by a row of its own."""
        steps, length, width = points.shape
        own = TransformerWeights(
            self._weights.encoder._replace(words=tf.reshape(points, [-1, width])), self._weights.projection
        )
        rows = tf.range(steps * length, dtype=tf.int32)
        sequences = tf.RaggedTensor.from_uniform_row_length(rows, length)
        return self._text(TextFeatures(tokens=sequences, subwords=sequences), {}, own)

    def parts(self, gradient: tf.Tensor) -> np.ndarray:
        """As ``Path.parts``."""
        found: np.ndarray = tf.reduce_sum(gradient * self._move, axis=[0, 2]).numpy().astype(np.float64)
        return found[1:-1]
