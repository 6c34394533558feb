"""Text as a sequence of subwords, read by a bidirectional transformer (Muhamed et al., 2023, section 3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from dpsr.config import TransformerConfig
from dpsr.data.batches.features import TextFeatures
from dpsr.data.dataset.schema import SubwordsSchema
from dpsr.model.embeddings import TableBags, TableValues
from dpsr.model.text_encoders.checkpoint_import import import_weights
from dpsr.ops_cc.packed_encoder import PackedEncoder, Precision, encode_packed, pack_encoder
from dpsr.ops_cc.text_encoder import BlockWeights, EncoderShape, EncoderWeights, encode, pool

_SCALE = 0.02
"""Standard deviation of freshly initialised tables and kernels, as in BERT."""


class TransformerWeights(NamedTuple):
    """The variables of an encoder; flattened in the order of the optimiser's slots in a checkpoint."""

    encoder: EncoderWeights
    projection: Any
    """float32 [H, d]; () where the width is the dimension."""


class PackedTransformerWeights(NamedTuple):
    """The same for inference."""

    encoder: PackedEncoder
    """Of variables."""
    projection: Any


class TransformerEncoder:
    """Encodes the subwords of a text, pools their last hidden states, and projects these to the model's dimension.

    All weights are dense, the word table too: the MLM stage ties its output to it.
    """

    def __init__(self, name: str, subwords: SubwordsSchema, config: TransformerConfig, dimension: int) -> None:
        """Chooses the sizes.

        Args:
            name: of the weights in the model.
            subwords: of the dataset; the word table has a row for each id.
            config: sizes, as ``checkpoint_config.resolved`` has them.
            dimension: d, width of a text's vector.
        """
        self.name = name
        self.tables: Mapping[str, int] = {}
        self.config = config
        self.subwords = subwords
        self.dimension = dimension
        self.shape = EncoderShape(
            config.width,
            config.heads,
            config.intermediate,
            config.activation,
            config.norm,
            config.norm_epsilon,
            config.position_offset,
        )

    def draw_weights(self, seed: int) -> TransformerWeights:
        """As ``TextEncoder.draw_weights``: those of the published checkpoint, or a truncated normal distribution.

        Raises:
            PublishedCheckpointError, SubwordError: the checkpoint cannot be used.
        """
        config, seeds = self.config, _seeds(seed)
        if config.initial is None:
            encoder = _drawn_encoder(config, self.subwords.num_ids, seeds)
        else:
            encoder = tf.nest.map_structure(tf.Variable, import_weights(config.initial, config, self.subwords))
        projection: Any = ()
        if config.width != self.dimension:
            # Keeps the norm of a vector about the same.
            projection = _drawn([config.width, self.dimension], next(seeds), self.dimension**-0.5)
        return TransformerWeights(encoder, projection)

    def bags(self, texts: TextFeatures) -> TableBags:
        """As ``TextEncoder.bags``: none, as the word table is dense."""
        return {}

    def pack(self, weights: TransformerWeights, precision: Precision) -> PackedTransformerWeights:
        """Weights for inference, in variables of their own on the CPU: one operation encodes texts with them.

        Raises:
            PackingError: a weight is not finite.
        """
        packed = pack_encoder(weights.encoder, self.shape, precision=precision)
        with tf.device("CPU:0"):
            return PackedTransformerWeights(
                packed.map(lambda array: tf.Variable(array, trainable=False)), weights.projection
            )

    def __call__(
        self,
        texts: TextFeatures,
        values: TableValues,
        weights: TransformerWeights | PackedTransformerWeights,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """As ``TextEncoder.__call__``; packed weights drop nothing.

        Raises:
            ValueError: the batch was joined without subwords.
        """
        subwords = texts.subwords
        if subwords is None:
            raise ValueError("the model reads subwords, and the batch was joined without them")
        if isinstance(weights, PackedTransformerWeights):
            pooled = encode_packed(subwords, weights.encoder, pooling=self.config.pooling)
        else:
            pooled = pool(self.hidden(subwords, weights, seed), subwords, self.config.pooling)
        return pooled if self.config.width == self.dimension else tf.matmul(pooled, weights.projection)

    def hidden(
        self, subwords: tf.RaggedTensor, weights: TransformerWeights, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The last hidden states, float32 [T, H], rows of ``subwords.values``; arguments as ``__call__``."""
        config = self.config
        return encode(
            subwords, weights.encoder, self.shape, dropout=config.dropout, seed=seed, bfloat16=config.bfloat16
        )


def _seeds(seed: int) -> Iterator[tuple[int, int]]:
    position = 0
    while True:
        yield seed, position
        position += 1


def _drawn(shape: list[int], seed: tuple[int, int], scale: float = _SCALE) -> tf.Variable:
    return tf.Variable(tf.random.stateless_truncated_normal(shape, seed, stddev=scale))


def _drawn_encoder(config: TransformerConfig, num_ids: int, seeds: Iterator[tuple[int, int]]) -> EncoderWeights:
    width, inner = config.width, config.intermediate

    def table(*shape: int) -> tf.Variable:
        return _drawn(list(shape), next(seeds))

    def zeros(units: int) -> tf.Variable:
        return tf.Variable(tf.zeros([units]))

    def ones() -> tf.Variable:
        return tf.Variable(tf.ones([width]))

    def block() -> BlockWeights:
        return BlockWeights(
            qkv_kernel=table(width, 3 * width),
            qkv_bias=zeros(3 * width),
            attention_kernel=table(width, width),
            attention_bias=zeros(width),
            attention_scale=ones(),
            attention_offset=zeros(width),
            intermediate_kernel=table(width, inner),
            intermediate_bias=zeros(inner),
            output_kernel=table(inner, width),
            output_bias=zeros(width),
            output_scale=ones(),
            output_offset=zeros(width),
        )

    return EncoderWeights(
        words=table(num_ids, width),
        positions=table(config.positions + config.position_offset, width),
        type_embedding=zeros(width),
        embedding_scale=ones(),
        embedding_offset=zeros(width),
        blocks=tuple(block() for _ in range(config.layers)),
    )
