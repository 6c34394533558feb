"""The chief: runs a coordinator, and starts another one after the death of a parameter server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

from dpsr.cluster.coordinator import DONE, FAILED, RETRY, UNCLEAR
from dpsr.cluster.sockets import check_free
from dpsr.cluster.tasks import ClusterError, Task
from dpsr.config import Config
from dpsr.processes import die_with_parent

_PAUSE_SECONDS = 1.0
_UNCLEAR_TRIES = 3
"""Errors from the same checkpoint, none of a lost task, after which the error counts as permanent."""


def supervise(task: Task, config: Config, *, resume: bool, progress: bool) -> None:
    """Trains to the end, across deaths of workers and parameter servers.

    A coordinator that has lost a parameter server cannot go on: its tables are gone. So each coordinator is a process,
    and the next one, in a fresh TensorFlow, waits for all tasks and restores the last checkpoint.

    Args:
        task: the chief.
        config: the run.
        resume: resume from the last checkpoint instead of starting anew.
        progress: show a progress bar.

    Raises:
        ClusterError: the training failed, fails again and again from the same checkpoint, or needs more restarts than
            ``cluster.max_restarts``.
    """
    check_free(task)
    unclear = 0
    for restart in range(config.cluster.max_restarts + 1):
        before = _newest_checkpoint(config)
        code = _run_coordinator(config, resume=resume or restart > 0, progress=progress)
        if code == DONE:
            return
        if code not in (RETRY, UNCLEAR, -signal.SIGKILL, -signal.SIGSEGV, -signal.SIGABRT):
            raise ClusterError("the training failed; the reason is above" if code == FAILED else f"exit code {code}")
        unclear = unclear + 1 if code == UNCLEAR and _newest_checkpoint(config) == before else 0
        if unclear == _UNCLEAR_TRIES:
            raise ClusterError(
                f"chief: gave up after {unclear} errors in a row from the same checkpoint, none of them of a lost task "
                "(the last one is above); mend the cause and run the same command to resume from the last checkpoint"
            )
        print(f"chief: resumes from the last checkpoint (restart {restart + 1})", file=sys.stderr, flush=True)
        time.sleep(_PAUSE_SECONDS)
    raise ClusterError(
        f"chief: gave up after {config.cluster.max_restarts} restarts (cluster.max_restarts); the logs of the "
        "parameter servers say why they died"
    )


def _newest_checkpoint(config: Config) -> str:
    """What TensorFlow's index of the checkpoint directory says; empty before the first checkpoint."""
    try:
        return (config.checkpoint_dir / "checkpoint").read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _run_coordinator(config: Config, *, resume: bool, progress: bool) -> int:
    request = {"config": config.model_dump(mode="json", exclude_none=True), "resume": resume, "progress": progress}
    process = subprocess.Popen(
        [sys.executable, "-m", "dpsr.cluster.coordinator"],
        stdin=subprocess.PIPE,
        text=True,
        preexec_fn=partial(die_with_parent, os.getpid()),
    )
    previous = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        assert process.stdin is not None
        with process.stdin as stream:
            json.dump(request, stream)
        return process.wait()
    finally:
        signal.signal(signal.SIGTERM, previous)
        if process.poll() is None:
            process.kill()
            process.wait()
