"""DSSM (Huang et al., CIKM 2013), the paper's dense baseline (section 5.2).

One network embeds queries and items: letter trigrams of words, three tanh layers, a softmax over the clicked item and
four negatives. Differs from the article in two points. Negatives are items that were shown for the query and skipped,
as the paper on DPSR has it, where Huang et al. draw them from all unclicked documents. Training is AdaGrad with early
stopping by the valid split, where they use mini-batch SGD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from itertools import chain, pairwise

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

WIDTHS = (300, 300, 128)
"""Widths of the layers, the embedding last (article, section 3.4)."""


class DssmNetwork(Tower):
    """Bags of letter trigrams -> unit vectors, by layers of tanh."""

    def __init__(self, trigrams: int, *, seed: int) -> None:
        """Initialises the weights by fan-in and fan-out, as Huang et al. do (section 3.4)."""
        super().__init__()
        scale = float(np.sqrt(2.0 / (trigrams + WIDTHS[0])))
        self.table = EmbeddingTable(max(trigrams, 1), WIDTHS[0], scale=scale, seed=(seed, 0), combiner="sum")
        self.bias = tf.Variable(tf.zeros(WIDTHS[0]))
        self.layers = [
            tanh_layer(inputs, width, seed=seed + place) for place, (inputs, width) in enumerate(pairwise(WIDTHS))
        ]
        self.dense = [self.bias, *(variable for layer in self.layers for variable in layer.trainable_variables)]

    def vectors(self, rows: tf.Tensor, texts: tf.RaggedTensor, *, training: bool) -> tf.Tensor:
        """As ``Tower.vectors``; the rows are the first matrix product, float32 [B, 300]."""
        del texts, training
        hidden = tf.tanh(rows + self.bias)
        for layer in self.layers:
            hidden = layer(hidden)
        return tf.math.l2_normalize(hidden, axis=1)


class DssmRetriever(SoftmaxRetriever):
    """Cosine of the network's vectors of query and item."""

    name = "dssm"
    recipe = TrainingRecipe(table_learning_rate=0.3, learning_rate=0.05)
    settings = ("dssm", 5, *WIDTHS, SOFTMAX_NEGATIVES, SMOOTHING, *astuple(recipe), MOST_CLICKS)

    def __init__(self, data: TrainingSet) -> None:
        """Collects the trigrams of the catalogue and of the clicked queries."""
        self._trigrams = LetterTrigrams.of_texts(data.known_texts(), analyze)
        super().__init__(data, DssmNetwork(len(self._trigrams.trigrams), seed=data.seed))

    def encode(self, texts: Sequence[str]) -> tf.RaggedTensor:
        """As ``TowerRetriever.encode``: the letter trigrams of all words of a text, int32 [n, ids]."""
        rows = [list(chain.from_iterable(self._trigrams.by_word(text))) for text in texts]
        return ragged(np.fromiter(chain.from_iterable(rows), np.int32), splits([len(row) for row in rows]))
