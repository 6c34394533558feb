"""Several server processes on the same ports; the kernel distributes new connections among them.

Each worker is a complete server with its own models. The parent reserves the ports, replaces a worker that dies, and
passes signals on. The parent imports neither TensorFlow nor a model.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import grpc

from dpsr.config import ServingConfig
from dpsr.serving.errors import ServableError
from dpsr.serving.logs import log_to_stderr
from dpsr.serving.manager.model_config import ServedModel
from dpsr.serving.metrics import MULTIPROCESS_DIR, forget_process
from dpsr.serving.scratch import ScratchFolder, hold

RESTART_SECONDS = 1.0
MAX_RESTART_SECONDS = 60.0

_log = logging.getLogger(__name__)


class _Worker(NamedTuple):
    process: SpawnProcess
    ready: Connection
    """Receives the worker's announcement once it serves."""


def serve_with_workers(
    models: Sequence[ServedModel], config: ServingConfig, announce: Callable[[str], object] | None = None
) -> None:
    """Runs ``config.workers`` servers until SIGTERM or SIGINT, then drains them.

    Args:
        models: the models to serve.
        config: addresses, limits and workers.
        announce: called with the announcement of one worker when all are ready; by default it is printed.

    Raises:
        ServableError: a port is taken, there is no temporary directory to write in, or a worker could not start, whose
            error is in the log.
    """
    log_to_stderr()
    with contextlib.ExitStack() as stack:
        try:
            metrics = ScratchFolder("dpsr-metrics-")
        except OSError as error:
            raise ServableError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"the workers have no directory for their metrics: {error}; name a writable one by TMPDIR, or set "
                "serving.workers = 1",
            ) from None
        stack.callback(metrics.remove)
        os.environ[MULTIPROCESS_DIR] = str(metrics.path)
        stack.callback(os.environ.pop, MULTIPROCESS_DIR)
        ports = {"port": stack.enter_context(_reserved(config.host, config.port, "port"))}
        if config.rest_port >= 0:
            ports["rest_port"] = stack.enter_context(_reserved(config.host, config.rest_port, "rest_port"))
        config = config.model_copy(update=ports)
        stopping = threading.Event()
        stack.enter_context(_on_signal(stopping))
        workers = [_start(models, config) for _ in range(config.workers)]
        stack.callback(_stop, workers)
        lines = ""
        for worker in workers:
            lines = _announcement(worker, stopping)
        if not stopping.is_set():
            (announce or partial(print, flush=True))(lines)
        _supervise(workers, models, config, stopping)


def _start(models: Sequence[ServedModel], config: ServingConfig) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ready, announcements = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(models, config, announcements), name="dpsr worker")
    process.start()
    announcements.close()
    return _Worker(process, ready)


def _work(models: Sequence[ServedModel], config: ServingConfig, announcements: Connection) -> None:
    """Main function of a worker process; the worker ends with the parent."""
    from dpsr.serving.server import serve

    threading.Thread(target=_follow_parent, daemon=True).start()
    hold(Path(os.environ[MULTIPROCESS_DIR]))  # it may outlive the parent for as long as it drains
    try:
        serve(models, config, announce=announcements.send)
    except ServableError as error:
        _log.error("a worker could not start: %s", error)
        raise SystemExit(1) from None


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _announcement(worker: _Worker, stopping: threading.Event) -> str:
    while not stopping.is_set():
        if worker.ready.poll(0.1):
            with contextlib.suppress(EOFError):
                return str(worker.ready.recv())
            worker.process.join()
            raise ServableError(
                grpc.StatusCode.UNAVAILABLE,
                f"a worker stopped before it was ready (exit code {worker.process.exitcode}); its error is in the log "
                "above",
            )
    return ""


def _supervise(
    workers: list[_Worker], models: Sequence[ServedModel], config: ServingConfig, stopping: threading.Event
) -> None:
    """Replaces dead workers until ``stopping``; repeated deaths lengthen the pause from 1 s to 60 s."""
    pause, next_start = RESTART_SECONDS, 0.0
    while not stopping.is_set():
        wait([worker.process.sentinel for worker in workers], timeout=0.2)
        for number, worker in enumerate(workers):
            now = time.monotonic()
            if worker.process.is_alive() or stopping.is_set() or now < next_start:
                continue
            forget_process(worker.process.pid)
            _log.error("a worker died with exit code %s; starting a new one", worker.process.exitcode)
            worker.ready.close()
            workers[number] = _start(models, config)
            pause = min(2 * pause, MAX_RESTART_SECONDS) if now < next_start + MAX_RESTART_SECONDS else RESTART_SECONDS
            next_start = now + pause
        if any(not worker.process.is_alive() for worker in workers):
            stopping.wait(0.2)


def _stop(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join()


@contextlib.contextmanager
def _reserved(host: str, port: int, option: str) -> Iterator[int]:
    """A port without other listeners, reserved for the sockets of this user's processes."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as exclusive:  # fails if another server shares the port already
            exclusive.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            exclusive.bind((host, port))
            port = exclusive.getsockname()[1]
        reservation = socket.socket(family)
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reservation.bind((host, port))  # never listens, so the kernel gives it no connection
    except OSError as error:
        raise ServableError(
            grpc.StatusCode.UNAVAILABLE,
            f"cannot listen on {host}:{port}: {error.strerror}; choose another serving.{option} (0 takes a free port) "
            "or serving.host",
        ) from None
    with reservation:
        yield port


@contextlib.contextmanager
def _on_signal(stopping: threading.Event) -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> None:
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
