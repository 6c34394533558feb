"""LSE, latent semantic entities (Van Gysel et al., "Learning Latent Vector Spaces for Product Search", CIKM 2016).

Words and items in one space, without clicks: a window of words of an item's text is mapped to the item, beside items
drawn at random (equations 2 to 7). Differs from the article: the windows of short texts are the whole text, and
training ends after a fixed number of passes instead of by a validation set.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tf_keras
from tqdm import tqdm

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.fitting.learner import TrainedRetriever, TrainingSet
from dpsr.baselines.fitting.word_ids import WordIds
from dpsr.baselines.vectors import VectorRetriever
from dpsr.tokenizer_cc.terms import analyze

WORD_WIDTH, ITEM_WIDTH = 128, 128
"""Widths of the two tables (article, section 4.3: 300 and 128)."""
WINDOW = 4
"""Words of a window (article, section 4.3)."""
NEGATIVES = 10
"""Items drawn for each window (article, section 4.3)."""
_ITEM_WORDS, _QUERY_WORDS = 256, 32  # words that are read of a text
_BATCH, _LEARNING_RATE, _ACCUMULATOR, _L2, _PASSES = 1024, 0.1, 0.01, 0.01, 10
_MOST_WINDOWS = 5_000_000  # of all passes


class LseRetriever(VectorRetriever, TrainedRetriever):
    """Cosine of the projected mean of the query's word vectors with the items' vectors."""

    name = "lse"
    settings = (
        1,
        WORD_WIDTH,
        ITEM_WIDTH,
        WINDOW,
        NEGATIVES,
        _ITEM_WORDS,
        _BATCH,
        _LEARNING_RATE,
        _ACCUMULATOR,
        _L2,
        _PASSES,
    )

    def __init__(self, data: TrainingSet) -> None:
        """Collects the words of the catalogue."""
        super().__init__(len(data.items))
        self._data = data
        self._words = WordIds(data.items, analyze)
        start = tf_keras.initializers.GlorotUniform
        shapes = (self._words.rows, WORD_WIDTH), (len(data.items), ITEM_WIDTH), (WORD_WIDTH, ITEM_WIDTH)
        self._variables = [tf.Variable(start(seed=data.seed + place)(shape)) for place, shape in enumerate(shapes)]
        self._variables.append(tf.Variable(tf.zeros(ITEM_WIDTH)))

    def weights(self) -> list[np.ndarray]:
        """As ``Learner.weights``: word vectors, item vectors, projection and bias."""
        return [variable.numpy() for variable in self._variables]

    def assign(self, weights: list[np.ndarray]) -> None:
        """As ``Learner.assign``."""
        for variable, value in zip(self._variables, weights, strict=True):
            variable.assign(value)
        self.forget_vectors()

    def fit(self, *, progress: bool) -> None:
        """As ``Learner.fit``: Adam on the noise-contrastive loss (article, equation 6) and its L2 norm (equation 7)."""
        rng = np.random.default_rng(self._data.seed)
        windows, items = word_windows(self._words.ids(self._data.items, _ITEM_WORDS))
        optimizer = tf_keras.optimizers.Adagrad(
            _LEARNING_RATE, initial_accumulator_value=_ACCUMULATOR, jit_compile=False
        )
        optimizer.build(self._variables)
        signature = [tf.TensorSpec([None, WINDOW], tf.int32), tf.TensorSpec([None, 1 + NEGATIVES], tf.int32)]

        @tf.function(input_signature=signature)
        def step(words: tf.Tensor, rows: tf.Tensor) -> None:
            with tf.GradientTape() as tape:
                loss = contrastive_loss(self.project(words), tf.gather(self._variables[1], rows))
                loss += _L2 / 2 * tf.reduce_sum(tf.square(self._variables[2]))
            gradients = tape.gradient(loss, self._variables)
            optimizer.apply_gradients(zip(gradients, self._variables, strict=True))

        passes = max(1, min(_PASSES, _MOST_WINDOWS // max(1, len(items))))
        total = passes * len(items)
        with tqdm(total=total, desc="LSE", unit="window", unit_scale=True, disable=not progress) as bar:
            for _ in range(passes):
                order = rng.permutation(len(items))
                for start in range(0, len(items), _BATCH):
                    chosen = order[start : start + _BATCH]
                    drawn = rng.integers(0, self.num_items, (len(chosen), NEGATIVES))
                    step(windows[chosen], np.concatenate([items[chosen, None], drawn], axis=1).astype(np.int32))
                    bar.update(len(chosen))
        self.forget_vectors()

    def project(self, words: tf.Tensor) -> tf.Tensor:
        """tanh(W (mean of word vectors) + b), ids int32 [B, n] -> float32 [B, d] (article, equations 2 and 3)."""
        table, _, projection, bias = self._variables
        present = tf.cast(words != 0, tf.float32)[..., None]
        total = tf.reduce_sum(tf.gather(table, words) * present, axis=1)
        return tf.tanh(total / tf.maximum(tf.reduce_sum(present, axis=1), 1.0) @ projection + bias)

    def embed_items(self) -> np.ndarray:
        """As ``VectorRetriever.embed_items``."""
        found: np.ndarray = self._variables[1].numpy()
        return found

    def embed(self, examples: QueryExamples) -> np.ndarray:
        """As ``VectorRetriever.embed``."""
        found: np.ndarray = self.project(self._words.ids(examples.texts.tolist(), _QUERY_WORDS)).numpy()
        return found


def word_windows(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every window of ``WINDOW`` words of every text; a shorter text is one window, an empty one has none.

    Args:
        ids: words of texts, int32 [texts, n], 0 behind the last.

    Returns:
        Word ids int32 [windows, WINDOW], and the text of each, int64 [windows].
    """
    padded = np.pad(ids, ((0, 0), (0, max(0, WINDOW - ids.shape[1]))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=1)
    lengths = (ids != 0).sum(axis=1)
    counts = np.where(lengths > 0, np.maximum(1, lengths - WINDOW + 1), 0)
    texts = np.repeat(np.arange(len(ids)), counts)
    places = np.arange(len(texts)) - np.repeat(np.cumsum(counts) - counts, counts)
    return windows[texts, places], texts


def contrastive_loss(queries: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """Sum over B of -log sigma(q . e) of the first item, and of -log(1 - sigma(q . e)) of the others.

    Args:
        queries: float32 [B, d].
        items: float32 [B, 1 + negatives, d].
    """
    logits = tf.einsum("bd,bnd->bn", queries, items)
    return tf.reduce_sum(tf.nn.softplus(-logits[:, 0])) + tf.reduce_sum(tf.nn.softplus(logits[:, 1:]))
