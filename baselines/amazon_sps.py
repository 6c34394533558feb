"""Amazon's semantic product search, SPS (Nigam et al., KDD 2019, section 3).

One network embeds queries and items: words, pairs of words and letter trigrams, unknown ones by hash, are looked up in
one table and averaged, and batch normalisation and tanh follow (section 3.1); the score is the cosine. The loss is a
squared hinge in three parts (section 3.2): positives should score above 0.9, shown items below 0.55, random ones below
0.2.

Differs from the article in four points. Positives are clicked and bought items, and shown ones were skipped; there a
positive was bought, and a clicked item that was not bought is a shown one. Every random item of a batch is one of each
click, and those above their threshold are averaged, as ``group_loss`` does: the few that a query still confuses with
its items are not lost among the many that it does not. The sides share the statistics of the normalisation too, so that
a text has one vector. Training is AdaGrad with early stopping by the valid split, where they use Adam.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

import numpy as np
import tensorflow as tf
import tf_keras

from dpsr.baselines.fitting.learner import MOST_CLICKS, TrainingSet
from dpsr.baselines.fitting.negatives import random_negatives
from dpsr.baselines.fitting.towers import Tower, TowerRetriever, TrainingRecipe, ragged
from dpsr.model.embeddings import EmbeddingTable
from dpsr.tokenizer_cc import Tokenizer

WIDTH = 256
"""Width of the table and of the vectors."""
POSITIVE, SHOWN, RANDOM = 0.9, 0.55, 0.2
"""Least score of a positive, and largest of a shown and of a random item (article, section 3.2)."""
SHOWN_ITEMS, RANDOM_ITEMS = 6, 2
"""Items drawn for each click."""
RANDOM_WEIGHT = 7.0
"""Weight of the mean over the random items above their threshold; a positive and a shown item weigh 1 each."""
_SCALE, _MOMENTUM = 0.05, 0.9


class SpsNetwork(Tower):
    """Bags of tokens -> unit vectors, by the mean, batch normalisation and tanh."""

    def __init__(self, tokens: int, *, seed: int) -> None:
        """Draws the table for ids below ``tokens``."""
        super().__init__()
        self.table = EmbeddingTable(tokens, WIDTH, scale=_SCALE, seed=(seed, 0), combiner="mean")
        self.normalisation = tf_keras.layers.BatchNormalization(momentum=_MOMENTUM)
        self.normalisation.build([None, WIDTH])
        self.dense = self.normalisation.trainable_variables
        self.statistics = self.normalisation.non_trainable_variables

    def vectors(self, rows: tf.Tensor, texts: tf.RaggedTensor, *, training: bool) -> tf.Tensor:
        """As ``Tower.vectors``; the rows are means of the texts, float32 [B, 256]."""
        del texts
        return tf.math.l2_normalize(tf.tanh(self.normalisation(rows, training=training)), axis=1)


class SpsRetriever(TowerRetriever):
    """Cosine of the network's vectors of query and item."""

    name = "amazon sps"
    recipe = TrainingRecipe(table_learning_rate=0.3, learning_rate=0.05)
    settings = (
        *("amazon sps", 1, WIDTH, POSITIVE, SHOWN, RANDOM, SHOWN_ITEMS, RANDOM_ITEMS, RANDOM_WEIGHT, _SCALE, _MOMENTUM),
        *(*astuple(recipe), MOST_CLICKS),
    )

    def __init__(self, data: TrainingSet, tokenizer: Tokenizer) -> None:
        """Takes the dataset's tokenizer, whose words, bigrams, trigrams and buckets are the article's (section 3.3)."""
        self._tokenizer = tokenizer
        self._has_shown = bool(data.skipped.has(data.clicks["query"]).any())
        super().__init__(data, SpsNetwork(tokenizer.num_ids, seed=data.seed))

    def encode(self, texts: Sequence[str]) -> tf.RaggedTensor:
        """As ``TowerRetriever.encode``: the tokens of a text, int32 [n, ids]."""
        return ragged(*self._tokenizer.encode_batch(texts))

    def negatives(self, clicks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """As ``TowerRetriever.negatives``: random items, then skipped ones where the query has any."""
        items = random_negatives(clicks, RANDOM_ITEMS, self.num_items, rng)
        if not self._has_shown:
            return items
        skipped = self._data.skipped
        shown = np.where(skipped.has(clicks["query"])[:, None], skipped.draw(clicks, SHOWN_ITEMS, rng), -1)
        return np.concatenate([items, shown], axis=1)

    def loss(self, queries: tf.Tensor, items: tf.Tensor, item_rows: tf.Tensor) -> tf.Tensor:
        """As ``TowerRetriever.loss``: the hinge in three parts, no click's own item among its random ones."""
        first_shown = 1 + RANDOM_ITEMS
        own = tf.einsum("bd,bnd->bn", queries, items)
        positive = tf.square(tf.nn.relu(POSITIVE - own[:, 0]))
        shown = tf.square(tf.nn.relu(own[:, first_shown:] - SHOWN)) * tf.cast(
            item_rows[:, first_shown:] >= 0, tf.float32
        )
        others = tf.reshape(items[:, 1:first_shown], [-1, items.shape[2]])
        is_other = tf.not_equal(item_rows[:, :1], tf.reshape(item_rows[:, 1:first_shown], [1, -1]))
        excess = tf.nn.relu(tf.matmul(queries, others, transpose_b=True) - RANDOM) * tf.cast(is_other, tf.float32)
        above = tf.maximum(tf.math.count_nonzero(excess, axis=1, dtype=tf.float32), 1.0)
        random = tf.reduce_sum(tf.square(excess), axis=1) / above
        return tf.reduce_mean(positive + tf.reduce_sum(shown, axis=1) + RANDOM_WEIGHT * random)
