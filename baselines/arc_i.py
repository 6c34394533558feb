"""ARC-I (Hu et al., "Convolutional Neural Network Architectures for Matching Natural Language Sentences", NIPS 2014).

Each text becomes a vector by convolution, and a perceptron scores the two vectors. Differs from the article in the last
pooling, over the whole text instead of over windows of two, so that a vector has one size for texts of any length.
"""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from dpsr.baselines.interaction import InteractionScorer, hinge
from dpsr.baselines.similarity import words_of

_KERNELS, _SIZE, _HIDDEN = 64, 3, 64


class ArcI(InteractionScorer):
    """Perceptron over two convolutional vectors (article, section 3.1)."""

    name = "arc-i"
    loss = hinge
    settings = ("arc-i", 1, _KERNELS, _SIZE, _HIDDEN, *InteractionScorer.settings)

    def build(self, embedding: tf_keras.layers.Embedding) -> tf_keras.Model:
        """As ``InteractionScorer.build``."""
        query, item = (tf_keras.Input([None], dtype=tf.int32) for _ in range(2))
        vectors = [self._sentence(ids, embedding) for ids in (query, item)]
        hidden = tf_keras.layers.Dense(_HIDDEN, activation="relu")(tf.concat(vectors, axis=1))
        return tf_keras.Model([query, item], tf_keras.layers.Dense(1)(hidden)[:, 0])

    @staticmethod
    def _sentence(ids: tf.Tensor, embedding: tf_keras.layers.Embedding) -> tf.Tensor:
        """Convolution and the largest value over the text, int32 [B, n] -> float32 [B, kernels].

        Filled places are zero before and after the convolution, the gate of the article's section 2.1.
        """
        gate = words_of(ids)[..., None]
        layer = tf_keras.layers.Conv1D(_KERNELS, _SIZE, padding="same", activation="relu")
        return tf.reduce_max(layer(embedding(ids) * gate) * gate, axis=1)
