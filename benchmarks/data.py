"""Datasets beside flat files: size and speed of training data, speed and memory of ``prepare`` and the generator.

    python benchmarks/data.py                              # 100 k items, 200 k users, 5 M interactions; some minutes
    python benchmarks/data.py --interactions 500000        # a quick look

An interaction is a row of the log: a click, a purchase or a skip. The log is generated, four times as long as asked
for, in parts of a quarter: a part, four and sixteen of them are prepared. "Flat" is the same training data without
tables: a TFRecord of one ``tf.train.Example`` for each interaction with everything that a row of a batch holds (token
ids of query and item, item columns, user profile, the last items of the history). Its size is the mean of a random
sample; its speed is ``TFRecordDataset.batch(1024).map(parse_example)`` over that sample, with ``shuffle`` over as many
examples as the join mixes, 65,536, and as they lie in the file. The join reads shuffled interactions from the dataset
directory and gives the same batches, without or with random negatives.
Batches are taken inside a ``tf.function``, as training does. Rounds take turns; a figure is their median. Other work
on the machine changes wall time: processor time stands beside.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pyarrow as pa
from tabulate import tabulate

from dpsr.config import parse_config

PARTS = (1, 4, 16)
ASKED = 4
"""Files of a log of the length that was asked for."""
BATCH = 1024
HISTORY = 20
WINDOW = 65_536
STEPS = 64
"""Planned steps of one call."""
PEER = "flat TFRecord"


class Stopwatch:
    """Wall and processor seconds of this process since the start."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {"wall": time.perf_counter() - self._start[0], "cpu": time.process_time() - self._start[1]}


def generate(folder: Path, items: int, users: int, part_rows: int) -> dict[str, Any]:
    """A shop whose log has sixteen files; seconds of the catalogue, and of the log after each file."""
    from dpsr.data.demo_shop.sessions import Sessions
    from dpsr.data.demo_shop.shop import write_tables
    from dpsr.data.demo_shop.world import item_tables, make_catalogue, make_users, user_tables

    random = np.random.default_rng(1)
    watch = Stopwatch()
    catalogue = make_catalogue(items, random)
    write_tables(folder / "items.parquet", item_tables(catalogue, random))
    catalogue_seconds = watch.read()
    people = make_users(users, random)
    write_tables(folder / "users.parquet", user_tables(people))
    watch = Stopwatch()
    tables = Sessions(catalogue, people, random).tables(clicks=PARTS[-1] * part_rows, sessions=None)
    seconds, memory = [], []
    for part in range(PARTS[-1]):
        write_tables(folder / f"log-{part:02d}.parquet", rows_of(tables, part_rows))
        seconds.append(watch.read())
        memory.append(peak_megabytes())
    return {"catalogue": catalogue_seconds, "log": seconds, "peak": memory}


def rows_of(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The first ``count`` rows; the rest of the last table is dropped."""
    for table in tables:
        yield table.slice(0, rows)
        rows -= len(table)
        if rows <= 0:
            return


def prepare(folder: Path, parts: int) -> dict[str, Any]:
    from dpsr.data.prepare.job import prepare as run

    logs = folder / f"logs-{parts}"
    logs.mkdir()
    for part in range(parts):
        (logs / f"{part:02d}.parquet").symlink_to(folder / f"log-{part:02d}.parquet")
    data = {
        "items": {"path": str(folder / "items.parquet"), "categorical": ["brand", "category", "department"]},
        "users": {"path": str(folder / "users.parquet"), "profile": ["gender", "age_band", "purchase_power"]},
        "interactions": {"path": str(logs / "*.parquet")},
    }
    config = parse_config({"name": "bench", "work_dir": str(folder / f"work-{parts}"), "data": data}, "benchmark")
    watch = Stopwatch()
    root = run(config, progress=False)
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    return watch.read() | {"peak": peak_megabytes(), "bytes": size, "dataset": str(root)}


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_flat(path: Path, dataset: Any, examples: int) -> dict[str, float]:
    """Writes a random sample of the log as flat examples; mean bytes of one, and of one with its history's tokens."""
    import tensorflow as tf

    def integers(values: Any) -> Any:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    records = np.concatenate([*map(dataset.interactions, ("train", "valid", "test")), dataset.skips()])
    records = np.random.default_rng(1).choice(records, min(examples, len(records)), replace=False)
    with_features = 0
    with tf.io.TFRecordWriter(str(path)) as writer:
        for query, user, item, event, end in records.tolist():
            past = dataset.history[user][max(0, end - HISTORY) : end] if user >= 0 else []
            features = {
                "query": integers(dataset.query_tokens[query]),
                "item": integers(dataset.item_tokens[item]),
                "history": integers(past),
                "event": integers([event]),
            }
            features |= {name: integers([ids[item]]) for name, ids in dataset.item_categorical.items()}
            features |= {name: integers([ids[user] if user >= 0 else 0]) for name, ids in dataset.user_profile.items()}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
            features["history_tokens"] = integers(
                np.concatenate([np.empty(0, int), *map(dataset.item_tokens.__getitem__, past)])
            )
            with_features += tf.train.Example(features=tf.train.Features(feature=features)).ByteSize() + 16
    return {"flat": path.stat().st_size / len(records), "flat+": with_features / len(records), "records": len(records)}


def flat_batches(path: Path, dataset: Any, shuffled: int) -> Any:
    import tensorflow as tf

    spec: dict[str, Any] = {
        name: tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64) for name in ("query", "item", "history")
    }
    columns = ("event", *dataset.item_categorical, *dataset.user_profile)
    spec |= {name: tf.io.FixedLenFeature([], tf.int64) for name in columns}
    texts = tf.data.TFRecordDataset(str(path))
    if shuffled:
        texts = texts.shuffle(shuffled, seed=1)
    batches = texts.batch(BATCH, drop_remainder=True)
    parsed = batches.map(lambda texts: tf.io.parse_example(texts, spec), num_parallel_calls=tf.data.AUTOTUNE)
    return parsed.prefetch(tf.data.AUTOTUNE)


def compare_batches(folder: Path, dataset_dir: str, sample: int, rounds: int) -> dict[str, Any]:
    from dpsr.data.batches.batch import BatchMaker
    from dpsr.data.batches.features import FeatureTables
    from dpsr.data.batches.steps import LogBatches
    from dpsr.data.dataset.schema import split_file
    from dpsr.data.dataset.tables import Dataset

    dataset = Dataset.load(dataset_dir)
    flat = write_flat(folder / "flat.tfrecord", dataset, sample)
    tables = FeatureTables(dataset, HISTORY)

    def joined(negatives: int) -> Callable[[], int]:
        maker = BatchMaker(tables, batch_size=BATCH, random_negatives=negatives, num_items=dataset.schema.num_items)
        return counting_planned(LogBatches(maker, dataset.directory / split_file("train")))

    runs: dict[str, Callable[[], Callable[[], Any]]] = {
        PEER: lambda: counting(flat_batches(folder / "flat.tfrecord", dataset, WINDOW)),
        f"{PEER}, not shuffled": lambda: counting(flat_batches(folder / "flat.tfrecord", dataset, 0)),
        "join of query, user and item": lambda: joined(0),
        f"join, and {BATCH} random negatives a batch": lambda: joined(BATCH),
    }
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for _ in range(rounds + 1):  # the first warms up
        for name, make in runs.items():
            consume = make()
            watch = Stopwatch()
            count = BATCH * int(consume())
            figures[name].append({kind: count / seconds for kind, seconds in watch.read().items()})
    speeds = {
        name: {kind: statistics.median(run[kind] for run in found[1:]) for kind in ("wall", "cpu")}
        for name, found in figures.items()
    }
    return flat | {"speeds": speeds}


def counting(batches: Any) -> Callable[[], Any]:
    """A graph that takes all batches and returns their number."""
    import tensorflow as tf

    return tf.function(lambda: batches.reduce(np.int64(0), lambda count, _: count + 1)).get_concrete_function()


def counting_planned(source: Any) -> Callable[[], int]:
    """Makes all batches of an epoch in calls of ``STEPS`` planned steps each; returns their number."""
    import tensorflow as tf

    from dpsr.data.batches.steps import plan_tensors

    def count(plan: Any, steps: tf.Tensor) -> tf.Tensor:
        batches = tf.data.Dataset.range(steps).map(source.batches(plan), num_parallel_calls=tf.data.AUTOTUNE)
        return batches.reduce(np.int64(0), lambda count, _: count + 1)

    call = tf.function(count).get_concrete_function(source.spec, tf.TensorSpec([], tf.int64))
    epoch = source.epoch(1, 0)

    def consume() -> int:
        found = 0
        for first in range(0, source.steps, STEPS):
            steps = min(STEPS, source.steps - first)
            found += int(call(plan_tensors(epoch.steps(first, steps)), tf.constant(steps, tf.int64)))
        return found

    return consume


def step(*arguments: object) -> dict[str, Any]:
    """One step in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, __file__, "--step", *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    if sys.argv[1:2] == ["--step"]:
        name, folder, *rest = sys.argv[2:]
        if name == "generate":
            result = generate(Path(folder), *map(int, rest))
        elif name == "prepare":
            result = prepare(Path(folder), int(rest[0]))
        else:
            result = compare_batches(Path(folder), rest[0], int(rest[1]), int(rest[2]))
        print(json.dumps(result))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--interactions", type=int, default=5_000_000)
    parser.add_argument("--sample", type=int, default=200_000, help="flat examples that are written and read")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", type=Path, help="where to work; the default is a temporary directory")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, load {load:.1f} at the start")
    print(f"{options.items:,} items, {options.users:,} users, {options.interactions:,} interactions\n")
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        report(Path(name), options)


def report(folder: Path, options: argparse.Namespace) -> None:
    part = options.interactions // ASKED
    made = step("generate", folder, options.items, options.users, part)
    prepared = {parts: step("prepare", folder, parts) for parts in PARTS}
    asked = prepared[ASKED]
    found = step("batches", folder, asked["dataset"], options.sample, options.rounds)
    flat, flat_features = found["flat"] * part * ASKED, found["flat+"] * part * ASKED
    rows = [
        ("dataset directory", f"{asked['bytes'] / 1e6:,.0f} MB", ""),
        (PEER, f"{flat / 1e6:,.0f} MB", f"{found['flat']:.0f} bytes an example"),
        ("dataset / flat", f"{asked['bytes'] / flat:.1%}", "bar: 5 %"),
        ("dataset / flat with the tokens of the history's items", f"{asked['bytes'] / flat_features:.1%}", ""),
    ]
    print(tabulate(rows, headers=["size", "", ""]), end="\n\n")

    peer = found["speeds"][PEER]
    speeds = [
        (name, f"{speed['wall'] / 1e3:,.0f} k", f"{speed['wall'] / peer['wall']:.1f} x", f"{speed['cpu'] / 1e3:,.0f} k")
        for name, speed in found["speeds"].items()
    ]
    headers = [f"batches of {BATCH}, history of {HISTORY}", "examples/s", "bar: 4 x, 1,500 k", "per processor second"]
    print(tabulate(speeds, headers=headers), end="\n\n")

    log, catalogue = made["log"], made["catalogue"]
    rates = [
        ("generator: items", options.items, catalogue, "100 k", ""),
        ("generator: interactions", part * PARTS[-1], log[-1], "200 k", f"{made['peak'][-1]:,.0f} MB"),
    ]
    for parts, seconds in prepared.items():
        bar = "300 k, 1,500 MB" if parts == ASKED else ""
        rates.append(
            (f"prepare: {part * parts:,} interactions", part * parts, seconds, bar, f"{seconds['peak']:,.0f} MB")
        )
    cells = [
        (name, f"{count / time_['wall'] / 1e3:,.0f} k", f"{count / time_['cpu'] / 1e3:,.0f} k", peak, bar)
        for name, count, time_, bar, peak in rates
    ]
    print(tabulate(cells, headers=["", "rows/s", "per processor second", "peak", "bar"]), end="\n\n")

    costs = []
    for name, at in (
        ("generator", {parts: log[parts - 1] for parts in PARTS}),
        ("prepare", prepared),
    ):
        for kind in ("wall", "cpu"):
            low = (at[4][kind] - at[1][kind]) / 3 / part
            high = (at[16][kind] - at[4][kind]) / 12 / part
            costs.append((name, kind, f"{low * 1e6:.2f}", f"{high * 1e6:.2f}", f"{high / low - 1:+.0%}"))
    headers = ["microseconds for one more interaction", "", "N to 4 N", "4 N to 16 N", "bar: 15 %"]
    print(tabulate(costs, headers=headers))
    print(
        f"N = {part:,}; peak of the generator after N, 4 N, 16 N:", *(f"{made['peak'][n - 1]:,.0f} MB" for n in PARTS)
    )


if __name__ == "__main__":
    main()
