"""DRMM, the deep relevance matching model (Guo et al., CIKM 2016).

How often words of an item are about as similar to each word of the query, in a histogram; a small perceptron scores the
histogram, and a gate weighs the query's words. Word vectors stay as they were given. Differs from the article in the
gate ``drmm`` has, the same for all words of a query; ``drmm-idf`` has the article's by idf.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import tensorflow as tf
import tf_keras

from dpsr.baselines.interaction import InteractionScorer, hinge
from dpsr.baselines.similarity import cosines, words_of

BINS = 30
"""Bins of a histogram, that of exact matches included (article, section 5.3)."""
_HIDDEN = 5
_IDF_WEIGHT = 0.2  # at the start; at 1 the gate hardly sees any word but the rarest


class Drmm(InteractionScorer):
    """Perceptron over histograms of similarities, all words of the query alike (article, section 4)."""

    name = "drmm"
    loss = hinge
    settings: Sequence[object] = ("drmm", 1, BINS, _HIDDEN, *InteractionScorer.settings)

    def build(self, embedding: tf_keras.layers.Embedding) -> tf_keras.Model:
        """As ``InteractionScorer.build``."""
        query, item = (tf_keras.Input([None], dtype=tf.int32) for _ in range(2))
        embedding.trainable = False
        matrix = cosines(query, item, embedding(query), embedding(item))
        counts = histograms(matrix, words_of(item), BINS)
        hidden = tf_keras.layers.Dense(_HIDDEN, activation="tanh")(tf.math.log1p(counts))
        scores = tf_keras.layers.Dense(1, activation="tanh")(hidden)[..., 0]
        gates = self.gates(query) - 1e9 * (1.0 - words_of(query))
        return tf_keras.Model([query, item], tf.reduce_sum(tf.nn.softmax(gates, axis=1) * scores, axis=1))

    def gates(self, query: tf.Tensor) -> tf.Tensor:
        """Logits of the words' weights, ids int32 [B, q] -> float32 [B, q]."""
        return tf.zeros_like(query, tf.float32)


class DrmmIdf(Drmm):
    """DRMM whose gate weighs the query's words by a learnt multiple of their idf (article, equation 4)."""

    name = "drmm-idf"
    settings = ("drmm-idf", _IDF_WEIGHT, *Drmm.settings)

    def gates(self, query: tf.Tensor) -> tf.Tensor:
        """As ``Drmm.gates``."""
        weight = tf_keras.layers.Dense(
            1, use_bias=False, kernel_initializer=tf_keras.initializers.Constant(_IDF_WEIGHT), name="idf_weight"
        )
        return weight(tf.gather(tf.constant(self.words.idf), query)[..., None])[..., 0]


def histograms(matrix: tf.Tensor, item_words: tf.Tensor, bins: int) -> tf.Tensor:
    """Counts the similarities of every query word in bins of equal width over [-1, 1), and in one for exactly 1.

    Args:
        matrix: cosines, exactly 1 for exact matches, float32 [B, q, n].
        item_words: 1 for a word, 0 for a filled place, float32 [B, n].
        bins: number of bins.

    Returns:
        float32 [B, q, bins], the bin of exact matches last.
    """
    edges = np.linspace(-1.0, 1.0, bins, dtype=np.float32)[1:]
    # A sum over the item of each comparison is the count of a bin and all above it.
    above = [tf.reduce_sum(tf.cast(matrix >= edge, tf.float32) * item_words[:, None], axis=2) for edge in edges]
    total = tf.broadcast_to(tf.reduce_sum(item_words, axis=1, keepdims=True), tf.shape(above[0]))
    counts = [total, *above, tf.zeros_like(total)]
    return tf.stack([one - other for one, other in pairwise(counts)], axis=2)
