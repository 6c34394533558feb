"""CDSSM (Shen et al., CIKM 2014; there and in evaluations also CLSM): DSSM with a convolution over windows of words.

Letter trigrams of each word, a convolution over windows of three words, the largest value of each feature over the
windows, and a semantic layer (article, section 3); the softmax over the clicked item and four negatives (section 4).
Differs from the article as DSSM here does: negatives are skipped items, and training is AdaGrad with early stopping.
The words beside the ends of a text are zeros, where the article has a padding word, and a text is cut after 64 words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from itertools import chain

import numpy as np
import tensorflow as tf

from dpsr.baselines.fitting.learner import MOST_CLICKS, TrainingSet
from dpsr.baselines.fitting.letter_trigrams import LetterTrigrams
from dpsr.baselines.fitting.towers import (
    SMOOTHING,
    SOFTMAX_NEGATIVES,
    SoftmaxRetriever,
    Tower,
    TrainingRecipe,
    ragged,
    splits,
    tanh_layer,
)
from dpsr.model.embeddings import EmbeddingTable
from dpsr.tokenizer_cc.terms import analyze

FEATURES, WIDTH = 300, 128
"""Widths of the convolution and of the semantic layer."""
WINDOW = 3
"""Words of a window."""
MOST_WORDS = 64
"""Words that are read of a text."""


class CdssmNetwork(Tower):
    """Letter trigrams by word -> unit vectors."""

    def __init__(self, trigrams: int, *, seed: int) -> None:
        """Initialises the weights by fan-in and fan-out.

        A row of the table is the product of a trigram with the three blocks of the convolution's matrix: as the left,
        the middle and the right word of a window.
        """
        super().__init__()
        scale = float(np.sqrt(2.0 / (WINDOW * trigrams + FEATURES)))
        self.table = EmbeddingTable(max(trigrams, 1), WINDOW * FEATURES, scale=scale, seed=(seed, 0), combiner="sum")
        self.bias = tf.Variable(tf.zeros(FEATURES))
        self.semantic = tanh_layer(FEATURES, WIDTH, seed=seed)
        self.dense = [self.bias, *self.semantic.trainable_variables]

    def vectors(self, rows: tf.Tensor, texts: tf.RaggedTensor, *, training: bool) -> tf.Tensor:
        """As ``Tower.vectors``; the rows are those of words, float32 [words, 900]."""
        del training
        text_of = texts.value_rowids()
        hidden = tf.tanh(convolved(rows, text_of) + self.bias)
        pooled = tf.math.unsorted_segment_max(hidden, text_of, texts.nrows())
        return tf.math.l2_normalize(self.semantic(pooled), axis=1)


def convolved(rows: tf.Tensor, text_of: tf.Tensor) -> tf.Tensor:
    """Sums the products of the windows around every word; no window reaches into another text.

    Args:
        rows: products of each word as the left, the middle and the right one of a window, float32 [words, 3 f].
        text_of: the text of each word, int64 [words], ascending.

    Returns:
        float32 [words, f].
    """
    as_left, as_middle, as_right = tf.split(rows, WINDOW, axis=1)
    follows = tf.cast(tf.equal(text_of[1:], text_of[:-1]), tf.float32)[:, None]
    left = tf.pad(as_left[:-1] * follows, [[1, 0], [0, 0]])
    right = tf.pad(as_right[1:] * follows, [[0, 1], [0, 0]])
    return left + as_middle + right


class CdssmRetriever(SoftmaxRetriever):
    """Cosine of the network's vectors of query and item."""

    name = "cdssm"
    recipe = TrainingRecipe(table_learning_rate=0.3, learning_rate=0.05)
    settings = (
        *("cdssm", 1, FEATURES, WIDTH, WINDOW, MOST_WORDS, SOFTMAX_NEGATIVES, SMOOTHING),
        *(*astuple(recipe), MOST_CLICKS),
    )

    def __init__(self, data: TrainingSet) -> None:
        """Collects the trigrams of the catalogue and of the clicked queries."""
        self._trigrams = LetterTrigrams.of_texts(data.known_texts(), analyze)
        super().__init__(data, CdssmNetwork(len(self._trigrams.trigrams), seed=data.seed))

    def encode(self, texts: Sequence[str]) -> tf.RaggedTensor:
        """As ``TowerRetriever.encode``: trigrams by word, int32 [n, words, ids]; a text has one word at least."""
        by_text = [self._trigrams.by_word(text)[:MOST_WORDS] or [[]] for text in texts]
        words = list(chain.from_iterable(by_text))
        ids = np.fromiter(chain.from_iterable(words), np.int32)
        return ragged(ids, splits([len(each) for each in by_text]), splits([len(word) for word in words]))
