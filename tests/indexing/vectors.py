"""Unit vectors with the structure of trained embeddings: clusters in a space of few dimensions, and some noise."""

from __future__ import annotations

import numpy as np


def clustered_vectors(count: int, dimension: int = 32, *, seed: int, rank: int = 8, clusters: int = 100) -> np.ndarray:
    space = np.random.default_rng(99)
    basis, centers = space.normal(size=(rank, dimension)), space.normal(size=(clusters, rank))
    rng = np.random.default_rng(seed)
    latent = centers[rng.integers(clusters, size=count)] + 0.5 * rng.normal(size=(count, rank))
    return unit(latent @ basis + 0.2 * rng.normal(size=(count, dimension)))


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
