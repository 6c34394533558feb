"""REST through the proxy: the model's name in the path, in place of the message."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from odd_servers import RestServer
from test_controller import wait_for
from test_proxy import SHOP, Proxied

from dpsr.serving.fleet.proxy.runtime import RuntimeApi
from dpsr.serving.fleet.proxy.variants import variant_of
from dpsr.serving.fleet.state import AliasRoute

pytestmark = pytest.mark.skipif(shutil.which("haproxy") is None, reason="no haproxy; make deps-fleet installs it")


class RestProxied(Proxied):
    """A proxy before servers that speak REST."""

    def add(self, name: str, *models: str) -> RestServer:
        server = RestServer(name, self.state / "servers" / f"{name}.config", load_seconds=0.0)
        server.hold(*models)
        self.servers[name] = server
        return server

    def worker(self) -> str:
        """Process id of the present worker: it changes with a reload."""
        answer = RuntimeApi(self.state / "run" / "haproxy.sock").ask("show info")
        return next(line for line in answer.splitlines() if line.startswith("Pid:"))

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, Message]:
        """Status, JSON and headers of an answer; a body makes the request a POST."""
        url = f"http://127.0.0.1:{self.config.proxy.rest_port}{path}"
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(url, body, {"content-type": "application/json", **names})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, json.load(error), error.headers


@pytest.fixture
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestProxied]:
    proxied = RestProxied(tmp_path_factory.mktemp("p"))
    yield proxied
    proxied.close()


PATHS = ("", ":predict", ":classify", "/versions/7", "/versions/7:predict", "/labels/stable:predict", "/metadata")


def test_every_form_of_the_path_reaches_the_model(proxied: RestProxied) -> None:
    proxied.add("a", "v41", "m-2.x_y"), proxied.add("b", "v42")
    proxied.start()
    status, answer, _ = proxied.ask("/v1/models/v41")
    assert (status, answer) == (503, {"error": "the fleet has no routes yet; try again"})
    proxied.route({"v41": ["a"], "v42": ["b"], "m-2.x_y": ["a"]}, aliases={"shop": SHOP})
    for model, server in (("v41", "a"), ("v42", "b"), ("m-2.x_y", "a")):
        for rest in PATHS:
            path = f"/v1/models/{model}{rest}"
            status, answer, headers = proxied.ask(path, x_request_id="r-1")
            assert (status, answer) == (200, [server, "GET", path, 0, "r-1"])
            assert headers["x-request-id"] == "r-1"
            assert headers["x-dpsr-variant"] is None
    status, answer, _ = proxied.ask("/v1/models/v42:predict", bytes(3_000_000))
    assert (status, answer[:4]) == (200, ["b", "POST", "/v1/models/v42:predict", 3_000_000])


def test_an_alias_s_path_gets_the_variant_s_name(proxied: RestProxied) -> None:
    proxied.add("a", "v41", "v42")
    proxied.start()
    proxied.route({"v41": ["a"], "v42": ["a"]}, aliases={"shop": SHOP})
    for rest in (*PATHS, ":predict?a=/v1/models/shop"):
        for number in range(8):
            variant = variant_of("shop", f"u{number}", SHOP.variants)
            status, answer, headers = proxied.ask(f"/v1/models/shop{rest}", x_user=f"u{number}")
            assert (status, answer[2]) == (200, f"/v1/models/{variant}{rest}")
            assert headers["x-dpsr-variant"] == variant
    for variant in ("v41", "v42"):
        status, answer, headers = proxied.ask("/v1/models/shop:predict", b"{}", x_dpsr_variant=variant)
        assert (status, answer[2], headers["x-dpsr-variant"]) == (200, f"/v1/models/{variant}:predict", variant)
    status, answer, headers = proxied.ask("/v1/models/shop:predict", b"{}", x_dpsr_variant='v"3')
    assert (status, answer) == (400, {"error": 'x-dpsr-variant: v"3 is no variant of shop (v41, v42)'})
    file = proxied.state / "logs" / "access_p.jsonl"
    wait_for(lambda: '"status":"400"' in file.read_text())
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {(line["protocol"], line["alias"]) for line in lines} == {("rest", "shop")}
    _, page = proxied.get("/aliases", proxied.config.proxy.metrics_port)
    assert 'dpsr_fleet_alias_requests_total{alias="shop",status="200",variant="v42"}' in page


def test_refusals_are_json(proxied: RestProxied) -> None:
    proxied.add("a", "m")
    proxied.start()
    proxied.route({"m": ["a"], "none": [], "huge": []}, on_demand=("huge",), refused={"huge": 'needs "9" GiB'})
    for path, status, error in (
        ("/v1/models/nobody:predict", 404, "Servable not found for request: Latest(nobody)"),
        ('/v1/models/no"body:predict', 404, 'Servable not found for request: Latest(no"body)'),
        ("/v1/models/none", 503, "no server holds model none at the moment; try again"),
        ("/v1/models/huge", 503, 'needs "9" GiB'),
        ("/v1/models/", 404, "Servable not found for request: Latest()"),
        ("/", 404, "expected /v1/models/NAME"),
    ):
        found, answer, headers = proxied.ask(path)
        assert (found, answer) == (status, {"error": error})
        assert headers["content-type"] == "application/json"


def test_a_request_waits_for_its_model(proxied: RestProxied) -> None:
    server = proxied.add("a", "other")
    proxied.start()
    on_demand = ("cold", "never")
    alias = {"winter": AliasRoute(variants={"cold": 1.0})}
    proxied.route({"other": ["a"], "cold": [], "never": []}, on_demand=on_demand, aliases=alias)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(proxied.ask, f"/v1/models/{name}:predict", b"{}") for name in ("cold", "winter") * 4]
        wait_for(lambda: (r := proxied.report()) and "cold" in r.wanted)
        assert proxied.ask("/v1/models/other")[0] == 200
        server.hold("other", "cold")
        proxied.route({"other": ["a"], "cold": ["a"], "never": []}, on_demand=on_demand, aliases=alias)
        for one in waiting:
            status, answer, _ = one.result()
            assert (status, answer[2]) == (200, "/v1/models/cold:predict")
    status, answer, headers = proxied.ask("/v1/models/never")
    assert (status, headers["retry-after"]) == (503, "1")
    assert answer == {"error": "model never was not loaded within 3 s (control.wait_seconds); try again"}


def test_a_dead_replica_s_requests_go_to_the_other_one(proxied: RestProxied) -> None:
    servers = {name: proxied.add(name, "m") for name in ("a", "b")}
    proxied.start()
    proxied.route({"m": ["a"]})
    proxied.route({"m": ["a", "b"]})  # by the runtime API
    stop, failures, answers = threading.Event(), [], []

    def ask() -> None:
        while not stop.is_set():
            status, answer, _ = proxied.ask("/v1/models/m:predict", b"{}")
            answers.append(answer[0]) if status == 200 else failures.append((status, answer))

    callers = [threading.Thread(target=ask) for _ in range(2)]
    for caller in callers:
        caller.start()
    wait_for(lambda: {"a", "b"} <= set(answers))
    servers["b"].kill_rest()  # its gRPC port still answers the health check
    seen = len(answers)
    wait_for(lambda: len(answers) > seen + 100)
    stop.set()
    for caller in callers:
        caller.join()
    assert failures == []
    assert set(answers[-50:]) == {"a"}
    servers["a"].kill_rest()
    status, answer, headers = proxied.ask("/v1/models/m:predict", b"{}")
    assert (status, list(answer), headers["content-type"]) == (503, ["error"], "application/json")


def test_a_request_finds_out_that_every_server_is_dead(proxied: RestProxied) -> None:
    """The proxy has idle connections to servers that end before it looks at them again: the client gets an answer."""
    servers = [proxied.add(name, "m") for name in ("a", "b")]
    proxied.start()
    proxied.route({"m": ["a", "b"]})
    with ThreadPoolExecutor(8) as pool:
        for status, *_ in pool.map(lambda _: proxied.ask("/v1/models/m:predict", b"{}"), range(100)):
            assert status == 200
        worker = int(proxied.worker().split()[1])
        os.kill(worker, signal.SIGSTOP)
        try:
            waiting = [pool.submit(proxied.ask, "/v1/models/m:predict", b"{}") for _ in range(8)]
            wait_for(lambda: _connecting(proxied.config.proxy.rest_port) >= len(waiting))
            for server in servers:
                server.kill_rest()
        finally:
            os.kill(worker, signal.SIGCONT)
        for one in waiting:
            status, answer, headers = one.result()
            assert status in (502, 503)
            assert (list(answer), headers["content-type"]) == (["error"], "application/json")


def _connecting(port: int) -> int:
    """Clients of a port on loopback that are connected, whether or not the connection is accepted."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(fields[2].endswith(f":{port:04X}") and fields[3] == "01" for fields in map(str.split, lines))


def test_a_server_that_drains_gets_no_new_request(proxied: RestProxied) -> None:
    proxied.add("a", "m"), proxied.add("b", "m")
    proxied.start()
    proxied.route({"m": ["a", "b"]})
    assert {proxied.ask("/v1/models/m")[1][0] for _ in range(40)} == {"a", "b"}
    proxied.route({"m": ["b"]}, draining={"m": ["a"]})
    assert {proxied.ask("/v1/models/m")[1][0] for _ in range(40)} == {"b"}
    proxied.route({"m": ["b"]})
    proxied.route({"m": ["a"]}, draining={"m": ["b"]})
    assert {proxied.ask("/v1/models/m")[1][0] for _ in range(40)} == {"a"}
