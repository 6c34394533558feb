"""Latency and recall of the index by the size of the catalogue, one query on one core.

    python benchmarks/index.py                               # 5,000 to 1,000,000 items
    python benchmarks/index.py --items 15000000 --precision int8     # what `make bench-large` runs

The vectors are synthetic: unit vectors in clusters, of a lower rank than their dimension, as those of trained towers.
Every size runs in a process of its own, whose peak memory is measured. "heads" is a search by two heads and the merge
of their lists, as in a servable. The recall is measured on queries that the parameters were not chosen on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

SIZES = (5_000, 20_000, 200_000, 1_000_000)
DIMENSION, HEADS, K, RANK, CLUSTERS = 64, 2, 1000, 16, 1000
QUERIES, CHECKED = 256, 64
ROUNDS = 200
CHUNK = 1 << 19


def clustered_vectors(count: int, seed: int, path: Path | None = None) -> np.ndarray:
    """float32 [count, DIMENSION], unit vectors, in memory or in a memory-mapped file, as in an export.

    Queries and items of different seeds share the clusters.
    """
    space = np.random.default_rng(99)
    basis = space.normal(size=(RANK, DIMENSION)).astype(np.float32)
    centers = space.normal(size=(CLUSTERS, RANK)).astype(np.float32)
    shape = (count, DIMENSION)
    vectors = (
        np.empty(shape, np.float32)
        if path is None
        else np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    )
    rng = np.random.default_rng(seed)
    for start in range(0, count, CHUNK):
        part = vectors[start : start + CHUNK]
        latent = centers[rng.integers(CLUSTERS, size=len(part))]
        latent += 0.5 * rng.standard_normal(latent.shape, np.float32)
        np.matmul(latent, basis, out=part)
        part += 0.2 * rng.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def median_ms(call: Callable[[int], Any], rounds: int) -> float:
    for number in range(5):
        call(number)
    seconds = []
    for number in range(rounds):
        start = time.perf_counter()
        call(number)
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds)


def measure(items: int, precision: str, target: float) -> dict[str, Any]:
    """Builds, searches and saves one index in this process, and loads it in another."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    from dpsr.indexing.dense.ann import Index

    queries = clustered_vectors(QUERIES + HEADS * CHECKED, seed=2)
    with tempfile.TemporaryDirectory() as directory:
        vectors = clustered_vectors(items, seed=1, path=Path(directory) / "vectors.npy")
        start, processor = time.perf_counter(), time.process_time()
        index = Index.build(vectors, K, queries=queries[:QUERIES], target_recall=target, precision=precision)
        figures = {"items": items, "plan": index.describe(), "build_s": time.perf_counter() - start}
        figures |= {"build_cpu_s": time.process_time() - processor, "peak_of_build_gb": peak_gb()}
        print(figures, file=sys.stderr, flush=True)
        figures |= search(index, vectors, queries[QUERIES:].reshape(CHECKED, HEADS, DIMENSION))
        servable = Path(directory) / "servable"
        tf.saved_model.save(index, servable, options=tf.saved_model.SaveOptions(namespace_whitelist=["Scann"]))
        index.release()
        del vectors, index
        figures["disk_gb"] = sum(path.stat().st_size for path in servable.rglob("*") if path.is_file()) / 1e9
        loaded = subprocess.run([sys.executable, "-c", LOADS, servable], check=True, capture_output=True, text=True)
        figures["peak_of_server_gb"] = float(loaded.stdout.splitlines()[-1])
    return figures


def search(index: Any, vectors: np.ndarray, heads: np.ndarray) -> dict[str, Any]:
    """Latencies and the recall of both heads together; heads float32 [n, HEADS, DIMENSION]."""
    import tensorflow as tf

    from dpsr.indexing.dense.exact import kth_scores, recall_at_k
    from dpsr.ops_cc.head_merge import merge_heads

    @tf.function(input_signature=[tf.TensorSpec([None, HEADS, DIMENSION])], autograph=False)
    def by_heads(batch: tf.Tensor) -> Any:
        rows, scores = index.search(tf.reshape(batch, [-1, DIMENSION]))
        return merge_heads(tf.reshape(rows, [-1, HEADS, K]), tf.reshape(scores, [-1, HEADS, K]), K)

    singles = [tf.constant(query[:1]) for query in heads]
    doubles = [tf.constant(query[np.newaxis]) for query in heads]
    start = time.perf_counter()
    by_heads(doubles[0])  # builds the searcher from its tensors, as a server's first request
    first = time.perf_counter() - start
    checked = heads[: 32 if len(vectors) > 2_000_000 else None]
    found = by_heads(tf.constant(checked))[0].numpy()
    return {
        "first_s": first,
        "recall": recall_at_k(vectors, checked, found, kth_scores(vectors, checked, K)),
        "one_ms": median_ms(lambda i: index.search(singles[i % len(singles)]), ROUNDS),
        "heads_ms": median_ms(lambda i: by_heads(doubles[i % len(doubles)]), ROUNDS),
    }


LOADS = """
import sys
import tensorflow as tf
from dpsr.ops_cc import library
library.load_all()
loaded = tf.saved_model.load(sys.argv[1])
loaded.search(tf.zeros([1, 64]))
print(int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) / 1e6)
"""


def peak_gb() -> float:
    """Peak resident memory of this process; ``getrusage`` would include its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e6


def row(figures: dict[str, Any]) -> list[str]:
    plan = figures["plan"]
    leaves = f"{plan['leaves_to_search']:,} of {plan['num_leaves']:,}" if "num_leaves" in plan else "-"
    return [
        f"{figures['items']:,}",
        plan["kind"],
        leaves,
        f"{plan.get('reorder', 0):,}" if "reorder" in plan else "-",
        f"{figures['recall']:.4f}",
        *(f"{figures[name]:.2f}" for name in ("one_ms", "heads_ms")),
        *(
            f"{figures[name]:.1f}"
            for name in ("build_s", "build_cpu_s", "first_s", "peak_of_build_gb", "peak_of_server_gb", "disk_gb")
        ),
    ]


HEADERS = ["items", "index", "leaves", "reorder", f"recall@{K}", "one head ms", "heads ms"]
HEADERS += ["build s", "CPU s", "first call s", "building GB", "loaded GB", "disk GB"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=SIZES)
    parser.add_argument("--precision", choices=["float32", "int8"], default="float32")
    parser.add_argument("--target-recall", type=float, default=0.95)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.precision, arguments.target_recall)))
        return
    rows = []
    for items in arguments.items:
        command = [sys.executable, str(Path(__file__)), "--measure", str(items), "--precision", arguments.precision]
        command += ["--target-recall", str(arguments.target_recall)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"{items:,} items: exit code {done.returncode}")
        rows.append(row(json.loads(done.stdout.splitlines()[-1])))
        print(f"{items:,} items done", file=sys.stderr)
    print(tabulate(rows, headers=HEADERS, disable_numparse=True, stralign="right"))
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    print(f"\nd = {DIMENSION}, K = {K}, {HEADS} heads, {arguments.precision}; {machine}")
    print("memory: the peak of the process that builds, vectors included, and of one that loads the index and searches")


if __name__ == "__main__":
    main()
