"""Filtered search beside the unfiltered one: latency and recall by how many items match.

    python benchmarks/filters.py                       # 1,000,000 items
    python benchmarks/filters.py --items 15000000 --precision int8

The vectors are those of ``index.py``, the index and its parameters are chosen as an export does. Filters ask for one
value of a column. "at random": values do not depend on the vectors. "by place": items are parted by their first
principal direction, so that of a value most matching items are far from most queries, as shoes are under a filter for
lamps. Recall is that of the K best matching items against an exact search among them; "found" is the least number of
items found for a query. "words" is the lexical searcher, which is exact, over texts of 4 to 16 words of a Zipf
distribution, asked for 3 words of an item. Latencies are medians of one query on one core; "ratio" is to the search
without a filter.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
from index import CHECKED, DIMENSION, HEADS, QUERIES, K, clustered_vectors, median_ms
from tabulate import tabulate

SHARES = (0.5, 0.05, 0.005, 0.0005, 0.00005)
ROUNDS = 100
TERMS = 30_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--precision", choices=["float32", "int8"], default="float32")
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    from dpsr.indexing.dense.ann import Index
    from dpsr.indexing.dense.searcher import DenseSearcher
    from dpsr.indexing.filters import Filters, FilterValues
    from dpsr.indexing.lexical.searcher import QueryTerms
    from dpsr.indexing.signature import filter_input

    items = arguments.items
    vectors = clustered_vectors(items, seed=1)
    queries = clustered_vectors(QUERIES + HEADS * CHECKED, seed=2)
    table = pa.table({name: values.astype(str) for name, values in columns(vectors).items()})
    index = Index.build(vectors, K, queries=queries[:QUERIES], precision=arguments.precision)
    filters = Filters(table, table.column_names, [])
    dense = DenseSearcher(index, lambda features: features.tokens, filters)
    heads = queries[QUERIES:].reshape(CHECKED, HEADS, DIMENSION)
    lexical, terms = lexical_searcher(items, filters)
    by_heads = [(tf.constant(query[np.newaxis]),) for query in heads]
    by_words = [(tf.constant(words),) for words in terms]
    names = list(filters.specs)

    def as_terms(words: tf.Tensor) -> QueryTerms:
        splits = tf.stack([0, tf.size(words)])
        return QueryTerms(tf.RaggedTensor.from_row_splits(words, splits), tf.ones(tf.shape(words)))

    def wanted(asked: tf.Tensor) -> FilterValues:
        return filters.requested(dict(zip(names, tf.split(asked, len(names)), strict=True)), tf.constant(1))

    searches: list[Callable[..., tuple[tf.Tensor, ...]]] = [
        tf.function(function, autograph=False, reduce_retracing=True)
        for function in (
            lambda query: tuple(dense.search_heads(query)),
            lambda query, asked: tuple(dense.search_heads_matching(query, wanted(asked))),
            lambda words: tuple(lexical.search_terms(as_terms(words))),
            lambda words, asked: tuple(lexical.search_terms_matching(as_terms(words), wanted(asked))),
        )
    ]
    unfiltered, filtered, unfiltered_words, filtered_words = searches

    def latency(search: Callable[..., Any], queries: list[tuple[tf.Tensor]], *asked: tf.Tensor) -> float:
        return median_ms(lambda i: search(*queries[i % len(queries)], *asked), ROUNDS)

    def line(name: str, matching: np.ndarray | None, *asked: tf.Tensor) -> list[Any]:
        search, search_words = (filtered, filtered_words) if asked else (unfiltered, unfiltered_words)
        found = np.concatenate([search(*query, *asked)[0].numpy() for query in by_heads])
        fewest = int(np.count_nonzero(found >= 0, axis=1).min())
        count = items if matching is None else len(matching)
        times = [latency(search, by_heads, *asked), latency(search_words, by_words, *asked)]
        return [name, f"{count:,}", recall(vectors, heads, found, matching), fewest, *times]

    lines = [line("-", None)]
    for column, values in columns(vectors).items():
        asked = tf.constant([b"0" if name == filter_input(column) else b"" for name in names])
        lines.append(line(column.replace("_", " "), np.flatnonzero(values == 0), asked))
    alone = lines[0][4:]
    rows = [[*each[:5], each[4] / alone[0], each[5], each[5] / alone[1]] for each in lines]
    headers = ["filter", "items that match", "recall", "found", "ms", "ratio", "words ms", "ratio"]
    formats = ["", "", "", "", ".2f", ".2f", ".2f", ".2f"]
    print(tabulate(rows, headers=headers, floatfmt=formats, disable_numparse=[0, 1, 2]))
    print(f"\nd = {DIMENSION}, K = {K}, {HEADS} heads, {index.describe()}")
    print(f"{platform.machine()}, {os.cpu_count()} cores")


def lexical_searcher(items: int, filters: Any) -> tuple[Any, list[np.ndarray]]:
    """A searcher of ``items`` random texts, and the terms of some queries, int32 [3] each."""
    from dpsr.indexing.lexical.searcher import LexicalSearcher
    from dpsr.ops_cc.bm25 import Bm25Field, build_bm25
    from dpsr.tokenizer_cc.terms import TermVocabularyBuilder

    rng = np.random.default_rng(4)
    splits = np.concatenate([[0], np.cumsum(rng.integers(4, 17, items))])
    weights = 1.0 / np.arange(1, TERMS + 1)
    terms = rng.choice(TERMS, splits[-1], p=weights / weights.sum()).astype(np.int32)
    builder = TermVocabularyBuilder()
    builder.add(["word"])  # queries are given as terms
    with tempfile.TemporaryDirectory() as directory:
        model = Path(directory) / "terms.model"
        builder.build().save(model)
        searcher = LexicalSearcher(build_bm25([Bm25Field(splits, terms)], TERMS), model, filters, k=K)
    return searcher, [terms[splits[item] : splits[item] + 3] for item in rng.integers(items, size=CHECKED)]


def columns(vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Value 0 of each column is the one that is asked for, which about the given share of items has."""
    rng = np.random.default_rng(3)
    found = {f"{share:.3%} at random": (rng.random(len(vectors)) >= share).astype(int) for share in SHARES}
    place = vectors[:, 0]
    for share in SHARES[:3]:
        found[f"{share:.3%} by place"] = (place > np.quantile(place, share)).astype(int)
    return {name.replace("%", " %"): values for name, values in found.items()}


def recall(vectors: np.ndarray, heads: np.ndarray, found: np.ndarray, matching: np.ndarray | None) -> str:
    from dpsr.indexing.dense.exact import kth_scores, recall_at_k

    among = vectors if matching is None else vectors[matching]
    k = min(K, len(among))
    return f"{recall_at_k(vectors, heads, found[:, :k], kth_scores(among, heads, k)):.4f}"


if __name__ == "__main__":
    main()
