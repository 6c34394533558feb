"""Limits of requests, TLS, and requests whose client has disconnected."""

import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tiny_shop
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from waiting import wait_for

from dpsr.config import ConfigError, load_serving_config
from dpsr.serving.client import PredictClient
from dpsr.serving.errors import ServableError, ServingError

NAME = tiny_shop.NAME
Serve = Callable[..., Any]


@pytest.fixture
def serve(publish: Callable[..., Path], base_path: Path) -> Iterator[Serve]:
    """Starts a server with options; the server and its gRPC address."""
    servers: list[Any] = []

    def start(**options: Any) -> tuple[Any, str]:
        if not base_path.exists():
            publish(1)
        servers.append(tiny_shop.server(base_path, **options))
        return servers[-1], f"127.0.0.1:{servers[-1].start()}"

    yield start
    for server in servers:
        server.stop()


def refusal(client: PredictClient, inputs: dict[str, Any], **options: Any) -> ServingError:
    with pytest.raises(ServingError) as error:
        client.predict(NAME, inputs, **options)
    return error.value


def count(server: Any, code: str) -> float:
    """Number of finished predictions with a code."""
    families = server._metrics._registry.collect()
    samples = [sample for family in families if family.name == "dpsr_requests" for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name.endswith("_total") and sample.labels["code"] == code)


def test_rows_and_texts_have_limits(serve: Serve) -> None:
    server, target = serve(max_batch_rows=4, max_query_bytes=10)
    with PredictClient(target) as client:
        client.predict(NAME, {"query": ["x" * 10] * 4})
        rows = refusal(client, {"query": ["a"] * 5})
        assert (rows.code, rows.message) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "input query has 5 rows, serving.max_batch_rows allows 4; send several requests",
        )
        text = refusal(client, {"query": ["a", "手机手机"]})
        assert (text.code, text.message) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "input query holds a text of 12 bytes, serving.max_query_bytes allows 10",
        )
    body = json.dumps({"instances": ["a"] * 5}).encode()
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}/v1/models/{NAME}:predict", body, timeout=20)
    assert error.value.code == 400
    assert "serving.max_batch_rows allows 4" in error.value.read().decode()


def test_messages_have_a_limit_on_both_interfaces(serve: Serve) -> None:
    server, target = serve(max_message_bytes=4096)
    with PredictClient(target) as client:
        assert refusal(client, {"query": ["a" * 5000]}).code == grpc.StatusCode.RESOURCE_EXHAUSTED
        client.predict(NAME, {"query": ["a" * 1000]})
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}/v1/models/{NAME}:predict", b" " * 5000, timeout=20)
    assert error.value.code == 413


def test_nothing_runs_for_a_grpc_caller_whose_deadline_has_passed(
    serve: Serve, start_slow_calls: Callable[..., list[Any]]
) -> None:
    server, target = serve()
    slow = start_slow_calls(target, 4, 150_000)  # more than run at once
    with PredictClient(target) as client:
        assert refusal(client, {"query": ["red"]}, timeout=0.05).code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert [call.result().outputs["done"].dtype for call in slow]
    wait_for(lambda: server._in_flight.count == 0)
    assert count(server, "CANCELLED") + count(server, "DEADLINE_EXCEEDED") == 1
    ran = server._metrics._registry.get_sample_value(
        "dpsr_batch_rows_sum", {"model": NAME, "version": "1", "signature": "serving_default"}
    )
    assert not ran


def test_nothing_runs_for_a_rest_client_that_has_disconnected(
    serve: Serve, start_slow_calls: Callable[..., list[Any]]
) -> None:
    server, target = serve(data_plane="python")  # the native one runs beside REST, and would leave its runs free
    slow = start_slow_calls(target, 4, 150_000)
    body = json.dumps({"instances": ["red"]}).encode()
    head = f"POST /v1/models/{NAME}:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.rest_port)) as connection:
        connection.sendall(head + body)
        wait_for(lambda: server._in_flight.count == 5 or slow[0].done())
    wait_for(lambda: count(server, "CANCELLED") == 1 or slow[0].done())
    assert [call.result().outputs["done"].dtype for call in slow]
    wait_for(lambda: server._in_flight.count == 0)
    assert count(server, "CANCELLED") == 1


def test_reflection_is_off_by_default(serve: Serve) -> None:
    def services(target: str) -> set[str]:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        with grpc.insecure_channel(target) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            (response,) = stub.ServerReflectionInfo(iter([request]), timeout=20)
        return {service.name for service in response.list_services_response.service}

    _, closed = serve()
    with pytest.raises(grpc.RpcError) as error:
        services(closed)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
    _, open_ = serve(reflection=True)
    assert {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"} < services(open_)


# --- TLS --------------------------------------------------------------------------------------------------------------


def tls_options(keys: Path, *, mutual: bool = False) -> dict[str, str]:
    options = {"tls_certificate": str(keys / "server.pem"), "tls_key": str(keys / "server.key")}
    return {**options, "tls_client_ca": str(keys / "ca.pem")} if mutual else options


def credentials(keys: Path, name: str | None = None) -> grpc.ChannelCredentials:
    if name is None:
        return grpc.ssl_channel_credentials((keys / "ca.pem").read_bytes())
    pair = [(keys / f"{name}.{part}").read_bytes() for part in ("key", "pem")]
    return grpc.ssl_channel_credentials((keys / "ca.pem").read_bytes(), *pair)


def http_status(server: Any, keys: Path, name: str | None = None) -> int:
    context = ssl.create_default_context(cafile=str(keys / "ca.pem"))
    if name:
        context.load_cert_chain(keys / f"{name}.pem", keys / f"{name}.key")
    url = f"https://localhost:{server.rest_port}/v1/models/{NAME}"
    return int(urllib.request.urlopen(url, timeout=20, context=context).status)


def test_tls_encrypts_both_interfaces(serve: Serve, keys: Path) -> None:
    server, target = serve(**tls_options(keys))
    with PredictClient(target, credentials=credentials(keys)) as client:
        np.testing.assert_array_equal(
            client.predict(NAME, {"query": ["red"]})["score"], tiny_shop.expected([b"red"], 1)["score"]
        )
    assert http_status(server, keys) == 200
    with PredictClient(target, timeout=5) as plain:
        assert refusal(plain, {"query": ["red"]}).code == grpc.StatusCode.UNAVAILABLE
    with pytest.raises(OSError):  # noqa: PT011  (a reset or a closed connection, depending on the system)
        urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}/v1/models/{NAME}", timeout=20)


def test_mutual_tls_accepts_certified_clients_only(serve: Serve, keys: Path) -> None:
    server, target = serve(**tls_options(keys, mutual=True))
    with PredictClient(target, credentials=credentials(keys, "client")) as client:
        client.predict(NAME, {"query": ["red"]})
    assert http_status(server, keys, "client") == 200
    for name in (None, "stranger"):
        with PredictClient(target, timeout=5, credentials=credentials(keys, name)) as client:
            assert refusal(client, {"query": ["red"]}).code == grpc.StatusCode.UNAVAILABLE
        with pytest.raises(OSError):  # noqa: PT011
            http_status(server, keys, name)


def test_tls_files_that_cannot_be_used_are_named(serve: Serve, keys: Path) -> None:
    for change in ({"tls_key": str(keys / "client.key")}, {"tls_certificate": str(keys / "none.pem")}):
        with pytest.raises(ServableError, match=r"TLS cannot be set up from .*\.pem, .*\.key"):
            serve(**{**tls_options(keys), **change})


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["serving.tls_key=a.key"], "tls_certificate and tls_key belong together"),
        (["serving.tls_client_ca=ca.pem"], "tls_client_ca needs tls_certificate and tls_key"),
        (["serving.max_batch_rows=0"], "serving.max_batch_rows = 0"),
        (["serving.log_requests=some"], "serving.log_requests = 'some'"),
        (["training.epochs=1"], "unknown key training"),
    ],
)
def test_contradictory_options_are_refused(overrides: list[str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        load_serving_config(overrides)
