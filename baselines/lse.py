"""LSE (Van Gysel et al., CIKM 2016): latent vector spaces of words and products, learnt from the products' own texts.

As in section 3, an n-gram of an item's text is projected into the space of the items, tanh(W mean(word vectors) + b),
and its item is told apart from uniformly drawn ones by noise-contrastive estimation; items are ordered by the cosine
with the projected query. Differs in three ways: the vectors of words and items learn by sparse AdaGrad, W and b alone
by Adam; no weight decays; and a text shorter than an n-gram is one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tf_keras
from tqdm import tqdm

from dpsr.baselines.analyzers import Analyzer
from dpsr.baselines.bags import ragged, single_bags
from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.fitting.learner import VariablesLearner
from dpsr.baselines.vectors import VectorRetriever, unit_rows
from dpsr.data.dataset.tables import Bags
from dpsr.model.embeddings import EmbeddingTable

WORD_DIMENSION, DIMENSION = 128, 128
_NGRAM = 4
_LEAST_EPOCHS, _MOST_EPOCHS = 8, 30
_NGRAMS_READ = 4_000_000  # by more epochs than the least, where the texts are few
_NEGATIVES = 10
_BATCH = 1024
_TABLE_LEARNING_RATE = 0.1
_LEARNING_RATE = 0.001
_ACCUMULATOR = 1e-3
_WORD_SCALE = 0.5


def ngrams(texts: Bags, size: int = _NGRAM) -> tuple[Bags, np.ndarray]:
    """Cuts every n-gram out of bags of ids in the order of their texts; a shorter text is one, an empty one none.

    Returns:
        n bags of at most ``size`` ids, and the row of each in ``texts``, int32 [n]; O(ids) memory.
    """
    lengths = np.diff(texts.row_splits)
    counts = np.where(lengths > 0, np.maximum(lengths - size + 1, 1), 0)
    rows = np.repeat(np.arange(len(texts)), counts)
    offsets = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts, widths = texts.row_splits[rows] + offsets, np.minimum(lengths[rows], size)
    splits = np.cumsum(np.append(0, widths))
    places = np.arange(splits[-1]) + np.repeat(starts - splits[:-1], widths)
    return Bags(np.asarray(texts.values)[places].astype(np.int32), splits), rows.astype(np.int32)


class LatentSemanticEntities(tf.Module):
    """Vectors of words and items, and the projection of words into the space of the items."""

    def __init__(self, num_words: int, num_items: int, *, seed: int) -> None:
        """Draws the weights: vectors from a normal distribution, W uniformly by Glorot's rule."""
        super().__init__()
        self.words = EmbeddingTable(num_words, WORD_DIMENSION, scale=_WORD_SCALE, seed=(seed, 0), combiner="mean")
        self.items = EmbeddingTable(num_items, DIMENSION, scale=DIMENSION**-0.5, seed=(seed, 1), combiner="sum")
        self.projection = tf_keras.layers.Dense(
            DIMENSION, activation="tanh", kernel_initializer=tf_keras.initializers.GlorotUniform(seed=seed)
        )
        self.projection.build([None, WORD_DIMENSION])

    def project(self, bags: Bags) -> np.ndarray:
        """Projects bags of word ids, float32 [n, DIMENSION]; an empty bag has zeros."""
        found = self.projection(self.words.lookup(ragged(bags))).numpy()
        found[np.diff(bags.row_splits) == 0] = 0
        return found

    def fit(self, bags: Bags, items: np.ndarray, *, epochs: int, seed: int, progress: bool = False) -> list[float]:
        """Learns from n-grams and their items.

        Args:
            bags: n-grams of word ids.
            items: the item of each, int32 [n].
            epochs: times that each n-gram is learnt from.
            seed: decides their order and the negatives.
            progress: show a progress bar.

        Returns:
            Mean loss of every epoch.
        """
        rng = np.random.default_rng(seed)
        for table in (self.words, self.items):
            table.start_training(_ACCUMULATOR)
        optimizer = tf_keras.optimizers.Adam(_LEARNING_RATE, jit_compile=False)
        optimizer.build(self.projection.trainable_variables)
        step = tf.function(
            lambda values, splits, own, others: self._step(values, splits, own, others, optimizer),
            input_signature=[tf.TensorSpec([None], dtype) for dtype in (tf.int32, tf.int64, tf.int32, tf.int32)],
        )
        losses = []
        for _ in tqdm(range(epochs), desc="LSE", unit="epoch", disable=not progress):
            order, total = rng.permutation(len(items)), 0.0
            for start in range(0, len(order), _BATCH):
                rows = order[start : start + _BATCH]
                batch = bags.take(rows)
                others = rng.integers(0, self.items.rows, len(rows) * _NEGATIVES, dtype=np.int32)
                total += len(rows) * float(step(batch.values, batch.row_splits, items[rows], others))
            losses.append(total / len(order))
        return losses

    def _step(
        self,
        values: tf.Tensor,
        row_splits: tf.Tensor,
        own: tf.Tensor,
        others: tf.Tensor,
        optimizer: tf_keras.optimizers.Optimizer,
    ) -> tf.Tensor:
        bags = tf.RaggedTensor.from_row_splits(values, row_splits, validate=False)
        items = single_bags(tf.concat([own, others], axis=0))
        means, vectors = self.words.lookup(bags), self.items.lookup(items)
        weights = self.projection.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([means, vectors, *weights])
            count = tf.size(own)
            negatives = tf.reshape(vectors[count:], [count, _NEGATIVES, DIMENSION])
            loss = contrastive_loss(self.projection(means), vectors[:count], negatives)
            summed = loss * tf.cast(count, tf.float32)  # a table's row learns from each n-gram, whatever the batch
        of_means, of_vectors, of_weights = tape.gradient(summed, (means, vectors, weights))
        self.words.apply_gradient(bags, of_means, _TABLE_LEARNING_RATE)
        self.items.apply_gradient(items, of_vectors, _TABLE_LEARNING_RATE)
        optimizer.apply_gradients(zip(of_weights, weights, strict=True))
        return loss


def contrastive_loss(projected: tf.Tensor, own: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Mean of -log s(own) - sum(log(1 - s(other))), where s is the sigmoid of an inner product.

    Args:
        projected: float32 [B, d], n-grams.
        own: float32 [B, d], their items.
        others: float32 [B, z, d], items drawn for each.
    """
    positive = tf.nn.softplus(-tf.reduce_sum(projected * own, axis=1))
    negative = tf.nn.softplus(tf.einsum("bd,bzd->bz", projected, others))
    return tf.reduce_mean(positive + tf.reduce_sum(negative, axis=1))


class LSERetriever(VectorRetriever, VariablesLearner):
    """Cosine of the projected query with the items' vectors; O(n-grams + (words + items) x d) memory."""

    name = "lse"
    settings = (
        *("lse", 1, WORD_DIMENSION, DIMENSION, _NGRAM, _LEAST_EPOCHS, _MOST_EPOCHS, _NGRAMS_READ, _NEGATIVES, _BATCH),
        *(_TABLE_LEARNING_RATE, _LEARNING_RATE, _ACCUMULATOR, _WORD_SCALE),
    )

    def __init__(self, item_texts: Sequence[str], analyzer: Analyzer, *, seed: int) -> None:
        """Reads the catalogue and draws the weights; items without a word have no vector.

        Args:
            item_texts: the text of every item; at least one has a word.
            analyzer: splits the texts of items and queries into words.
            seed: decides every random choice.
        """
        super().__init__(len(item_texts))
        self._seed = seed
        self._analyzer = analyzer
        texts = [analyzer(text) for text in item_texts]
        self._ids: dict[str, int] = {}
        for words in texts:
            for word in words:
                self._ids.setdefault(word, len(self._ids))
        self._model = LatentSemanticEntities(len(self._ids), len(texts), seed=seed)
        self._items = self._bags(texts)

    def fit(self, *, progress: bool) -> None:
        """As ``Learner.fit``; it learns from the catalogue alone."""
        windows, items = ngrams(self._items)
        epochs = min(max(_LEAST_EPOCHS, _NGRAMS_READ // len(items)), _MOST_EPOCHS)
        self._model.fit(windows, items, epochs=epochs, seed=self._seed, progress=progress)
        self.weights_changed()

    def variables(self) -> list[tf.Variable]:
        """As ``VariablesLearner.variables``: words, items, and the projection."""
        return [self._model.words.embeddings, self._model.items.embeddings, *self._model.projection.weights]

    def embed_items(self) -> np.ndarray:
        """As ``VectorRetriever.embed_items``."""
        vectors: np.ndarray = self._model.items.embeddings.numpy()
        vectors[np.diff(self._items.row_splits) == 0] = 0
        return vectors

    def embed(self, examples: QueryExamples) -> np.ndarray:
        """As ``VectorRetriever.embed``; a query without a word of the catalogue has no vector."""
        return unit_rows(self._model.project(self._bags([self._analyzer(text) for text in examples.texts])))

    def _bags(self, texts: Sequence[Sequence[str]]) -> Bags:
        known = [[self._ids[word] for word in words if word in self._ids] for words in texts]
        splits = np.cumsum([0, *map(len, known)])
        return Bags(np.array([row for ids in known for row in ids], np.int32), splits)
