"""The proxy's protocols: bodies with a new name, REST, TLS on both sides, servers without the health service."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from echo_servers import DigestServer, PathServer
from light_server import LightServer
from messages import predict_request
from test_controller import wait_for
from test_proxy import PREDICT, SHOP, Proxied, failure

from dpsr.serving.fleet.proxy.runtime import RuntimeApi
from dpsr.serving.fleet.proxy.variants import variant_of
from dpsr.serving.fleet.state import Address, AliasRoute, Endpoint, Routes, write_state

pytestmark = pytest.mark.skipif(shutil.which("haproxy") is None, reason="no haproxy; make deps-fleet installs it")
LONG = "a_model_with_a_long_name_" * 6
SIZES = (0, 10, 1_000, 16_384, 60_000, 65_170, 65_200, 65_400, 65_536, 200_000, 1_000_000)

Start = Callable[..., Proxied]


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    running = []

    def start(servers: dict[str, Any], **proxy: Any) -> Proxied:
        proxied = Proxied(tmp_path_factory.mktemp("p"), **proxy)
        running.append(proxied)
        proxied.servers.update(servers)
        proxied.start()
        return proxied

    yield start
    for proxied in running:
        proxied.close()


def digest(request: bytes) -> bytes:
    return hashlib.sha256(request).digest()


def test_concurrent_streams_of_one_connection_get_their_own_name(start: Start) -> None:
    proxied = start({"a": DigestServer()})
    aliases = {"s": AliasRoute(variants={LONG: 1.0}), f"alias_{LONG}": AliasRoute(variants={LONG: 1.0})}
    proxied.route({LONG: ["a"]}, aliases=aliases)
    call = proxied.caller()
    requests = [(name, size + turn) for turn in range(10) for size in SIZES for name in (*aliases, LONG)]
    answers = [call.future(predict_request(name, padding=size), timeout=60) for name, size in requests]
    wrong = [
        request
        for request, answer in zip(requests, answers, strict=True)
        if answer.result() != digest(predict_request(LONG, padding=request[1]))
    ]
    assert wrong == []


def test_a_server_without_the_health_service_is_alive_and_an_ended_one_is_not(start: Start) -> None:
    first, second = DigestServer(), DigestServer()
    proxied = start({"a": first, "b": second})
    proxied.route({"m": ["a", "b"]})
    second.kill()
    wait_for(lambda: (r := proxied.report()) and r.down == ("b",))
    call = proxied.caller()
    for _ in range(20):
        assert call(predict_request("m"), timeout=5) == digest(predict_request("m"))
    report = proxied.report()
    assert report is not None
    assert report.down == ("b",)


def test_a_server_that_reports_not_serving_is_left_out_without_waiting_for_more_of_its_answer(
    start: Start, tmp_path: Path
) -> None:
    server = LightServer("a", tmp_path / "a.config")
    proxied = start({"a": server, "b": DigestServer()})
    proxied.route({"m": ["a", "b"]})
    server.report(serving=False)
    wait_for(lambda: (r := proxied.report()) and r.down == ("a",))
    (row, _) = RuntimeApi(proxied.state / "run" / "haproxy.sock").table("show stat servers 4 -1")
    assert (row["svname"], row["check_status"].removeprefix("* ")) == ("a", "L7RSP")  # L7TOUT: it waited for its time
    server.report(serving=True)
    wait_for(lambda: (r := proxied.report()) and not r.down)


def test_rest_requests_follow_the_name_in_the_path(start: Start) -> None:
    server, rest = DigestServer(), PathServer()
    proxied = start({"a": server, "rest": rest})
    routes = Routes(
        generation=1,
        servers={
            "a": Address(grpc=server.address, rest=rest.address),
            "b": Address(grpc=server.address, rest="127.0.0.1:1"),
        },
        models={
            "v41": (Endpoint(server="a"),),
            "v42": (Endpoint(server="a"),),
            "none": (),
            "lost": (Endpoint(server="b"),),
        },
        aliases={"shop": SHOP},
    )
    write_state(proxied.state / "routes.json", routes)
    wait_for(lambda: (r := proxied.report()) and r.generation == 1)
    for path in ("/v1/models/v41", "/v1/models/v42/versions/7", "/v1/models/v41/metadata"):
        assert proxied.get(path) == (200, f"GET {path} 0")

    def post(path: str, size: int, **headers: str) -> tuple[str, str]:
        url = f"http://127.0.0.1:{proxied.config.proxy.rest_port}{path}"
        request = urllib.request.Request(url, bytes(size), {name.replace("_", "-"): v for name, v in headers.items()})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read().decode(), answer.headers.get("x-dpsr-variant", "")

    assert post("/v1/models/v41:predict", 1_000_000) == ("POST /v1/models/v41:predict 1000000", "")
    for user in map(str, range(40)):
        variant = variant_of("shop", user, SHOP.variants)
        path = f"/v1/models/{variant}/labels/stable:predict"
        assert post("/v1/models/shop/labels/stable:predict", 9, x_user=user) == (f"POST {path} 9", variant)
    assert post("/v1/models/shop:predict", 9, x_dpsr_variant="v42") == ("POST /v1/models/v42:predict 9", "v42")
    for path, status, error in (
        ("/v1/models/nobody:predict", 404, "Servable not found for request: Latest(nobody)"),
        ("/v1/models/none", 503, "no server holds model none at the moment; try again"),
        ("/v1/models/lost", 503, "no server that holds the model can be reached; try again"),
        ("/v2/other", 404, "expected /v1/models/NAME"),
    ):
        found, text = proxied.get(path)
        assert (found, json.loads(text)) == (status, {"error": error})


def test_mutual_tls_before_and_behind_the_proxy(start: Start, keys: Path, tmp_path: Path) -> None:
    def read(name: str) -> bytes:
        return (keys / name).read_bytes()

    pairs = {}
    for name in ("server", "client"):
        pairs[name] = tmp_path / f"{name}.both"
        pairs[name].write_bytes(read(f"{name}.pem") + read(f"{name}.key"))
    authority = str(keys / "ca.pem")
    server = DigestServer(
        grpc.ssl_server_credentials(
            [(read("server.key"), read("server.pem"))], read("ca.pem"), require_client_auth=True
        )
    )
    proxied = start(
        {"a": server},
        tls_certificate=str(pairs["server"]),
        tls_client_ca=authority,
        server_ca=authority,
        server_certificate=str(pairs["client"]),
    )
    proxied.route({"m": ["a"]}, aliases={"shop": AliasRoute(variants={"m": 1.0})})
    address = f"127.0.0.1:{proxied.config.proxy.port}"
    trusted = grpc.ssl_channel_credentials(read("ca.pem"), read("client.key"), read("client.pem"))
    with grpc.secure_channel(address, trusted) as channel:
        call = channel.unary_unary(PREDICT)
        for name in ("m", "shop"):
            request = predict_request(name, padding=100_000)
            assert call(request, timeout=10) == digest(predict_request("m", padding=100_000))
        time.sleep(4)  # the health check has failed three times by then, if it does
        assert call(predict_request("m"), timeout=5) == digest(predict_request("m"))
    report = proxied.report()
    assert report is not None
    assert report.down == ()
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(read("ca.pem"))) as channel:
        code, _ = failure(lambda: channel.unary_unary(PREDICT)(predict_request("m"), timeout=5))
        assert code == "UNAVAILABLE"
