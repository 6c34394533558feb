"""GloVe (Pennington et al., EMNLP 2014): word vectors whose inner products are the logarithms of co-occurrence counts.

Trained on the texts of the shop. As in the article a pair of words d apart counts 1 / d (section 4.2), the loss is
equation 8 with its weighting f (equation 9, alpha = 3/4), and a word's vector is the sum of its two. Differs in three
ways: a step of AdaGrad takes the sum of the gradients of 8,192 pairs in place of one pair, at a learning rate of 0.5 in
place of 0.05; x_max is 10 in place of 100, as most counts of a catalogue are below 10; and a word that occurs once has
a vector too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from scipy.sparse import coo_matrix, csr_matrix
from tqdm import tqdm

from dpsr.baselines.bags import single_bags
from dpsr.baselines.fitting.word_vectors import DIMENSION, WordVectors
from dpsr.model.embeddings import EmbeddingTable

_WINDOW = 10
_X_MAX = 10.0
_EXPONENT = 0.75
_EPOCHS = 25
_LEARNING_RATE = 0.5
_ACCUMULATOR = 1.0
_BATCH = 8192


class GloveVectors(WordVectors):
    """The vectors of ``GloVe``; O(words + distinct pairs) memory."""

    name = "glove"
    settings = ("glove", 1, DIMENSION, _WINDOW, _X_MAX, _EXPONENT, _EPOCHS, _LEARNING_RATE, _ACCUMULATOR, _BATCH)

    def learn(self, *, progress: bool) -> list[np.ndarray]:
        """As ``WordVectors.learn``."""
        model = GloVe(co_occurrences(self.texts, self.ids), seed=self.seed)
        model.fit(_EPOCHS, progress=progress)
        return [model.vectors()]


def co_occurrences(texts: Sequence[Sequence[str]], ids: dict[str, int], *, window: int = _WINDOW) -> coo_matrix:
    """Counts pairs of words within ``window`` words of the same text, each 1 / (their distance).

    O(words + distinct pairs) memory.

    Args:
        texts: words.
        ids: word -> row and column.
        window: largest distance.

    Returns:
        float32 [words, words], symmetric.
    """
    words = np.array([ids[word] for text in texts for word in text], np.int64)
    text = np.repeat(np.arange(len(texts)), [len(each) for each in texts])
    found = csr_matrix((len(ids), len(ids)), dtype=np.float32)
    for distance in range(1, min(window, len(words) - 1) + 1):
        first = np.flatnonzero(text[distance:] == text[:-distance])
        weights = np.full(len(first), 1 / distance, np.float32)
        found += csr_matrix((weights, (words[first], words[first + distance])), found.shape)
    return (found + found.T).tocoo()


class GloVe:
    """Word and context vectors with their biases, the last column of each."""

    def __init__(self, counts: coo_matrix, *, dimension: int = DIMENSION, seed: int) -> None:
        """Draws the vectors.

        Args:
            counts: co-occurrences, float32 [words, words]; absent pairs are not learnt from.
            dimension: width d of a vector.
            seed: decides the first vectors and the order of the pairs.
        """
        self._rows, self._columns = counts.row.astype(np.int32), counts.col.astype(np.int32)
        self._logs = np.log(counts.data)
        self._weights = np.minimum((counts.data / _X_MAX) ** _EXPONENT, 1).astype(np.float32)
        self._rng = np.random.default_rng(seed)
        scale = 0.5 / dimension / np.sqrt(3)  # standard deviation of the article's uniform draw
        self._tables = [
            EmbeddingTable(counts.shape[0], dimension + 1, scale=scale, seed=(seed, side), combiner="sum")
            for side in range(2)
        ]
        for table in self._tables:
            table.start_training(_ACCUMULATOR)
        pairs = [tf.TensorSpec([None], dtype) for dtype in (tf.int32, tf.int32, tf.float32, tf.float32)]
        self._step = tf.function(self._one_step, input_signature=pairs)

    def fit(self, epochs: int, *, progress: bool = False) -> list[float]:
        """Learns from all pairs ``epochs`` times; returns the mean loss (equation 8) of each epoch."""
        losses = []
        for _ in tqdm(range(epochs), desc="GloVe", unit="epoch", disable=not progress):
            order, total = self._rng.permutation(len(self._rows)), 0.0
            for start in range(0, len(order), _BATCH):
                pairs = order[start : start + _BATCH]
                total += float(
                    self._step(self._rows[pairs], self._columns[pairs], self._logs[pairs], self._weights[pairs])
                )
            losses.append(total / max(len(order), 1))
        return losses

    def vectors(self) -> np.ndarray:
        """Sum of word and context vectors, float32 [words, d]."""
        words, contexts = (table.embeddings.numpy()[:, :-1] for table in self._tables)
        return words + contexts

    def logarithms(self) -> np.ndarray:
        """The logarithms of the counts as the model has them, float32 [words, words]."""
        words, contexts = (table.embeddings.numpy() for table in self._tables)
        products: np.ndarray = words[:, :-1] @ contexts[:, :-1].T
        return products + words[:, -1:] + contexts[:, -1]

    def _one_step(self, rows: tf.Tensor, columns: tf.Tensor, logs: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        bags = [single_bags(ids) for ids in (rows, columns)]
        word, context = (table.lookup(each) for table, each in zip(self._tables, bags, strict=True))
        errors = tf.reduce_sum(word[:, :-1] * context[:, :-1], axis=1) + word[:, -1] + context[:, -1] - logs
        slopes = (weights * errors)[:, tf.newaxis]  # of half the loss, as in the authors' code
        for table, each, other in zip(self._tables, bags, (context, word), strict=True):
            gradient = tf.concat([slopes * other[:, :-1], slopes], axis=1)
            table.apply_gradient(each, gradient, _LEARNING_RATE)
        return tf.reduce_sum(weights * tf.square(errors))
