"""HTTP below REST, by raw sockets: every refusal is JSON and counted, and a large body holds up nobody else."""

import gzip
import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tiny_shop
from tensorflow_serving.apis import predict_pb2
from waiting import wait_for

from dpsr.serving.api import http_body, json_tensors
from dpsr.serving.api.decoding import INLINE_BYTES
from dpsr.serving.client import PredictClient
from dpsr.serving.engine.loaded_model import LoadedModel
from dpsr.serving.engine.validation import Limits
from dpsr.serving.errors import ServingError
from dpsr.serving.tensors import encode

PREDICT = f"/v1/models/{tiny_shop.NAME}:predict"
METRICS = "/monitoring/prometheus/metrics"
GOOD = json.dumps({"instances": ["red"]}).encode()
MAX_BYTES = 100_000


class Server:
    """A server of the tiny shop, asked in bytes."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.target = f"127.0.0.1:{server.start()}"

    def send(self, data: bytes, *, hang_up: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to some bytes; status 0 without an answer."""
        with socket.create_connection(("127.0.0.1", self.server.rest_port), timeout=60) as connection:
            connection.sendall(data)
            if hang_up:
                return 0, {}, b""
            head, body = b"", b""
            with connection.makefile("rb") as stream:
                for line in stream:
                    head += line
                    if line == b"\r\n":
                        break
                if not head:
                    return 0, {}, b""
                lines = head.decode().splitlines()
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:-1])}
                body = stream.read(int(headers.get("content-length", 0)))
            return int(lines[0].split()[1]), headers, body

    def errors(self, status: int) -> float:
        """Counted requests with an error status."""
        value = self.server._metrics._registry.get_sample_value("dpsr_http_errors_total", {"status": str(status)})
        return float(value or 0)


@pytest.fixture(scope="module")
def server(exported: dict[int, Path]) -> Iterator[Server]:
    # The native plane has no threads that decode.
    running = Server(
        tiny_shop.server(exported[1].parent, data_plane="python", max_message_bytes=MAX_BYTES, log_requests="none")
    )
    yield running
    running.server.stop()


def http_request(body: bytes = GOOD, *, method: str = "POST", path: str = PREDICT, **headers: Any) -> bytes:
    """A request; ``Content_Length`` and others replace or add headers, None removes one."""
    given = {"Host": "x", "Content_Length": len(body), **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in given.items() if value is not None]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + body


REFUSED = {
    "unknown path": (http_request(path="/", method="GET"), 404, "Malformed request: GET /"),
    "unknown model": (http_request(path="/v1/models/nobody:predict"), 404, "Servable not found for request"),
    "method of the metrics": (http_request(path=METRICS), 405, "expected GET"),
    "too large by its length": (http_request(b"", Content_Length=MAX_BYTES + 1), 413, "serving.max_message_bytes"),
    "too large in chunks": (
        http_request(
            b"%x\r\n%s\r\n0\r\n\r\n" % (MAX_BYTES + 1, b" " * (MAX_BYTES + 1)),
            Content_Length=None,
            Transfer_Encoding="chunked",
        ),
        413,
        "serving.max_message_bytes",
    ),
    "too large once decompressed": (
        http_request(gzip.compress(b" " * 50_000_000), Content_Encoding="gzip"),
        413,
        "serving.max_message_bytes",
    ),
    "no JSON": (http_request(b"{"), 400, "JSON Parse error"),
    "no body": (http_request(b""), 400, "The document is empty"),
    "no HTTP": (b"\x16\x03\x01 hello\r\n\r\n", 400, "malformed HTTP request: "),
    "bad header": (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, "malformed HTTP request: "),
    "long header": (http_request(Padding="x" * 20_000), 400, "malformed HTTP request: "),
    "length is no number": (http_request(Content_Length="many"), 400, "malformed HTTP request: "),
    "negative length": (http_request(Content_Length=-1), 400, "malformed HTTP request: "),
    "no gzip": (http_request(GOOD, Content_Encoding="gzip"), 400, "the body is not valid gzip: "),
    "gzip cut off": (http_request(gzip.compress(GOOD)[:-9], Content_Encoding="gzip"), 400, "it is cut off"),
    "more than gzip": (
        http_request(gzip.compress(GOOD) + b"x", Content_Encoding="gzip"),
        400,
        "it has further bytes after its end",
    ),
    "no deflate": (http_request(b"\xff" * 9, Content_Encoding="deflate"), 400, "the body is not valid deflate: "),
    "unknown encoding": (http_request(Content_Encoding="br2"), 415, "'br2' is not supported; expected gzip, deflate"),
    "two encodings": (http_request(Content_Encoding="gzip, gzip"), 415, "is not supported"),
    "unknown expectation": (http_request(Expect="miracles"), 417, "expected 100-continue"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_http_refuses_is_json_and_counted(server: Server, name: str) -> None:
    data, status, text = REFUSED[name]
    before = server.errors(status)
    found, headers, body = server.send(data)
    assert (found, headers["content-type"]) == (status, "application/json; charset=utf-8")
    tree = json.loads(body)
    assert list(tree) == ["error"]
    assert text in tree["error"]
    wait_for(lambda: server.errors(status) == before + 1)
    assert server.send(http_request())[0] == 200


def test_a_refusal_says_what_is_accepted(server: Server) -> None:
    assert server.send(http_request(Content_Encoding="br"))[1]["accept-encoding"] == "gzip, deflate"
    assert server.send(http_request(path=METRICS, method="PUT"))[1]["allow"] == "GET, HEAD"


def test_a_malformed_chunk_is_refused(server: Server) -> None:
    data = http_request(b"zz\r\nred\r\n0\r\n\r\n", Content_Length=None, Transfer_Encoding="chunked")
    before = server.errors(400)
    status, _, body = server.send(data)
    assert status == 400
    assert list(json.loads(body)) == ["error"]
    wait_for(lambda: server.errors(400) == before + 1)


def test_a_body_that_does_not_come_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_body, "BODY_SECONDS", 0.1)
    before = server.errors(408)
    status, _, body = server.send(http_request(GOOD, Content_Length=len(GOOD) + 1))
    assert status == 408
    assert "the body did not arrive within 0.1 s" in json.loads(body)["error"]
    assert server.errors(408) == before + 1


def test_a_client_that_hangs_up_within_its_body_is_counted(server: Server) -> None:
    before = server.errors(499)
    server.send(http_request(GOOD, Content_Length=len(GOOD) + 1), hang_up=True)
    wait_for(lambda: server.errors(499) == before + 1)


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("X-GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda data: zlib.compress(data)[2:-4]),  # without zlib's header and checksum
        ("identity", bytes),
    ],
)
def test_compressed_bodies_are_answered_alike(server: Server, encoding: str, encode: Callable[[bytes], bytes]) -> None:
    plain = server.send(http_request())
    answer = server.send(http_request(encode(GOOD), Content_Encoding=encoding))
    assert (answer[0], answer[2]) == (200, plain[2])


def test_a_client_that_waits_to_send_its_body_is_told_to_go_on(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.server.rest_port), timeout=60) as connection:
        connection.sendall(http_request(b"", Content_Length=len(GOOD), Expect="100-continue"))
        stream = connection.makefile("rb")
        assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert stream.readline() == b"\r\n"
        connection.sendall(GOOD)
        assert stream.readline() == b"HTTP/1.1 200 OK\r\n"


def test_the_page_of_metrics_has_a_head(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.server.rest_port), timeout=60) as connection:
        connection.sendall(http_request(b"", method="HEAD", path=METRICS, Connection="close"))
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n")


def test_errors_of_http_are_on_the_page_of_metrics(server: Server) -> None:
    server.send(http_request(Content_Encoding="br"))
    _, _, page = server.send(http_request(b"", method="GET", path=METRICS))
    assert b'dpsr_http_errors_total{status="415"}' in page


# --- large bodies -----------------------------------------------------------------------------------------------------


@pytest.fixture
def held_decoding(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Two events, of a large body's decoding that has begun and of one that may go on."""
    begun, go_on = threading.Event(), threading.Event()
    prepare, grpc_prepare = json_tensors.prepare, LoadedModel.prepare

    def hold(model: LoadedModel, body: bytes, limits: Limits) -> Any:
        if len(body) > INLINE_BYTES:
            begun.set()
            assert go_on.wait(60)
        return prepare(model, body, limits)

    def hold_grpc(self: LoadedModel, message: Any, *arguments: Any, **options: Any) -> Any:
        if message.ByteSize() > INLINE_BYTES:
            begun.set()
            assert go_on.wait(60)
        return grpc_prepare(self, message, *arguments, **options)

    monkeypatch.setattr(json_tensors, "prepare", hold)
    monkeypatch.setattr(LoadedModel, "prepare", hold_grpc)
    yield begun, go_on
    go_on.set()


def test_others_are_answered_while_a_large_body_is_decoded(
    server: Server, held_decoding: tuple[threading.Event, threading.Event]
) -> None:
    begun, go_on = held_decoding
    large = json.dumps({"instances": ["x" * 100] * 900}).encode()
    with ThreadPoolExecutor(1) as pool, PredictClient(server.target, timeout=60) as client:
        waiting = pool.submit(server.send, http_request(large))
        assert begun.wait(60)
        assert server.send(http_request())[0] == 200
        assert client.predict(tiny_shop.NAME, {"query": ["red"]})["score"].shape == (1, tiny_shop.K)
        assert not waiting.done()
        go_on.set()
        status, _, body = waiting.result()
    assert status == 200
    assert len(json.loads(body)["predictions"]) == 900


def test_others_are_answered_while_a_large_grpc_message_is_decoded(
    server: Server, held_decoding: tuple[threading.Event, threading.Event]
) -> None:
    begun, go_on = held_decoding
    with ThreadPoolExecutor(1) as pool, PredictClient(server.target, timeout=60) as client:
        waiting = pool.submit(client.predict, tiny_shop.NAME, {"query": ["x" * 100] * 900})
        assert begun.wait(60)
        assert server.send(http_request())[0] == 200
        assert client.predict(tiny_shop.NAME, {"query": ["red"]})["score"].shape == (1, tiny_shop.K)
        assert not waiting.done()
        go_on.set()
        assert waiting.result()["score"].shape == (900, tiny_shop.K)


EMPTY = [""] * 1_300_000
"""Together with its quotes and commas, about as much as 4 MiB hold."""
TOO_MANY = {
    "rows": ({"instances": EMPTY}, "'instances' has 1300000 rows, serving.max_batch_rows allows 1024"),
    "rows of a column": ({"inputs": EMPTY}, "input query has 1300000 rows, serving.max_batch_rows allows 1024"),
    "rows of a named column": ({"inputs": {"query": EMPTY}}, "input query has 1300000 rows"),
    "elements of a row": ({"instances": [EMPTY]}, "input query has shape [1, 1300000], expected [?]"),
    "elements of a column": ({"inputs": [EMPTY]}, "input query has shape [1, 1300000], expected [?]"),
}


@pytest.mark.parametrize("name", TOO_MANY)
def test_too_many_rows_or_elements_are_refused_before_one_is_looked_at(
    exported: dict[int, Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    tree, text = TOO_MANY[name]
    model = LoadedModel.load(tiny_shop.NAME, 1, exported[1])
    for walk in ("_collect", "_plain_row", "_leaf"):
        monkeypatch.setattr(json_tensors, walk, lambda *_: pytest.fail("an element was looked at"))
    with pytest.raises(ServingError) as error:
        json_tensors.prepare(model, json.dumps(tree).encode(), Limits(1024, 4096))
    assert error.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert text in error.value.message
    model.close()


def test_too_many_texts_of_a_grpc_message_are_refused_by_their_number(exported: dict[int, Path]) -> None:
    model = LoadedModel.load(tiny_shop.NAME, 1, exported[1])
    request = predict_pb2.PredictRequest()
    encode(np.array([b""] * 1025, object), request.inputs["query"])
    request.inputs["query"].tensor_shape.dim[0].size = 1
    with pytest.raises(
        ServingError, match=r"input query holds 1025 texts, more than a batch of serving\.max_batch_rows"
    ):
        model.prepare(request, limits=Limits(1024, 4096))
    model.prepare(request)
    model.close()


def test_an_error_quotes_the_start_of_a_large_value_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json, "dumps", lambda *_: pytest.fail("the whole value was written"))
    assert json_tensors._show(EMPTY) == ("[" + ", ".join(['""'] * 60))[:200] + "..."
    assert json_tensors._show(["a", {"b": 1}]) == '["a", {"b": 1}]'


ROWS: dict[str, tuple[int, list[Any], bool]] = {
    "texts": (7, ["a", "手机", ""], True),
    "integers": (3, [1, -(2**31), 2**31 - 1], True),
    "an integer too large": (3, [1, 2**31], False),
    "a bool among integers": (3, [1, True], False),
    "bytes among texts": (7, ["a", {"b64": "AA=="}], False),
    "half a surrogate pair": (7, ["a", "\ud800"], False),
    "integers for texts": (7, [1], False),
    "floats": (1, [0.5], False),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_list_converted_as_a_whole_equals_its_elements_converted_alone(name: str) -> None:
    dtype, values, plain = ROWS[name]
    row = json_tensors._plain_row(values, dtype)
    assert row == ([json_tensors._leaf(value, dtype) for value in values] if plain else None)
