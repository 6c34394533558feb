"""Seconds of an export since a published version, beside those of a full export.

    python benchmarks/incremental.py                       # 50,000 items, 1 % of them changed
    python benchmarks/incremental.py --items 1000000 --changed 10000

The shop is generated: titles of topics, a brand, a price, and a log of random clicks; the towers are not trained, and
add up the vectors of their tokens. Half of the changed items are new titles of known ids, the others take the place of
items that are removed. Each export runs in a process of its own; its seconds begin when the modules are imported.
"available s" is from the start of that process until a server, which runs all the while, answers with the new version.
"new MB" is what the version adds on the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tabulate import tabulate

TOPICS, WORDS_OF_TOPIC, BRANDS, CLICKS = 2_000, 20, 200, 20_000


def titles(rng: np.random.Generator, count: int) -> pa.Array:
    """Texts of six words of one topic and two of any, which sums of their tokens' vectors have clusters of."""
    words = np.array([f"w{number:x}" for number in range(TOPICS * WORDS_OF_TOPIC)], object)
    topics = rng.integers(TOPICS, size=(count, 1))
    chosen = topics * WORDS_OF_TOPIC + rng.integers(WORDS_OF_TOPIC, size=(count, 6))
    chosen = np.append(chosen, rng.integers(len(words), size=(count, 2)), axis=1)
    return pa.array([" ".join(row) for row in words[chosen]])


def write_shop(folder: Path, items: int, changed: int, options: dict[str, Any]) -> None:
    """The raw inputs, the dataset, and the file of the items after the changes."""
    from dpsr.config import parse_config
    from dpsr.data.prepare.job import prepare

    rng = np.random.default_rng(1)
    table = pa.table(
        {
            "item_id": [f"item-{number:09d}" for number in range(items)],
            "title": titles(rng, items),
            "brand": [f"brand {number}" for number in rng.integers(BRANDS, size=items)],
            "price": rng.integers(100, 100_000, size=items) / 100,
        }
    )
    pq.write_table(table, folder / "items.parquet")
    clicked = rng.integers(items, size=CLICKS)
    log = {
        "query": table.column("title").take(clicked),
        "item_id": table.column("item_id").take(clicked),
        "timestamp": np.arange(CLICKS),
    }
    pq.write_table(pa.table(log), folder / "log.parquet")
    rows = np.sort(rng.choice(items, changed, replace=False))
    after = {name: np.array(table.column(name).to_pylist(), object) for name in ("item_id", "title")}
    after["title"][rows] = titles(rng, changed).to_pylist()
    after["item_id"][rows[::2]] = [f"new-{number:09d}" for number in range(len(rows[::2]))]
    for number, name in enumerate(("item_id", "title")):
        table = table.set_column(number, name, pa.array(after[name], pa.string()))
    pq.write_table(table, folder / "changed.parquet")
    tree = {
        "name": "shop",
        "work_dir": str(folder / "work"),
        "data": {
            "items": {"path": str(folder / "items.parquet"), "categorical": ["brand"], "numeric": ["price"]},
            "interactions": {"path": str(folder / "log.parquet")},
        },
        "tokenizer": {"min_count": 1},
        "model": {"dimension": 64, "heads": 1, "residual": True, "shared_tokens": True},
        "index": {"filter_range": ["price"], "min_recall": 0.9, **options},
    }
    (folder / "config.json").write_text(json.dumps(tree))
    prepare(parse_config(tree, "benchmark"), progress=False)


def own_bytes(path: Path) -> int:
    """Of a file that no other version has."""
    return path.stat().st_size if path.is_file() and path.stat().st_nlink == 1 else 0


def export_once(folder: Path, items: str | None, since: str | None) -> dict[str, Any]:
    """Exports in this process."""
    import resource

    from dpsr.config import parse_config
    from dpsr.data.dataset.tables import Dataset
    from dpsr.indexing.manifest import read_manifest
    from dpsr.indexing.publish import export
    from dpsr.model.two_tower import TwoTower
    from dpsr.tokenizer_cc import Tokenizer

    config = parse_config(json.loads((folder / "config.json").read_text()), "benchmark")
    start = time.perf_counter()
    dataset = Dataset.load(config.dataset_dir)
    tokenizer = Tokenizer.load(dataset.tokenizer_path)
    model = TwoTower(config.model, dataset.schema, seed=3, tokenizer=tokenizer)
    version = export(config, dataset, model, items=items, since=since, progress=False)
    seconds = time.perf_counter() - start
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    manifest = read_manifest(version)
    return {
        "export": "full" if since is None else f"since {since}",
        "items": f"{manifest['items']:,}",
        "embedded": f"{manifest.get('since', {}).get('embedded', manifest['items']):,}",
        "s": f"{seconds:.1f}",
        "CPU s": f"{sum(each.ru_utime + each.ru_stime for each in used):.1f}",
        "peak GB": f"{used[0].ru_maxrss / 1e6:.1f}",
        "new MB": f"{sum(own_bytes(path) for path in version.rglob('*')) / 1e6:.0f}",
        "recall": f"{manifest['searchers']['dense']['recall']['serving_default']:.4f}",
    }


def serve_until_next(folder: Path) -> None:
    """Serves the shop, and prints the time at which the next version is available."""
    from dpsr.config import ServingConfig, parse_config
    from dpsr.serving.manager.model_config import ServedModel
    from dpsr.serving.server import ModelServer

    config = parse_config(json.loads((folder / "config.json").read_text()), "benchmark")
    server = ModelServer([ServedModel(config.name, config.model_base_path)], ServingConfig(port=0, rest_port=-1))
    server.start()
    print("serving", flush=True)
    (served,) = server.models.figures()
    newest = served.versions[0]
    while newest == served.versions[0]:
        time.sleep(0.05)
        newest = max(version for model in server.models.figures() for version in model.versions)
    print(time.time(), flush=True)
    server.stop()


def timed_export(folder: Path, items: str, since: str) -> dict[str, Any]:
    """Exports in a process of its own, to a server where there is a version already."""
    mine = [sys.executable, __file__]
    server = None
    if since:
        server = subprocess.Popen([*mine, "--serve", str(folder)], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        while server.stdout.readline().strip() != "serving":
            assert server.poll() is None, "the server ended"
    start = time.time()
    done = subprocess.run([*mine, "--once", str(folder), items, since], check=True, stdout=subprocess.PIPE, text=True)
    row = json.loads(done.stdout.splitlines()[-1])
    if server is not None and server.stdout is not None:
        row["available s"] = f"{float(server.stdout.readline()) - start:.1f}"
        server.wait()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--changed", type=int, help="by default 1 % of the items")
    parser.add_argument("--mode", choices=["dense", "hybrid"], default="hybrid")
    parser.add_argument("--precision", choices=["float32", "int8"], default="float32")
    parser.add_argument("--folder", type=Path, help="keeps the shop and its full export for another run")
    parser.add_argument("--once", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # as the command does
    if arguments.once:
        folder, items, since = arguments.once
        print(json.dumps(export_once(Path(folder), items or None, since or None)))
        return
    if arguments.serve:
        serve_until_next(arguments.serve)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        exports = [(str(folder / "changed.parquet"), "latest")]
        if not (folder / "work").exists():
            folder.mkdir(parents=True, exist_ok=True)
            options = {"mode": arguments.mode, "precision": arguments.precision}
            write_shop(folder, arguments.items, arguments.changed or arguments.items // 100, options)
            exports.insert(0, ("", ""))
        rows = [timed_export(folder, items, since) for items, since in exports]
        print(tabulate(rows, headers="keys", disable_numparse=True, stralign="right"))


if __name__ == "__main__":
    main()
