"""Models of interaction: a network reads the words of query and item together, and scores the pair.

They search nothing: they are measured on judged pairs, and as rerankers of a first stage. All share vocabulary,
negatives and the loop of training below; a model is the network that joins two rows of word ids, and its loss.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import tensorflow as tf
import tf_keras
from tqdm import tqdm

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.fitting.learner import MOST_CLICKS, PairTrainingSet, TrainedScorer
from dpsr.baselines.fitting.pair_batches import list_quality, pair_batches
from dpsr.baselines.fitting.rounds import Rounds, run_rounds
from dpsr.baselines.fitting.word_ids import WordIds

QUERY_WORDS, ITEM_WORDS = 16, 48
"""Words that are read of a text; the end of a longer one is left out."""
WIDTH = 64
"""Width of word vectors that start at random."""
SIMILAR, RANDOM = 2, 2
"""Negatives of a click: items shown or found by words and not clicked, and items of the whole catalogue."""
_BATCH, _LEARNING_RATE = 128, 1e-3
_ROUND, _LEAST_ROUND, _MOST_ROUNDS = 30_000, 5_000, 20
_PAIRS_AT_ONCE = 2048

Loss = Callable[[tf.Tensor], tf.Tensor]
"""Scores float32 [B, 1 + negatives], the clicked item's first -> losses float32 [B]."""


def hinge(scores: tf.Tensor) -> tf.Tensor:
    """Mean of max(0, 1 - s(clicked) + s(negative))."""
    return tf.reduce_mean(tf.nn.relu(1.0 - scores[:, :1] + scores[:, 1:]), axis=1)


def softmax(scores: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of the clicked item among its negatives."""
    return tf.reduce_logsumexp(scores, axis=1) - scores[:, 0]


class InteractionScorer(TrainedScorer):
    """A ``Scorer`` of pairs by a network over word ids; neither query nor item has a vector of its own to search by."""

    loss: ClassVar[Loss]
    settings: Sequence[object] = (
        *(1, QUERY_WORDS, ITEM_WORDS, WIDTH, SIMILAR, RANDOM, _BATCH, _LEARNING_RATE),
        *(_ROUND, _LEAST_ROUND, _MOST_ROUNDS),
    )

    def __init__(self, data: PairTrainingSet) -> None:
        """Collects the words of the catalogue and of the clicked queries."""
        self._data = data
        self.words = WordIds(data.known_texts(), data.analyzer)
        self._items = self.words.ids(data.items, ITEM_WORDS)
        tf_keras.utils.set_random_seed(data.seed)
        self.network = self.build(self._embedding())
        ids = tf.TensorSpec([None, None], tf.int32)
        self._scores = tf.function(lambda *pair: self.network(pair, training=False), input_signature=[ids, ids])
        self.index = f"{len(data.items):,} items as {ITEM_WORDS} word ids"
        self.index_bytes = self._items.nbytes

    @abstractmethod
    def build(self, embedding: tf_keras.layers.Embedding) -> tf_keras.Model:
        """Makes the network.

        Args:
            embedding: ids -> word vectors; id 0, which fills a text, is a row as any other: the network masks it.

        Returns:
            Model of query ids int32 [B, q] and item ids int32 [B, n] -> scores float32 [B]; q is at most
            ``QUERY_WORDS`` and n at most ``ITEM_WORDS``, and a batch is as wide as its longest texts.
        """

    def weights(self) -> list[np.ndarray]:
        """As ``Learner.weights``."""
        found: list[np.ndarray] = self.network.get_weights()
        return found

    def assign(self, weights: list[np.ndarray]) -> None:
        """As ``Learner.assign``."""
        self.network.set_weights(weights)

    def score(self, examples: QueryExamples, candidates: np.ndarray) -> np.ndarray:
        """As ``Scorer.score``."""
        texts, position = np.unique(examples.texts, return_inverse=True)
        query_ids = self.words.ids(texts.tolist(), QUERY_WORDS)
        queries, items = np.repeat(position, candidates.shape[1]), candidates.ravel()
        # Neighbours of equal lengths need no filling.
        order = np.lexsort((_lengths(self._items)[items], _lengths(query_ids)[queries]))
        scores = np.empty(len(items), np.float32)
        for start in range(0, len(items), _PAIRS_AT_ONCE):
            rows = order[start : start + _PAIRS_AT_ONCE]
            pair = query_ids[queries[rows]], self._items[items[rows]]
            scores[rows] = self._scores(*map(_trimmed, pair)).numpy()
        return scores.reshape(candidates.shape)

    def fit(self, *, progress: bool) -> None:
        """As ``Learner.fit``: Adam on the loss of each click beside its negatives."""
        data = self._data
        rng = np.random.default_rng(data.seed)
        size = min(max(len(data.clicks), _LEAST_ROUND), _ROUND)
        queries = self.words.ids(data.queries, QUERY_WORDS)
        optimizer = tf_keras.optimizers.Adam(_LEARNING_RATE, jit_compile=False)
        optimizer.build(self.network.trainable_variables)

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None], tf.int32),
                tf.TensorSpec([None, 1 + SIMILAR + RANDOM, None], tf.int32),
            ]
        )
        def step(query_ids: tf.Tensor, item_ids: tf.Tensor) -> tf.Tensor:
            pairs = tf.shape(item_ids)[:2]
            with tf.GradientTape() as tape:
                each = tf.repeat(query_ids, pairs[1], axis=0)
                scores = self.network([each, tf.reshape(item_ids, [-1, tf.shape(item_ids)[2]])], training=True)
                loss = tf.reduce_mean(type(self).loss(tf.reshape(scores, pairs)))
            variables = self.network.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            return loss

        def one_round(bar: tqdm) -> float:
            losses = []
            for clicks, items in pair_batches(data, size, _BATCH, (SIMILAR, RANDOM), rng):
                losses.append(step(_trimmed(queries[clicks["query"]]), _trimmed(self._items[items])))
                bar.update(len(clicks))
            return float(np.mean(losses))

        rounds = Rounds(size, max(1, min(_MOST_ROUNDS, MOST_CLICKS // size)))
        run_rounds(self, one_round, list_quality(data.lists(), self.score), rounds, name=self.name, progress=progress)

    def _embedding(self) -> tf_keras.layers.Embedding:
        """The word vectors: given ones where the training set has them, else and for other words random ones."""
        lookup = self._data.word_vectors
        given = np.zeros((len(self.words.words), WIDTH), np.float32) if lookup is None else lookup(self.words.words)
        shape = self.words.rows, given.shape[1]
        start = np.random.default_rng(self._data.seed).normal(0.0, 0.1, shape).astype(np.float32)
        known = np.flatnonzero(given.any(axis=1))
        start[1 + known] = given[known]
        return tf_keras.layers.Embedding(
            *shape, embeddings_initializer=tf_keras.initializers.Constant(start), name="words"
        )


def _lengths(ids: np.ndarray) -> np.ndarray:
    """Words of every text, int32 [n, w] -> int64 [n]."""
    lengths: np.ndarray = (ids != 0).sum(axis=1)
    return lengths


def _trimmed(ids: np.ndarray) -> np.ndarray:
    """Leaves out the last columns that only fill, int32 [..., w] -> [..., at least 1]."""
    longest = int((ids != 0).reshape(-1, ids.shape[-1]).any(axis=0).sum())
    return ids[..., : max(1, longest)]
