"""Duet (Mitra et al., "Learning to Match Using Local and Distributed Representations of Text", WWW 2017).

Sum of a local model, which sees where the query's words stand in the item, and a distributed one, which sees word
vectors. Differs from the article: the distributed side reads word vectors, where letter n-grams of 2,000 kinds stand
there; widths are a fifth of 300, for logs a thousandth of theirs; long documents, read there in windows of 100 words,
have no counterpart among items.
"""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from dpsr.baselines.interaction import ITEM_WORDS, QUERY_WORDS, InteractionScorer, softmax
from dpsr.baselines.similarity import exact_matches, words_of

_KERNELS, _SIZE, _DROPOUT = 64, 3, 0.2


class Duet(InteractionScorer):
    """Local plus distributed score (article, equation 1), cross-entropy among negatives (equation 5)."""

    name = "duet"
    loss = softmax
    settings = ("duet", 1, _KERNELS, _SIZE, _DROPOUT, *InteractionScorer.settings)

    def build(self, embedding: tf_keras.layers.Embedding) -> tf_keras.Model:
        """As ``InteractionScorer.build``."""
        query, item = (tf_keras.Input([None], dtype=tf.int32) for _ in range(2))
        return tf_keras.Model([query, item], self._local(query, item) + self._distributed(query, item, embedding))

    def _local(self, query: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        """Score of the matrix of exact matches, weighted by idf, at fixed places (article, section 3.1)."""
        matches = tf.cast(exact_matches(query, item), tf.float32)
        matches *= tf.gather(tf.constant(self.words.idf), query)[:, :, None]
        shape = tf.shape(matches)
        matches = tf.pad(matches, [[0, 0], [0, QUERY_WORDS - shape[1]], [0, ITEM_WORDS - shape[2]]])
        matches = tf.ensure_shape(matches, [None, QUERY_WORDS, ITEM_WORDS])
        words = tf_keras.layers.Dense(_KERNELS, activation="tanh")(matches)
        hidden = tf_keras.layers.Dense(_KERNELS, activation="tanh")(tf_keras.layers.Flatten()(words))
        return self._score(hidden)

    def _distributed(self, query: tf.Tensor, item: tf.Tensor, embedding: tf_keras.layers.Embedding) -> tf.Tensor:
        """Score of the product of both texts' vectors (article, section 3.2)."""
        vectors = []
        for ids in (query, item):
            gate = words_of(ids)[..., None]
            windows = tf_keras.layers.Conv1D(_KERNELS, _SIZE, padding="same", activation="tanh")(embedding(ids) * gate)
            longest = tf.reduce_max(windows - 2.0 * (1.0 - gate), axis=1)  # tanh is above -1: a filled place never wins
            vectors.append(tf_keras.layers.Dense(_KERNELS, activation="tanh")(longest))
        return self._score(tf_keras.layers.Dense(_KERNELS, activation="tanh")(vectors[0] * vectors[1]))

    @staticmethod
    def _score(hidden: tf.Tensor) -> tf.Tensor:
        hidden = tf_keras.layers.Dropout(_DROPOUT)(tf_keras.layers.Dense(_KERNELS, activation="tanh")(hidden))
        return tf_keras.layers.Dense(1)(hidden)[:, 0]
