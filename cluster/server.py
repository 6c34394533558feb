"""A worker or a parameter server: does what the chief tells it, until that says that the training is over."""

from __future__ import annotations

import signal
import threading
import time

from dpsr.cluster.sockets import answers, check_free
from dpsr.cluster.tasks import CHIEF, ClusterError, Task
from dpsr.config import Config

_LOOK_SECONDS = 5.0


def serve(task: Task, config: Config) -> None:
    """Serves until the chief ends the task, or is gone for too long.

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
        # It lives until the process ends: nothing refers to it, but for this name.
        server = tf.distribute.Server(
            tf.train.ClusterSpec({job: list(addresses) for job, addresses in task.addresses.items()}),
            job_name=task.job,
            task_index=task.index,
            protocol="grpc",
        )
    except tf.errors.OpError as error:
        raise ClusterError(f"{task.name}: cannot listen at {task.address}: {error.message}") from None
    print(f"{task.name}: listens at {task.address}", flush=True)
    chief, timeout = task.addresses[CHIEF][0], config.cluster.start_timeout
    last_seen = time.monotonic()
    while not ended.wait(_LOOK_SECONDS):
        if answers(chief):
            last_seen = time.monotonic()
        elif time.monotonic() - last_seen > timeout:
            raise ClusterError(
                f"{task.name}: the chief at {chief} has not been there for {timeout:g} s; start it, then this task, or "
                "raise cluster.start_timeout"
            )
    print(f"{task.name}: ended", flush=True)
    del server
