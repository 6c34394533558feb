"""Whole trainings on a cluster of processes of this machine, on the generated shop of ``dpsr demo``.

    python benchmarks/cluster_training.py quality   # loss and Top-1 after the same examples: 1 machine, 2 and 4 workers
    python benchmarks/cluster_training.py kills     # 20 SIGKILLs in one training
    python benchmarks/cluster_training.py speed     # examples/s of 1 worker and 1 parameter server, and where time goes

Every task is a process, started and watched as by ``dpsr cluster up``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tabulate import tabulate

from cluster import measured
from dpsr.cluster.up import LocalCluster
from dpsr.config import Config, load_config

CONFIG = Path(__file__).parent.parent / "examples" / "demo_shop.toml"
ITEMS, USERS, CLICKS = 5_000, 2_000, 150_000


class Shop:
    """A prepared shop, and runs on it."""

    def __init__(self, folder: Path) -> None:
        from dpsr.data.demo_shop import generate
        from dpsr.data.prepare import prepare

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


# -------------------------------------------------------------------------- the same examples, by more and more workers


def quality(shop: Shop, options: argparse.Namespace) -> None:
    cases = [(0, 1, seed) for seed in options.seeds]
    cases += [(workers, every, seed) for workers in options.workers for every in options.every for seed in [1]]
    rows = []
    for workers, every, seed in cases:
        overrides = [f"training.epochs={options.epochs}", f"training.seed={seed}", f"cluster.dense_every={every}"]
        config = train(shop, f"quality_{workers}_{every}_{seed}", [*overrides, *options.set], workers=workers, ps=2)
        last = metrics_of(config)["epochs"][-1]
        counts = counts_of(config) if workers else {"staleness": 0.0}
        rows.append([f"{workers} workers" if workers else "1 machine", every if workers else "", seed])
        rows[-1] += [f"{last[name]:.4f}" for name in ("train_loss", "valid_loss", "valid_top1")]
        rows[-1] += [f"{counts['staleness']:.1f}", f"{last['examples_per_second']:,.0f}"]
        print(rows[-1], file=sys.stderr, flush=True)
    headers = ["", "dense_every", "seed", "train loss", "valid loss", "Top-1 @1,024", "staleness", "examples/s"]
    print(tabulate(rows, headers=headers, disable_numparse=True))


# ------------------------------------------------------------------------------------------------------- twenty kills

BAR = re.compile(r"training (\d+)/\d+: [^|]*\|[^|]*\| ([\d.]+)([kM]?)/")
START = re.compile(r"chief: starts at step (\d+)")


@dataclass
class Kill:
    """A SIGKILL, and what was known when it was sent."""

    victim: str
    seconds: float
    log_size: int
    """Of the chief's log."""
    checkpoint: int
    """Step of the latest one."""
    checkpoint_age: float


def newest_checkpoint(config: Config) -> tuple[int, float]:
    """Its step, and when it was complete; step 0 before there is one."""
    path = config.checkpoint_dir / "checkpoint"
    try:
        match = re.search(r"-(\d+)\"", path.read_text().splitlines()[0])
        return (int(match[1]) if match else 0), path.stat().st_mtime
    except (FileNotFoundError, IndexError):  # IndexError: it is being written
        return 0, time.time()


def kills(shop: Shop, options: argparse.Namespace) -> None:
    overrides = [f"training.epochs={options.epochs}", f"cluster.checkpoint_seconds={options.checkpoint_seconds}"]
    config, command = shop.run("kills", [*overrides, *options.set])
    logs, random = Path(config.work_dir) / "logs", Random(options.seed)
    log, done, checkpoints = logs / "chief-0.log", [], {}
    with LocalCluster(command, workers=2, ps=2, logs=logs, say=lambda text: print(text, file=sys.stderr)) as cluster:
        started = time.monotonic()

        def look() -> None:
            while not ended.wait(0.05):
                checkpoints.setdefault(newest_checkpoint(config)[0], time.monotonic() - started)

        def kill() -> None:
            size = 0
            while len(done) < options.kills:
                # The start is no part of it, nor is the way back if asked so.
                while not BAR.search(log.read_bytes()[size:].decode(errors="ignore")):
                    if ended.wait(0.1):
                        return
                if ended.wait(random.uniform(*options.pause)):
                    return
                victim = random.choice(["worker", "ps", "chief"])
                name = f"{victim} {random.randrange(2) if victim != 'chief' else 0}"
                entry = cluster.processes[name]
                if entry.process.poll() is not None:
                    continue  # it is dead already
                step, at = newest_checkpoint(config)
                found = Kill(name, time.monotonic() - started, log.stat().st_size, step, time.time() - at)
                os.kill(entry.process.pid, signal.SIGKILL)
                done.append(found)
                size = found.log_size if options.when_back else 0

        ended = threading.Event()
        threads = [threading.Thread(target=each) for each in (look, kill)]
        for thread in threads:
            thread.start()
        code = cluster.wait()
        ended.set()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - started
        restarts = {name: entry.restarts for name, entry in cluster.processes.items()}
    print(f"chief ended with {code}, {len(done)} kills in {seconds:.0f} s; started again: {restarts}")
    show_kills(config, done, log.read_bytes(), checkpoints)


def show_kills(config: Config, done: list[Kill], log: bytes, checkpoints: dict[int, float]) -> None:
    """A line for every kill, and whether positions and counters are those of a training without any."""
    metrics, batch = metrics_of(config), config.training.batch_size
    of_epoch = metrics["steps"] // len(metrics["epochs"])
    ends = [kill.log_size for kill in done[1:]] + [len(log)]
    rows, worst, older = [], 0, 0
    for kill, end in zip(done, ends, strict=True):
        before, after = log[: kill.log_size].decode(errors="ignore"), log[kill.log_size : end].decode(errors="ignore")
        restored, reached = START.search(after), step_reached(before, of_epoch, batch)
        lost = max(0, reached - int(restored[1])) if restored else 0
        worst = max(worst, lost)
        rows.append([f"{kill.seconds:.1f}", kill.victim, reached, kill.checkpoint, f"{kill.checkpoint_age:.1f}"])
        rows[-1] += [restored[1] if restored else "", lost or ""]
        older += bool(restored) and int(restored[1]) < kill.checkpoint
    headers = ["at s", "killed", "step then", "checkpoint", "its age s", "goes on from step", "steps lost"]
    print(tabulate(rows, headers=headers, disable_numparse=True))
    starts = [int(match[1]) for match in START.finditer(log.decode(errors="ignore"))]
    intervals = sorted((later - earlier for earlier, later in itertools.pairwise(sorted(checkpoints))), reverse=True)
    epochs, iterations = [figures["epoch"] for figures in metrics["epochs"]], iterations_of(config)
    facts = {
        "most steps lost by a kill": worst,
        "longest intervals of checkpoints, steps": intervals[:5],
        "starts at steps": starts,
        "never back": starts == sorted(starts) and not older,
        "each start at a checkpoint": set(starts) <= set(checkpoints),
        "every epoch once": epochs == list(range(1, config.training.epochs + 1)),
        "steps of the order": metrics["steps"],
        "steps that the model has taken": iterations,
        "last coordinator": counts_of(config),
    }
    print(tabulate(facts.items(), disable_numparse=True))
    last = metrics["epochs"][-1]
    print(f"train loss {last['train_loss']:.4f}, valid loss {last['valid_loss']:.4f}, Top-1 {last['valid_top1']:.4f}")


def step_reached(log: str, steps_of_epoch: int, batch: int) -> int:
    """How far the training was by the last words of the chief; the bar has three digits."""
    bars, starts = list(BAR.finditer(log)), list(START.finditer(log))
    if not bars or (starts and starts[-1].start() > bars[-1].start()):
        return int(starts[-1][1])
    epoch, number, unit = bars[-1].groups()
    examples = float(number) * {"": 1, "k": 1e3, "M": 1e6}[unit]
    return (int(epoch) - 1) * steps_of_epoch + round(examples / batch)


def iterations_of(config: Config) -> int:
    """Steps behind the last checkpoint by the optimiser's own count, which those that were done twice raise twice."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(config.checkpoint_dir))
    (name,) = (name for name in reader.get_variable_to_shape_map() if name.startswith("optimizer/_iterations/"))
    return int(reader.get_tensor(name))


# ------------------------------------------------------------------------------------- one worker, and where time goes


def speed(shop: Shop, options: argparse.Namespace) -> None:
    overrides = [f"training.epochs={options.epochs}"]
    rows = []
    for name, cpus in (("1 machine", None), ("1 machine, one core", {0})):
        with on_cores(cpus):
            config = train(shop, f"speed_{len(rows)}", overrides, workers=0, ps=0)
        fastest = max(figures["examples_per_second"] for figures in metrics_of(config)["epochs"])
        rows.append([name, f"{fastest:,.0f}", f"{config.training.batch_size / fastest * 1e3:.1f}"])
    for every in (1, 16):
        config, command = shop.run(f"speed_every_{every}", overrides)
        sets = [after for before, after in itertools.pairwise(command) if before == "--set"]
        request = {"config": str(CONFIG), "overrides": [*sets, f"cluster.dense_every={every}"], "workers": 1, "ps": 1}
        found = measured(**request, peer=False, steps_of_piece=16, pieces=options.pieces)
        rows.append([f"1 worker, 1 ps, dense_every {every}", f"{found['examples_per_second']:,.0f}"])
        rows[-1] += [f"{found['seconds_of_step'] * 1e3:.1f}", f"{found['bytes']:,.0f}"]
        for task in ("worker 0", "ps 0", "chief 0"):
            rows[-1].append(" + ".join(f"{seconds * 1e3:.1f}" for seconds in found["processors"][task]))
    headers = ["", "examples/s", "ms a step", "bytes a step", "worker: user + kernel ms", "ps", "chief"]
    print(tabulate(rows, headers=headers, disable_numparse=True))


@contextmanager
def on_cores(cpus: set[int] | None) -> Iterator[None]:
    """Processes that are started here run on these cores; on all if None."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="the directory of the runs")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("quality")
    command.set_defaults(measure=quality)
    command.add_argument("--epochs", type=int, default=3)
    command.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3], help="of one machine: the noise")
    command.add_argument("--workers", type=int, nargs="*", default=[2, 4])
    command.add_argument("--every", type=int, nargs="*", default=[1, 16], help="values of cluster.dense_every")
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    command = commands.add_parser("kills")
    command.set_defaults(measure=kills)
    command.add_argument("--kills", type=int, default=20)
    command.add_argument("--seed", type=int, default=1, help="of victims and times")
    command.add_argument("--pause", type=float, nargs=2, default=[3.0, 11.0], help="seconds between two, uniform")
    command.add_argument("--when-back", action="store_true", help="count the pause from when the training goes on")
    command.add_argument("--epochs", type=int, default=20)
    command.add_argument("--checkpoint-seconds", type=float, default=2.0)
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    command = commands.add_parser("speed")
    command.set_defaults(measure=speed)
    command.add_argument("--epochs", type=int, default=3)
    command.add_argument("--pieces", type=int, default=40, help="of 16 steps each")
    options = parser.parse_args()
    load, started = os.getloadavg()[0], time.monotonic()
    folder = Path(tempfile.mkdtemp())
    try:
        options.measure(Shop(folder), options)
    finally:
        if options.keep:
            print(f"kept in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)
    print(f"\n{os.cpu_count()} cores, load {load:.1f} at the start, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
