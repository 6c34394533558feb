"""Ends a process in which nothing happens any more: calls of TensorFlow to a task that hangs have no time limit."""

from __future__ import annotations

import os
import sys
import threading
import time

from dpsr.cluster.tasks import ClusterError

_LOOK_SECONDS = 0.5


class Watchdog:
    """Says so and ends the process when too long has passed since the last sign of life."""

    def __init__(self, exit_code: int) -> None:
        """Waits for the first sign of life; ends the process by ``exit_code``."""
        self._exit_code = exit_code
        self._doing = ""
        self._deadline = float("inf")
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def expect(self, doing: str, seconds: float) -> None:
        """From now on the next sign of life is to come in ``seconds``; ``doing`` says what is waited for, and why."""
        self._doing = doing
        self._deadline = time.monotonic() + seconds

    def _watch(self) -> None:
        while time.monotonic() < self._deadline:
            time.sleep(_LOOK_SECONDS)
        error = ClusterError(f"timed out {self._doing}")
        print(f"chief: {error}", file=sys.stderr, flush=True)
        os._exit(self._exit_code)
