"""ARC-II (Hu et al., "Convolutional Neural Network Architectures for Matching Natural Language Sentences", NIPS 2014).

Windows of both texts meet in the first layer, and the space of their pairs is read as a picture. Differs from the
article in the last pooling, to a grid whatever the lengths (``pooling``), instead of layers for one fixed length.
"""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from dpsr.baselines.interaction import InteractionScorer, hinge
from dpsr.baselines.pooling import dynamic_pooling
from dpsr.baselines.similarity import words_of

_KERNELS, _SIZE, _GRID, _HIDDEN = 32, 3, (2, 4), 32


class ArcII(InteractionScorer):
    """Convolution over pairs of windows (article, section 3.2, equations 3 and 4)."""

    name = "arc-ii"
    loss = hinge
    settings = ("arc-ii", 1, _KERNELS, _SIZE, _GRID, _HIDDEN, *InteractionScorer.settings)

    def build(self, embedding: tf_keras.layers.Embedding) -> tf_keras.Model:
        """As ``InteractionScorer.build``."""
        query, item = (tf_keras.Input([None], dtype=tf.int32) for _ in range(2))
        of_query, of_item = (words_of(ids)[..., None] for ids in (query, item))
        # The weights of a pair of windows are those of the one beside those of the other: a sum of two convolutions.
        windows = tf_keras.layers.Conv1D(_KERNELS, _SIZE, padding="same")(embedding(query) * of_query)
        others = tf_keras.layers.Conv1D(_KERNELS, _SIZE, padding="same", use_bias=False)(embedding(item) * of_item)
        gate = of_query[:, :, None] * of_item[:, None]
        picture = tf.nn.relu(windows[:, :, None] + others[:, None]) * gate
        picture = tf_keras.layers.MaxPool2D(2, padding="same")(picture)
        picture = tf_keras.layers.Conv2D(_KERNELS, _SIZE, padding="same", activation="relu")(picture)
        # Each place of the pooled picture stands for two words.
        rows, columns = ((tf.reduce_sum(tf.cast(ids != 0, tf.int32), axis=1) + 1) // 2 for ids in (query, item))
        pooled = tf_keras.layers.Flatten()(dynamic_pooling(picture, rows, columns, _GRID))
        hidden = tf_keras.layers.Dense(_HIDDEN, activation="relu")(pooled)
        return tf_keras.Model([query, item], tf_keras.layers.Dense(1)(hidden)[:, 0])
