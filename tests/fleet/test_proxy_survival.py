"""What the proxy's requests survive: a reload while they wait, the death of the agent, of HAProxy, of both."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import grpc
import pytest
from messages import predict_request
from test_controller import wait_for
from test_proxy import Proxied

from dpsr.serving.fleet.proxy.process import HaProxy
from dpsr.serving.fleet.state import AliasRoute

pytestmark = pytest.mark.skipif(shutil.which("haproxy") is None, reason="no haproxy; make deps-fleet installs it")

AGENT = """
import sys, threading
from pathlib import Path
from dpsr.config import FleetConfig
from dpsr.serving.fleet.proxy.agent import ProxyAgent
fleet = FleetConfig.model_validate_json(sys.stdin.read())
ProxyAgent(fleet, "p", Path(fleet.state_dir) / "run").run(threading.Event())
"""


@pytest.fixture
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    proxied = Proxied(tmp_path_factory.mktemp("p"))
    yield proxied
    proxied.close()


def test_a_request_that_waits_outlives_a_reload(proxied: Proxied) -> None:
    server = proxied.add_server("a", "other")
    proxied.start()
    proxied.route({"other": ["a"], "cold": []}, on_demand=("cold",))
    waiting = [proxied.caller().future(predict_request("cold"), timeout=30) for _ in range(5)]
    wait_for(lambda: (r := proxied.report()) and "cold" in r.wanted)
    proxied.route({"other": ["a"], "cold": [], "new": []}, on_demand=("cold",))
    server.hold("other", "cold")
    proxied.route({"other": ["a"], "cold": ["a"], "new": []}, on_demand=("cold",))
    assert [one.result() for one in waiting] == [b"a"] * 5


def start_agent(proxied: Proxied) -> subprocess.Popen[bytes]:
    agent = subprocess.Popen([sys.executable, "-c", AGENT], stdin=subprocess.PIPE)
    assert agent.stdin is not None
    agent.stdin.write(proxied.config.model_dump_json().encode())
    agent.stdin.close()
    wait_for(proxied.report)
    return agent


def test_traffic_goes_on_without_the_agent_and_the_next_one_takes_over(proxied: Proxied) -> None:
    proxied.add_server("a", "m"), proxied.add_server("b", "m")
    agent = start_agent(proxied)
    try:
        proxied.route({"m": ["a"]})
        stop, failures, answers = threading.Event(), [], []

        def ask() -> None:
            call = proxied.caller()
            while not stop.is_set():
                try:
                    answers.append(call(predict_request("m"), timeout=10))
                except grpc.RpcError as error:
                    failures.append((error.code(), error.details()))

        caller = threading.Thread(target=ask)
        caller.start()
        wait_for(lambda: len(answers) > 50)
        pid = proxied.pid()
        agent.kill()
        agent.wait()
        seen = len(answers)
        wait_for(lambda: len(answers) > seen + 50)
        proxied.start()
        proxied.route({"m": ["b"]})
        wait_for(lambda: answers[-1] == b"b")
        stop.set()
        caller.join()
        assert failures == []
        assert proxied.pid() == pid
    finally:
        agent.kill()
        agent.wait()


def test_a_reload_is_no_end(proxied: Proxied) -> None:
    proxied.add_server("a", "m")
    proxied.start()
    proxied.route({"m": ["a"]})
    haproxy = HaProxy(proxied.state / "run")
    assert haproxy.is_running()
    looks, stop = [], threading.Event()

    def look() -> None:
        while not stop.is_set():
            looks.append(haproxy.is_running())

    looking = threading.Thread(target=look)
    looking.start()
    for number in range(8):  # a new model is a reload
        proxied.route({"m": ["a"], **{f"m{each}": ["a"] for each in range(number + 1)}})
    stop.set()
    looking.join()
    assert all(looks)


def test_workers_end_in_order_when_all_their_requests_end_at_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    proxied = Proxied(tmp_path_factory.mktemp("p"), threads=1)
    try:
        proxied.add_server("a", "m", "dark")
        proxied.start()
        aliases = {"shop": AliasRoute(variants={"m": 1.0}, shadow={"dark": 1.0})}
        calls = [proxied.caller() for _ in range(8)]
        for number in range(20):  # reloads
            proxied.route({"m": ["a"], "dark": ["a"], f"m{number}": []}, aliases=aliases)
            for _ in range(2):
                answers = [call.future(predict_request("shop"), timeout=10) for call in calls]
                assert [answer.result() for answer in answers] == [b"a"] * len(calls)
    finally:
        proxied.close()
    assert proxied.crashes() == []


def test_both_come_back_after_a_kill_of_agent_and_haproxy(proxied: Proxied) -> None:
    proxied.add_server("a", "m")
    agent = start_agent(proxied)
    try:
        proxied.route({"m": ["a"]})
        agent.kill()
        agent.wait()
        before = proxied.pid()
        os.kill(before, signal.SIGKILL)
        proxied.start()
        assert proxied.caller()(predict_request("m"), timeout=20, wait_for_ready=True) == b"a"
        assert proxied.pid() != before
    finally:
        agent.kill()
        agent.wait()
