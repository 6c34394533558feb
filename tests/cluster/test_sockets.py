"""Ports and reachability, with real sockets."""

import socket
from collections.abc import Iterator

import pytest

from dpsr.cluster.sockets import Reach, check_free, look_at, wait_for
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


def test_who_cannot_be_reached_is_named(listening: str, nobody: str) -> None:
    task = Task("chief", 0, {"chief": ("c:1",), "worker": (listening,), "ps": (listening, nobody)})
    wait_for(task, ["worker"], 0.0)
    with pytest.raises(ClusterError, match=rf"chief 0: cannot reach ps 1 at {nobody} after 0.1 s; start"):
        wait_for(task, ["worker", "ps"], 0.1)


def test_a_closed_port_is_told_from_a_silent_machine(listening: str, nobody: str) -> None:
    assert look_at(listening) is Reach.LISTENS
    assert look_at(nobody) is Reach.REFUSES
    assert look_at("no-such-host.invalid:1") is Reach.SILENT
