"""``dpsr serve --check`` and ``--workers``: real processes, real signals."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tiny_shop
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc
from waiting import wait_for

from dpsr.cli import main
from dpsr.config import ServingConfig
from dpsr.serving.client import PredictClient
from dpsr.serving.errors import ServableError, ServingError
from dpsr.serving.manager.model_config import ServedModel
from dpsr.serving.workers import serve_with_workers

NAME = tiny_shop.NAME
DPSR = [sys.executable, "-m", "dpsr.cli", "serve"]
Publish = Callable[..., Path]


def buffered_environment() -> dict[str, str]:
    """Environment in which Python buffers its output into a pipe until the program flushes it."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def write_config(base_path: Path, more: str = "") -> Path:
    file = base_path.parent / "models.config"
    file.write_text(f'model_config_list {{ config {{ name: "{NAME}" base_path: "{base_path}" {more} }} }}')
    return file


def run_check(base_path: Path, more: str = "") -> tuple[int, list[str]]:
    command = ["serve", "--check", "--model-config-file", str(write_config(base_path, more))]
    done = CliRunner().invoke(main, command)
    return done.exit_code, done.stdout.splitlines()


def test_check_reports_working_and_broken_versions(publish: Publish, base_path: Path) -> None:
    publish(1)
    code, (line,) = run_check(base_path)
    assert code == 0
    assert line.startswith(f"{NAME} version 1: works; echo, embed_query, ")
    assert "5 warm-up requests" in line
    publish(2, change=lambda path: (path / "saved_model.pb").write_bytes(b"\xff"))
    labels = 'model_version_policy { all {} } version_labels { key: "stable" value: 3 }'
    code, lines = run_check(base_path, labels)
    assert code == 1
    assert [line.split(":")[0] for line in lines] == [f"{NAME} version 2", f"{NAME} version 1", f"{NAME} label stable"]
    assert "saved_model.pb: damaged" in lines[0]
    assert ": works;" in lines[1]


@pytest.mark.parametrize(
    ("more", "text"),
    [("", "no version below"), ("model_version_policy { specific { versions: 4 } }", "4 does not exist")],
)
def test_check_of_nothing_fails(base_path: Path, more: str, text: str) -> None:
    code, (line,) = run_check(base_path, more)
    assert code == 1
    assert text in line


class Workers:
    """A running ``dpsr serve --workers 2``."""

    def __init__(self, base_path: Path, log: Path) -> None:
        command = [*DPSR, "--workers", "2", "--model-config-file", str(write_config(base_path))]
        for option in ("port=0", "rest_port=0", "allow_reload=true"):
            command += ["--set", f"serving.{option}"]
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=buffered_environment()
            )
        assert self.process.stdout is not None
        lines = [self.process.stdout.readline() for _ in range(2)]
        assert lines[1].startswith(f"ready: {NAME} version "), (lines, log.read_text())
        self.rest, self.target = lines[0].split()[-1], lines[1].split()[-1]

    def ask(self, attempts: int = 1) -> int:
        """Sends a request over each of ``attempts`` connections; returns the version of the last answer."""
        for _ in range(attempts):
            with PredictClient(self.target, timeout=30) as client:
                score = client.predict(NAME, {"query": [b"red"]})["score"]
        found = [v for v in (1, 2) if np.array_equal(score, tiny_shop.expected([b"red"], v)["score"])]
        return found[0]

    def answered(self) -> float:
        with urllib.request.urlopen(f"http://{self.rest}/monitoring/prometheus/metrics", timeout=20) as response:
            families = list(text_string_to_metric_families(response.read().decode()))
        return sum(s.value for f in families for s in f.samples if s.name == "dpsr_requests_total")

    def pids(self) -> set[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()}


@pytest.fixture
def workers(publish: Publish, base_path: Path, tmp_path: Path) -> Iterator[Workers]:
    publish(1)
    workers = Workers(base_path, tmp_path / "log")
    yield workers
    workers.process.kill()
    workers.process.wait()


def test_workers_share_the_ports_and_add_up_their_figures(workers: Workers, publish: Publish) -> None:
    assert len(workers.pids()) == 2
    before = workers.answered()
    workers.ask(20)
    # Whichever worker is asked; each adds what it has counted natively four times a second.
    wait_for(lambda: {workers.answered() for _ in range(10)} == {before + 20})
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name=NAME, base_path="/x")
    with grpc.insecure_channel(workers.target) as channel, pytest.raises(grpc.RpcError) as error:
        model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request, timeout=20)
    assert error.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    publish(2)
    wait_for(lambda: all(workers.ask() == 2 for _ in range(10)))
    workers.process.send_signal(signal.SIGTERM)
    assert workers.process.wait(timeout=60) == 0


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced(workers: Workers) -> None:
    victim, before = min(workers.pids()), listeners(workers.target)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(workers.pids() - {victim}) == 2)
    workers.ask(5)  # the other worker goes on serving
    wait_for(lambda: listeners(workers.target) == before)
    workers.ask(10)


@pytest.mark.slow
def test_workers_end_with_their_parent(workers: Workers) -> None:
    pids = workers.pids()
    workers.process.kill()
    workers.process.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    with PredictClient(workers.target, timeout=5) as client, pytest.raises(ServingError):
        client.predict(NAME, {"query": ["red"]})


def test_workers_do_not_share_the_port_of_another_server(target: str, base_path: Path) -> None:
    with socket.socket() as shared:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind(("127.0.0.1", 0))
        shared.listen()
        for port in (int(target.rpartition(":")[2]), shared.getsockname()[1]):
            config = ServingConfig(port=port, rest_port=-1, workers=2)
            with pytest.raises(ServableError, match=f"cannot listen on 127.0.0.1:{port}"):
                serve_with_workers([ServedModel(NAME, base_path)], config)


def test_workers_without_a_temporary_directory_say_so(base_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nothing")
    config = ServingConfig(port=0, rest_port=-1, workers=2)
    with pytest.raises(ServableError, match=r"metrics.*/nothing.*TMPDIR, or set serving.workers = 1"):
        serve_with_workers([ServedModel(NAME, base_path)], config)


def listeners(target: str) -> int:
    """Listening sockets on a port."""
    port = f":{int(target.rpartition(':')[2]):04X}"
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    rows: list[Any] = [line.split() for line in lines]
    return sum(row[1].endswith(port) and row[3] == "0A" for row in rows)
