"""Whole trainings on a cluster of processes of this machine, on the generated shop of ``dpsr demo``.

    python benchmarks/cluster_training.py quality   # loss and Top-1 after the same examples: 1 machine, 2 and 4 workers
    python benchmarks/cluster_training.py kills     # 20 SIGKILLs in one training
    python benchmarks/cluster_training.py memory    # of every task, over a long run
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

import numpy as np
from tabulate import tabulate

from cluster import measured, processor_seconds
from dpsr.cluster.up import LocalCluster
from dpsr.config import Config, load_config
from dpsr.data.dataset.tables import Dataset

CONFIG = Path(__file__).parent.parent / "examples" / "demo_shop.toml"
ITEMS, USERS, CLICKS = 5_000, 2_000, 150_000


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


# -------------------------------------------------------------------------- the same examples, by more and more workers


FIGURES = ("train_loss", "valid_loss", "valid_top1")


def quality(shop: Shop, options: argparse.Namespace) -> None:
    cases = [(0, 1), *itertools.product(options.workers, options.every)]
    found: dict[tuple[int, int, int], list[float]] = {}
    rows = []
    # Seed by seed: a run that is stopped early leaves whole comparisons.
    for seed, (workers, every) in itertools.product(options.seeds, cases):
        overrides = [f"training.epochs={options.epochs}", f"training.seed={seed}", f"cluster.dense_sync_steps={every}"]
        config = train(shop, f"quality_{workers}_{every}_{seed}", [*overrides, *options.set], workers=workers, ps=2)
        last = metrics_of(config)["epochs"][-1]
        counts = counts_of(config) if workers else {"staleness": 0.0}
        found[workers, every, seed] = [last[name] for name in FIGURES]
        rows.append([f"{workers} workers" if workers else "1 machine", every if workers else "", seed])
        rows[-1] += [f"{last[name]:.4f}" for name in FIGURES]
        rows[-1] += [f"{counts['staleness']:.1f}", f"{last['examples_per_second']:,.0f}"]
        print(rows[-1], file=sys.stderr, flush=True)
        shutil.rmtree(config.work_dir)
    headers = ["", "dense_sync_steps", "seed", "train loss", "valid loss", "Top-1 @1,024", "staleness", "examples/s"]
    print(tabulate(rows, headers=headers, disable_numparse=True))
    show_differences(cases, options.seeds, found)


def show_differences(
    cases: list[tuple[int, int]], seeds: list[int], found: dict[tuple[int, int, int], list[float]]
) -> None:
    """Mean over the seeds, and that of the difference to one machine with the same seed, with its standard error.

    The seed draws the candidates of validation too, so only runs of one seed answer the same questions.
    """
    rows = []
    for workers, every in cases:
        ours = np.array([found[workers, every, seed] for seed in seeds])
        differences = ours / np.array([found[0, 1, seed] for seed in seeds]) - 1
        rows.append([f"{workers} workers" if workers else "1 machine", every if workers else ""])
        for figures, difference in zip(ours.T, differences.T, strict=True):
            spread = figures.std(ddof=1) if len(seeds) > 1 else float("nan")
            error = difference.std(ddof=1) / len(seeds) ** 0.5 if len(seeds) > 1 else float("nan")
            rows[-1] += [f"{figures.mean():.4f} ({spread:.4f})"]
            rows[-1] += [f"{difference.mean():+.2%} +- {error:.2%}" if workers else ""]
    print(f"\nmeans of seeds {seeds} (standard deviation); difference to 1 machine +- its standard error")
    headers = ["", "dense_sync_steps", "train loss", "less 1 machine", "valid loss", "", "Top-1 @1,024", ""]
    print(tabulate(rows, headers=headers, disable_numparse=True))


# ------------------------------------------------------------------------------------------------------- twenty kills

BAR = re.compile(r"training (\d+)/\d+: [^|]*\|[^|]*\| ([\d.]+)([kM]?)/")
START = re.compile(r"chief: starts at step (\d+)")
LOST = "chief: goes on from the last checkpoint"
LISTENS = re.compile(r"(?:worker|ps) \d+: listens at")
WORKED_SECONDS = 0.5
"""Of a processor: a worker that has used so much since it listens was given work."""
MOMENTS = ("noticed", "started again", "all listen", "restored", "new step")
"""After a kill, in the order in which they come."""


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
    step: int
    """By the last words of the chief."""
    moments: dict[str, float]
    """Seconds from the kill to each of ``MOMENTS``."""


def newest_checkpoint(config: Config) -> tuple[int, float]:
    """Its step, and when it was complete; step 0 before there is one."""
    path = config.checkpoint_dir / "checkpoint"
    try:
        match = re.search(r"-(\d+)\"", path.read_text().splitlines()[0])
        return (int(match[1]) if match else 0), path.stat().st_mtime
    except (FileNotFoundError, IndexError):  # IndexError: it is being written
        return 0, time.time()


class Recovery:
    """Follows what becomes of a cluster after a kill, by the logs of its tasks."""

    def __init__(self, cluster: LocalCluster, logs: Path, victim: str, steps_of_epoch: int, batch: int) -> None:
        """Remembers how far the logs are."""
        self._cluster, self._victim, self._logs = cluster, victim, logs
        self._steps_of_epoch, self._batch = steps_of_epoch, batch
        self._sizes = {path: path.stat().st_size for path in logs.glob("*.log")}
        self._process = cluster.processes[victim].process
        self._step = self.reached()
        self._started, self._moments = time.monotonic(), dict[str, float]()
        self._used: float | None = None

    def reached(self) -> int:
        """The step by the last words of the chief."""
        text = (self._logs / "chief-0.log").read_bytes().decode(errors="ignore")
        return step_reached(text, self._steps_of_epoch, self._batch)

    def look(self) -> dict[str, float] | None:
        """Looks once; the moments if the last one has come."""
        for name, has_come in self._conditions().items():
            if name not in self._moments and has_come:
                self._moments[name] = time.monotonic() - self._started
        return self._moments if "new step" in self._moments else None

    def _conditions(self) -> dict[str, bool]:
        process, texts = self._cluster.processes[self._victim].process, self._new_texts()
        chief = texts["chief-0.log"]
        conditions = {"started again": process is not self._process}
        if self._victim.startswith("worker"):
            listens = bool(LISTENS.search(texts[f"{self._victim.replace(' ', '-')}.log"]))
            conditions |= {"all listen": listens, "new step": listens and self._works(process.pid)}
        else:
            starts = list(START.finditer(chief))
            after = chief[starts[-1].start() :] if starts else ""
            others = [text for name, text in texts.items() if name.startswith(("worker", "ps"))]
            conditions |= {
                "all listen": all(LISTENS.search(text) for text in others),
                "restored": bool(starts),
                "new step": bool(starts)
                and step_reached(after, self._steps_of_epoch, self._batch) > int(starts[-1][1]),
            }
        if self._victim.startswith("ps"):
            conditions["noticed"] = LOST in chief
        return conditions

    def _new_texts(self) -> dict[str, str]:
        texts = {}
        for path, size in self._sizes.items():
            with path.open("rb") as stream:
                stream.seek(size)
                texts[path.name] = stream.read().decode(errors="ignore")
        return texts

    def _works(self, pid: int) -> bool:
        try:
            used = sum(processor_seconds({self._victim: pid})[self._victim])
        except (OSError, ValueError):
            return False
        self._used = used if self._used is None else self._used
        return used - self._used > WORKED_SECONDS


def kills(shop: Shop, options: argparse.Namespace) -> None:
    overrides = [f"training.epochs={options.epochs}", f"cluster.checkpoint_seconds={options.checkpoint_seconds}"]
    config, command = shop.run("kills", [*overrides, *options.set])
    logs, random = Path(config.work_dir) / "logs", Random(options.seed)
    log, done, checkpoints = logs / "chief-0.log", [], {}
    batch, rows = config.training.batch_size, len(Dataset.load(config.dataset_dir).interactions("train"))
    of_epoch = -(-rows // batch)
    memory = Memory()
    with LocalCluster(command, workers=2, ps=2, logs=logs, say=lambda text: print(text, file=sys.stderr)) as cluster:
        started = time.monotonic()

        def look() -> None:
            while not ended.wait(0.05):
                checkpoints.setdefault(newest_checkpoint(config)[0], time.monotonic() - started)
                memory.look(cluster, time.monotonic() - started)

        def kill() -> None:
            while not BAR.search(log.read_bytes().decode(errors="ignore")):  # the start is no part of it
                if ended.wait(0.1):
                    return
            while len(done) < options.kills:
                if ended.wait(random.uniform(*options.pause)):
                    return
                victim = random.choice(["worker", "ps", "chief"])
                name = f"{victim} {random.randrange(2) if victim != 'chief' else 0}"
                entry = cluster.processes[name]
                if entry.process.poll() is not None:
                    continue  # it is dead already
                recovery = Recovery(cluster, logs, name, of_epoch, batch)
                step, at = newest_checkpoint(config)
                found = Kill(name, time.monotonic() - started, log.stat().st_size, step, time.time() - at, 0, {})
                os.kill(entry.process.pid, signal.SIGKILL)
                found.step = recovery.reached()
                done.append(found)
                while options.when_back and not found.moments:
                    if ended.wait(0.05):
                        return
                    found.moments = recovery.look() or {}

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
    show_recovery(done)
    memory.show_lives()


def show_recovery(done: list[Kill]) -> None:
    """Seconds from a kill to each moment, by kind of task: median (least to most)."""
    rows = []
    for job in ("worker", "ps", "chief"):
        of_job = [kill.moments for kill in done if kill.victim.startswith(job) and kill.moments]
        rows.append([job, len(of_job)])
        for moment in MOMENTS:
            seconds = [moments[moment] for moments in of_job if moment in moments]
            text = f"{np.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})" if seconds else ""
            rows[-1].append(text)
    print("\nseconds from a kill to ...")
    print(tabulate(rows, headers=["killed", "kills", *MOMENTS], disable_numparse=True))


def show_kills(config: Config, done: list[Kill], log: bytes, checkpoints: dict[int, float]) -> None:
    """A line for every kill, and whether positions and counters are those of a training without any."""
    metrics = metrics_of(config)
    ends = [kill.log_size for kill in done[1:]] + [len(log)]
    rows, worst, older = [], 0, 0
    for kill, end in zip(done, ends, strict=True):
        restored, reached = START.search(log[kill.log_size : end].decode(errors="ignore")), kill.step
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


# ------------------------------------------------------------------------------------------------- memory over time

KIB = 1 << 10


@dataclass(frozen=True)
class Sample:
    """Memory of a process at one moment, in bytes."""

    seconds: float
    name: str
    pid: int
    life: int
    """0 for the task's first process."""
    anonymous: int
    """What the process has allocated."""
    resident: int
    """The same, and the pages of files that it has mapped: libraries, and the dataset."""


class Memory:
    """Samples of every task of a cluster, the chief's coordinator among them."""

    def __init__(self) -> None:
        """Starts with none."""
        self.samples: list[Sample] = []

    def look(self, cluster: LocalCluster, seconds: float) -> None:
        """Takes a sample of every process, at most once a second."""
        if self.samples and seconds - self.samples[-1].seconds < 1.0:
            return
        for name, entry in cluster.processes.items():
            pids = {name: entry.process.pid}
            if name == "chief 0":
                pids |= dict(zip(["coordinator"], children(entry.process.pid), strict=False))
            for each, pid in pids.items():
                found = memory_of(pid)
                if found is not None:
                    self.samples.append(Sample(seconds, each, pid, entry.restarts, *found))

    def show_lives(self) -> None:
        """The memory that each task's processes came to, first and later ones."""
        rows = []
        for name in sorted({sample.name for sample in self.samples}):
            most: dict[int, int] = {}
            for sample in self.samples:
                if sample.name == name:
                    most[sample.pid] = max(most.get(sample.pid, 0), sample.anonymous)
            sizes = [f"{size / KIB**2:.0f}" for size in most.values()]
            rows.append([name, len(sizes), ", ".join(sizes)])
        print("\nmost MiB of allocated memory of each process, one after the other")
        print(tabulate(rows, headers=["task", "processes", "MiB"], disable_numparse=True))


def children(pid: int) -> list[int]:
    try:
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def memory_of(pid: int) -> tuple[int, int] | None:
    """Allocated and resident bytes; None if the process is gone."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return tuple(int(status[key].split()[0]) * KIB for key in ("RssAnon", "VmRSS"))
    except (OSError, KeyError):
        return None


def memory(shop: Shop, options: argparse.Namespace) -> None:
    overrides = ["training.epochs=100000", f"cluster.checkpoint_seconds={options.checkpoint_seconds}"]
    config, command = shop.run("memory", [*overrides, *options.set])
    logs, found = Path(config.work_dir) / "logs", Memory()
    batch, rows = config.training.batch_size, len(Dataset.load(config.dataset_dir).interactions("train"))
    steps_of_unit, steps_at = config.cluster.examples_per_call // batch, []
    with LocalCluster(command, workers=2, ps=2, logs=logs, say=lambda _: None) as cluster:
        started = time.monotonic()
        while (seconds := time.monotonic() - started) < 60 * options.minutes:
            time.sleep(2.0)
            found.look(cluster, seconds)
            text = (logs / "chief-0.log").read_bytes()[-4096:].decode(errors="ignore")
            steps = step_reached(text, -(-rows // batch), batch) if BAR.search(text) else 0
            steps_at.append((seconds, steps))
            if any(entry.process.poll() is not None for entry in cluster.processes.values()):
                raise SystemExit(f"a task ended; see {logs}")
    show_growth(found, [(seconds, steps / steps_of_unit) for seconds, steps in steps_at], options.first)


def show_growth(found: Memory, units_at: list[tuple[float, float]], first: int) -> None:
    """Memory of every task after N, 4 N, 16 N, ... work units, and how it grew in the last three quarters."""
    last = units_at[-1][1]
    marks = [float(mark) for mark in itertools.takewhile(lambda mark: mark < last, (first * 4**n for n in range(20)))]
    marks.append(last)
    rows = []
    for name in sorted({sample.name for sample in found.samples}):
        samples = [sample for sample in found.samples if sample.name == name]
        units = np.interp([sample.seconds for sample in samples], *zip(*units_at, strict=True))
        anonymous = np.array([sample.anonymous for sample in samples]) / KIB**2
        at = [int(np.argmax(units >= mark)) if mark < last else -1 for mark in marks]
        late = units >= last / 4
        slope = np.polyfit(units[late], anonymous[late], 1)[0] * KIB
        resident = samples[-1].resident / KIB**2
        rows.append([name, *(f"{anonymous[place]:.1f}" for place in at), f"{slope:.2f}", f"{resident:.0f}"])
    headers = ["", *(f"{mark:,.0f} work units" for mark in marks), "KiB a work unit, last 3/4", "resident at the end"]
    print(f"MiB of allocated memory over {units_at[-1][0] / 60:.1f} minutes")
    print(tabulate(rows, headers=headers, disable_numparse=True))


# ------------------------------------------------------------------------------------- one worker, and where time goes


def speed(shop: Shop, options: argparse.Namespace) -> None:
    overrides = [f"training.epochs={options.epochs}"]
    rows = []
    for name, cpus in (("1 machine", None), ("1 machine, one core", {0})):
        with on_cores(cpus):
            config = train(shop, f"speed_{len(rows)}", overrides, workers=0, ps=0)
        fastest = max(figures["examples_per_second"] for figures in metrics_of(config)["epochs"])
        rows.append([name, f"{fastest:,.0f}", f"{config.training.batch_size / fastest * 1e3:.1f}"])
    for every in (1, 8):
        config, command = shop.run(f"speed_every_{every}", overrides)
        sets = [after for before, after in itertools.pairwise(command) if before == "--set"]
        request = {
            "config": str(CONFIG),
            "overrides": [*sets, f"cluster.dense_sync_steps={every}"],
            "workers": 1,
            "ps": 1,
        }
        found = measured(**request, peer=False, steps_of_unit=16, units=options.units)
        rows.append([f"1 worker, 1 ps, dense_sync_steps {every}", f"{found['examples_per_second']:,.0f}"])
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
    command.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3], help="each for every row")
    command.add_argument("--workers", type=int, nargs="*", default=[2, 4])
    command.add_argument("--every", type=int, nargs="*", default=[1, 8, 16], help="values of cluster.dense_sync_steps")
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
    command = commands.add_parser("memory")
    command.set_defaults(measure=memory)
    command.add_argument("--minutes", type=float, default=12.0)
    command.add_argument("--first", type=int, default=250, help="work units after which memory is first shown")
    command.add_argument("--checkpoint-seconds", type=float, default=5.0)
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    command = commands.add_parser("speed")
    command.set_defaults(measure=speed)
    command.add_argument("--epochs", type=int, default=3)
    command.add_argument("--units", type=int, default=40, help="of 16 steps each")
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
