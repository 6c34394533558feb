"""A worker or a parameter server: runs the chief's calls until the chief ends the task."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from dpsr.cluster.sockets import Reach, check_free, look_at
from dpsr.cluster.tasks import CHIEF, ClusterError, Task
from dpsr.config import Config

_LOOK_SECONDS = 1.0
_UNREACHABLE_SECONDS = 60.0
"""Time without an answer after which the chief counts as dead; a refused connection counts at once."""


def serve(task: Task, config: Config) -> None:
    """Serves until the chief ends the task, or stays away for too long.

    Args:
        task: a worker or a parameter server.
        config: the run.

    Raises:
        ClusterError: the port is taken, or the chief cannot be reached for ``cluster.start_timeout`` seconds.
        LibraryError: the op library does not fit.
    """
    check_free(task)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    import tensorflow as tf

    from dpsr.ops_cc import library

    library.load()
    try:
        # The name keeps the server alive until the process ends.
        server = tf.distribute.Server(
            tf.train.ClusterSpec({job: list(addresses) for job, addresses in task.addresses.items()}),
            job_name=task.job,
            task_index=task.index,
            protocol="grpc",
        )
    except tf.errors.OpError as error:
        raise ClusterError(f"{task.name}: cannot listen at {task.address}: {error.message}") from None
    print(f"{task.name}: listens at {task.address}", flush=True)
    _watch(task, config.cluster.start_timeout, ended)
    print(f"{task.name}: ended", flush=True)
    del server


def _watch(task: Task, timeout: float, ended: threading.Event) -> None:
    """Returns when the chief ends the task; replaces the process when the chief dies.

    Tables and unfinished calls of a dead chief are of no use to the next one, and TensorFlow never frees them. So the
    process replaces itself by a new one with the same process id and port.
    """
    chief, last_seen, seen = task.addresses[CHIEF][0], time.monotonic(), False
    while not ended.wait(_LOOK_SECONDS):
        state = look_at(chief)
        if state is Reach.LISTENS:
            last_seen, seen = time.monotonic(), True
            continue
        gone_for = time.monotonic() - last_seen
        if seen and (state is Reach.REFUSES or gone_for > _UNREACHABLE_SECONDS):
            print(f"{task.name}: the chief is gone; waits for another one", flush=True)
            _replace_process()
        if gone_for > timeout:
            raise ClusterError(
                f"{task.name}: the chief at {chief} has not been there for {timeout:g} s; start it, then this task, or "
                "raise cluster.start_timeout"
            )


def _replace_process() -> None:
    """Closes the sockets, and replaces this process by a new one with the same command line."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
