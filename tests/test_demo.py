"""``dpsr demo`` and what it leaves; the commands that stay up: each line reaches a pipe while the command runs."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from dpsr.config import load_config

ROOT = Path(__file__).resolve().parent.parent
DPSR = [sys.executable, "-m", "dpsr.cli"]
LONGEST_WAIT = 240.0
"""Seconds after which a command whose line does not come is killed; only a failing test waits so long."""


@contextmanager
def running(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A process whose output is a pipe; killed with its children where it is left running."""
    assert "PYTHONUNBUFFERED" not in os.environ
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    watchdog = threading.Timer(LONGEST_WAIT, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        assert process.stdout is not None
        process.stdout.close()


def line_with(process: subprocess.Popen[str], text: str) -> str:
    """The first line with a text; the process has to run on when it has come."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            assert process.poll() is None, f"{text!r} came when the process had ended"
            return line
    raise AssertionError(f"no line with {text!r}, only:\n{''.join(lines[-20:])}")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The directory of a small demo, and the end of what it printed."""
    work_dir = tmp_path_factory.mktemp("demo") / 'a shop "of ours"'
    with running([*DPSR, "demo", "--size", "small", "--work-dir", str(work_dir)]) as process:
        line_with(process, "== a shop of 1,000 items")
        line_with(process, "== training")
        assert process.stdout is not None
        rest = process.stdout.read()
        assert process.wait() == 0, rest[-1000:]
    return work_dir, rest[rest.index("To try next") :]


@pytest.fixture(scope="module")
def suggested(demo: tuple[Path, str]) -> list[str]:
    """The four commands that the demo ends with, as they would be pasted into a shell."""
    lines = [line for line in demo[1].splitlines() if line.startswith("  ")]
    return [line[line.index("  ", 2) :].strip() for line in lines]


def test_the_demo_leaves_a_configuration_and_the_page(demo: tuple[Path, str]) -> None:
    work_dir, _ = demo
    config = load_config(work_dir / "shop.toml")
    assert Path(config.work_dir) == work_dir
    assert Path(config.data.items.path) == work_dir / "shop" / "items.parquet"
    assert "<html" in (work_dir / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [["explain", "grandpa"], ["serve", "--check"], ["evaluate", "--split", "valid"]])
def test_other_commands_work_with_the_demos_configuration(demo: tuple[Path, str], arguments: list[str]) -> None:
    command = [*DPSR, arguments[0], "-c", str(demo[0] / "shop.toml"), *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_suggested_commands_work_as_they_are(suggested: list[str]) -> None:
    serve, search, page, report = suggested
    with running(["bash", "-c", serve]) as process:
        line_with(process, "ready: demo_shop version 1 on 127.0.0.1:8500")
        found = subprocess.run(["bash", "-c", search], capture_output=True, text=True, cwd=ROOT, check=False)
        with running(["bash", "-c", page]) as of_page:
            line_with(of_page, "page: http://127.0.0.1:8700/")
    assert found.returncode == 0, found.stdout + found.stderr
    assert len([line for line in found.stdout.splitlines() if line[:2].strip().isdigit()]) == 5
    shown = subprocess.run(
        ["bash", "-c", report],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "BROWSER": "echo opens %s"},
    )
    address = shlex.split(report)[-1]
    assert address.startswith("file:///")
    assert f"opens {address}" in shown.stdout


@pytest.mark.parametrize("more", [[], ["--workers", "2"]], ids=["one process", "two workers"])
def test_serve_says_through_a_pipe_that_it_is_ready(demo: tuple[Path, str], more: list[str]) -> None:
    free = ["--set", "serving.port=0", "--set", "serving.rest_port=-1"]
    with running([*DPSR, "serve", "-c", str(demo[0] / "shop.toml"), *free, *more]) as process:
        line_with(process, "ready: demo_shop version 1 on ")


@pytest.fixture
def untrained(demo: tuple[Path, str], tmp_path: Path) -> list[str]:
    """The arguments that train longer than any test lasts, on the demo's dataset and beside its checkpoints."""
    (tmp_path / "dataset").symlink_to(demo[0] / "dataset")
    work_dir = f"work_dir={json.dumps(str(tmp_path))}"
    return ["-c", str(demo[0] / "shop.toml"), "--set", work_dir, "--set", "training.epochs=500"]


def test_a_cluster_says_through_a_pipe_what_becomes_of_its_tasks(untrained: list[str]) -> None:
    with running([*DPSR, "cluster", "up", *untrained, "--workers", "1", "--ps", "1"]) as process:
        line_with(process, "ps")
        os.kill(process.pid, signal.SIGINT)
        assert process.stdout is not None
        assert "stopping every task" in process.stdout.read()


@pytest.mark.parametrize("command", [[*DPSR, "train"], [sys.executable, "-m", "dpsr.train"]], ids=["dpsr", "train.py"])
def test_training_shows_its_progress_through_a_pipe(untrained: list[str], command: list[str]) -> None:
    with running([*command, *untrained]) as process:
        line_with(process, "1/500")
