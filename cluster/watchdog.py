"""Ends a process that makes no progress: TensorFlow's calls to a task that hangs have no time limit."""

from __future__ import annotations

import os
import sys
import threading
import time

from dpsr.cluster.tasks import ClusterError

_LOOK_SECONDS = 0.5


class Watchdog:
    """Prints an error and ends the process when an expected event does not happen in time."""

    def __init__(self, exit_code: int) -> None:
        """Starts without an expectation; the process ends with ``exit_code``."""
        self._exit_code = exit_code
        self._doing = ""
        self._deadline = float("inf")
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def expect(self, doing: str, seconds: float) -> None:
        """Expects the next call within ``seconds``, else ends the process with the error "timed out ``doing``"."""
        self._doing = doing
        self._deadline = time.monotonic() + seconds

    def _watch(self) -> None:
        while time.monotonic() < self._deadline:
            time.sleep(_LOOK_SECONDS)
        error = ClusterError(f"timed out {self._doing}")
        print(f"chief: {error}", file=sys.stderr, flush=True)
        os._exit(self._exit_code)
