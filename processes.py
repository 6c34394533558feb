"""Child processes that end with their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import IO

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Run in a fresh child of process ``parent``: the kernel kills it when the thread that started it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent ended before the call
        os._exit(1)


def start_command(
    words: Sequence[str], *, stdout: int | None = None, stderr: IO[bytes] | None = None
) -> subprocess.Popen[str]:
    """Starts ``dpsr`` as a child that ends when the calling thread does, so that this has to be the main one.

    Ctrl-C in the terminal reaches this process alone, which ends the child.

    Args:
        words: the command and its arguments.
        stdout, stderr: as of ``subprocess.Popen``; those of this process by default.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "dpsr.cli", *words],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
        start_new_session=True,
        preexec_fn=partial(die_with_parent, os.getpid()),
    )


def end(process: subprocess.Popen[str], seconds: float) -> None:
    """Ends a child by SIGTERM, and after some seconds by SIGKILL."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
