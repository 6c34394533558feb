"""The memory searcher of a servable on real clicks: bestbuy_xbox of $DPSR_DATA, the last tenth of its log.

    python benchmarks/click_memory.py --out runs/click_memory --seeds 1 2 3

Every seed is a run of its own below --out: prepared, trained, and exported with ``[index.memory]`` over the clicks
before the test split. The servable is asked with and without its memory, beside the trained model and the baseline that
ranks by clicks of the same query before BM25 with popularity; half-life, weight and temperature are chosen on the valid
split. The table has MAP@5 (one clicked item a query) of each slice, and the servable with its memory minus each other
method, with 95 % intervals of a paired bootstrap over queries.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf
from servable_modes import ServableRetriever
from tabulate import tabulate

from dpsr.baselines.examples import load_examples
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.baselines.interfaces import Method
from dpsr.baselines.memory import ClickMemoryRetriever
from dpsr.baselines.two_tower import TwoTowerRetriever
from dpsr.config import load_config
from dpsr.data.dataset.tables import Dataset
from dpsr.data.raw.timestamps import Clock
from dpsr.evaluation.compare.benchmark_suite import benchmark_suite
from dpsr.evaluation.compare.comparison import compare
from dpsr.evaluation.report.machine import describe_machine
from dpsr.indexing.corpus import embed_items
from dpsr.indexing.manifest import read_manifest
from dpsr.indexing.signature import MEMORY_MODE
from dpsr.model.trained import load_model
from dpsr.ops_cc import library

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("DPSR_DATA", ROOT / ".." / "shared" / "data")).resolve()
MEASURE = "MAP@5"
SUBJECT = "servable, memory"
SLICES = ("all", "seen queries", "unseen queries", "one typo")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments = parser.parse_args()
    library.load_all()
    lines = [line for seed in arguments.seeds for line in measure(arguments.out / str(seed), seed)]
    print(tabulate(lines, headers=["seed", "slice", "method", MEASURE, "memory minus it"], tablefmt="github"))
    print(describe_machine())


def measure(run: Path, seed: int) -> list[list[str | int]]:
    run.mkdir(parents=True, exist_ok=True)
    config_path = run / "run.toml"
    recipe = (ROOT / "examples" / "bestbuy_xbox.toml").read_text(encoding="utf-8")
    config_path.write_text(recipe.replace("runs/bestbuy_xbox", str(run)), encoding="utf-8")
    dpsr = [sys.executable, "-m", "dpsr.cli"]
    of_run = ["-c", str(config_path), "--set", f"training.seed={seed}", "--set", "index.memory={}"]
    config = load_config(config_path, overrides=(f"training.seed={seed}", "index.memory={}"))
    if not (config.checkpoint_dir / "model.json").exists():
        for step in ("prepare", "train"):
            subprocess.run([*dpsr, step, *of_run], check=True)
    dataset = Dataset.load(config.dataset_dir)
    subprocess.run([*dpsr, "export", *of_run, "--log", str(write_past(dataset, run))], check=True)
    version = max(config.model_base_path.iterdir(), key=lambda path: int(path.name) if path.name.isdigit() else -1)
    print(f"seed {seed}: {read_manifest(version)['memory']}")
    servable = tf.saved_model.load(str(version))
    model = load_model(config, dataset)
    suite = benchmark_suite(["bm25+popularity"], dataset, seed=seed, progress=False)
    log = chain.from_iterable(dataset.interaction_blocks(split) for split in ("train", "valid"))
    backoff = suite.methods["bm25+popularity"]
    assert isinstance(backoff, ExhaustiveRetriever)
    methods: dict[str, Method] = {
        "clicks, then BM25 + popularity": ClickMemoryRetriever(dataset.query_texts().to_pylist(), log, backoff),
        "model, with its user": TwoTowerRetriever(model, dataset, embed_items(model, dataset, progress=False)),
        "servable, dense": ServableRetriever(servable, "dense", dataset),
        SUBJECT: ServableRetriever(servable, MEMORY_MODE, dataset),
    }
    examples = load_examples(dataset, "test", max_examples=config.evaluation.max_examples, seed=seed)
    found = compare(methods, dataset, examples, candidates=100, seed=seed, subject=SUBJECT, progress=False)
    minus = {(each.slice, each.baseline): each.metrics[MEASURE] for each in found.differences}
    lines: list[list[str | int]] = []
    for result in found.results:
        if result.slice not in SLICES:
            continue
        value = result.intervals[MEASURE]
        gain = minus.get((result.slice, result.retriever))
        shown = f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]" if gain else ""
        lines.append([seed, result.slice, result.retriever, f"{value.mean:.3f}", shown])
    return lines


def write_past(dataset: Dataset, run: Path) -> Path:
    """The clicks before the test split."""
    clicks = pq.read_table(DATA / "bestbuy_xbox" / "clicks.parquet")
    first = Clock.time(dataset.manifest["time"]["test"][0])
    times = clicks["query_time"].cast(pa.timestamp("us")).cast(pa.int64())
    path = run / "past.parquet"
    pq.write_table(clicks.filter(pc.less(times, first)), path)
    return path


if __name__ == "__main__":
    main()
