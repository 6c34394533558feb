"""A transformer encoder in NumPy, one sequence at a time: the oracle of the text encoder."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def last_hidden_states(ids: np.ndarray, weights: Any, shape: Any) -> list[np.ndarray]:
    """The states of one sequence after every layer, float64 [layers + 1, n, H]; the first are the embeddings.

    Args:
        ids: int [n].
        weights: EncoderWeights of arrays.
        shape: EncoderShape.
    """
    places = np.arange(len(ids)) + shape.position_offset
    hidden = weights.words[ids].astype(np.float64) + weights.positions[places] + weights.type_embedding

    def norm(values: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
        centred = values - values.mean(axis=1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + shape.norm_epsilon) * scale + offset

    def attended(values: np.ndarray, block: Any) -> np.ndarray:
        joined = values @ block.qkv_kernel + block.qkv_bias
        queries, keys, contents = np.split(joined.reshape(len(ids), 3 * shape.heads, -1), 3, axis=1)
        scores = np.einsum("qhd,khd->hqk", queries, keys) / math.sqrt(queries.shape[2])
        shares = np.exp(scores - scores.max(axis=2, keepdims=True))
        shares /= shares.sum(axis=2, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", shares, contents).reshape(len(ids), -1)
        return mixed @ block.attention_kernel + block.attention_bias

    def fed(values: np.ndarray, block: Any) -> np.ndarray:
        inner = values @ block.intermediate_kernel + block.intermediate_bias
        return _ACTIVATIONS[shape.activation](inner) @ block.output_kernel + block.output_bias

    if shape.norm == "post":
        states = [norm(hidden, weights.embedding_scale, weights.embedding_offset)]
        for block in weights.blocks:
            middle = norm(states[-1] + attended(states[-1], block), block.attention_scale, block.attention_offset)
            states.append(norm(middle + fed(middle, block), block.output_scale, block.output_offset))
        return states
    states = [hidden]
    for block in weights.blocks:
        middle = states[-1] + attended(norm(states[-1], block.attention_scale, block.attention_offset), block)
        states.append(middle + fed(norm(middle, block.output_scale, block.output_offset), block))
    return [*states[:-1], norm(states[-1], weights.embedding_scale, weights.embedding_offset)]


def _gelu(values: np.ndarray) -> np.ndarray:
    return values * 0.5 * (1.0 + np.vectorize(math.erf)(values / math.sqrt(2.0)))


def _gelu_tanh(values: np.ndarray) -> np.ndarray:
    return 0.5 * values * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (values + 0.044715 * values**3)))


def _relu(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 0.0)


_ACTIVATIONS = {"gelu": _gelu, "gelu_tanh": _gelu_tanh, "relu": _relu}
