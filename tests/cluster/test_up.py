"""What ``dpsr cluster up`` says of its tasks, with tasks that need no TensorFlow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

LAUNCHER = """
import sys
from pathlib import Path
from dpsr.cluster.up import LocalCluster
with LocalCluster(["sleep", "1000"], workers=1, ps=1, logs=Path(sys.argv[1])) as cluster:
    cluster.wait()
"""
PATIENCE = 60.0
"""Seconds after which a launcher whose lines do not come is killed."""


def test_every_line_reaches_a_pipe_when_it_is_said(tmp_path: Path) -> None:
    """The launcher goes on for ever: a line that waits in its buffer is never read."""
    assert "PYTHONUNBUFFERED" not in os.environ, "tests/conftest.py removes the variable, which would hide the fault"
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    too_late = threading.Timer(PATIENCE, launcher.kill)
    too_late.start()
    try:
        assert launcher.stdout is not None
        lines = [launcher.stdout.readline() for _ in range(3)]
        assert [line.partition(": process ")[0] for line in lines] == ["ps 0", "worker 0", "chief 0"]
        os.kill(int(lines[1].split()[3]), signal.SIGKILL)
        assert launcher.stdout.readline() == "worker 0: was killed by signal 9; starts again\n"
        assert launcher.poll() is None
    finally:
        too_late.cancel()
        launcher.kill()
        launcher.communicate()
