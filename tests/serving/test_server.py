"""The server process and its limits: signals, ports, load, health."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tiny_shop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from waiting import wait_for

from dpsr.serving.client import PredictClient
from dpsr.serving.errors import ServableError, ServingError
from dpsr.serving.tensors import decode

NAME = tiny_shop.NAME
SERVE = """
import sys
from pathlib import Path
from dpsr.config import ServingConfig
from dpsr.serving.manager.model_config import ServedModel
from dpsr.serving.server import serve
serve([ServedModel(sys.argv[1], Path(sys.argv[2]))], ServingConfig(port=0, rest_port=-1, data_plane=sys.argv[3]))
"""


def answers(client: PredictClient) -> bool:
    """Whether a request is answered; False for RESOURCE_EXHAUSTED."""
    try:
        return bool(client.predict(NAME, {"query": ["red"]}, timeout=60))
    except ServingError as error:
        if error.code != grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        return False


def steps_done(answer: Any) -> int:
    """Loop iterations of a slow call."""
    return int(decode(answer.result().outputs["done"])[0])


@pytest.fixture
def process(publish: Callable[..., Path], base_path: Path, data_plane: str) -> Iterator[subprocess.Popen[str]]:
    publish(1)
    command = [sys.executable, "-c", SERVE, NAME, str(base_path), data_plane]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=buffered)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_requests_in_flight(
    process: subprocess.Popen[str], start_slow_calls: Callable[..., list[Any]], number: int
) -> None:
    assert process.stdout is not None
    ready = process.stdout.readline().split()
    assert ready[:4] == ["ready:", NAME, "version", "1"]
    with PredictClient(ready[-1]) as client:
        assert client.wait_until_ready(NAME) == 1
        answers = start_slow_calls(ready[-1], 3, 60_000)
        process.send_signal(number)
        assert [steps_done(answer) for answer in answers] == [60_000] * 3
        assert process.wait(timeout=20) == 0
        with pytest.raises(ServingError) as error:
            client.predict(NAME, {"query": ["red"]}, timeout=5)
        assert error.value.code == grpc.StatusCode.UNAVAILABLE


def test_a_stop_under_load_answers_or_says_unavailable(publish: Callable[..., Path], base_path: Path) -> None:
    publish(1)
    server = tiny_shop.server(base_path)
    target = f"127.0.0.1:{server.start()}"
    answered = threading.Semaphore(0)

    def ask_until_refused(_: int) -> grpc.StatusCode:
        with PredictClient(target, timeout=60) as client:
            while True:
                try:
                    client.predict(NAME, {"query": ["red"]})
                    answered.release()
                except ServingError as error:
                    return error.code

    with ThreadPoolExecutor(8) as pool:
        codes = pool.map(ask_until_refused, range(8))
        for _ in range(40):
            assert answered.acquire(timeout=60)
        server.stop()
        assert set(codes) == {grpc.StatusCode.UNAVAILABLE}


def test_a_stop_answers_rest_requests_in_flight(publish: Callable[..., Path], base_path: Path) -> None:
    publish(1)
    server = tiny_shop.server(base_path, rest_port=0)
    server.start()
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/{NAME}:predict"
    body = json.dumps({"signature_name": "slow", "inputs": [60_000]}).encode()

    def ask() -> tuple[int, object]:
        with urllib.request.urlopen(url, body, timeout=60) as response:
            return response.status, json.loads(response.read())

    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(ask) for _ in range(3)]
        wait_for(lambda: server._in_flight.count == 3 or all(answer.done() for answer in answers))
        server.stop()
        assert [answer.result() for answer in answers] == [(200, {"outputs": [60_000]})] * 3
    with pytest.raises(urllib.error.URLError):
        ask()


def test_a_taken_port_is_an_error_that_names_it(publish: Callable[..., Path], base_path: Path) -> None:
    publish(1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServableError, match=rf"cannot listen on 127.0.0.1:{port}: the port is taken"):
            tiny_shop.server(base_path, port=port).start()


def test_two_servers_cannot_share_a_port(target: str, publish: Callable[..., Path], base_path: Path) -> None:
    publish(1)
    with pytest.raises(ServableError, match="the port is taken"):
        tiny_shop.server(base_path, port=int(target.rpartition(":")[2])).start()


def test_the_server_listens_on_loopback_alone(target: str) -> None:
    port = int(target.rpartition(":")[2])
    socket.create_connection(("127.0.0.1", port), timeout=2).close()
    with pytest.raises(ConnectionRefusedError):  # a server on 0.0.0.0 would answer here
        socket.create_connection(("127.0.0.2", port), timeout=2)


def test_sixteen_threads_get_their_own_answers(client: PredictClient) -> None:
    def ask(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(25):
            queries = [b"q" * int(length) for length in random.integers(0, 40, random.integers(1, 6))]
            if seed % 4:
                answer, wanted = client.predict(NAME, {"query": queries}), tiny_shop.expected(queries, 1)
            else:
                history = random.integers(-1, tiny_shop.ITEMS, (len(queries), 3))
                gender = [b"f" * int(length) for length in random.integers(0, 3, len(queries))]
                inputs = {"query": queries, "gender": gender, "history": history}
                answer = client.predict(NAME, inputs, signature="personalized")
                wanted = tiny_shop.expected(queries, 1, tiny_shop.personal_bonus(gender, history))
            for alias, array in wanted.items():
                np.testing.assert_array_equal(answer[alias], array)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(16)))


def test_requests_beyond_max_in_flight_are_refused_at_once(
    publish: Callable[..., Path], base_path: Path, start_slow_calls: Callable[..., list[Any]]
) -> None:
    publish(1)
    server = tiny_shop.server(base_path, max_in_flight=2)
    target = f"127.0.0.1:{server.start()}"
    with PredictClient(target, timeout=60) as client:
        answers = start_slow_calls(target, 2, 200_000)
        with pytest.raises(ServingError) as error:
            client.predict(NAME, {"query": ["red"]})
        assert not any(answer.done() for answer in answers)
        assert error.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "2 requests are in flight" in error.value.message
        assert client.status(NAME)[1].state == "AVAILABLE"  # only predictions count
        assert [steps_done(answer) for answer in answers] == [200_000] * 2
        assert client.predict(NAME, {"query": ["red"]})
    server.stop()


def test_a_passed_deadline_frees_its_place(publish: Callable[..., Path], base_path: Path) -> None:
    publish(1)
    server = tiny_shop.server(base_path, max_in_flight=1)
    with PredictClient(f"127.0.0.1:{server.start()}") as client:
        with pytest.raises(ServingError) as error:
            client.predict(NAME, {"steps": np.array([200_000], np.int32)}, signature="slow", timeout=0.2)
        assert error.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
        wait_for(lambda: answers(client))
    server.stop()


def test_health_and_status_follow_the_first_load(
    publish: Callable[..., Path], base_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(1)
    server = tiny_shop.server(base_path, port=_free_port())
    go_on, load_first = threading.Event(), server.models.load_first
    monkeypatch.setattr(server.models, "load_first", lambda: go_on.wait(20) and load_first())
    starting = threading.Thread(target=server.start)
    starting.start()
    with grpc.insecure_channel(f"127.0.0.1:{server._config.port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)

        def check() -> int:
            return health.Check(health_pb2.HealthCheckRequest(), timeout=20, wait_for_ready=True).status

        assert check() == health_pb2.HealthCheckResponse.NOT_SERVING
        with PredictClient(f"127.0.0.1:{server._config.port}") as client:
            with pytest.raises(ServingError, match=r"Servable not found for request: Latest\(tiny_shop\)"):
                client.predict(NAME, {"query": ["red"]})
            with pytest.raises(ServingError, match=r"was not ready within 0\.3 s; last answer: NOT_FOUND"):
                client.wait_until_ready(NAME, timeout=0.3)
            go_on.set()
            assert client.wait_until_ready(NAME) == 1
        starting.join()
        assert check() == health_pb2.HealthCheckResponse.SERVING
    server.stop()


def test_a_health_watch_reports_the_stop_and_does_not_delay_it(publish: Callable[..., Path], base_path: Path) -> None:
    publish(1)
    server = tiny_shop.server(base_path)
    with grpc.insecure_channel(f"127.0.0.1:{server.start()}") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        stopping = threading.Thread(target=server.stop, kwargs={"grace": 3600})
        stopping.start()
        assert [response.status for response in watch] == [health_pb2.HealthCheckResponse.NOT_SERVING]
        stopping.join(timeout=30)
        assert not stopping.is_alive()


def test_stop_is_safe_to_call_twice_and_before_start(base_path: Path) -> None:
    server = tiny_shop.server(base_path)
    server.stop()
    server.stop()
    server.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
