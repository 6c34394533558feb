"""What each token of a query adds to the inner products of the query's heads with an item.

A head is y / |y|, where y is what the last dense layer gives. The parts are those of the inner product of y with the
item, divided by |y|, so that all tokens share one divisor. Where y is linear in the bag of tokens, the part of a token
is exact. Otherwise it is the integrated gradient (Sundararajan, Taly and Yan, 2017) along the straight path from the
query without its tokens: from the empty bag, and for a transformer from the mask token in place of every subword.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dpsr.data.batches.features import QueryFeatures
from dpsr.model.towers import PerceptronWeights
from dpsr.model.two_tower import TwoTower
from dpsr.page.explain.paths import Path, path_of

EXACT, INTEGRATED = "exact", "integrated gradients"
TOLERANCE = 0.01
"""Error of the sum of integrated gradients, relative to what they sum up to ..."""
LEAST_ERROR = 1e-3
"""... and of a score, where they sum up to about 0."""
_FEWEST, _MOST = 64, 4096
"""Steps of a path of bags ..."""
_FEWEST_ENCODED, _MOST_ENCODED = 8, 256
"""... and of one through a transformer, each step of which encodes the query."""
_FACTOR = 2

Products = Callable[[Sequence[tf.Tensor]], tuple[tf.Tensor, tf.Tensor]]


class Attribution(NamedTuple):
    """Scores of m heads, and the parts of n tokens and of s subwords."""

    scores: np.ndarray
    """float64 [m]."""
    tokens: np.ndarray | None
    """float64 [m, n]; None where no bag is read."""
    subwords: np.ndarray | None
    """float64 [m, s]; None where no transformer reads them."""
    method: str
    """``EXACT`` or ``INTEGRATED``."""
    errors: np.ndarray
    """float64 [m]: the sum of the parts, less the score and plus that without tokens."""
    without: np.ndarray
    """float64 [m]: the score without tokens, by the same divisor."""


def attribute(model: TwoTower, queries: QueryFeatures, item: np.ndarray) -> Attribution:
    """Explains the scores of an item.

    Args:
        model: the towers; tables on this machine.
        queries: of one row.
        item: float32 [d], its vector.
    """
    inputs = model.query_inputs
    values = model.lookup(inputs.bags(queries))
    shared, own = inputs.vectors(queries, values, model.weights.texts)
    texts = len(inputs.texts)
    paths = [path_of(model, text, queries) for text in (*inputs.texts, *inputs.head_texts)]
    products = _products(model, shared[texts:], item)
    outputs, at_end = products([*shared[:texts], *own])
    _, at_start = products([path.vectors(path.points(tf.zeros([1]))) for path in paths])
    norms = np.linalg.norm(outputs.numpy()[0].astype(np.float64), axis=1)
    norms[norms == 0.0] = 1.0
    scores, without = (found.numpy()[0].astype(np.float64) / norms for found in (at_end, at_start))
    encoded = any(path.is_subwords for path in paths)
    exact = not model.config.hidden and not encoded
    steps, most = (_FEWEST_ENCODED, _MOST_ENCODED) if encoded else (_FEWEST, _MOST)
    steps, most = (1, 1) if exact else (steps, most)
    while True:
        parts = [found / norms[:, np.newaxis] for found in _integrated(paths, products, steps, len(norms))]
        errors = np.sum([found.sum(axis=1) for found in parts], axis=0) - (scores - without)
        if steps >= most or np.all(np.abs(errors) <= allowed_error(scores - without)):
            break
        steps *= _FACTOR
    return Attribution(
        scores=scores,
        tokens=_summed([found for found, path in zip(parts, paths, strict=True) if not path.is_subwords]),
        subwords=_summed([found for found, path in zip(parts, paths, strict=True) if path.is_subwords]),
        method=EXACT if exact else INTEGRATED,
        errors=errors,
        without=without,
    )


def allowed_error(sums: np.ndarray) -> np.ndarray:
    """How far the sum of integrated gradients may be from what it should be."""
    allowed: np.ndarray = np.maximum(TOLERANCE * np.abs(sums), LEAST_ERROR)
    return allowed


def _products(model: TwoTower, others: Sequence[tf.Tensor], item: np.ndarray) -> Products:
    """A function of the vectors of all texts, float32 [S, d] each.

    Args:
        model: its query tower.
        others: of the vectors that are no texts, float32 [1, d] each.
        item: float32 [d].

    Returns:
        -> the heads before their division, float32 [S, m, d], and their inner products with the item, float32 [S, m].
    """
    vector, texts, tower = tf.constant(item, tf.float32), len(model.query_inputs.texts), model.weights.query
    residual = model.config.residual

    def products(vectors: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        steps = vectors[0].shape[0]
        read = [*vectors[:texts], *(tf.tile(each, [steps, 1]) for each in others)]
        own = vectors[texts:]
        if own:
            layers = zip(own, [tower.first, *tower.others], strict=True)
            outputs = tf.concat([_layers([first, *read], its, residual) for first, its in layers], axis=1)
        else:
            outputs = _layers(read, tower.first, residual)
        return outputs, tf.linalg.matvec(outputs, vector)

    return products


def _layers(parts: Sequence[tf.Tensor], weights: PerceptronWeights, residual: bool) -> tf.Tensor:
    """``ops_cc.tower.tower`` without the division by the norm, float32 [S, outputs, d]."""
    found = tf.concat(parts, axis=1)
    for layer in weights.hidden:
        found = tf.nn.relu(tf.matmul(found, layer.kernel) + layer.bias)
    found = tf.matmul(found, weights.last.kernel) + weights.last.bias
    found = tf.reshape(found, [parts[0].shape[0], -1, parts[0].shape[1]])
    return found + tf.add_n(list(parts))[:, tf.newaxis] if residual else found


def _integrated(paths: Sequence[Path], products: Products, steps: int, heads: int) -> list[np.ndarray]:
    """The part of each token of every path in the product of every head, float64 [m, tokens] each.

    The integral over the path is Gauss and Legendre's sum of ``steps`` gradients.
    """
    nodes, node_weights = np.polynomial.legendre.leggauss(steps)
    places = tf.constant((nodes + 1.0) / 2.0, tf.float32)
    shares = tf.constant(node_weights / 2.0, tf.float32)
    points = [path.points(places) for path in paths]
    with tf.GradientTape(persistent=heads > 1, watch_accessed_variables=False) as tape:
        tape.watch(points)
        _, found = products([path.vectors(each) for path, each in zip(paths, points, strict=True)])
        sums = tf.unstack(tf.linalg.matvec(found, shares, transpose_a=True))
    gradients = [tape.gradient(each, points, unconnected_gradients="zero") for each in sums]
    return [np.stack([path.parts(by[number]) for by in gradients]) for number, path in enumerate(paths)]


def _summed(parts: Sequence[np.ndarray]) -> np.ndarray | None:
    """The parts of the same tokens in several texts, together."""
    if not parts:
        return None
    found: np.ndarray = np.sum(parts, axis=0)
    return found
