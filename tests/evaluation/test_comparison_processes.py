"""The processes of a comparison: what a failing one says, and what a killed one leaves."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpsr.data.prepare.job import prepare
from dpsr.evaluation.compare.children import MethodFailedError, run_child

from .judged_shop import make_config, write_shop, write_toml

CHILD = """
import os, sys, time
from dpsr.evaluation.compare.children import read_task
task = read_task()
if task["do"] == "fail":
    print("something before", flush=True); sys.exit("the reason")
if task["do"] == "die":
    os.kill(os.getpid(), 9)
open(task["pid"], "w").write(str(os.getpid()))
time.sleep(60)
"""
PARENT = """
import sys
from pathlib import Path
from dpsr.evaluation.compare.children import run_child
run_child([sys.executable, "-c", sys.argv[1]], "slow", {"do": "wait", "pid": sys.argv[2]}, Path(sys.argv[3]))
"""


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD]
    with pytest.raises(MethodFailedError, match=r"dssm: the reason \(exit code 1, log: .*x.log\)"):
        run_child(command, "dssm", {"do": "fail"}, tmp_path / "x.log")
    with pytest.raises(MethodFailedError, match="dssm: its process was killed by SIGKILL"):
        run_child(command, "dssm", {"do": "die"}, tmp_path / "x.log")
    with pytest.raises(MethodFailedError, match="its process said nothing"):
        run_child(["false"], "dssm", {"do": "nothing"}, tmp_path / "x.log")


def test_a_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD, str(pid_file), str(tmp_path / "log")])
    pid = wait_for(lambda: pid_file.exists() and pid_file.read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert wait_for(lambda: not Path(f"/proc/{pid}").exists() or is_zombie(int(pid)))


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def wait_for(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


@pytest.mark.slow
def test_a_killed_comparison_goes_on_where_it_was(tmp_path: Path) -> None:
    """Real processes: first the command is killed while LSA runs, then LSA's process, and the third run finishes."""
    write_shop(tmp_path)
    prepare(make_config(tmp_path), progress=False)
    command = [sys.executable, "-m", "dpsr.cli", "compare", "-c", str(write_toml(tmp_path)), "--models", "bm25,lsa"]
    logs, made = tmp_path / "run" / "comparison" / "logs", tmp_path / "run" / "comparison" / "lists"
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_for(lambda: list(logs.glob("lsa-*")), 120)
    first.send_signal(signal.SIGKILL)
    first.wait()
    (kept,) = made.glob("*.npz")
    assert kept.name.startswith("bm25-")
    stamp = kept.stat().st_mtime_ns
    second = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child = wait_for(lambda: children_of(second.pid), 120)
    os.kill(child[0], signal.SIGKILL)
    table, said = second.communicate(timeout=120)
    assert second.returncode == 1
    assert "lsa: its process was killed by SIGKILL" in said
    assert "bm25" in table
    third = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    assert "lsa" in third.stdout
    assert "lsa: runs (log: " in third.stderr
    assert "bm25: runs" not in third.stderr
    assert kept.stat().st_mtime_ns == stamp
    assert (tmp_path / "run" / "comparison" / "comparison.html").exists()


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]
