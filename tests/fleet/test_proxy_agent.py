"""The agent as a process: its death, its end, and what keeps it from starting."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from messages import predict_request
from odd_servers import OddServer
from test_controller import wait_for
from test_proxy import Proxied, failure

from dpsr.serving.fleet.errors import FleetError
from dpsr.serving.fleet.proxy import process as haproxy_process
from dpsr.serving.fleet.proxy.agent import ProxyAgent
from dpsr.serving.fleet.proxy.process import find_haproxy
from dpsr.serving.fleet.proxy.runtime import RuntimeApi
from dpsr.serving.fleet.state import replace_text

pytestmark = pytest.mark.skipif(shutil.which("haproxy") is None, reason="no haproxy; make deps-fleet installs it")


class Commanded(Proxied):
    """A proxy whose agents are processes, ``dpsr fleet proxy``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        proxy, state = self.config.proxy, self.config.state_dir
        self.file = folder / "fleet.toml"
        self.file.write_text(
            f'state_dir = "{state}"\n[models.m]\nbase_path = "/nowhere"\n[control]\nwait_seconds = 3.0\n'
            f"[proxy]\nport = {proxy.port}\nrest_port = {proxy.rest_port}\nmetrics_port = {proxy.metrics_port}\n"
            "threads = 2\n"
        )
        self.run_dir = self.state / "run" / "p"
        self.agents: list[subprocess.Popen[str]] = []

    def start_process(self) -> subprocess.Popen[str]:
        """Starts an agent; returns when it has reported."""
        (self.state / "proxies" / "p.json").unlink(missing_ok=True)
        command = [sys.executable, "-m", "dpsr.cli", "fleet", "proxy", "-c", str(self.file), "--name", "p"]
        agent = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.agents.append(agent)
        wait_for(lambda: self.report() or agent.poll() is not None)
        assert agent.poll() is None
        return agent

    def close(self) -> None:
        for agent in self.agents:
            if agent.poll() is None:
                agent.terminate()
            agent.communicate()
        if self.run_dir.exists():  # where the agent was killed
            (self.run_dir / "haproxy.cfg").touch()
            haproxy_process.HaProxy(self.run_dir)._end_leftovers()
        super().close()

    def master(self) -> int:
        return int((self.run_dir / "haproxy.pid").read_text().split()[0])


@pytest.fixture
def commanded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commanded]:
    commanded = Commanded(tmp_path_factory.mktemp("p"))
    yield commanded
    commanded.close()


def odd_server(proxied: Proxied, *models: str) -> OddServer:
    server = OddServer("a", proxied.state / "servers" / "a.config", load_seconds=0.0)
    server.hold(*models)
    proxied.servers["a"] = server
    return server


def test_haproxy_outlives_its_agent_and_the_next_takes_it_over(commanded: Commanded) -> None:
    server = odd_server(commanded, "m", "late")
    first = commanded.start_process()
    commanded.route({"m": ["a"]})
    stop, failures, count = threading.Event(), [], [0]

    def ask() -> None:
        call = commanded.caller()
        while not stop.is_set():
            try:
                call(predict_request("m"), timeout=10)
                count[0] += 1
            except grpc.RpcError as error:
                failures.append((error.code(), error.details()))

    caller = threading.Thread(target=ask)
    caller.start()
    master = commanded.master()
    first.kill()
    first.wait()
    seen = count[0]
    wait_for(lambda: count[0] > seen + 100)
    second = commanded.start_process()
    assert commanded.master() == master
    commanded.route({"m": ["a"], "late": ["a"]})
    assert commanded.caller()(predict_request("late"), timeout=5) == b"a"
    seen = count[0]
    wait_for(lambda: count[0] > seen + 100)
    stop.set()
    caller.join()
    assert failures == []
    assert commanded.master() == master
    assert set(server.served) == {"m", "late"}
    second.terminate()
    assert second.wait() == 0
    wait_for(lambda: not Path(f"/proc/{master}").exists())
    assert commanded.report() is None


def test_requests_in_flight_end_before_haproxy_does(commanded: Commanded) -> None:
    server = odd_server(commanded, "slow")
    agent = commanded.start_process()
    commanded.route({"slow": ["a"]})
    running = [commanded.caller().future(predict_request("slow"), timeout=20) for _ in range(4)]
    metrics = commanded.config.proxy.metrics_port
    wait_for(lambda: 'server_current_sessions{proxy="grpc:slow",server="a"} 4' in commanded.get("/metrics", metrics)[1])
    master = commanded.master()
    agent.send_signal(signal.SIGTERM)
    assert [one.result() for one in running] == [b"a"] * 4
    assert agent.wait() == 0
    assert not Path(f"/proc/{master}").exists()
    assert server.served == ["slow"] * 4
    code, _ = failure(lambda: commanded.caller()(predict_request("slow"), timeout=3))
    assert code == "UNAVAILABLE"


@pytest.mark.parametrize("which", ["port", "rest_port", "metrics_port"])
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "SO_REUSEPORT"])
def test_a_taken_port_is_named(tmp_path_factory: pytest.TempPathFactory, which: str, shared: bool) -> None:
    proxied = Proxied(tmp_path_factory.mktemp("p"))
    port = getattr(proxied.config.proxy, which)
    with socket.socket() as taken:
        if shared:  # as a gRPC server has it: HAProxy would get a part of the connections without a word
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("0.0.0.0", port))
        taken.listen()
        agent = ProxyAgent(proxied.config, "p", proxied.state / "run")
        started = time.monotonic()
        with pytest.raises(FleetError, match=rf"proxy\.{which}\b.*\b{port}\b"):
            agent.run(threading.Event())
        assert time.monotonic() - started < 10
    leftovers = [
        entry for entry in Path("/proc").iterdir() if entry.name.isdecimal() and _has(entry, str(proxied.state / "run"))
    ]
    assert leftovers == []


def _has(entry: Path, word: str) -> bool:
    try:
        return word.encode() in (entry / "cmdline").read_bytes() and entry.name != str(os.getpid())
    except OSError:
        return False


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("HA-Proxy version 1.8.27 2020/11/06", "is version 1.8;"),
        ("HAProxy version 2.4.22-0ubuntu0.22.04.1", "is version 2.4;"),
        ("HAProxy version 2.8.5 +OPENSSL -LUA -PROMEX", "is built without LUA, PROMEX;"),
        ("nonsense", "is version unknown;"),
    ],
)
def test_an_unfit_haproxy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, found: str) -> None:
    program = tmp_path / "haproxy"
    program.write_text(f"#!/bin/sh\necho '{text}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(FleetError) as error:
        find_haproxy()
    assert found in str(error.value)
    assert "make deps-fleet" in str(error.value)


def test_a_missing_haproxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(haproxy_process.shutil, "which", lambda program, path=None: None)
    with pytest.raises(FleetError, match=r"no haproxy on the PATH; .*make deps-fleet"):
        find_haproxy()


def test_the_longest_state_dir_works_and_a_longer_one_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("p")

    def proxied(length: int) -> Proxied:
        return Proxied(folder / ("x" * (length - len(str(folder / "x" / "state" / "run")) + 1)))

    longest = proxied(haproxy_process.LONGEST_RUN_DIR)
    assert len(str(longest.state / "run")) == haproxy_process.LONGEST_RUN_DIR
    try:
        longest.add_server("a", "m")
        longest.start()
        longest.route({"m": ["a"]})
        longest.route({"m": ["a"], "more": []}, on_demand=("more",))
        assert longest.caller()(predict_request("m"), timeout=5) == b"a"
    finally:
        longest.close()
    longer = proxied(haproxy_process.LONGEST_RUN_DIR + 1)
    with pytest.raises(FleetError, match=r"too long for unix sockets.*state_dir"):
        ProxyAgent(longer.config, "p", longer.state / "run")
    assert not longer.state.exists()


def test_damaged_routes_leave_those_before_in_force(
    tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    proxied = Proxied(tmp_path_factory.mktemp("p"))
    try:
        proxied.add_server("a", "m")
        proxied.start()
        proxied.route({"m": ["a"]})
        file = proxied.state / "routes.json"
        for damage in ("", "{", '{"generation": "many"}', '{"models": {"m": [{"server": "a", "state": "lost"}]}}'):
            caplog.clear()
            replace_text(file, damage)
            wait_for(lambda: [r for r in caplog.records if r.levelno == logging.ERROR and str(file) in r.message])
            later = time.time() + 1
            report = wait_for(lambda later=later: (r := proxied.report()) and r.written_at > later and r)
            assert len([record for record in caplog.records if str(file) in record.message]) == 1
            assert report.generation == proxied.routes.generation
            assert proxied.caller()(predict_request("m"), timeout=5) == b"a"
        proxied.route({"m": ["a"], "more": []})
        assert failure(lambda: proxied.caller()(predict_request("more"), timeout=5))[0] == "UNAVAILABLE"
    finally:
        proxied.close()


def test_routes_that_haproxy_refuses_are_tried_again_and_not_reported(
    tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    proxied = Proxied(tmp_path_factory.mktemp("p"))
    try:
        server = proxied.add_server("a", "m", "more")
        proxied.start()
        proxied.route({"m": ["a"]})
        good, server.port = server.port, 99999
        proxied.route({"m": ["a"], "more": ["a"]}, wait=False)
        wait_for(lambda: "does not accept" in caplog.text)
        server.port = good
        report = proxied.report()
        assert report is not None
        wait_for(lambda: (r := proxied.report()) and r.written_at > report.written_at)
        assert proxied.report().generation == 1  # type: ignore[union-attr]
        assert proxied.caller()(predict_request("m"), timeout=5) == b"a"
        proxied.route({"m": ["a"], "more": ["a"]})
        assert proxied.caller()(predict_request("more"), timeout=5) == b"a"
    finally:
        proxied.close()


def test_no_server_of_a_name_is_left_after_it_changed_its_address(tmp_path_factory: pytest.TempPathFactory) -> None:
    proxied = Proxied(tmp_path_factory.mktemp("p"))
    try:
        old = proxied.add_server("a", "m")
        proxied.start()
        proxied.route({"m": ["a"]})
        proxied.servers["old"] = old
        proxied.add_server("a", "m")
        del proxied.servers["old"]
        proxied.route({"m": ["a"]})
        served = len(old.served)
        assert {proxied.caller()(predict_request("m"), timeout=5) for _ in range(5)} == {b"a"}
        assert len(old.served) == served
        old.kill()
        answer = RuntimeApi(proxied.state / "run" / "haproxy.sock").ask("show servers state grpc:m")
        assert str(old.port) not in answer
    finally:
        proxied.close()
