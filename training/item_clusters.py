"""Clusters of the items, which stand for the meanings of queries where no column of the catalogue tells these apart.

Items are alike that share words or were clicked for the same queries: latent semantic analysis of both (Deerwester et
al., JASIS 1990), k-means on the unit vectors, and a tree of average linkage over the clusters. Clusters that share more
words than their sizes explain are merged first: brands, sizes and attributes are common to the parts of a department.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from dpsr.data.dataset.pairs import KeyCounts
from dpsr.data.dataset.tables import Bags

_DIMENSION = 128
_SAMPLED_ITEMS = 200_000
"""Items that the space and the means are fitted on; every item is then assigned."""
_CLUSTERS_OF_A_GROUP = 5
"""Clusters of a group at the finest cut, on average: below it, clusters are kinds of one thing and no meanings."""
_BLOCK = 65_536


class ItemClusters(NamedTuple):
    """The cluster of every item, and which clusters are one at every cut through the tree."""

    clusters: np.ndarray
    """int32 [items], below the number of clusters C."""
    cuts: np.ndarray
    """int32 [L, C], the group of every cluster; row i has i + 2 groups, the last row C / 5."""


def cluster_items(
    tokens: Bags, num_ids: int, clicks: KeyCounts, num_queries: int, clusters: int, *, seed: int
) -> ItemClusters:
    """Clusters the items of a catalogue; time grows with the items and clicked pairs, memory with the pairs.

    Args:
        tokens: the token bags of the items, ids below ``num_ids``.
        num_ids: rows of a token table.
        clicks: distinct pairs ``item * num_queries + query`` and the clicks on each.
        num_queries: distinct queries.
        clusters: C, at least 2; fewer where there are fewer items.
        seed: the same seed gives the same clusters.
    """
    features = _Features(tokens, num_ids, clicks, num_queries)
    random = np.random.default_rng(seed)
    sample = np.sort(random.permutation(len(tokens))[:_SAMPLED_ITEMS])
    idf = features.fit(sample)
    # One thread: sums of several come in any order, and a resumed training needs the same clusters.
    with threadpool_limits(1), np.errstate(invalid="ignore"):  # a catalogue of one item has no variance
        sampled = features.of_items(sample, idf)
        space = TruncatedSVD(min(_DIMENSION, *sampled.shape), random_state=seed)
        vectors = normalize(space.fit_transform(sampled))
        means = KMeans(min(clusters, len(sample)), n_init=1, random_state=seed).fit(vectors)
        found = [
            means.predict(normalize(space.transform(features.of_items(rows, idf))).astype(vectors.dtype))
            for rows in _blocks(len(tokens))
        ]
    numbers = np.unique(np.concatenate(found), return_inverse=True)[1].astype(np.int32)  # some may be empty
    return ItemClusters(numbers, _cuts(_shared_words(features, numbers)))


class _Features:
    """Words and queries of the items, as sparse matrices of some rows."""

    def __init__(self, tokens: Bags, num_ids: int, clicks: KeyCounts, num_queries: int) -> None:
        self._tokens, self._num_ids = tokens, num_ids
        items, queries = np.divmod(clicks.keys, num_queries)
        weights = np.log1p(clicks.counts).astype(np.float32)
        self._queries = sp.csr_matrix((weights, (items, queries)), (len(tokens), num_queries))

    def words(self, rows: np.ndarray) -> sp.csr_matrix:
        """1 where an item has a token, float32 [rows, num_ids]."""
        bags = self._tokens.take(rows)
        ones = np.ones(len(bags.values), np.float32)
        matrix = sp.csr_matrix((ones, np.array(bags.values), np.array(bags.row_splits)), (len(rows), self._num_ids))
        matrix.sum_duplicates()
        matrix.data[:] = 1.0
        return matrix

    def fit(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The inverse document frequencies of tokens and of queries."""
        return _idf(self.words(rows)), _idf(self._queries[rows])

    def of_items(self, rows: np.ndarray, idf: tuple[np.ndarray, np.ndarray]) -> sp.csr_matrix:
        """Words and queries of items beside each other, each of length 1, float32 [rows, num_ids + queries]."""
        return sp.hstack([_weighted(self.words(rows), idf[0]), _weighted(self._queries[rows], idf[1])]).tocsr()


def _blocks(items: int) -> Iterator[np.ndarray]:
    for first in range(0, items, _BLOCK):
        yield np.arange(first, min(first + _BLOCK, items))


def _idf(matrix: sp.csr_matrix) -> np.ndarray:
    frequencies = np.bincount(matrix.indices, minlength=matrix.shape[1])
    return np.log((1 + matrix.shape[0]) / (1 + frequencies)).astype(np.float32)


def _weighted(matrix: sp.csr_matrix, idf: np.ndarray) -> sp.csr_matrix:
    return normalize(sp.csr_matrix((matrix.data * idf[matrix.indices], matrix.indices, matrix.indptr), matrix.shape))


def _shared_words(features: _Features, clusters: np.ndarray) -> np.ndarray:
    """Likeness of the clusters, float64 [C, C]: the cosine of the positive pointwise mutual information with tokens."""
    size = int(clusters.max()) + 1
    counts = sp.csr_matrix((size, 1))
    for rows in _blocks(len(clusters)):
        members = sp.csr_matrix(
            (np.ones(len(rows), np.float32), (clusters[rows], np.arange(len(rows)))), (size, len(rows))
        )
        words = members @ features.words(rows)
        counts = words if counts.shape != words.shape else counts + words
    counts = counts.tocoo()
    of_cluster, of_token = np.asarray(counts.sum(1)).ravel(), np.asarray(counts.sum(0)).ravel()
    information = np.log(counts.data * of_token.sum() / (of_cluster[counts.row] * of_token[counts.col]))
    matrix = normalize(sp.csr_matrix((np.maximum(information, 0.0), (counts.row, counts.col)), counts.shape))
    return np.asarray((matrix @ matrix.T).todense(), np.float64)


def _cuts(likeness: np.ndarray) -> np.ndarray:
    size = len(likeness)
    if size < 2:
        return np.zeros((1, size), np.int32)
    finest = max(2, size // _CLUSTERS_OF_A_GROUP)
    distances = np.maximum(1.0 - (likeness + likeness.T) / 2, 0.0)
    np.fill_diagonal(distances, 0.0)
    tree = linkage(squareform(distances, checks=False), "average")
    return np.stack([fcluster(tree, groups, "maxclust") - 1 for groups in range(2, finest + 1)]).astype(np.int32)
