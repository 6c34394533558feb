"""DSSM (Huang et al., CIKM 2013), the paper's dense baseline (section 5.2).

One network embeds queries and items: letter trigrams of words, three tanh layers, a softmax over the clicked item and
four negatives. Differs from the article in two points. Negatives are items that were shown for the query and skipped,
as the paper on DPSR has it, where Huang et al. draw them from all unclicked documents. Training is AdaGrad with early
stopping by the valid split, where they use mini-batch SGD.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import tensorflow as tf
import tf_keras
from tqdm import tqdm

from dpsr.baselines.analyzers import Analyzer
from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.fitting.learner import MOST_CLICKS, TrainedRetriever, TrainingSet
from dpsr.baselines.fitting.rounds import Rounds, run_rounds
from dpsr.baselines.tuning import mean_reciprocal_rank
from dpsr.baselines.vectors import VectorRetriever
from dpsr.data.dataset.tables import Bags
from dpsr.model.embeddings import EmbeddingTable
from dpsr.tokenizer_cc.terms import analyze

WIDTHS = (300, 300, 128)
"""Widths of the layers, the embedding last (article, section 3.4)."""
NEGATIVES = 4
"""Negatives of each click (article, section 3.3)."""
_SMOOTHING = 10.0  # gamma of the softmax
_BATCH = 512
_TABLE_LEARNING_RATE, _LEARNING_RATE, _ACCUMULATOR = 0.3, 0.05, 0.01
_MOST_ROUNDS, _ROUND = 20, 200_000


class LetterTrigrams:
    """Vocabulary of letter trigrams: texts -> bags of the trigrams of their words, unknown trigrams left out."""

    def __init__(self, trigrams: Sequence[str], analyzer: Analyzer) -> None:
        """Takes the trigrams in the order of their ids, and the analyzer that splits texts into words."""
        self.trigrams = list(trigrams)
        self._analyzer = analyzer
        self._ids = {trigram: row for row, trigram in enumerate(self.trigrams)}
        self._of_word: dict[str, list[int]] = {}

    @classmethod
    def of_texts(cls, texts: Iterable[str], analyzer: Analyzer) -> LetterTrigrams:
        """Collects the trigrams of some texts."""
        known = {word for text in texts for word in analyzer(text)}
        return cls(sorted({trigram for word in known for trigram in letter_trigrams(word)}), analyzer)

    def bags(self, texts: Iterable[str]) -> Bags:
        """Looks up the trigrams of every text, with repetition."""
        rows = [[row for word in self._analyzer(text) for row in self._rows(word)] for text in texts]
        splits = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=splits[1:])
        return Bags(np.array([row for bag in rows for row in bag], dtype=np.int32), splits)

    def _rows(self, word: str) -> list[int]:
        if word not in self._of_word:
            found = [self._ids.get(trigram, -1) for trigram in letter_trigrams(word)]
            self._of_word[word] = [row for row in found if row >= 0]
        return self._of_word[word]


def letter_trigrams(word: str) -> list[str]:
    """Splits a word between two ``#`` into trigrams: ``cat`` -> #ca, cat, at#."""
    marked = f"#{word}#"
    return [marked[start : start + 3] for start in range(len(marked) - 2)]


class DssmNetwork(tf.Module):
    """Bags of letter trigrams -> unit vectors, by layers of tanh."""

    def __init__(self, trigrams: int, *, seed: int) -> None:
        """Initialises the weights uniformly, scaled by fan-in and fan-out, as Huang et al. do (section 3.4)."""
        super().__init__()
        scale = float(np.sqrt(2.0 / (trigrams + WIDTHS[0])))
        self.table = EmbeddingTable(max(trigrams, 1), WIDTHS[0], scale=scale, seed=(seed, 0), combiner="sum")
        self.bias = tf.Variable(tf.zeros(WIDTHS[0]))
        self.layers = []
        for place, (inputs, width) in enumerate(pairwise(WIDTHS)):
            start = tf_keras.initializers.GlorotUniform(seed=seed + place)
            layer = tf_keras.layers.Dense(width, activation="tanh", kernel_initializer=start)
            layer.build([None, inputs])
            self.layers.append(layer)
        self.dense = [self.bias, *(variable for layer in self.layers for variable in layer.trainable_variables)]

    def __call__(self, bags: tf.RaggedTensor) -> tf.Tensor:
        """Embeds bags of trigrams, int32 [B, None] -> float32 [B, 128]."""
        return self.vectors(self.table.lookup(bags))

    def vectors(self, sums: tf.Tensor) -> tf.Tensor:
        """Applies the network after the first matrix product, float32 [B, 300] -> [B, 128]."""
        hidden = tf.tanh(sums + self.bias)
        for layer in self.layers:
            hidden = layer(hidden)
        return tf.math.l2_normalize(hidden, axis=1)


class DssmRetriever(VectorRetriever, TrainedRetriever):
    """Cosine of the network's vectors of query and item."""

    name = "dssm"
    settings = (
        4,  # version of the training below
        *(WIDTHS, NEGATIVES, _SMOOTHING, _BATCH, _TABLE_LEARNING_RATE, _LEARNING_RATE, _ACCUMULATOR),
        *(_MOST_ROUNDS, _ROUND, MOST_CLICKS),
    )

    def __init__(self, data: TrainingSet) -> None:
        """Collects the trigrams of the catalogue and of the clicked queries."""
        super().__init__(len(data.items))
        self._data = data
        clicked = [data.queries[row] for row in np.unique(data.clicks["query"])]
        self._trigrams = LetterTrigrams.of_texts([*data.items, *clicked], analyze)
        self._item_bags = self._trigrams.bags(data.items)
        self.network = DssmNetwork(len(self._trigrams.trigrams), seed=data.seed)

    def weights(self) -> list[np.ndarray]:
        """As ``Learner.weights``; the table first."""
        return [variable.numpy() for variable in self._variables()]

    def assign(self, weights: list[np.ndarray]) -> None:
        """As ``Learner.assign``."""
        for variable, value in zip(self._variables(), weights, strict=True):
            variable.assign(value)
        self.forget_vectors()

    def note(self) -> str:
        """Says what the negatives were."""
        share = float(self._data.skipped.has(self._data.clicks["query"]).mean())
        if not share:
            return "dssm: the log has no skipped items; its negatives were drawn from the whole catalogue."
        return (
            f"dssm: {share:.0%} of its clicks are on queries with skipped items, which were their negatives; "
            "those of the others were drawn from the whole catalogue."
        )

    def embed(self, examples: QueryExamples) -> np.ndarray:
        """As ``VectorRetriever.embed``."""
        return self._vectors(self._trigrams.bags(examples.texts))

    def embed_items(self) -> np.ndarray:
        """As ``VectorRetriever.embed_items``."""
        return self._vectors(self._item_bags)

    def _vectors(self, bags: Bags) -> np.ndarray:
        starts = range(0, len(bags), _BATCH)
        blocks = [bags.take(np.arange(start, min(start + _BATCH, len(bags)))) for start in starts]
        found: np.ndarray = np.concatenate([self.network(_ragged(block)).numpy() for block in blocks])
        return found

    def fit(self, *, progress: bool) -> None:
        """As ``Learner.fit``: AdaGrad on the softmax over the clicked item and its negatives (article, equation 5)."""
        data = self._data
        training = _Training(self.network, self._trigrams.bags(data.queries), self._item_bags)
        rng = np.random.default_rng(data.seed)
        size = min(len(data.clicks), _ROUND)

        def one_round(bar: tqdm) -> float:
            rows = rng.permutation(len(data.clicks))[:size]
            losses = []
            for start in range(0, size, _BATCH):
                clicks = data.clicks[rows[start : start + _BATCH]]
                negatives = data.skipped.draw(clicks, NEGATIVES, rng)
                items = np.concatenate([clicks["item"][:, None], negatives], axis=1)
                losses.append(training.step(tf.constant(clicks["query"]), tf.constant(items, tf.int32)))
                bar.update(len(clicks))
            self.forget_vectors()
            return float(np.mean(losses))

        tuning = data.tuning
        quality = None if tuning is None else lambda: mean_reciprocal_rank(self, tuning)
        rounds = Rounds(size, max(1, min(_MOST_ROUNDS, MOST_CLICKS // size)))
        run_rounds(self, one_round, quality, rounds, name="DSSM", progress=progress)

    def _variables(self) -> list[tf.Variable]:
        return [self.network.table.embeddings, *self.network.dense]


class _Training:
    """Steps of AdaGrad."""

    def __init__(self, network: DssmNetwork, query_bags: Bags, item_bags: Bags) -> None:
        self._network = network
        self._queries, self._items = _ragged(query_bags), _ragged(item_bags)
        network.table.start_training(_ACCUMULATOR)
        self._optimizer = tf_keras.optimizers.Adagrad(
            _LEARNING_RATE, initial_accumulator_value=_ACCUMULATOR, jit_compile=False
        )
        self._optimizer.build(network.dense)
        rows = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 1 + NEGATIVES], tf.int32)
        self.step = tf.function(self._one_step, input_signature=rows)

    def _one_step(self, query_rows: tf.Tensor, item_rows: tf.Tensor) -> tf.Tensor:
        network = self._network
        bags = tf.concat(
            [tf.gather(self._queries, query_rows), tf.gather(self._items, tf.reshape(item_rows, [-1]))], axis=0
        )
        sums = network.table.lookup(bags)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([sums, *network.dense])
            vectors = network.vectors(sums)
            count = tf.size(query_rows)
            items = tf.reshape(vectors[count:], [count, 1 + NEGATIVES, WIDTHS[-1]])
            logits = _SMOOTHING * tf.einsum("bd,bnd->bn", vectors[:count], items)
            loss = tf.reduce_mean(tf.reduce_logsumexp(logits, axis=1) - logits[:, 0])
        of_sums, of_dense = tape.gradient(loss, (sums, network.dense))
        network.table.apply_gradient(bags, of_sums, _TABLE_LEARNING_RATE)
        self._optimizer.apply_gradients(zip(of_dense, network.dense, strict=True))
        return loss


def _ragged(bags: Bags) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_row_splits(tf.constant(bags.values), tf.constant(bags.row_splits), validate=False)
