"""Vectors of a frozen encoder, a teacher, on the item side: as the item vectors themselves, or as one more input.

A language model's vectors of the items are computed offline, so that a query tower of any kind is served beside them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import tensorflow as tf

from dpsr.data.dataset.tables import Bags

_SAMPLE = 100_000
_MOST_ITEMS, _ITEMS_AT_ONCE = 2_000_000, 4096


class EncodedItems(NamedTuple):
    """How the item side reads ``ItemFeatures.encoded``."""

    width: int
    """w, of the frozen vectors."""
    alone: bool
    """They are the item vectors; else the item tower reads them beside its other inputs."""
    projection: np.ndarray | None = None
    """float32 [w, d], the first map of frozen vectors to the tower's inputs, where not ``alone``; the identity if None,
    which a checkpoint replaces."""
    token_vectors: np.ndarray | None = None
    """float32 [token ids, d], first rows of the query tokens' table; a random draw if None."""


class EncodedInput:
    """One more input of the item tower: frozen vectors under a learnt linear map."""

    name = "item_encoded"
    """Of its weights in the model."""

    def __init__(self, encoded: EncodedItems, dimension: int) -> None:
        """Takes the widths.

        Args:
            encoded: of the frozen vectors.
            dimension: d, of the tower's inputs.
        """
        self._encoded = encoded
        self._dimension = dimension

    def draw_weights(self, seed: int) -> dict[str, tf.Variable]:
        """As ``TextEncoder.draw_weights``: the map, float32 [w, d]."""
        initial = self._encoded.projection
        if initial is None:
            initial = np.eye(self._encoded.width, self._dimension, dtype=np.float32)
        return {"projection": tf.Variable(initial, name="projection")}

    def __call__(self, encoded: tf.Tensor | None, weights: dict[str, tf.Tensor]) -> tf.Tensor:
        """Maps frozen vectors, float32 [N, w], to an input of the tower, float32 [N, d]."""
        return required(encoded) @ weights["projection"]


def required(encoded: tf.Tensor | None) -> tf.Tensor:
    """The frozen vectors of a batch.

    Raises:
        ValueError: the batch was joined without them.
    """
    if encoded is None:
        raise ValueError("the model reads vectors of a frozen encoder, and the batch of items was joined without them")
    return encoded


def mean_item_vectors(tokens: Bags, vectors: np.ndarray, rows: int) -> np.ndarray:
    """The mean vector of the items that contain a token, by token: what a query of it should find.

    Args:
        tokens: ids of every item; of a large catalogue, evenly spaced items are read.
        vectors: float32 [items, w].
        rows: token ids.

    Returns:
        float32 [rows, w], of vectors less their mean; zeros for a token that no item has.
    """
    step = -(-len(vectors) // _MOST_ITEMS) if len(vectors) else 1
    mean = vectors[::step].mean(axis=0)
    sums, counts = np.zeros((rows, vectors.shape[1]), np.float32), np.zeros(rows, np.float32)
    for start in range(0, len(vectors), _ITEMS_AT_ONCE * step):
        items = np.arange(start, min(start + _ITEMS_AT_ONCE * step, len(vectors)), step)
        bags = tokens.take(items)
        ids, places = np.unique(bags.values, return_inverse=True)
        ones = np.ones(len(places), np.float32)
        contained = sp.csr_matrix((ones, places, bags.row_splits), shape=(len(items), len(ids)))
        sums[ids] += contained.T @ (vectors[items] - mean)
        counts += np.bincount(bags.values, minlength=rows).astype(np.float32)
    return sums / np.maximum(counts, 1.0)[:, np.newaxis]


def principal_axes(vectors: np.ndarray, dimension: int) -> np.ndarray:
    """The linear map to ``dimension`` columns that keeps most of the scores between vectors.

    Args:
        vectors: float32 [n, w], unit vectors; of a large array, evenly spaced rows are read.
        dimension: d.

    Returns:
        float32 [w, d]: the first d right singular vectors of the vectors; for d >= w the identity, padded with zeros.
    """
    width = vectors.shape[1]
    if dimension >= width:
        return np.eye(width, dimension, dtype=np.float32)
    rows = np.asarray(vectors[:: -(-len(vectors) // _SAMPLE)], np.float64)
    _, axes = np.linalg.eigh(rows.T @ rows)
    axes = axes[:, ::-1][:, :dimension]
    # The sign of an eigenvector is arbitrary: the largest entry is positive, on every machine.
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(dimension)]
    return (axes * np.sign(largest)).astype(np.float32)
