"""Sockets of a cluster's tasks: which of them answer, and whether a port is free."""

from __future__ import annotations

import enum
import socket
import time
from collections.abc import Iterable

from dpsr.cluster.tasks import ClusterError, Task, host_and_port

_ATTEMPT_SECONDS = 2.0
_PAUSE_SECONDS = 0.5
# The client's connection preface with empty settings (RFC 9113, section 3.4); a server answers with its own settings.
_HTTP2_HEADER_BYTES, _HTTP2_SETTINGS = 9, 4
_HTTP2_CLIENT = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, _HTTP2_SETTINGS, 0, 0, 0, 0, 0])


class Reach(enum.Enum):
    """The answer to a connection attempt."""

    LISTENS = enum.auto()
    REFUSES = enum.auto()
    """The machine is up, and no process listens at the port."""
    SILENT = enum.auto()
    """No answer."""


def look_at(address: str) -> Reach:
    """Tries to connect to ``host:port``."""
    try:
        with socket.create_connection(host_and_port(address), _ATTEMPT_SECONDS):
            return Reach.LISTENS
    except ConnectionRefusedError:
        return Reach.REFUSES
    except OSError:
        return Reach.SILENT


def answers(address: str) -> bool:
    """Whether a gRPC server at ``host:port`` answers.

    An accepted connection does not prove it: the port may be another program's, and the kernel accepts connections for
    a process that hangs.
    """
    try:
        with socket.create_connection(host_and_port(address), _ATTEMPT_SECONDS) as connection:
            connection.sendall(_HTTP2_CLIENT)
            header = connection.recv(_HTTP2_HEADER_BYTES, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(header) == _HTTP2_HEADER_BYTES and header[3] == _HTTP2_SETTINGS


def wait_for(task: Task, jobs: Iterable[str], timeout: float) -> None:
    """Waits until every task of some jobs answers.

    Args:
        task: the task that waits.
        jobs: the jobs whose tasks are awaited.
        timeout: seconds.

    Raises:
        ClusterError: some tasks do not answer; names them.
    """
    missing = [(job, index, address) for job in jobs for index, address in enumerate(task.addresses[job])]
    deadline = time.monotonic() + timeout
    while True:
        missing = [(job, index, address) for job, index, address in missing if not answers(address)]
        if not missing:
            return
        if time.monotonic() > deadline:
            names = ", ".join(f"{job} {index} at {address}{_why(address)}" for job, index, address in missing)
            raise ClusterError(
                f"{task.name}: cannot reach {names} after {timeout:g} s; start these tasks, or correct their addresses "
                "in TF_CONFIG (cluster.start_timeout is how long to wait)"
            )
        time.sleep(_PAUSE_SECONDS)


def _why(address: str) -> str:
    if look_at(address) is Reach.LISTENS:
        return " (it takes connections, but does not answer: the task hangs, or another program has its port)"
    return ""


def wait_for_end(task: Task, jobs: Iterable[str], timeout: float) -> None:
    """Waits until no task of some jobs listens, for at most ``timeout`` seconds."""
    listening = [address for job in jobs for address in task.addresses[job]]
    deadline = time.monotonic() + timeout
    while listening and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
        listening = [address for address in listening if look_at(address) is Reach.LISTENS]


def check_free(task: Task) -> None:
    """Checks that the port of a task is free.

    Raises:
        ClusterError: another process listens there.
    """
    _, port = host_and_port(task.address)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ClusterError(
                f"{task.name}: cannot listen on port {port} ({error.strerror}); another process has it: stop that, or "
                "give the task another port in TF_CONFIG"
            ) from None
