"""Baselines of one network that embeds queries and items alike: their training, and the search by cosine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import tensorflow as tf
import tf_keras
from tqdm import tqdm

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.fitting.learner import MOST_CLICKS, TrainedRetriever, TrainingSet, VariablesLearner
from dpsr.baselines.fitting.rounds import Rounds, run_rounds
from dpsr.baselines.tuning import mean_reciprocal_rank
from dpsr.baselines.vectors import VectorRetriever
from dpsr.model.embeddings import EmbeddingTable

SOFTMAX_NEGATIVES = 4
"""Negatives of each click (Huang et al., CIKM 2013, section 3.3; Shen et al., CIKM 2014)."""
SMOOTHING = 10.0
"""gamma of the softmax over cosines."""
_TEXTS_AT_ONCE = 512


class Tower(tf.Module, ABC):
    """A table of embeddings and the network above it: texts -> unit vectors."""

    table: EmbeddingTable
    dense: Sequence[tf.Variable]
    """Trained variables but the table."""
    statistics: Sequence[tf.Variable] = ()
    """Variables that training sets without a gradient."""

    def __call__(self, texts: tf.RaggedTensor) -> tf.Tensor:
        """Embeds texts, int32 [B, (words,) ids] -> float32 [B, d]."""
        return self.vectors(self.table.lookup(bags(texts)), texts, training=False)

    @abstractmethod
    def vectors(self, rows: tf.Tensor, texts: tf.RaggedTensor, *, training: bool) -> tf.Tensor:
        """Applies the network above the table.

        Args:
            rows: the table's combined rows of every bag of the texts, float32 [bags, w].
            texts: as ``__call__`` takes them.
            training: whether this is a step of training.

        Returns:
            Unit vectors float32 [B, d].
        """


def tanh_layer(inputs: int, width: int, *, seed: int) -> tf_keras.layers.Dense:
    """A layer of tanh, drawn by fan-in and fan-out."""
    start = tf_keras.initializers.GlorotUniform(seed=seed)
    layer = tf_keras.layers.Dense(width, activation="tanh", kernel_initializer=start)
    layer.build([None, inputs])
    return layer


def bags(texts: tf.RaggedTensor) -> tf.RaggedTensor:
    """The bags of ids that a table combines, int32 [bags, ids]: one of every text, or of every word of the texts."""
    return texts if texts.ragged_rank == 1 else texts.values


def ragged(values: np.ndarray, *row_splits: np.ndarray) -> tf.RaggedTensor:
    """Ids int32 [n] and the splits of each level, int64, the outer one first -> texts int32 [B, (words,) ids]."""
    return tf.RaggedTensor.from_nested_row_splits(
        tf.constant(values, tf.int32), [tf.constant(each, tf.int64) for each in row_splits], validate=False
    )


def splits(lengths: Sequence[int]) -> np.ndarray:
    """Lengths [n] -> row splits int64 [n + 1]."""
    found = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=found[1:])
    return found


@dataclass(frozen=True)
class TrainingRecipe:
    """Steps of AdaGrad for the table and for the other variables, in rounds."""

    table_learning_rate: float
    learning_rate: float
    accumulator: float = 0.01
    """Initial value of AdaGrad's sums."""
    batch: int = 512
    round: int = 200_000
    """Most clicks of a round; all of the log where there are fewer."""
    most_rounds: int = 20


class TowerRetriever(VectorRetriever, TrainedRetriever, VariablesLearner):
    """Cosine of the tower's vectors of query and item."""

    recipe: ClassVar[TrainingRecipe]

    def __init__(self, data: TrainingSet, tower: Tower) -> None:
        """Encodes the catalogue.

        Args:
            data: the clicks and texts.
            tower: untrained.
        """
        super().__init__(len(data.items))
        self._data = data
        self.tower = tower
        self._items = self.encode(data.items)

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> tf.RaggedTensor:
        """Looks up the ids of n texts, int32 [n, (words,) ids]."""

    @abstractmethod
    def negatives(self, clicks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws negatives, INTERACTION [n] -> item rows int32 [n, k]; -1 for none."""

    @abstractmethod
    def loss(self, queries: tf.Tensor, items: tf.Tensor, item_rows: tf.Tensor) -> tf.Tensor:
        """The loss of a batch.

        Args:
            queries: unit vectors float32 [B, d].
            items: those of the clicked item and its negatives, float32 [B, 1 + k, d].
            item_rows: int32 [B, 1 + k]; the vector of a row -1 is of any item.

        Returns:
            float32 [].
        """

    def variables(self) -> list[tf.Variable]:
        """As ``VariablesLearner.variables``; the table first."""
        return [self.tower.table.embeddings, *self.tower.dense, *self.tower.statistics]

    def note(self) -> str:
        """Says what the negatives were."""
        share = float(self._data.skipped.has(self._data.clicks["query"]).mean())
        if not share:
            return f"{self.name}: the log has no skipped items; its negatives were drawn from the whole catalogue."
        return (
            f"{self.name}: {share:.0%} of its clicks are on queries with skipped items, which were their negatives; "
            "those of the others were drawn from the whole catalogue."
        )

    def embed(self, examples: QueryExamples) -> np.ndarray:
        """As ``VectorRetriever.embed``."""
        return self._vectors(self.encode(examples.texts.tolist()))

    def embed_items(self) -> np.ndarray:
        """As ``VectorRetriever.embed_items``."""
        return self._vectors(self._items)

    def fit(self, *, progress: bool) -> None:
        """As ``Learner.fit``: AdaGrad on ``loss``, every click beside its own ``negatives``."""
        data, recipe = self._data, self.recipe
        step = self.compiled_step(self.encode(data.queries))
        rng = np.random.default_rng(data.seed)
        size = min(len(data.clicks), recipe.round)

        def one_round(bar: tqdm) -> float:
            rows = rng.permutation(len(data.clicks))[:size]
            losses = []
            for start in range(0, size, recipe.batch):
                clicks = data.clicks[rows[start : start + recipe.batch]]
                items = np.concatenate([clicks["item"][:, None], self.negatives(clicks, rng)], axis=1)
                losses.append(step(tf.constant(clicks["query"]), tf.constant(items, tf.int32)))
                bar.update(len(clicks))
            self.weights_changed()
            return float(np.mean(losses))

        tuning = data.tuning
        quality = None if tuning is None else lambda: mean_reciprocal_rank(self, tuning)
        rounds = Rounds(size, max(1, min(recipe.most_rounds, MOST_CLICKS // size)))
        run_rounds(self, one_round, quality, rounds, name=self.name, progress=progress)

    def compiled_step(self, queries: tf.RaggedTensor) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """Makes the function of one step of AdaGrad: query rows int32 [B] and item rows int32 [B, 1 + k] -> the loss.

        Args:
            queries: the texts of all query rows, as of ``encode``.
        """
        tower, recipe, items = self.tower, self.recipe, self._items
        tower.table.start_training(recipe.accumulator)
        optimizer = tf_keras.optimizers.Adagrad(
            recipe.learning_rate, initial_accumulator_value=recipe.accumulator, jit_compile=False
        )
        optimizer.build(tower.dense)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, None], tf.int32)])
        def step(query_rows: tf.Tensor, item_rows: tf.Tensor) -> tf.Tensor:
            asked = tf.gather(items, tf.reshape(tf.maximum(item_rows, 0), [-1]))
            texts = tf.concat([tf.gather(queries, query_rows), asked], axis=0)
            rows = tower.table.lookup(bags(texts))
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([rows, *tower.dense])
                vectors = tower.vectors(rows, texts, training=True)
                count = tf.size(query_rows)
                listed = tf.reshape(vectors[count:], [count, tf.shape(item_rows)[1], vectors.shape[1]])
                loss = self.loss(vectors[:count], listed, item_rows)
            of_rows, of_dense = tape.gradient(loss, (rows, list(tower.dense)))
            tower.table.apply_gradient(bags(texts), of_rows, recipe.table_learning_rate)
            optimizer.apply_gradients(zip(of_dense, tower.dense, strict=True))
            return loss

        compiled: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = step
        return compiled

    def _vectors(self, texts: tf.RaggedTensor) -> np.ndarray:
        starts = range(0, int(texts.nrows()), _TEXTS_AT_ONCE)
        return np.concatenate([self.tower(texts[start : start + _TEXTS_AT_ONCE]).numpy() for start in starts])


class SoftmaxRetriever(TowerRetriever):
    """A tower trained by the softmax over the clicked item and four skipped ones (Huang et al., equations 4 and 5)."""

    def negatives(self, clicks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """As ``TowerRetriever.negatives``: skipped items of the query, random ones for a query without any."""
        return self._data.skipped.draw(clicks, SOFTMAX_NEGATIVES, rng)

    def loss(self, queries: tf.Tensor, items: tf.Tensor, item_rows: tf.Tensor) -> tf.Tensor:
        """As ``TowerRetriever.loss``."""
        del item_rows
        logits = SMOOTHING * tf.einsum("bd,bnd->bn", queries, items)
        return tf.reduce_mean(tf.reduce_logsumexp(logits, axis=1) - logits[:, 0])
