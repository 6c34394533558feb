"""A method's own process: it may need all memory and be killed, and the comparison goes on with the next one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dpsr.errors import DpsrError

ONE_CORE = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")
"""Environment of a process whose libraries start one thread each."""


class MethodFailedError(DpsrError):
    """A method's process failed; the message names the method, what ended it, and its log."""


def run_child(
    command: Sequence[str], name: str, task: Mapping[str, Any], log: Path, environment: Mapping[str, str] | None = None
) -> None:
    """Runs a process until it ends. It ends with this one, whatever ends this one.

    Args:
        command: reads a task by ``read_task``.
        name: the method, for the error.
        task: JSON object.
        log: file of its standard output and error.
        environment: variables beside those of this process.

    Raises:
        MethodFailedError: the process was killed or failed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it failed at once; its exit code and log say why
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
        try:
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()
    if code < 0:
        reason = f"its process was killed by {_signal_name(-code)}"
        hint = "; SIGKILL is what a machine without memory left sends" if -code == signal.SIGKILL else ""
        raise MethodFailedError(f"{name}: {reason}{hint}; the same command goes on from here (log: {log})")
    if code:
        raise MethodFailedError(f"{name}: {_last_line(log)} (exit code {code}, log: {log})")


def read_task() -> dict[str, Any]:
    """Reads the task of this process, and ends the process when the one that started it is gone."""
    task: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return task


def use_one_core() -> None:
    """Keeps this process, and the threads that it starts, on one core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _end_with_parent() -> None:
    # Not by a file object: a daemon thread that holds its lock aborts the interpreter's end.
    os.read(sys.stdin.fileno(), 1)  # returns when the pipe is closed
    os._exit(1)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].rpartition("\r")[2] if lines else "its process said nothing"
