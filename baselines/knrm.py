"""K-NRM (Xiong et al., SIGIR 2017): kernels count how many words of an item are about as similar as each mean.

Differs from the article: the vocabulary's vectors start at random unless pre-trained ones are given, and negatives are
those of ``interaction``, where the article has pairs of documents with and without clicks. The word vectors are trained
too, as in the article: with a thousand clicks it is better to leave them as they are (docs/results.md, WikiQA). The
weights of the kernels start near 0.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tf_keras

from dpsr.baselines.interaction import InteractionScorer, hinge
from dpsr.baselines.similarity import cosines, words_of

MEANS = np.concatenate([[1.0], np.arange(0.9, -1.0, -0.2)]).astype(np.float32)
"""Means of the kernels (article, section 4): 1 for exact matches, then 0.9 to -0.9."""
DEVIATIONS = np.array([1e-3, *[0.1] * (len(MEANS) - 1)], np.float32)


class Knrm(InteractionScorer):
    """Learning to rank by log-sums of kernels over the translation matrix (article, equations 1 to 6)."""

    name = "k-nrm"
    loss = hinge
    settings = ("k-nrm", 2, *InteractionScorer.settings)

    def build(self, embedding: tf_keras.layers.Embedding) -> tf_keras.Model:
        """As ``InteractionScorer.build``."""
        query, item = (tf_keras.Input([None], dtype=tf.int32) for _ in range(2))
        matrix = cosines(query, item, embedding(query), embedding(item))
        # Sums are large (a word without a match adds -0.23 to each): larger weights would start with tanh saturated.
        start = tf_keras.initializers.RandomNormal(stddev=0.01)
        score = tf_keras.layers.Dense(1, activation="tanh", kernel_initializer=start)(
            kernel_pooling(matrix, words_of(query), words_of(item))
        )
        return tf_keras.Model([query, item], score[:, 0])


def kernel_pooling(matrix: tf.Tensor, query_words: tf.Tensor, item_words: tf.Tensor) -> tf.Tensor:
    """Sums over the query's words of the logarithm of each kernel's sum over the item's words (equations 3 to 5).

    Args:
        matrix: cosines float32 [B, q, n].
        query_words: 1 for a word, 0 for a filled place, float32 [B, q].
        item_words: the same of the item, float32 [B, n].

    Returns:
        float32 [B, kernels]; a hundredth of each sum, as in the authors' program, so that tanh does not saturate.
    """
    kernels = tf.exp(-tf.square((matrix[..., None] - MEANS) / DEVIATIONS) / 2.0) * item_words[:, None, :, None]
    sums = tf.math.log(tf.maximum(tf.reduce_sum(kernels, axis=2), 1e-10))
    return 0.01 * tf.reduce_sum(sums * query_words[..., None], axis=1)
