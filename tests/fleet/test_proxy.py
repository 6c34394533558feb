"""The proxy: a real HAProxy before real gRPC servers on loopback."""

from __future__ import annotations

import collections
import json
import os
import re
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from light_server import LightServer
from messages import predict_request
from test_controller import wait_for

from dpsr.config import FleetConfig
from dpsr.serving.fleet.proxy.agent import ProxyAgent
from dpsr.serving.fleet.proxy.variants import variant_of
from dpsr.serving.fleet.state import Address, AliasRoute, Endpoint, ProxyReport, Routes, read_state, write_state
from dpsr.serving.fleet.up import free_ports

pytestmark = pytest.mark.skipif(shutil.which("haproxy") is None, reason="no haproxy; make deps-fleet installs it")

PREDICT = "/tensorflow.serving.PredictionService/Predict"


class Proxied:
    """Light servers behind a proxy whose routes the test writes."""

    def __init__(self, folder: Path, **proxy: Any) -> None:
        self.state = folder / "state"
        ports = free_ports(3)
        self.config = FleetConfig(
            state_dir=str(self.state),
            models={"m": {"base_path": "/nowhere"}},
            proxy={"port": ports[0], "rest_port": ports[1], "metrics_port": ports[2], "threads": 2, **proxy},
            control={"wait_seconds": 3.0},
        )
        self.servers: dict[str, LightServer] = {}
        self.routes = Routes()
        self._agents: list[tuple[threading.Event, threading.Thread]] = []
        self._channels: list[grpc.Channel] = []

    def add_server(self, name: str, *models: str) -> LightServer:
        """Starts a server that holds models."""
        server = LightServer(name, self.state / "servers" / f"{name}.config", load_seconds=0.0)
        server.hold(*models)
        self.servers[name] = server
        return server

    def route(
        self,
        models: dict[str, list[str]],
        *,
        draining: dict[str, list[str]] | None = None,
        aliases: dict[str, AliasRoute] | None = None,
        on_demand: tuple[str, ...] = (),
        refused: dict[str, str] | None = None,
        wait: bool = True,
    ) -> None:
        """Writes routes; returns when the proxy has applied them."""
        ends = {
            model: tuple(
                [Endpoint(server=name) for name in names]
                + [Endpoint(server=name, state="drain") for name in (draining or {}).get(model, [])]
            )
            for model, names in models.items()
        }
        self.routes = Routes(
            generation=self.routes.generation + 1,
            servers=self.addresses(),
            models=ends,
            aliases=aliases or {},
            on_demand=frozenset(on_demand),
            refused=refused or {},
        )
        write_state(self.state / "routes.json", self.routes)
        if wait:
            wait_for(lambda: (r := self.report()) and r.generation == self.routes.generation)

    def addresses(self) -> dict[str, Address]:
        return {
            name: Address(grpc=server.address, rest=getattr(server, "rest_address", None))
            for name, server in self.servers.items()
        }

    def report(self) -> ProxyReport | None:
        return read_state(self.state / "proxies" / "p.json", ProxyReport)

    def start(self) -> None:
        stop = threading.Event()
        agent = ProxyAgent(self.config, "p", self.state / "run")
        thread = threading.Thread(target=agent.run, args=(stop,), daemon=True)
        thread.start()
        self._agents.append((stop, thread))
        wait_for(self.report)

    def close(self) -> None:
        for channel in self._channels:
            channel.close()
        for stop, thread in self._agents:
            stop.set()
            thread.join()
        for server in self.servers.values():
            server.kill()

    def caller(self, method: str = PREDICT) -> grpc.UnaryUnaryMultiCallable:
        """A call through a channel of its own."""
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 200))
        channel = grpc.insecure_channel(f"127.0.0.1:{self.config.proxy.port}", options)
        self._channels.append(channel)
        return channel.unary_unary(method)

    def crashes(self) -> list[str]:
        """Codes other than 0 with which workers ended; after ``close`` those that the end of HAProxy has too."""
        return re.findall(r"exited with code ([1-9]\d*)", (self.state / "run" / "haproxy.log").read_text())

    def pid(self) -> int:
        return int((self.state / "run" / "haproxy.pid").read_text().split()[0])

    def get(self, path: str, port: int | None = None) -> tuple[int, str]:
        """Status and text of an HTTP request to the REST port."""
        url = f"http://127.0.0.1:{port or self.config.proxy.rest_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    proxied = Proxied(tmp_path_factory.mktemp("p"))
    yield proxied
    proxied.close()


def failure(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value.code().name, error.value.details()


def test_requests_reach_a_server_that_holds_the_model(proxied: Proxied) -> None:
    proxied.add_server("a", "one", "both"), proxied.add_server("b", "two", "both")
    proxied.start()
    assert failure(lambda: proxied.caller()(predict_request("one"), timeout=5)) == (
        "UNAVAILABLE",
        "the fleet has no routes yet; try again",
    )
    proxied.route({"one": ["a"], "two": ["b"], "both": ["a", "b"], "none": []})
    call = proxied.caller()
    assert call(predict_request("one"), timeout=5) == b"a"
    assert call(predict_request("two"), timeout=5) == b"b"
    assert {call(predict_request("both"), timeout=5) for _ in range(40)} == {b"a", b"b"}
    assert call(predict_request("two", padding=1_000_000), timeout=10) == b"b"
    unknown = failure(lambda: call(predict_request("nobody"), timeout=5))
    assert unknown == ("NOT_FOUND", "Servable not found for request: Latest(nobody)")
    assert failure(lambda: call(b"", timeout=5)) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    code, text = failure(lambda: call(predict_request("none"), timeout=5))
    assert (code, "no server holds model none" in text) == ("UNAVAILABLE", True)
    code, text = failure(
        lambda: call(predict_request("one", padding=9999), timeout=5, compression=grpc.Compression.Gzip)
    )
    assert (code, "compress" in text) == ("UNIMPLEMENTED", True)
    assert proxied.caller("/grpc.health.v1.Health/Check")(b"", timeout=5) == b"\x08\x01"


def test_moves_and_new_models_fail_no_request(proxied: Proxied) -> None:
    proxied.add_server("a", "m"), proxied.add_server("b", "m", "late")
    proxied.start()
    proxied.route({"m": ["a"]})
    stop, failures, count = threading.Event(), [], [0, 0, 0]

    def call_on(number: int) -> None:
        call = proxied.caller()
        while not stop.is_set():
            try:
                call(predict_request("m"), timeout=10)
                count[number] += 1
            except grpc.RpcError as error:
                failures.append((error.code(), error.details()))

    callers = [threading.Thread(target=call_on, args=(number,)) for number in range(3)]
    for caller in callers:
        caller.start()
    for turn in range(6):
        proxied.route({"m": ["a", "b"]})
        proxied.route({"m": ["b"]}, draining={"m": ["a"]})
        wait_for(lambda: (r := proxied.report()) and r.in_flight == {"m": {"a": 0}})
        proxied.servers["a"].hold()
        proxied.route({"m": ["b"]} if turn % 2 else {"m": ["b"], "late": ["b"]})  # a model more or less: a reload
        proxied.servers["a"].hold("m")
        proxied.route({"m": ["b", "a"]})
        proxied.route({"m": ["a"]}, draining={"m": ["b"]})
        proxied.route({"m": ["a"]})
    stop.set()
    for caller in callers:
        caller.join()
    assert failures == []
    assert min(count) > 50


def holds(address: str, model: str) -> bool:
    """Whether a server answers for a model."""
    with grpc.insecure_channel(address) as channel:
        try:
            return bool(channel.unary_unary(PREDICT)(predict_request(model), timeout=5, wait_for_ready=True))
        except grpc.RpcError:
            return False


def test_a_killed_server_s_requests_go_to_the_other_replica(proxied: Proxied) -> None:
    import subprocess
    import sys

    proxied.add_server("a", "m")
    script = Path(__file__).with_name("light_server.py")
    config = proxied.state / "servers" / "b.config"
    (port,) = free_ports(1)
    process = subprocess.Popen([sys.executable, str(script), "b", str(config), str(port), "m"])
    victim = collections.namedtuple("Victim", ["address", "kill"])(f"127.0.0.1:{port}", lambda: None)
    proxied.servers["b"] = victim  # type: ignore[assignment]
    try:
        proxied.start()
        wait_for(lambda: holds(victim.address, "m"))
        proxied.route({"m": ["a", "b"]})
        call = proxied.caller()
        wait_for(lambda: call(predict_request("m"), timeout=5) == b"b")
        answers, failures = [], []

        def ask() -> None:
            mine = proxied.caller()
            for _ in range(400):
                try:
                    answers.append(mine(predict_request("m"), timeout=10))
                except grpc.RpcError as error:
                    failures.append((error.code(), error.details()))

        callers = [threading.Thread(target=ask) for _ in range(4)]
        for caller in callers:
            caller.start()
        wait_for(lambda: answers.count(b"b") > 100)
        process.kill()
        for caller in callers:
            caller.join()
    finally:
        process.kill()
        process.wait()
    assert failures == []
    assert len(answers) == 1600
    assert answers[-100:] == [b"a"] * 100


SHOP = AliasRoute(variants={"v41": 0.9, "v42": 0.1}, sticky_header="x-user", sticky_input="user_id")


def test_an_alias_gives_each_key_its_variant_and_rewrites_the_name(proxied: Proxied) -> None:
    server = proxied.add_server("a", "v41", "v42")
    proxied.start()
    proxied.route({"v41": ["a"], "v42": ["a"]}, aliases={"shop": SHOP})
    call = proxied.caller()

    def variant(metadata: Any = (), **request: Any) -> str:
        answer, details = call.with_call(predict_request("shop", **request), timeout=5, metadata=metadata)
        assert answer == b"a"
        named = dict(details.initial_metadata())["x-dpsr-variant"]
        assert server.served[-1] == named
        return str(named)

    users = [f"user-{number}" for number in range(300)]
    expected = [variant_of("shop", user, SHOP.variants) for user in users]
    assert {"v41", "v42"} == set(expected)
    assert [variant((("x-user", user),)) for user in users] == expected
    assert [variant(inputs={"query": "x", "user_id": user}) for user in users] == expected
    numbers = [variant(inputs={"user_id": number}) for number in range(50)]
    assert numbers == [variant_of("shop", str(number), SHOP.variants) for number in range(50)]
    assert variant((("x-dpsr-variant", "v42"),)) == "v42"
    code, text = failure(lambda: variant((("x-dpsr-variant", "v43"),)))
    assert (code, text) == ("INVALID_ARGUMENT", "x-dpsr-variant: v43 is no variant of shop (v41, v42)")
    assert variant(padding=2_000_000) in ("v41", "v42")
    drawn = collections.Counter(variant() for _ in range(400))
    assert 10 <= drawn["v42"] <= 80
    proxied.route({"v41": ["a"], "v42": ["a"]}, aliases={"shop": AliasRoute(variants={"v42": 1.0})})
    assert {variant() for _ in range(20)} == {"v42"}
    _, page = proxied.get("/aliases", proxied.config.proxy.metrics_port)
    assert 'dpsr_fleet_alias_requests_total{alias="shop",status="OK",variant="v42"}' in page
    assert 'dpsr_fleet_alias_request_seconds_count{alias="shop",variant="v42"}' in page
    _, page = proxied.get("/metrics", proxied.config.proxy.metrics_port)
    assert 'haproxy_backend_http_requests_total{proxy="grpc:v41"}' in page


def test_shares_over_many_keys() -> None:
    count = 100_000
    found = collections.Counter(variant_of("shop", f"user-{number}", SHOP.variants) for number in range(count))
    assert abs(found["v42"] / count - 0.1) < 0.005


def test_shadow_traffic_reaches_the_model_and_changes_no_answer(proxied: Proxied) -> None:
    server, other = proxied.add_server("a", "v41"), proxied.add_server("b", "dark")
    proxied.start()
    alias = AliasRoute(variants={"v41": 1.0}, shadow={"dark": 1.0})
    proxied.route({"v41": ["a"], "dark": ["b"]}, aliases={"shop": alias})
    call = proxied.caller()
    assert {call(predict_request("shop"), timeout=5) for _ in range(30)} == {b"a"}
    wait_for(lambda: len(other.served) == 30)
    counted = 'dpsr_fleet_shadow_requests_total{model="dark",status="OK"} 30.0'
    wait_for(lambda: counted in proxied.get("/aliases", proxied.config.proxy.metrics_port)[1])
    assert set(other.served) == {"dark"}
    assert set(server.served) == {"v41"}


def test_a_request_waits_for_its_model(proxied: Proxied) -> None:
    server = proxied.add_server("a", "other")
    proxied.start()
    on_demand = ("cold", "huge", "never")
    models = {"other": ["a"], "cold": [], "huge": [], "never": []}
    proxied.route(models, on_demand=on_demand, refused={"huge": "model huge needs 900 GiB; add memory"})
    call = proxied.caller()
    waiting = [proxied.caller().future(predict_request("cold"), timeout=20) for _ in range(20)]
    wait_for(lambda: (r := proxied.report()) and "cold" in r.wanted)
    assert call(predict_request("other"), timeout=5) == b"a"
    server.hold("other", "cold")
    proxied.route({**models, "cold": ["a"]}, on_demand=on_demand)
    assert [one.result() for one in waiting] == [b"a"] * 20
    code, text = failure(lambda: call(predict_request("never"), timeout=20))
    assert code == "UNAVAILABLE"
    assert text == "model never was not loaded within 3 s (control.wait_seconds); try again"
    proxied.route({**models, "cold": ["a"]}, on_demand=on_demand, refused={"huge": "model huge needs 900 GiB"})
    assert failure(lambda: call(predict_request("huge"), timeout=20)) == ("UNAVAILABLE", "model huge needs 900 GiB")
    assert proxied.report().used.keys() >= {"other", "cold"}  # type: ignore[union-attr]


def test_haproxy_comes_back_after_a_kill(proxied: Proxied) -> None:
    proxied.add_server("a", "m")
    proxied.start()
    proxied.route({"m": ["a"]})
    call = proxied.caller()
    assert call(predict_request("m"), timeout=5) == b"a"
    os.kill(proxied.pid(), signal.SIGKILL)

    def answers() -> bool:
        try:
            return bool(call(predict_request("m"), timeout=5, wait_for_ready=True) == b"a")
        except grpc.RpcError:
            return False

    wait_for(answers)


def test_the_log_has_a_line_for_each_request(proxied: Proxied) -> None:
    proxied.add_server("a", "v41", "v42")
    proxied.start()
    proxied.route({"v41": ["a"], "v42": ["a"]}, aliases={"shop": SHOP})
    call = proxied.caller()
    call(predict_request("shop"), timeout=5, metadata=(("x-user", "u1"), ("x-request-id", "r-1")))
    failure(lambda: call(predict_request("nobody"), timeout=5, metadata=(("x-request-id", "r-2"),)))
    file = proxied.state / "logs" / "access_p.jsonl"
    wait_for(lambda: file.exists() and len(file.read_text().splitlines()) == 2)
    first, second = map(json.loads, file.read_text().splitlines())
    variant = variant_of("shop", "u1", SHOP.variants)
    wanted = {"request_id": "r-1", "alias": "shop", "variant": variant, "key": "u1", "server": "a", "status": "OK"}
    assert wanted.items() <= first.items()
    assert first["ms"] >= 0
    assert abs(first["time"] - time.time()) < 60
    assert {"request_id": "r-2", "model": "nobody", "status": "NOT_FOUND"}.items() <= second.items()
    assert "alias" not in second
