"""Weights of a text encoder, drawn at random."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from dpsr.ops_cc.text_encoder import BlockWeights, EncoderShape, EncoderWeights


def draw_weights(shape: EncoderShape, blocks: int, words: int, positions: int, seed: int = 0) -> EncoderWeights:
    random = np.random.default_rng(seed)
    width, intermediate = shape.width, shape.intermediate

    def draw(*size: int, scale: float = 0.0, mean: float = 0.0) -> tf.Tensor:
        return tf.constant(random.normal(mean, scale or size[0] ** -0.5, size), tf.float32)

    def vector(size: int, mean: float = 0.0) -> tf.Tensor:
        return draw(size, scale=0.2, mean=mean)

    return EncoderWeights(
        words=draw(words, width, scale=1.0),
        positions=draw(positions, width, scale=1.0),
        type_embedding=vector(width),
        embedding_scale=vector(width, 1.0),
        embedding_offset=vector(width),
        blocks=tuple(
            BlockWeights(
                qkv_kernel=draw(width, 3 * width),
                qkv_bias=vector(3 * width),
                attention_kernel=draw(width, width),
                attention_bias=vector(width),
                attention_scale=vector(width, 1.0),
                attention_offset=vector(width),
                intermediate_kernel=draw(width, intermediate),
                intermediate_bias=vector(intermediate),
                output_kernel=draw(intermediate, width),
                output_bias=vector(width),
                output_scale=vector(width, 1.0),
                output_offset=vector(width),
            )
            for _ in range(blocks)
        ),
    )
