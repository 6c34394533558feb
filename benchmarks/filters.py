"""Filtered search beside the unfiltered one: latency and recall by how many items match.

    python benchmarks/filters.py                       # 1,000,000 items
    python benchmarks/filters.py --items 15000000 --precision int8

The vectors are those of ``index.py``, the index and its parameters are chosen as an export does. Filters ask for one
value of a column. "at random": values do not depend on the vectors. "by place": items are parted by their first
principal direction, so that of a value most matching items are far from most queries, as shoes are under a filter for
lamps. Recall is that of the K best matching items against an exact search among them; "found" is the least number of
items found for a query. Latencies are medians of one query on one core; "ratio" is to the search without a filter.
"""

from __future__ import annotations

import argparse
import os
import platform

import numpy as np
import pyarrow as pa
import tensorflow as tf
from index import CHECKED, DIMENSION, HEADS, QUERIES, K, clustered_vectors, median_ms
from tabulate import tabulate

SHARES = (0.5, 0.05, 0.005, 0.0005, 0.00005)
ROUNDS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--precision", choices=["float32", "int8"], default="float32")
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    from dpsr.indexing.dense.ann import Index
    from dpsr.indexing.dense.searcher import DenseSearcher
    from dpsr.indexing.filters import Filters
    from dpsr.indexing.signature import filter_input

    items = arguments.items
    vectors = clustered_vectors(items, seed=1)
    queries = clustered_vectors(QUERIES + HEADS * CHECKED, seed=2)
    table = pa.table({name: values.astype(str) for name, values in columns(vectors).items()})
    index = Index.build(vectors, K, queries=queries[:QUERIES], precision=arguments.precision)
    filters = Filters(table, table.column_names, [])
    dense = DenseSearcher(index, lambda features: features.tokens, filters)
    heads = queries[QUERIES:].reshape(CHECKED, HEADS, DIMENSION)
    singles = [tf.constant(query[np.newaxis]) for query in heads]

    @tf.function(input_signature=[tf.TensorSpec([None, HEADS, DIMENSION])], autograph=False)
    def unfiltered(batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return tuple(dense.search_heads(batch))

    names = list(filters.specs)

    @tf.function(
        input_signature=[tf.TensorSpec([None, HEADS, DIMENSION]), tf.TensorSpec([len(names)], tf.string)],
        autograph=False,
    )
    def filtered(batch: tf.Tensor, asked: tf.Tensor) -> tuple[tf.Tensor, ...]:
        inputs = dict(zip(names, tf.split(asked, len(names)), strict=True))
        return tuple(dense.search_heads_matching(batch, filters.requested(inputs, tf.shape(batch)[0])))

    alone = median_ms(lambda i: unfiltered(singles[i % len(singles)]), ROUNDS)
    lines = [
        ["-", f"{items:,}", f"{recall(vectors, heads, unfiltered(tf.constant(heads))[0].numpy(), None)}", K, alone, 1]
    ]
    for column, values in columns(vectors).items():
        asked = tf.constant([b"0" if name == filter_input(column) else b"" for name in names])
        matching = np.flatnonzero(values == 0)
        found = np.concatenate([filtered(single, asked)[0].numpy() for single in singles])
        latency = median_ms(lambda i, asked=asked: filtered(singles[i % len(singles)], asked), ROUNDS)
        fewest = int(np.count_nonzero(found >= 0, axis=1).min())
        line = [column.replace("_", " "), f"{len(matching):,}", recall(vectors, heads, found, matching), fewest]
        lines.append([*line, latency, latency / alone])
    headers = ["filter", "items that match", "recall", "found", "ms", "ratio"]
    print(tabulate(lines, headers=headers, floatfmt=("", "", "", "", ".2f", ".2f"), disable_numparse=[0, 1, 2]))
    print(f"\nd = {DIMENSION}, K = {K}, {HEADS} heads, {index.describe()}")
    print(f"{platform.machine()}, {os.cpu_count()} cores")


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
