"""The lexical searcher beside tantivy and bm25s: the same titles, terms and queries in the same run.

    python benchmarks/lexical.py                               # 1,000,000 titles, peers from this environment
    python benchmarks/lexical.py --peers OTHER/bin/python      # or from another one: pip install tantivy bm25s numba
    python benchmarks/lexical.py --items 15000000              # without bm25s

Titles are generated (``lexical_bench/titles.py``), of 4 to 30 words; queries have 1 to 8 words of a title, as often as
those of Home Depot's queries. Every engine gets the same ids of terms, K1 = 1.2, b = 0.75, and answers one query after
the other on one thread, for the best 1,000; the figures are of each query's faster round of two. All include the Python
call, dpsr's one of TensorFlow's eager operation. Every engine runs in a process of its own. All lists are compared: the
scores of the K best must be equal, up to a relative 2e-5.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from lexical_bench.titles import Titles
from tabulate import tabulate

K = 1000
ALL_PEERS_BELOW = 2_000_000
"""Titles above which bm25s is left out: it needs tens of gigabytes."""


def write_shop(folder: Path, items: int, queries: int) -> None:
    titles = Titles(items)
    offsets, terms = titles.draw()
    drawn = titles.queries(offsets, terms, queries)
    np.save(folder / "offsets.npy", offsets)
    np.save(folder / "terms.npy", terms)
    np.save(folder / "splits.npy", np.cumsum([0, *(len(query) for query in drawn)]))
    np.save(folder / "queries.npy", np.concatenate(drawn))
    np.save(folder / "num_terms.npy", titles.num_terms)


def measure(folder: Path) -> dict[str, Any]:
    """Builds and asks dpsr's index, in this process."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from dpsr.ops_cc.bm25 import Bm25Field, build_bm25, search_bm25

    offsets, terms, splits, queries, num_terms = (
        np.load(folder / f"{name}.npy") for name in ("offsets", "terms", "splits", "queries", "num_terms")
    )
    build_bm25([Bm25Field(offsets[:2], terms[: offsets[1]])], int(num_terms))  # loads the library
    begin, spent = time.perf_counter(), time.process_time()
    index = build_bm25([Bm25Field(offsets, terms)], int(num_terms))
    figures: dict[str, Any] = {"title": "dpsr", "build": time.perf_counter() - begin}
    figures |= {"build_cpu": time.process_time() - spent, "bytes": sum(array.nbytes for array in index)}
    figures["peak"] = peak_gb()
    del offsets, terms
    tensors = index.map(tf.constant)
    del index
    texts = []
    for first, last in pairwise(splits):
        terms_of_one = tf.RaggedTensor.from_row_lengths(queries[first:last], [last - first])
        texts.append((terms_of_one, tf.ones([last - first])))
    everything, nothing = tf.zeros([0, 0], tf.uint8), tf.zeros([0], tf.uint8)
    scores = np.zeros((len(texts), K), np.float32)
    figures |= {"elapsed": [], "processor": []}
    for turn in range(3):
        elapsed, processor = np.empty(len(texts)), np.empty(len(texts))
        for number, (query, weights) in enumerate(texts):
            begin, spent = time.perf_counter(), time.process_time()
            _, found = search_bm25(tensors, query, K, weights=weights, allowed=everything, removed=nothing)
            elapsed[number], processor[number] = time.perf_counter() - begin, time.process_time() - spent
            scores[number] = found[0]
        if turn > 0:
            figures["elapsed"].append(elapsed.tolist())
            figures["processor"].append(processor.tolist())
    np.save(folder / "dpsr.npy", scores)
    return figures


def peak_gb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e6


def run(command: list[str]) -> dict[str, Any] | None:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def compare(folder: Path, name: str) -> str:
    ours, theirs = np.load(folder / "dpsr.npy"), np.load(folder / f"{name}.npy")
    equal = np.isclose(ours, theirs, rtol=2e-5, atol=1e-6).all(axis=1)
    return f"{equal.sum():,} of {len(equal):,}"


def row(figures: dict[str, Any], ours: dict[str, Any], lists: str, clock: str) -> list[Any]:
    times, own = (1e3 * np.min(each[clock], axis=0) for each in (figures, ours))
    quantiles = [np.quantile(each, [0.5, 0.99]) for each in (times, own)]
    size = f"{figures['bytes'] / 1e6:,.0f}" if figures["bytes"] else "-"
    cells = [figures["title"], figures["build"], figures["build_cpu"], size]
    cells += [times.mean(), *quantiles[0], times.mean() / own.mean()]
    return [*cells, quantiles[0][1] / quantiles[1][1], lists]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--peers", default=sys.executable, help="a Python that has tantivy, bm25s and numba")
    parser.add_argument("--processor", action="store_true", help="processor time, for a machine that is not quiet")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    peers = ["tantivy", "bm25s"] if arguments.items < ALL_PEERS_BELOW else ["tantivy"]
    clock = "processor" if arguments.processor else "elapsed"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_shop(folder, arguments.items, arguments.queries)
        ours = run([sys.executable, __file__, "--measure", str(folder)])
        if ours is None:
            sys.exit("dpsr has failed")
        rows = [row(ours, ours, "", clock)]
        for name in peers:
            script = Path(__file__).parent / "lexical_bench" / "peers.py"
            theirs = run([arguments.peers, str(script), name, str(folder), str(K)])
            if theirs is None:
                print(f"left out: {name}, which {arguments.peers} does not run", file=sys.stderr)
                continue
            rows.append(row(theirs, ours, compare(folder, name), clock))
    headers = [f"{arguments.items:,} titles", "build s", "CPU s", "MB", "mean ms", "p50 ms", "p99 ms", "mean / dpsr"]
    print(tabulate(rows, [*headers, "p99 / dpsr", "equal lists"], floatfmt=".2f"))
    print(f"\nK = {K}, {arguments.queries:,} queries, {clock} time; {platform.machine()}, {os.cpu_count()} cores")
    print(f"memory: dpsr's peak while it builds is {ours['peak']:.1f} GB, documents and TensorFlow included")


if __name__ == "__main__":
    main()
