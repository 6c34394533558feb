"""TLS before the proxy and behind it."""

from __future__ import annotations

import json
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from messages import predict_request
from odd_servers import TlsServer
from test_controller import wait_for
from test_proxy import PREDICT, Proxied, failure
from test_proxy_rest import RestProxied

from dpsr.serving.fleet.state import AliasRoute

pytestmark = pytest.mark.skipif(shutil.which("haproxy") is None, reason="no haproxy; make deps-fleet installs it")

Make = Callable[..., RestProxied]


@pytest.fixture
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Makes proxies with TLS, and closes them."""
    made = []

    def make(**proxy: Any) -> RestProxied:
        made.append(RestProxied(tmp_path_factory.mktemp("p"), **proxy))
        return made[-1]

    yield make
    for proxied in made:
        proxied.close()


@pytest.fixture(scope="session")
def pairs(keys: Path) -> dict[str, str]:
    """Certificate and key in one file, as HAProxy reads them."""
    found = {}
    for name in ("server", "client", "stranger"):
        file = keys / f"{name}.pair.pem"
        file.write_text((keys / f"{name}.pem").read_text() + (keys / f"{name}.key").read_text())
        found[name] = str(file)
    return found


def server_credentials(keys: Path, *, mutual: bool = False) -> grpc.ServerCredentials:
    pair = ((keys / "server.key").read_bytes(), (keys / "server.pem").read_bytes())
    authority = (keys / "ca.pem").read_bytes() if mutual else None
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=mutual)


def secure_caller(proxied: Proxied, keys: Path, pair: str | None = None) -> grpc.UnaryUnaryMultiCallable:
    words = [(keys / "ca.pem").read_bytes()]
    if pair:
        words += [(keys / f"{pair}.key").read_bytes(), (keys / f"{pair}.pem").read_bytes()]
    options = (("grpc.use_local_subchannel_pool", 1),)
    credentials = grpc.ssl_channel_credentials(*words)
    channel = grpc.secure_channel(f"localhost:{proxied.config.proxy.port}", credentials, options)
    proxied._channels.append(channel)
    return channel.unary_unary(PREDICT)


def test_a_certificate_before_the_proxy(make: Make, keys: Path, pairs: dict[str, str]) -> None:
    proxied = make(host="127.0.0.1", tls_certificate=pairs["server"])
    proxied.add("a", "m")
    proxied.start()
    proxied.route({"m": ["a"]}, aliases={"shop": AliasRoute(variants={"m": 1.0})})
    call = secure_caller(proxied, keys)
    assert call(predict_request("m"), timeout=5) == b"a"
    assert call(predict_request("shop", padding=1_000_000), timeout=10) == b"a"
    assert failure(lambda: call(predict_request("x"), timeout=5))[0] == "NOT_FOUND"
    assert failure(lambda: proxied.caller()(predict_request("m"), timeout=3))[0] in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    context = ssl.create_default_context(cafile=str(keys / "ca.pem"))
    url = f"https://localhost:{proxied.config.proxy.rest_port}/v1/models/shop:predict"
    with urllib.request.urlopen(url, b"{}", timeout=10, context=context) as answer:
        assert json.load(answer)[:3] == ["a", "POST", "/v1/models/m:predict"]
    with pytest.raises(urllib.error.URLError, match="certificate verify failed"):
        urllib.request.urlopen(url, b"{}", timeout=10)


def test_clients_need_a_certificate_of_the_authority(make: Make, keys: Path, pairs: dict[str, str]) -> None:
    proxied = make(host="127.0.0.1", tls_certificate=pairs["server"], tls_client_ca=str(keys / "ca.pem"))
    proxied.add("a", "m")
    proxied.start()
    proxied.route({"m": ["a"]})
    assert secure_caller(proxied, keys, "client")(predict_request("m"), timeout=5) == b"a"
    for pair in (None, "stranger"):
        code, _ = failure(lambda pair=pair: secure_caller(proxied, keys, pair)(predict_request("m"), timeout=3))
        assert code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    url = f"https://localhost:{proxied.config.proxy.rest_port}/v1/models/m"
    context = ssl.create_default_context(cafile=str(keys / "ca.pem"))
    with pytest.raises(OSError, match=r"certificate required|reset|closed"):
        urllib.request.urlopen(url, timeout=10, context=context)
    context.load_cert_chain(pairs["client"])
    with urllib.request.urlopen(url, timeout=10, context=context) as answer:
        assert json.load(answer)[0] == "a"


@pytest.mark.parametrize("mutual", [False, True])
def test_servers_with_tls_are_checked_and_added_without_a_reload(
    make: Make, keys: Path, pairs: dict[str, str], mutual: bool
) -> None:
    own = {"server_certificate": pairs["client"]} if mutual else {}
    proxied = make(server_ca=str(keys / "ca.pem"), **own)
    credentials = server_credentials(keys, mutual=mutual)
    servers = {name: TlsServer(name, credentials) for name in ("a", "b")}
    proxied.servers.update(servers)  # type: ignore[arg-type]
    proxied.start()
    proxied.route({"m": []})
    worker = proxied.worker()
    proxied.route({"m": ["a"]})  # by the runtime API: add server ... ssl
    call = proxied.caller()
    assert call(predict_request("m"), timeout=5) == b"a"
    proxied.route({"m": ["a", "b"]})
    assert {call(predict_request("m"), timeout=5) for _ in range(40)} == {b"a", b"b"}
    servers["b"].kill()
    wait_for(lambda: (r := proxied.report()) and r.down == ("b",))
    assert {call(predict_request("m"), timeout=5) for _ in range(20)} == {b"a"}
    proxied.servers["b"] = TlsServer("b", credentials, servers["b"].port)  # type: ignore[assignment]
    wait_for(lambda: (r := proxied.report()) and not r.down)
    assert {call(predict_request("m"), timeout=5) for _ in range(40)} == {b"a", b"b"}
    assert proxied.worker() == worker
    proxied.route({"m": ["b"], "more": ["a"]})  # a reload: the same lines from the file
    assert proxied.caller()(predict_request("more"), timeout=5) == b"a"
    assert proxied.worker() != worker


def test_a_server_of_another_authority_gets_no_request(make: Make, keys: Path) -> None:
    proxied = make(server_ca=str(keys / "stranger.pem"))
    proxied.servers["a"] = TlsServer("a", server_credentials(keys))  # type: ignore[assignment]
    proxied.start()
    proxied.route({"m": ["a"]})
    wait_for(lambda: (r := proxied.report()) and r.down == ("a",))
    assert failure(lambda: proxied.caller()(predict_request("m"), timeout=5)) == (
        "UNAVAILABLE",
        "no server that holds the model can be reached; try again",
    )
