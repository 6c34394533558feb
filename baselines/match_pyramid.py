"""MatchPyramid (Pang et al., "Text Matching as Image Recognition", AAAI 2016).

The matrix of similarities of words is read as a picture. One layer of kernels and one of dynamic pooling, as the
authors have it for retrieval ("A Study of MatchPyramid Models on Ad-hoc Retrieval", 2016), where one is best. Differs
in the loss, which is the hinge of pairs as in that study, with the negatives of ``interaction``.
"""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from dpsr.baselines.interaction import InteractionScorer, hinge
from dpsr.baselines.pooling import dynamic_pooling
from dpsr.baselines.similarity import cosines, exact_matches, words_of

_KERNELS, _SIZE, _GRID, _HIDDEN = 16, 3, (3, 10), 32


class MatchPyramid(InteractionScorer):
    """Convolution over the matrices of cosines and of exact matches, pooled to a grid (article, equations 1 to 6)."""

    name = "matchpyramid"
    loss = hinge
    settings = ("matchpyramid", 1, _KERNELS, _SIZE, _GRID, _HIDDEN, *InteractionScorer.settings)

    def build(self, embedding: tf_keras.layers.Embedding) -> tf_keras.Model:
        """As ``InteractionScorer.build``."""
        query, item = (tf_keras.Input([None], dtype=tf.int32) for _ in range(2))
        pair = words_of(query)[:, :, None] * words_of(item)[:, None, :]
        exact = tf.cast(exact_matches(query, item), tf.float32)
        picture = tf.stack([cosines(query, item, embedding(query), embedding(item)) * pair, exact], axis=3)
        layer = tf_keras.layers.Conv2D(_KERNELS, _SIZE, padding="same", activation="relu")
        rows, columns = (tf.reduce_sum(tf.cast(ids != 0, tf.int32), axis=1) for ids in (query, item))
        pooled = tf_keras.layers.Flatten()(dynamic_pooling(layer(picture), rows, columns, _GRID))
        hidden = tf_keras.layers.Dense(_HIDDEN, activation="relu")(pooled)
        return tf_keras.Model([query, item], tf_keras.layers.Dense(1)(hidden)[:, 0])
