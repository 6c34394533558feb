"""A servable that answers by meaning and by words, beside its two sides alone: latency, memory, disk.

    python benchmarks/hybrid.py                        # 1,000,000 items
    python benchmarks/hybrid.py --items 15000000 --precision int8

A query brings its two heads of 64 numbers and its words, so the towers are foreign ones. Vectors are those of
``index.py``, titles and queries those of ``lexical_bench``. Two servables are exported, dense and hybrid, and each is
loaded in a process of its own with one thread. Latencies are of ``serving_default`` with one query, from the text and
the heads to the ids of the best K; the modes of a servable take turns. "over the sum" is the hybrid's mean over the sum
of those of its two sides.
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
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from index import DIMENSION, HEADS, K, clustered_vectors, peak_gb
from lexical_bench.titles import Titles
from tabulate import tabulate

QUERIES, ROUNDS = 512, 4
MODES = ("dense", "lexical", "hybrid")


def titles_and_queries(items: int) -> tuple[pa.Array, list[str]]:
    """A title for every item, and queries of words of titles."""
    titles = Titles(items)
    offsets, terms = titles.draw()
    queries = [" ".join(f"w{term}" for term in query) for query in titles.queries(offsets, terms, QUERIES)]
    parts = []
    for start in range(0, items, 1 << 20):
        end = min(start + (1 << 20), items)
        words = pc.binary_join_element_wise("w", pa.array(terms[offsets[start] : offsets[end]]).cast(pa.string()), "")
        lists = pa.ListArray.from_arrays(pa.array((offsets[start : end + 1] - offsets[start]).astype(np.int32)), words)
        parts.append(pc.binary_join(lists, " "))
    return pa.chunked_array(parts), queries


def export(items: int, precision: str, mode: str, folder: Path) -> dict[str, Any]:
    """Exports a servable; its figures."""
    import tensorflow as tf

    from dpsr.indexing.towers import export_towers

    class Heads(tf.Module):
        """The query tower: the heads are the input."""

        def __call__(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
            return tf.reshape(inputs["heads"], [-1, HEADS, DIMENSION])

    titles, queries = titles_and_queries(items)
    vectors = clustered_vectors(items, seed=1, path=folder / "vectors.npy")
    heads = clustered_vectors(QUERIES * HEADS, seed=2).reshape(QUERIES, HEADS * DIMENSION)
    table = pa.table({"item_id": pa.array(np.arange(items)), "title": titles})
    examples = {"heads": heads} | ({"words": np.array(queries)} if mode == "hybrid" else {})
    np.savez(folder / "queries.npz", heads=heads, words=np.array(queries))
    texts: dict[str, Any] = {}
    if mode == "hybrid":
        # The weighted sum asks each side for the scores of the other's items too; ranks alone would cost less.
        texts = {"text": ["title"], "text_input": "words", "fusion": "weighted_sum"}
    begin, spent = time.perf_counter(), time.process_time()
    export_towers(
        Heads(),
        table,
        base_path=folder / mode,
        queries=examples,
        item_vectors=vectors,
        k=K,
        precision=precision,
        progress=False,
        **texts,
    )
    used = sum(path.stat().st_size for path in (folder / mode).rglob("*") if path.is_file())
    seconds = time.perf_counter() - begin
    return {"export_s": seconds, "export_cpu_s": time.process_time() - spent, "disk": used / 1e9, "peak": peak_gb()}


def ask(folder: Path, mode: str) -> dict[str, Any]:
    """Loads a servable and asks it in all of its modes; milliseconds of every query by mode."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from dpsr.ops_cc import library

    library.load_all()
    loaded = tf.saved_model.load(str(folder / mode / "1"))
    answer, read = loaded.signatures["serving_default"], np.load(folder / "queries.npz")
    inputs = [{"heads": tf.constant(heads[np.newaxis])} for heads in read["heads"]]
    modes = MODES if mode == "hybrid" else ("dense",)
    if mode == "hybrid":
        for given, words in zip(inputs, read["words"], strict=True):
            given["words"] = tf.constant([str(words)])
    asked = {name: {"mode": tf.constant([name])} if mode == "hybrid" else {} for name in modes}
    found: dict[str, list[float]] = {name: [] for name in modes}
    for turn in range(ROUNDS + 1):
        for given in inputs:
            for name in modes:
                begin = time.perf_counter()
                answer(**given, **asked[name])
                if turn:
                    found[name].append(1000 * (time.perf_counter() - begin))
    return {"modes": found, "loaded": peak_gb()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--precision", choices=["float32", "int8"], default="float32")
    parser.add_argument("--folder", type=Path, help="keeps the servables for another run")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        what, mode = arguments.part
        if what == "export":
            print(json.dumps(export(arguments.items, arguments.precision, mode, arguments.folder)))
        else:
            print(json.dumps(ask(arguments.folder, mode)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        print(compare(arguments.items, arguments.precision, folder))
    print(f"\nd = {DIMENSION}, {HEADS} heads, K = {K}, {arguments.precision}, one thread;", end=" ")
    print(f"{platform.machine()}, {os.cpu_count()} cores")


def compare(items: int, precision: str, folder: Path) -> str:
    """The table of both servables."""
    rows = []
    for mode in ("dense", "hybrid"):
        kept = folder / f"{mode}.json"
        if not kept.exists():
            kept.write_text(json.dumps(part(items, precision, folder, "export", mode)))
        figures = json.loads(kept.read_text()) | part(items, precision, folder, "ask", mode)
        means = {name: float(np.mean(values)) for name, values in figures["modes"].items()}
        for name, values in figures["modes"].items():
            of_sum = f"{means[name] / (means['dense'] + means['lexical']):.2f}" if name == "hybrid" else ""
            of_servable = [f"{figures[key]:.2f}" for key in ("disk", "loaded", "peak", "export_s", "export_cpu_s")]
            spread = [f"{value:.2f}" for value in (means[name], *np.percentile(values, [50, 99]))]
            rows.append([mode, name, *spread, of_sum, *(of_servable if name == mode else [""] * 5)])
    headers = [f"{items:,} items", "mode", "mean ms", "p50 ms", "p99 ms", "over the sum"]
    headers += ["disk GB", "loaded GB", "exporting GB", "export s", "CPU s"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def part(items: int, precision: str, folder: Path, what: str, mode: str) -> dict[str, Any]:
    """What a process of its own prints."""
    command = [sys.executable, __file__, "--items", str(items), "--precision", precision, "--folder", str(folder)]
    done = subprocess.run([*command, "--part", what, mode], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
