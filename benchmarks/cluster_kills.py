"""Twenty SIGKILLs in one training of 2 workers and 2 parameter servers: what is lost, and how long recovery takes.

python benchmarks/cluster_kills.py                                       # 6 minutes
python benchmarks/cluster_kills.py --when-back --epochs 50 --pause 1 3   # the table of docs/cluster.md
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from cluster_bench.memory import Memory
from cluster_bench.runs import BAR, START, Shop, counts_of, metrics_of, parser_of, run, step_reached
from cluster_bench.sockets import processor_seconds
from tabulate import tabulate

from dpsr.cluster.up import LocalCluster
from dpsr.config import Config
from dpsr.data.dataset.tables import Dataset

LOST = "chief: resumes from the last checkpoint"
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
    batch, rows = config.training.batch_size, Dataset.load(config.dataset_dir).num_interactions("train")
    of_epoch = -(-rows // batch)
    memory = Memory()
    with LocalCluster(command, workers=2, ps=2, logs=logs, say=lambda text: print(text, file=sys.stderr)) as cluster:
        started = time.monotonic()

        def look() -> None:
            while not ended.wait(0.05):
                checkpoints.setdefault(newest_checkpoint(config)[0], time.monotonic() - started)
                memory.look(cluster, time.monotonic() - started)

        def kill() -> None:
            while not BAR.search(log.read_bytes().decode(errors="ignore")):  # without the start
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
    headers = ["at s", "killed", "step then", "checkpoint", "its age s", "resumes from step", "steps lost"]
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


def iterations_of(config: Config) -> int:
    """Steps behind the last checkpoint by the optimiser's own count, which those that were done twice raise twice."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(config.checkpoint_dir))
    (name,) = (name for name in reader.get_variable_to_shape_map() if name.startswith("optimizer/_iterations/"))
    return int(reader.get_tensor(name))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="of victims and times")
    parser.add_argument("--pause", type=float, nargs=2, default=[3.0, 11.0], help="seconds between two, uniform")
    parser.add_argument("--when-back", action="store_true", help="count the pause from when the training resumes")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--checkpoint-seconds", type=float, default=2.0)
    run(kills, parser.parse_args())


if __name__ == "__main__":
    main()
