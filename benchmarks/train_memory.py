"""Peak memory of ``dpsr train`` by the number of records of the log; everything else stays the same.

    python benchmarks/train_memory.py                                       # 10, 40 and 100 M records; some minutes
    python benchmarks/train_memory.py --records 1000000 4000000             # a quick look
    python benchmarks/train_memory.py --loss mask_clicked=true --loss hard_negatives=5

A dataset of N records to train on is written directly: the tables are those of one small shop that ``dpsr prepare``
has read; the splits (valid and test of N / 20 records), the skips (N / 10) and the histories (N items) are random.
``dpsr train`` then runs as a process of its own: start-up, one pass over the catalogue, validation, a checkpoint, and
steps of the log. An epoch of 100 M examples takes hours, so the process is killed before its end: when a checkpoint of
the log's steps is there, and the peak has risen by less than 1 % for ``--flat`` seconds.

"Peak" is VmHWM, all pages in memory. Among them are pages of mapped files (the log, the histories, the clicked items),
which the kernel drops when memory is short. "Own" is the peak of RssAnon, memory of the process alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tabulate import tabulate

from dpsr.config import Config, parse_config
from dpsr.data.dataset.bag_files import BagsWriter
from dpsr.data.dataset.directory import sha256
from dpsr.data.dataset.records import Layout, write_records
from dpsr.data.dataset.schema import INTERACTION, MANIFEST_FILE, SKIP, SKIPS_FILE, split_file
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare

ITEMS, USERS, QUERIES = 50_000, 200_000, 200_000
AT_ONCE = 1 << 20
BAR_GIB = 2.5
POLL_SECONDS = 0.02


def prepare_tables(folder: Path) -> Dataset:
    """A dataset of ``ITEMS``, ``USERS`` and ``QUERIES`` with one interaction for each query."""
    random = np.random.default_rng(1)
    words = np.array([f"word{number}" for number in range(20_000)])
    titles = words[(len(words) * random.random((ITEMS, 6)) ** 2).astype(int)]
    items = {
        "item_id": [f"i{row}" for row in range(ITEMS)],
        "title": [" ".join(title) for title in titles],
        "brand": [f"b{row % 300}" for row in range(ITEMS)],
    }
    pq.write_table(pa.table(items), folder / "items.parquet")
    pq.write_table(
        pa.table({"user_id": [f"u{row}" for row in range(USERS)], "age": [f"{row % 9}" for row in range(USERS)]}),
        folder / "users.parquet",
    )
    item = random.integers(0, ITEMS, QUERIES)
    log = {
        "query": [f"{' '.join(titles[row][:2])} {number}" for number, row in enumerate(item)],
        "item_id": [f"i{row}" for row in item],
        "user_id": [f"u{row}" for row in random.integers(0, USERS, QUERIES)],
    }
    pq.write_table(pa.table(log), folder / "log.parquet")
    return Dataset.load(prepare(configuration(folder, folder / "tables", []), progress=False))


def configuration(folder: Path, work_dir: Path, loss: list[str]) -> Config:
    tree: dict[str, Any] = {
        "name": "memory",
        "work_dir": str(work_dir),
        "data": {
            "items": {"path": str(folder / "items.parquet"), "categorical": ["brand"]},
            "users": {"path": str(folder / "users.parquet"), "profile": ["age"]},
            "interactions": {"path": str(folder / "log.parquet")},
        },
        "model": {"history_length": 10},
        "loss": {key: json.loads(value) for key, _, value in (setting.partition("=") for setting in loss)},
        "pretraining": {"epochs": 1},
        "training": {"batch_size": 1024, "epochs": 1, "checkpoint_every": 100, "typo_share": 0.05},
    }
    return parse_config(tree, "benchmark")


def write_dataset(tables: Dataset, target: Path, records: int) -> int:
    """Writes a dataset with the given tables and ``records`` records to train on; the bytes that grow with them."""
    shutil.copytree(tables.directory, target)
    schema = tables.schema
    random = np.random.default_rng(2)
    lengths = np.full(USERS, records // USERS, dtype=np.int64)
    lengths[: records % USERS] += 1
    history = BagsWriter(target / "users", "history", USERS)
    users_at_once = max(1, AT_ONCE * USERS // max(records, 1))
    for first in range(0, USERS, users_at_once):
        users = np.arange(first, min(first + users_at_once, USERS))
        rows = np.repeat(users, lengths[users])
        history.add(rows, random.integers(0, ITEMS, len(rows)))
    layout = Layout.of(queries=schema.num_queries, users=USERS, items=ITEMS, longest_history=history.close())

    def made(count: int, event: int) -> Iterator[np.ndarray]:
        for start in range(0, count, AT_ONCE):
            part = np.zeros(min(AT_ONCE, count - start), INTERACTION)
            # A few queries have most of the clicks, each on some thousand items.
            part["query"] = (schema.num_queries * random.random(len(part)) ** 4).astype(np.int32)
            part["item"] = (part["query"] * 7919 + 5000 * random.random(len(part)) ** 3).astype(np.int64) % ITEMS
            part["user"] = random.integers(-1, USERS, len(part))
            known = np.maximum(part["user"], 0)
            part["history_end"] = np.where(part["user"] < 0, 0, random.random(len(part)) * lengths[known])
            part["event"] = event
            yield part

    counts = {"train": records, "valid": records // 20, "test": records // 20, "skips": records // 10}
    files = {name: split_file(name) for name in ("train", "valid", "test")} | {"skips": SKIPS_FILE}
    for name, file in files.items():
        write_records(target / file, layout, made(counts[name], SKIP if name == "skips" else 1))
    manifest = json.loads((target / MANIFEST_FILE).read_text())
    manifest["counts"] |= counts
    changed = [*files.values(), "users/history.values.npy", "users/history.row_splits.npy"]
    manifest["files"] |= {
        file: {"bytes": (target / file).stat().st_size, "sha256": sha256(target / file)} for file in changed
    }
    (target / MANIFEST_FILE).write_text(json.dumps(manifest))
    return sum((target / file).stat().st_size for file in changed)


def train(config: Config, folder: Path, flat: float) -> dict[str, float]:
    """Runs ``dpsr train`` until its memory is flat in the steps of the log; MiB and seconds."""
    path = folder / "config.json.toml"
    path.write_text(_toml(config))
    log = (folder / "train.log").open("wb")
    command = [sys.executable, "-m", "dpsr.cli", "train", "--no-resume", "-c", str(path)]
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    started, own, peak, rose_at, first_step = time.monotonic(), 0, 0, time.monotonic(), 0.0
    steps_before = -(-ITEMS // config.training.batch_size)
    step = 0
    try:
        while True:
            now = time.monotonic()
            status = _status(process.pid)
            if process.poll() is not None or not status:
                raise SystemExit(f"dpsr train ended:\n{(folder / 'train.log').read_text()[-3000:]}")
            own = max(own, status["RssAnon"])
            if status["VmHWM"] > 1.01 * peak:
                peak, rose_at = status["VmHWM"], now
            step = max([step, *_checkpoints(config.checkpoint_dir)])
            if step > steps_before:
                first_step = first_step or now - started
                if now - rose_at > flat:
                    break
            time.sleep(POLL_SECONDS)
        return {
            "peak": status["VmHWM"] / 1024,
            "own": own / 1024,
            "start": first_step,
            "steps": step - steps_before,
        }
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        log.close()


def _status(pid: int) -> dict[str, int]:
    """Memory of a process in KiB; nothing after its end."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    pairs = (line.split(":") for line in text.splitlines() if line.startswith(("VmHWM", "RssAnon")))
    return {name: int(value.split()[0]) for name, value in pairs}


def _checkpoints(directory: Path) -> list[int]:
    return [int(path.stem.rpartition("-")[2]) for path in directory.glob("ckpt-*.index")]


def _toml(config: Config) -> str:
    """A configuration as TOML; its tables are one level of inline JSON-like values deep."""

    def value(found: Any) -> str:
        if isinstance(found, dict):
            return "{" + ", ".join(f"{json.dumps(key)} = {value(each)}" for key, each in found.items()) + "}"
        return "[" + ", ".join(map(value, found)) + "]" if isinstance(found, list) else json.dumps(found)

    tree = config.model_dump(mode="json", exclude_none=True, exclude_unset=True)
    return "".join(f"{key} = {value(each)}\n" for key, each in tree.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=[10_000_000, 40_000_000, 100_000_000])
    parser.add_argument("--loss", action="append", default=[], metavar="KEY=VALUE", help="a key of [loss]; repeatable")
    parser.add_argument("--flat", type=float, default=10.0, help="seconds without a rise after which a run is ended")
    parser.add_argument("--dir", type=Path, help="where to work, 15 bytes a record; by default in the temporary folder")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        folder = Path(name)
        tables = prepare_tables(folder)
        for records in options.records:
            work_dir = folder / f"work-{records}"
            config = configuration(folder, work_dir, options.loss)
            size = write_dataset(tables, config.dataset_dir, records)
            found = train(config, folder, options.flat)
            shutil.rmtree(work_dir)
            rows.append(
                (
                    f"{records:,}",
                    f"{size / 1e6:,.0f} MB",
                    f"{found['start']:.0f} s",
                    f"{found['steps']:,.0f}",
                    f"{found['own']:,.0f} MiB",
                    f"{found['peak']:,.0f} MiB",
                    f"{BAR_GIB} GiB",
                )
            )
            print(*rows[-1], file=sys.stderr, flush=True)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}")
    print(f"{ITEMS:,} items, {USERS:,} users, {QUERIES:,} queries; loss: {', '.join(options.loss) or 'default'}\n")
    headers = ["records", "log and histories", "start-up", "steps", "own", "peak", "bar"]
    print(tabulate(rows, headers=headers, disable_numparse=True, colalign=("right",) * 7))


if __name__ == "__main__":
    main()
