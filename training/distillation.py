"""The stage ``distillation``: a student learns a teacher's scores (Muhamed et al., 2023, section 3.4) or vectors."""

from __future__ import annotations

import tensorflow as tf

from dpsr.data.batches.taught import TaughtBatch, VectorsBatch
from dpsr.model.two_tower import TwoTower
from dpsr.ops_cc.group_loss import LossAndGradients
from dpsr.training.optimizers import Optimizer
from dpsr.training.tower_step import TowerStep


class DistillationStep(TowerStep):
    """Moves a student towards its teacher.

    The gradient is divided by the temperature, as that of the softmax loss is, so that the stage goes on with the
    learning rates and the accumulators of the stages before.
    """

    def __init__(
        self, model: TwoTower, optimizer: Optimizer, *, temperature: float, token_dropout: float = 0.0, seed: int = 1
    ) -> None:
        """Chooses what a step minimises.

        Args:
            model: the student.
            optimizer: takes the steps.
            temperature: divides the gradient.
            token_dropout: share of the query tokens that a step leaves out.
            seed: of the dropout.
        """
        super().__init__(model, optimizer, token_dropout=token_dropout, seed=seed)
        self._scale = 1.0 / temperature

    def objective(
        self, heads: tf.Tensor, vectors: tf.Tensor, batch: TaughtBatch | VectorsBatch, prepared: None
    ) -> LossAndGradients:
        """As ``TowerStep.objective``."""
        with tf.GradientTape() as tape:
            tape.watch([heads, vectors])
            if isinstance(batch, VectorsBatch):
                loss = error_of_vectors(heads, vectors, batch)
            else:
                loss = error_of_scores(heads, vectors, batch, self._model.config.attention_temperature)
        of_heads, of_vectors = tape.gradient(loss, [heads, vectors])
        return LossAndGradients(loss, self._scale * of_heads, self._scale * of_vectors)


def error_of_vectors(heads: tf.Tensor, vectors: tf.Tensor, batch: VectorsBatch) -> tf.Tensor:
    """The mean squared distance to the teacher's vectors, float32 []: of queries and of items half each.

    Of one pair of unit vectors it is twice what their cosine lacks of 1. A score says one number of a query, its vector
    says d.

    Args:
        heads: float32 [B, 1, d].
        vectors: float32 [N, d].
        batch: what the teacher says.
    """
    errors = (
        tf.math.squared_difference(heads[:, 0], batch.of_queries),
        tf.math.squared_difference(vectors, batch.of_items),
    )
    return tf.add_n([tf.reduce_mean(tf.reduce_sum(error, axis=1)) for error in errors]) / 2.0


def error_of_scores(
    heads: tf.Tensor, vectors: tf.Tensor, batch: TaughtBatch, attention_temperature: float
) -> tf.Tensor:
    """The mean squared error between the cosine scores of student and teacher, float32 [].

    Half the weight is on the pairs of the batch's examples, each query with its item; the other half on all pairs. Of
    all pairs alone one in a thousand is of an example, and a student learns little but the mean of the scores.

    Args:
        heads: float32 [B, m, d].
        vectors: float32 [N, d].
        batch: what the teacher says.
        attention_temperature: beta.
    """
    scores = soft_dot_products(heads, vectors, attention_temperature)
    if batch.scores.shape.rank == 1:  # of each query with the item of its row
        return tf.reduce_mean(tf.square(tf.linalg.diag_part(scores) - batch.scores))
    errors = tf.square(scores - batch.scores)
    return (tf.reduce_mean(tf.linalg.diag_part(errors)) + tf.reduce_mean(errors)) / 2.0


def soft_dot_products(heads: tf.Tensor, vectors: tf.Tensor, attention_temperature: float) -> tf.Tensor:
    """The scores of all pairs of queries and items (paper, equation 3).

    Args:
        heads: float32 [B, m, d].
        vectors: float32 [N, d].
        attention_temperature: beta.

    Returns:
        float32 [B, N].
    """
    products = tf.einsum("bmd,nd->bmn", heads, vectors)
    if heads.shape[1] == 1:
        return products[:, 0]
    return tf.reduce_sum(tf.nn.softmax(products / attention_temperature, axis=1) * products, axis=1)
