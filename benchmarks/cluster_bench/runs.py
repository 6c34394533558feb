"""Whole trainings on a cluster of processes of this machine, on the generated shop of ``dpsr demo``.

Every task is a process, started and watched as by ``dpsr cluster up``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from dpsr.cluster.up import LocalCluster
from dpsr.config import Config, load_config

CONFIG = Path(__file__).parent.parent.parent / "examples" / "demo_shop.toml"
ITEMS, USERS, CLICKS = 5_000, 2_000, 150_000
BAR = re.compile(r"training (\d+)/\d+: [^|]*\|[^|]*\| ([\d.]+)([kM]?)/")
START = re.compile(r"chief: starts at step (\d+)")


class Shop:
    """A prepared shop, and runs on it."""

    def __init__(self, folder: Path) -> None:
        from dpsr.data.demo_shop.shop import generate
        from dpsr.data.prepare.job import prepare

        self._folder = folder
        generate(folder / "shop", items=ITEMS, users=USERS, interactions=CLICKS, seed=1)
        tables = ("items", "users", "interactions")
        self._paths = [f"data.{name}.path={folder / 'shop' / name}.parquet" for name in tables]
        prepare(load_config(CONFIG, [f"work_dir={folder}", *self._paths]), progress=False)

    def run(self, name: str, overrides: Sequence[str]) -> tuple[Config, list[str]]:
        """The configuration of a run with a directory of its own, and the command of its tasks."""
        folder = self._folder / name
        folder.mkdir()
        (folder / "dataset").symlink_to(self._folder / "dataset")
        overrides = [f"work_dir={folder}", *self._paths, *overrides]
        command = [sys.executable, "-m", "dpsr.train", "--config", str(CONFIG)]
        return load_config(CONFIG, overrides), command + [part for each in overrides for part in ("--set", each)]


def metrics_of(config: Config) -> dict[str, Any]:
    return json.loads((config.checkpoint_dir / "metrics.json").read_text())


def counts_of(config: Config) -> dict[str, Any]:
    """What the last coordinator says it did."""
    lines = (Path(config.work_dir) / "logs" / "chief-0.log").read_text().splitlines()
    return json.loads(next(line for line in reversed(lines) if line.startswith("chief: {")).removeprefix("chief: "))


def train(shop: Shop, name: str, overrides: Sequence[str], *, workers: int, ps: int) -> Config:
    """Trains to the end, on this machine where there are no workers."""
    config, command = shop.run(name, overrides)
    if workers:
        logs = Path(config.work_dir) / "logs"
        with LocalCluster(command, workers=workers, ps=ps, logs=logs, say=lambda _: None) as cluster:
            code = cluster.wait()
    else:
        code = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode
    if code:
        raise SystemExit(f"{name}: exit code {code}")
    return config


def step_reached(log: str, steps_of_epoch: int, batch: int) -> int:
    """How far the training was by the last words of the chief; the bar has three digits."""
    bars, starts = list(BAR.finditer(log)), list(START.finditer(log))
    if not bars or (starts and starts[-1].start() > bars[-1].start()):
        return int(starts[-1][1])
    epoch, number, unit = bars[-1].groups()
    examples = float(number) * {"": 1, "k": 1e3, "M": 1e6}[unit]
    return (int(epoch) - 1) * steps_of_epoch + round(examples / batch)


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark of whole trainings has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="the directory of the runs")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one value")
    return parser


def run(measure: Callable[[Shop, argparse.Namespace], None], options: argparse.Namespace) -> None:
    """Runs a benchmark on a shop of its own; prints the machine and the time that it took."""
    load, started = os.getloadavg()[0], time.monotonic()
    folder = Path(tempfile.mkdtemp())
    try:
        measure(Shop(folder), options)
    finally:
        if options.keep:
            print(f"kept in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)
    print(f"\n{os.cpu_count()} cores, load {load:.1f} at the start, {time.monotonic() - started:.0f} s")
