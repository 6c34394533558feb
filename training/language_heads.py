"""Output layers of the language-model stages, which belong to their stage and not to the model."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from dpsr.data.batches.language_batches import PairBatch
from dpsr.data.batches.masking import MaskedBatch
from dpsr.model.text_encoders.transformer import TransformerEncoder
from dpsr.ops_cc.text_encoder import EncoderWeights, pool

_SCALE = 0.02


class Outcome(NamedTuple):
    """What a head says of a batch."""

    loss: tf.Tensor
    """float32 [], the mean over the batch's questions."""
    right: tf.Tensor
    """int32 [], questions answered rightly."""
    asked: tf.Tensor
    """int32 [], questions."""


class Head(Protocol):
    """Asks questions about the hidden states of a batch, and grades the answers."""

    @property
    def weights(self) -> Any:
        """Variables, in any nested structure."""

    def __call__(self, hidden: tf.Tensor, batch: Any, encoder: EncoderWeights, weights: Any) -> Outcome:
        """Grades a batch.

        Args:
            hidden: float32 [T, H], last hidden states of ``batch.tokens``.
            batch: a batch of the kind that the head knows.
            encoder: weights of the encoder.
            weights: tensors in the structure of ``weights``.
        """


class MaskedHeadWeights(NamedTuple):
    """Of ``MaskedHead``."""

    kernel: Any
    """float32 [H, H]."""
    bias: Any
    """float32 [H]."""
    scale: Any
    """float32 [H], of the layer norm."""
    offset: Any
    """float32 [H], of the layer norm."""
    output_bias: Any
    """float32 [V]."""


class MaskedHead(tf.Module):
    """Which subword stood at a masked place: a dense layer with gelu and LayerNorm, then the word table (BERT).

    Only masked places are computed; the output layer is the table of the encoder's input.
    """

    def __init__(self, encoder: TransformerEncoder, seed: int) -> None:
        """Draws the layer."""
        super().__init__()
        width, ids = encoder.config.width, encoder.subwords.num_ids
        self._epsilon = encoder.config.norm_epsilon
        drawn = tf.random.stateless_truncated_normal([width, width], [seed, 1], stddev=_SCALE)
        self.weights = MaskedHeadWeights(
            tf.Variable(drawn),
            tf.Variable(tf.zeros([width])),
            tf.Variable(tf.ones([width])),
            tf.Variable(tf.zeros([width])),
            tf.Variable(tf.zeros([ids])),
        )

    def __call__(
        self, hidden: tf.Tensor, batch: MaskedBatch, encoder: EncoderWeights, weights: MaskedHeadWeights
    ) -> Outcome:
        """As ``Head.__call__``."""
        states = tf.nn.gelu(tf.gather(hidden, batch.places) @ weights.kernel + weights.bias)
        mean, variance = tf.nn.moments(states, [1], keepdims=True)
        states = tf.nn.batch_normalization(states, mean, variance, weights.offset, weights.scale, self._epsilon)
        logits = tf.matmul(states, encoder.words, transpose_b=True) + weights.output_bias
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch.labels, logits)
        asked = tf.size(batch.labels)
        right = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), batch.labels)
        # A batch of empty texts asks nothing.
        loss = tf.math.divide_no_nan(tf.reduce_sum(losses), tf.cast(asked, tf.float32))
        return Outcome(loss, tf.math.count_nonzero(right, dtype=tf.int32), asked)


class PairHeadWeights(NamedTuple):
    """Of ``PairHead``."""

    kernel: Any
    """float32 [H, 1]."""
    bias: Any
    """float32 [1]."""


class PairHead(tf.Module):
    """Whether a product was clicked for a query, from the pooled hidden states of both: a logistic layer."""

    def __init__(self, encoder: TransformerEncoder, seed: int) -> None:
        """Draws the layer."""
        super().__init__()
        self._pooling = encoder.config.pooling
        drawn = tf.random.stateless_truncated_normal([encoder.config.width, 1], [seed, 2], stddev=_SCALE)
        self.weights = PairHeadWeights(tf.Variable(drawn), tf.Variable(tf.zeros([1])))

    def __call__(
        self, hidden: tf.Tensor, batch: PairBatch, encoder: EncoderWeights, weights: PairHeadWeights
    ) -> Outcome:
        """As ``Head.__call__``."""
        del encoder
        pooled = pool(hidden, batch.tokens, self._pooling)
        logits = (pooled @ weights.kernel + weights.bias)[:, 0]
        losses = tf.nn.sigmoid_cross_entropy_with_logits(batch.labels, logits)
        right = tf.equal(logits > 0.0, batch.labels > 0.5)
        return Outcome(tf.reduce_mean(losses), tf.math.count_nonzero(right, dtype=tf.int32), tf.size(logits))
