"""Ports and reachability, with real sockets."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from dpsr.cluster.sockets import Reach, answers, check_free, look_at, wait_for
from dpsr.cluster.tasks import ClusterError, Task


@pytest.fixture
def listening() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_a_port_in_use_is_an_error_that_names_the_task(listening: str, nobody: str) -> None:
    task = Task("worker", 1, {"chief": ("c:1",), "worker": ("w:1", listening), "ps": ("p:1",)})
    with pytest.raises(ClusterError, match=r"worker 1: cannot listen on port \d+ .*another process has it"):
        check_free(task)
    check_free(Task("ps", 0, {"chief": ("c:1",), "worker": ("w:1",), "ps": (nobody,)}))


@pytest.fixture
def server() -> Iterator[str]:
    """A real server of gRPC, without any service."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_only_a_server_that_is_at_work_answers(server: str, listening: str, nobody: str) -> None:
    assert answers(server)
    assert not answers(listening)
    assert not answers(nobody)


def test_who_cannot_be_reached_is_named(server: str, listening: str, nobody: str) -> None:
    task = Task("chief", 0, {"chief": ("c:1",), "worker": (server,), "ps": (server, nobody, listening)})
    wait_for(task, ["worker"], 0.0)
    message = (
        rf"chief 0: cannot reach ps 1 at {nobody}, ps 2 at {listening} \(it takes connections, but does not answer: "
        r"the task hangs, or another program has its port\) after 0.1 s; start"
    )
    with pytest.raises(ClusterError, match=message):
        wait_for(task, ["worker", "ps"], 0.1)


def test_a_closed_port_is_told_from_a_silent_machine(listening: str, nobody: str) -> None:
    assert look_at(listening) is Reach.LISTENS
    assert look_at(nobody) is Reach.REFUSES
    assert look_at("no-such-host.invalid:1") is Reach.SILENT
