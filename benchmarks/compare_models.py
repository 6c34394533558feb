"""Every model of the registry on four sets: `dpsr compare` on each, one table in Markdown.

    python benchmarks/compare_models.py --out runs/compare
    python benchmarks/compare_models.py --out runs/compare --sets bestbuy_xbox demo_shop --models bm25,lsa,dpsr

Inputs, dataset and trained model of a set are made once; a comparison that was interrupted goes on, and one that is
done is read from its files. Every core works on a set of its own, as small models hardly train faster on two; what a
set prints goes to `NAME.log`. The sets are those of $DPSR_DATA, and the generated shop.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TextIO

from dpsr.config import load_config
from dpsr.evaluation.report.machine import describe_machine

ROOT = Path(__file__).resolve().parents[1]
LABELLED = ("homedepot", "chorus_icecat")
SETS = ("homedepot", "demo_shop", "bestbuy_xbox", "chorus_icecat")  # those that take longest first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the runs, and what was measured")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=SETS)
    parser.add_argument("--models", default="all", help="as of `dpsr compare`")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    cores: SimpleQueue[int] = SimpleQueue()
    for core in sorted(os.sched_getaffinity(0)):
        cores.put(core)
    with ThreadPoolExecutor(cores.qsize()) as pool:
        done = [pool.submit(_compare, name, out, arguments.models, cores) for name in arguments.sets]
        failed = [str(error) for job in done if (error := job.exception())]
    if failed:
        raise SystemExit("\n".join(failed))
    for name in arguments.sets:  # once more, from the files: each page advises with the other sets as its evidence
        print(f"\n## {name}\n", flush=True)
        others = [other for other in SETS if other != name and _metrics(other, out).exists()]
        evidence = [word for other in others for word in ("--with", str(_metrics(other, out)))]
        _dpsr("compare", _configured(name, out, None), "--models", arguments.models, "--markdown", *evidence)
    print(f"\n{(time.perf_counter() - start) / 60:.1f} minutes; {describe_machine()}")


def _compare(name: str, out: Path, models: str, cores: SimpleQueue[int]) -> None:
    """Compares the models on one set, on a core of its own: a thread's affinity is that of the processes it starts."""
    core = cores.get()
    try:
        os.sched_setaffinity(0, {core})
        start = time.perf_counter()
        with (out / f"{name}.log").open("a") as log:
            _dpsr("compare", _configured(name, out, log), "--models", models, log=log)
        print(f"{name}: {(time.perf_counter() - start) / 60:.1f} minutes on core {core}", flush=True)
    finally:
        cores.put(core)


def _configured(name: str, out: Path, log: TextIO | None) -> list[str]:
    """Makes inputs, dataset and model of a set where they are missing; returns the options that configure it."""
    folder = out / name
    if name in LABELLED:
        if not (folder / "run.toml").exists():
            _run([sys.executable, str(ROOT / "benchmarks" / "labelled_sets.py"), name, "--out", str(folder)], log)
        options = ["-c", str(folder / "run.toml")]
    else:
        settings = {"work_dir": folder}
        if name == "demo_shop":
            shop = folder / "shop"
            if not (shop / "relevance.parquet").exists():
                _run([sys.executable, "-m", "dpsr.cli", "demo-shop", "--out", str(shop)], log)
            settings |= {
                f"data.{table}.path": shop / f"{table}.parquet" for table in ("items", "users", "interactions")
            }
            settings["evaluation.labels.path"] = shop / "relevance.parquet"
            settings["evaluation.labels.columns.label"] = "grade"
        pairs = [f"{key}={value}" for key, value in settings.items()]
        options = ["-c", str(ROOT / "examples" / f"{name}.toml"), *(word for pair in pairs for word in ("--set", pair))]
    config = load_config(Path(options[1]), options[3::2])
    if not Path(config.dataset_dir).exists():
        _dpsr("prepare", options, log=log)
    if not config.learns_nothing and not Path(config.checkpoint_dir).exists():
        _dpsr("train", options, log=log)
    return options


def _metrics(name: str, out: Path) -> Path:
    return out / name / "comparison" / "comparison.json"


def _dpsr(command: str, options: Sequence[str], *more: str, log: TextIO | None = None) -> None:
    _run([sys.executable, "-m", "dpsr.cli", command, *options, *more], log)


def _run(command: list[str], log: TextIO | None) -> None:
    print("$", *command[1:], file=log, flush=True)
    if subprocess.run(command, stdout=log, stderr=log and subprocess.STDOUT, check=False).returncode:
        raise SystemExit(f"failed: {' '.join(command)}" + (f"; {log.name} says why" if log else ""))


if __name__ == "__main__":
    main()
