"""Real clusters of real processes on loopback ports."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.cluster.up import LocalCluster
from dpsr.config import Config, load_config
from dpsr.data.dataset.tables import Dataset
from dpsr.model.trained import load_trained
from dpsr.training.trainer import train

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "examples" / "dpsr_h.toml"

ALL_OPTIONS = [
    "pretraining.epochs=2",
    "pretraining.mixed_share=0.2",
    "training.typo_share=0.2",
    "training.token_dropout=0.1",
    "model.combiner=sqrtn_by_kind",
    "model.initial_idf=true",
    "model.heads=2",
    "model.head_tables=true",
    "loss.head_column=category",
    "loss.hard_negatives=3",
    "loss.mask_clicked=true",
]


@contextmanager
def started(overrides: list[str], *, workers: int, ps: int) -> Iterator[LocalCluster]:
    config = load_config(EXAMPLE, overrides)
    command = [sys.executable, "-m", "dpsr.train", "-c", str(EXAMPLE)]
    command += [part for override in overrides for part in ("--set", override)]
    with LocalCluster(command, workers=workers, ps=ps, logs=Path(config.work_dir) / "logs") as cluster:
        yield cluster


def metrics(config: Config) -> dict:
    return json.loads((config.checkpoint_dir / "metrics.json").read_text())


def counts(config: Config) -> dict:
    """What the last coordinator says it did."""
    lines = (Path(config.work_dir) / "logs" / "chief-0.log").read_text().splitlines()
    return json.loads(next(line for line in reversed(lines) if line.startswith("chief: {")).removeprefix("chief: "))


def test_a_cluster_trains_what_one_machine_trains(shop: Callable[[str], list[str]]) -> None:
    """One worker takes the steps in their order: the same losses, up to rounding, with tables in shards on two servers.

    All that learns is on. The cluster resumes from one machine's checkpoint within the pre-training; its own then
    trains on, and answers, on one machine.
    """
    clustered, alone = [*shop("clustered"), *ALL_OPTIONS], [*shop("alone"), *ALL_OPTIONS, "training.keep_checkpoints=9"]
    here = load_config(EXAMPLE, alone)
    dataset = Dataset.load(here.dataset_dir)
    assert len(dataset.skips()), "there are hard negatives"
    expected = train(here, dataset, progress=False)
    config = load_config(EXAMPLE, clustered)
    first_step = -(-dataset.schema.num_items // config.training.batch_size)
    shutil.copytree(here.checkpoint_dir, config.checkpoint_dir)
    within = str(config.checkpoint_dir / f"ckpt-{first_step}")
    tf.compat.v1.train.update_checkpoint_state(str(config.checkpoint_dir), within)
    with started([*clustered, "cluster.split_above_bytes=20000"], workers=1, ps=2) as cluster:
        assert cluster.wait() == 0
        for job in ("worker 0", "ps 0", "ps 1"):
            assert cluster.processes[job].process.wait(20) == 0, "the chief ends the other tasks"
    found = metrics(config)
    for ours, theirs in zip(found["epochs"], expected["epochs"], strict=True):
        for figure in ("train_loss", "valid_loss"):
            np.testing.assert_allclose(ours[figure], theirs[figure], rtol=2e-3)
    assert [figures["stage"] for figures in found["epochs"]] == 2 * ["pretraining"] + 2 * ["training"]
    steps = found["steps"] - first_step
    assert counts(config)["steps_by_worker"] == [steps]
    assert (counts(config)["steps_scheduled"], counts(config)["steps_applied"]) == (steps, steps)
    assert counts(config)["staleness"] == 0
    model = load_trained(config.checkpoint_dir, dataset)
    reference = load_trained(here.checkpoint_dir, dataset)
    for name, table in model.tables.items():
        np.testing.assert_allclose(table.embeddings, reference.tables[name].embeddings, rtol=0.1, atol=2e-2)
    onwards = load_config(EXAMPLE, [*clustered, "training.epochs=3"])
    assert train(onwards, dataset, progress=False)["epochs"][:4] == found["epochs"]


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@pytest.mark.slow
def test_training_survives_kills_of_every_kind(shop: Callable[[str], list[str]]) -> None:
    """SIGKILL for a worker, a parameter server and the chief: the training ends, with every epoch whole."""
    overrides = [*shop("killed"), "training.epochs=40", "cluster.checkpoint_seconds=3", "cluster.examples_per_call=256"]
    config = load_config(EXAMPLE, overrides)

    def epochs() -> int:
        try:
            return len(metrics(config)["epochs"])
        except FileNotFoundError:
            return 0

    def chief_log() -> str:
        return (Path(config.work_dir) / "logs" / "chief-0.log").read_text()

    with started(overrides, workers=2, ps=2) as cluster:

        def look() -> bool:
            for entry in cluster.processes.values():
                if not entry.ended:
                    cluster._look_at(entry)
            return cluster.processes["chief 0"].ended

        for victim in ("worker 1", "ps 0", "chief 0"):
            before = epochs()
            wait_until(lambda before=before: look() or epochs() > before, f"no epoch before {victim} was killed")
            assert not cluster.processes["chief 0"].ended, "ended too early to kill anybody"
            os.kill(cluster.processes[victim].process.pid, signal.SIGKILL)
            wait_until(lambda victim=victim: look() or cluster.processes[victim].restarts > 0, f"{victim} stays dead")
        survivors = {name: cluster.processes[name].process.pid for name in ("worker 0", "ps 1")}
        wait_until(look, "the training does not end", 400)
        assert cluster.processes["chief 0"].process.returncode == 0
        assert {name: cluster.processes[name].process.pid for name in survivors} == survivors
    assert "resumes from the last checkpoint (restart 1)" in chief_log()
    starts = [int(step) for step in re.findall(r"chief: starts at step (\d+)", chief_log())]
    assert len(starts) >= 3
    assert starts == sorted(starts), "the position never goes back"
    found = metrics(config)
    assert [figures["epoch"] for figures in found["epochs"]] == list(range(1, 41))
    losses = [figures["train_loss"] for figures in found["epochs"]]
    assert losses[-1] < losses[0]
    assert min(counts(config)["steps_by_worker"]) > 0, "the worker that was started again works"
    load_trained(config.checkpoint_dir, Dataset.load(config.dataset_dir))


@pytest.fixture
def launched(
    shop: Callable[[str], list[str]],
) -> Iterator[Callable[..., tuple[subprocess.Popen[str], dict[str, int]]]]:
    """Starts ``dpsr cluster up`` with 1 worker and 1 parameter server; gives it and the process ids of the tasks."""
    launchers = []

    def launch(name: str, *more: str) -> tuple[subprocess.Popen[str], dict[str, int]]:
        command = [sys.executable, "-m", "dpsr.cli", "cluster", "up", "-c", str(EXAMPLE), "--workers", "1", "--ps", "1"]
        command += [part for override in [*shop(name), *more] for part in ("--set", override)]
        launcher = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        launchers.append(launcher)
        assert launcher.stdout is not None
        lines = [launcher.stdout.readline() for _ in range(3)]
        return launcher, {line.partition(":")[0]: int(line.split("process ")[1].split()[0]) for line in lines}

    yield launch
    for launcher in launchers:
        launcher.kill()
        launcher.communicate()


def all_end(pids: Iterable[int]) -> None:
    wait_until(lambda: not any(_is_alive(pid) for pid in pids), "a task is left", 30)


Launch = Callable[..., tuple[subprocess.Popen[str], dict[str, int]]]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_launcher(number: signal.Signals, launched: Launch) -> None:
    launcher, tasks = launched(f"stopped_{number.name}", "training.epochs=1000")
    chief_log = Path(_option(launcher, "work_dir")) / "cluster" / "logs" / "chief-0.log"
    wait_until(lambda: chief_log.exists() and "training 2/" in chief_log.read_text(), "does not train")
    pids = [*tasks.values(), *(int(text) for pid in tasks.values() for text in _children(pid))]
    os.kill(launcher.pid, number)
    _, errors = launcher.communicate(timeout=60)
    all_end(pids)
    if number != signal.SIGKILL:
        assert launcher.returncode == 1
        assert "interrupted; run the same command to resume from the last checkpoint" in errors


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("victim", ["chief 0", "worker 0", "ps 0"])
def test_a_signal_in_the_middle_of_a_restart_stops_every_task(
    victim: str, number: signal.Signals, launched: Launch
) -> None:
    """The second death comes soon after the start, so that the launcher waits before it starts the task again."""
    launcher, tasks = launched(f"restart_{victim.split()[0]}_{number.name}")
    assert launcher.stdout is not None
    os.kill(tasks[victim], signal.SIGKILL)
    assert launcher.stdout.readline() == f"{victim}: was killed by signal 9; starts again\n"
    found: list[int] = []
    wait_until(lambda: bool(found.extend(_with_parent(launcher.pid, but=tasks.values())) or found), "no restart")
    os.kill(found[0], signal.SIGKILL)
    assert launcher.stdout.readline() == f"{victim}: was killed by signal 9; starts again in 2 s\n"
    os.kill(launcher.pid, number)
    output, errors = launcher.communicate(timeout=60)
    assert (launcher.returncode, output) == (1, "stopping every task\n")
    assert "interrupted" in errors
    all_end([*tasks.values(), *found])


@pytest.mark.parametrize("victim", ["chief 0", "worker 0"])
def test_who_dies_too_often_is_not_started_again(victim: str, launched: Launch) -> None:
    launcher, tasks = launched(f"often_{victim.split()[0]}", "cluster.max_restarts=2")
    pids, pid = list(tasks.values()), tasks[victim]

    def is_followed() -> bool:
        pids.extend(_with_parent(launcher.pid, but=pids))
        return pids[-1] not in (pid, *tasks.values()) or launcher.poll() is not None

    for _ in range(3):
        os.kill(pid, signal.SIGKILL)
        wait_until(is_followed, "neither a restart nor an end")
        pid = pids[-1]
    _, errors = launcher.communicate(timeout=60)
    assert launcher.returncode == 1
    assert f"{victim}: gave up, it was killed by signal 9 after 2 restarts (cluster.max_restarts = 2); " in errors
    assert len(pids) == 5
    all_end(pids)


def _option(launcher: subprocess.Popen[str], key: str) -> str:
    arguments = launcher.args
    assert isinstance(arguments, list)
    return next(each.partition("=")[2] for each in arguments if each.startswith(f"{key}="))


def _with_parent(pid: int, *, but: Iterable[int]) -> list[int]:
    return [child for child in map(int, _children(pid)) if child not in but and _is_alive(child)]


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
