"""The weight of the dense side for a single query, from what both sides found: a log-linear model inside the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import tensorflow as tf

from dpsr.indexing.lexical.searcher import QueryTerms
from dpsr.indexing.searcher import Found

FEATURES = (
    "best_bm25",
    "lexical_flatness",
    "words_of_dense",
    "best_dense",
    "dense_spread",
    "meaning_of_lexical",
    "terms",
    "corrected",
    "found",
)
"""What ``query_features`` computes, in its order."""
LEAST_WEIGHT, MOST_WEIGHT = 0.01, 100.0
"""Of the dense side, whatever the model says."""
_DEPTH = 10
"""Items of a list that stand for it."""


@dataclass(frozen=True)
class QueryWeight:
    """A factor of the weight of the dense side: ``exp(bias + slopes . features)``."""

    bias: float
    slopes: tuple[float, ...]
    """One of each of ``FEATURES``."""

    def weights(self, features: tf.Tensor, dense_weight: float) -> tf.Tensor:
        """The weight of each query, float32 [B, 1].

        Args:
            features: float32 [B, 9], of ``query_features``.
            dense_weight: weight of a query of which the factor is 1.
        """
        exponent = tf.reduce_sum(features * tf.constant(self.slopes, tf.float32), axis=1, keepdims=True)
        factor = tf.exp(tf.constant(self.bias, tf.float32) + exponent)
        return tf.clip_by_value(tf.constant(dense_weight, tf.float32) * factor, LEAST_WEIGHT, MOST_WEIGHT)

    @classmethod
    def described(cls, entry: Mapping[str, float]) -> QueryWeight:
        """The inverse of ``describe``."""
        return cls(entry["bias"], tuple(entry[name] for name in FEATURES))

    def describe(self) -> dict[str, float]:
        """For the manifest."""
        return {"bias": self.bias, **dict(zip(FEATURES, self.slopes, strict=True))}


def query_features(
    terms: QueryTerms, dense: Found, lexical: Found, words_of_dense: tf.Tensor, meaning_of_lexical: tf.Tensor
) -> tf.Tensor:
    """What is known of a query once both sides have answered; every feature is 0 where its side found nothing.

    Args:
        terms: those of the B queries.
        dense: the list of the dense searcher, of k items.
        lexical: that of the lexical one.
        words_of_dense: float32 [B, k], BM25 of the items of ``dense``.
        meaning_of_lexical: float32 [B, k], inner products of the items of ``lexical``.

    Returns:
        float32 [B, 9]: the logarithm of 1 + the best BM25; the mean BM25 of the first 10 items of the lexical list and
        of the dense one, each over the best; the best inner product, and what it is above the mean of the first 10 of
        the dense list; the mean inner product of the first 10 of the lexical list; the logarithm of 1 + the number of
        terms; the share of them that stand for a misspelt word; the share of k that the lexical list has.
    """
    is_dense, is_lexical = dense.rows[:, :_DEPTH] >= 0, lexical.rows[:, :_DEPTH] >= 0
    best_bm25 = tf.maximum(lexical.scores[:, 0], 0.0)
    best_dense = tf.where(is_dense[:, 0], dense.scores[:, 0], 0.0)
    row_splits = terms.ids.row_splits
    corrected = tf.cumsum(tf.pad(tf.cast(terms.weights < 1.0, tf.float32), [[1, 0]]))
    num_terms = tf.cast(row_splits[1:] - row_splits[:-1], tf.float32)
    num_corrected = tf.gather(corrected, row_splits[1:]) - tf.gather(corrected, row_splits[:-1])
    columns = (
        tf.math.log1p(best_bm25),
        tf.math.divide_no_nan(_mean(lexical.scores, is_lexical), best_bm25),
        tf.math.divide_no_nan(_mean(words_of_dense, is_dense), best_bm25),
        best_dense,
        best_dense - _mean(dense.scores, is_dense),
        _mean(meaning_of_lexical, is_lexical),
        tf.math.log1p(num_terms),
        tf.math.divide_no_nan(num_corrected, num_terms),
        tf.reduce_mean(tf.cast(lexical.rows >= 0, tf.float32), axis=1),
    )
    return tf.stack(columns, axis=1)


def _mean(values: tf.Tensor, is_item: tf.Tensor) -> tf.Tensor:
    """The mean of the first values that are of items; 0 without any."""
    total = tf.reduce_sum(tf.where(is_item, values[:, :_DEPTH], 0.0), axis=1)
    return tf.math.divide_no_nan(total, tf.reduce_sum(tf.cast(is_item, tf.float32), axis=1))
