"""The native transport by itself: before it a service that does what its messages say, behind it a grpc.aio server."""

import asyncio
import gc
import json
import os
import random
import socket
import struct
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from waiting import wait_for

transport = pytest.importorskip(
    "dpsr.serving.engine._transport", reason="no native transport in this build; make deps-native"
)
pybind11 = pytest.importorskip("pybind11")

ROOT = Path(__file__).resolve().parents[2]
PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
HEALTH = "/grpc.health.v1.Health/Check"
MAX_MESSAGE = 1 << 20
TIMEOUT = 60
"""Seconds; of calls that are not about time."""


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module of ``echo_service.cc``."""
    folder = tmp_path_factory.mktemp("echo")
    includes = [f"-I{ROOT}", "-isystem", sysconfig.get_paths()["include"], "-isystem", pybind11.get_include()]
    flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", "-pthread"]
    source = Path(__file__).with_name("echo_service.cc")
    compiler = os.environ.get("CXX", "g++")
    subprocess.run([compiler, *flags, *includes, str(source), "-o", str(folder / "echo_service.so")], check=True)
    sys.path.insert(0, str(folder))
    try:
        import echo_service
    finally:
        sys.path.remove(str(folder))
    return echo_service


class Backend(grpc.GenericRpcHandler):
    """A grpc.aio server on a socket of the file system; what it was told of the calls is in ``cancelled``."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix:{folder}/backend.sock"
        self.cancelled = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def __enter__(self) -> "Backend":
        self._thread.start()
        assert self._ready.wait(TIMEOUT)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(TIMEOUT)
        self._loop.close()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return {
            PREDICT: grpc.unary_unary_rpc_method_handler(self._describe),
            METADATA: grpc.unary_unary_rpc_method_handler(self._describe),
            "/test.Backend/Describe": grpc.unary_unary_rpc_method_handler(self._describe),
            "/test.Backend/Count": grpc.unary_stream_rpc_method_handler(self._count),
            "/test.Backend/Join": grpc.stream_unary_rpc_method_handler(self._join),
            "/test.Backend/Chat": grpc.stream_stream_rpc_method_handler(self._chat),
        }.get(details.method)

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers((self,))
        server.add_insecure_port(self.address)
        await server.start()
        self._ready.set()
        await self._stop.wait()
        await server.stop(None)

    async def _describe(self, data: bytes, call: grpc.aio.ServicerContext) -> bytes:
        verb, *values = data.decode().removeprefix("later 0.05 ").split()[1:] or ["describe"]
        await call.send_initial_metadata((("first", "1"), ("first", "2"), ("first-bin", b"\x00\xff")))
        call.set_trailing_metadata((("last", "x"), ("last-bin", b"\xff\x00"), ("grpc-status-details-bin", b"\x08\x05")))
        if verb == "fail":
            await call.abort(grpc.StatusCode.NOT_FOUND, "nothing here: \u4e2d\u6587, 100 %\n")
        if verb == "wait":
            try:
                await asyncio.sleep(TIMEOUT)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if verb == "size":
            return b"x" * int(values[0])
        metadata = [
            [key, value if isinstance(value, str) else value.hex()] for key, value in call.invocation_metadata()
        ]
        return json.dumps({"metadata": metadata, "seconds": call.time_remaining(), "bytes": len(data)}).encode()

    async def _count(self, data: bytes, call: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        count, pause = json.loads(data)
        try:
            for i in range(count):
                yield b"%d" % i
                await asyncio.sleep(pause)
        except (asyncio.CancelledError, GeneratorExit):  # in the sleep, and in the sending
            self.cancelled += 1
            raise
        call.set_trailing_metadata((("counted", str(count)),))

    async def _join(self, requests: AsyncIterator[bytes], call: grpc.aio.ServicerContext) -> bytes:
        return b"+".join([request async for request in requests])

    async def _chat(self, requests: AsyncIterator[bytes], call: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        await call.send_initial_metadata((("greeting", "hello"),))
        async for request in requests:
            if request == b"leave":
                await call.abort(grpc.StatusCode.ABORTED, "left in the middle")
            yield request.upper()


class Front:
    """A transport, its service, and a channel to it."""

    def __init__(self, echo: Any, *, backend: str, **options: Any) -> None:
        self.service = echo.EchoService()
        defaults = {
            "address": "127.0.0.1:0",
            "backend": backend,
            "threads": 3,
            "max_message_bytes": MAX_MESSAGE,
            "reuse_port": False,
            "key": None,
            "certificate": None,
            "client_ca": None,
        }
        self.transport = transport.Transport(self.service.capsule, **{**defaults, **options})
        self.port: int = self.transport.port
        self.channel = self.connect()

    def connect(self, *options: tuple[str, Any]) -> grpc.Channel:
        return grpc.insecure_channel(
            f"127.0.0.1:{self.port}", options=(("grpc.max_receive_message_length", -1), *options)
        )

    def call(self, data: bytes, method: str = PREDICT, **options: Any) -> bytes:
        return self.channel.unary_unary(method)(data, **{"timeout": TIMEOUT, **options})

    def start(self, data: bytes, method: str = PREDICT, **options: Any) -> grpc.Future:
        return self.channel.unary_unary(method).future(data, **{"timeout": TIMEOUT, **options})

    def refusal(self, data: bytes, method: str = PREDICT, **options: Any) -> grpc.RpcError:
        with pytest.raises(grpc.RpcError) as error:
            self.call(data, method, **options)
        return error.value

    def close(self) -> None:
        self.channel.close()
        self.transport.shutdown(0)


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with Backend(tmp_path_factory.mktemp("backend")) as running:
        yield running


@pytest.fixture
def make(echo: Any, backend: Backend) -> Iterator[Callable[..., Front]]:
    made: list[Front] = []

    def make(**options: Any) -> Front:
        made.append(Front(echo, **{"backend": backend.address, **options}))
        return made[-1]

    yield make
    for front in made:
        front.close()


@pytest.fixture
def front(make: Callable[..., Front]) -> Front:
    return make()


# --- Calls that the service answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1000, 100_000, MAX_MESSAGE - 1])
def test_messages_go_to_the_service_and_back(front: Front, size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert front.call(b"=" + data if size else b"") == (b"=" + data if size else b"")
    assert front.call(data, METADATA) == b"metadata of " + data
    assert front.call(b"", HEALTH) == b"\x08\x01"


def test_the_service_sees_address_request_id_and_deadline(front: Front) -> None:
    answer, call = front.channel.unary_unary(PREDICT).with_call(
        b"describe", timeout=30, metadata=(("x-request-id", "abc"),)
    )
    peer, request_id, seconds = answer.decode().split("\n")
    assert peer.startswith("ipv4:127.0.0.1:")
    assert request_id == "abc"
    assert 20 < float(seconds) < 31
    assert tuple(call.trailing_metadata()) == (("x-request-id", "abc"),)
    answer, call = front.channel.unary_unary(PREDICT).with_call(b"describe")
    assert answer.decode().split("\n")[1:] == ["", "none"]
    assert tuple(call.trailing_metadata()) == ()


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code != grpc.StatusCode.OK])
def test_errors_have_code_text_and_request_id(front: Front, code: grpc.StatusCode) -> None:
    text = "a text, 100 %: \u4e2d\u6587"
    error = front.refusal(f"fail {code.value[0]} {text}".encode())
    assert (error.code(), error.details()) == (code, text)
    assert tuple(error.trailing_metadata()) == (("x-request-id", "id of a failure"),)


def test_a_deadline_cancels_the_call(front: Front) -> None:
    assert front.refusal(b"later 30", timeout=0.2).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for(lambda: front.service.cancels == 1)


def test_a_client_that_cancels_is_reported_once_and_only_before_the_answer(front: Front) -> None:
    calls = [front.start(b"later 30") for _ in range(20)]
    wait_for(lambda: front.service.waiting == 20)
    for call in calls:
        call.cancel()
    wait_for(lambda: front.service.cancels == 20)
    wait_for(lambda: front.service.waiting == 0)
    for _ in range(20):
        front.call(b"answered")
    assert front.service.cancels == 20


def test_an_answer_may_be_given_while_a_cancellation_is_reported(front: Front) -> None:
    calls = [front.start(b"until 30") for _ in range(20)]
    wait_for(lambda: front.service.waiting == 20)
    for call in calls:
        call.cancel()
    wait_for(lambda: front.service.waiting == 0)
    assert front.service.cancels == 20
    assert front.call(b"alive") == b"alive"


def test_a_connection_that_ends_cancels_its_calls(front: Front) -> None:
    other = front.connect(("grpc.use_local_subchannel_pool", 1))
    calls = [other.unary_unary(PREDICT).future(b"later 30") for _ in range(5)]
    wait_for(lambda: front.service.waiting == 5)
    other.close()
    wait_for(lambda: front.service.cancels == 5)
    assert all(call.cancelled() or call.exception() for call in calls)


def test_a_message_over_the_limit_is_refused_on_every_method(front: Front) -> None:
    for method in (PREDICT, "/test.Backend/Describe"):
        error = front.refusal(b" " * (MAX_MESSAGE + 1), method)
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.details() == f"Received message larger than max ({MAX_MESSAGE + 1} vs. {MAX_MESSAGE})"
        assert front.call(b" " * MAX_MESSAGE, method)


def test_answers_have_no_limit(front: Front) -> None:
    assert len(front.call(b"size 20000000")) == 20_000_000
    assert len(front.call(b"describe size 20000000", "/test.Backend/Describe")) == 20_000_000


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests_are_read(front: Front, compression: grpc.Compression) -> None:
    data = b"compressible " * 5000
    assert front.call(data, compression=compression) == data
    proxied = json.loads(front.call(b"describe " * 5000, "/test.Backend/Describe", compression=compression))
    assert proxied["bytes"] == 45_000
    # The limit is of what comes out, too: 10 kB of zeros would be 10 MB.
    bomb = front.refusal(bytes(10 * MAX_MESSAGE), compression=compression)
    assert bomb.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


# --- Calls that the server behind answers -----------------------------------------------------------------------------

FORWARDED = [
    (b"forward", PREDICT),
    (b"later 0.05 forward", PREDICT),
    (b"forward", METADATA),
    (b"any", "/test.Backend/Describe"),
]


@pytest.mark.parametrize(("data", "method"), FORWARDED)
def test_metadata_and_deadline_reach_the_server_behind(front: Front, data: bytes, method: str) -> None:
    sent = [
        ("x-request-id", "abc"),
        ("twice", "1"),
        ("twice", "2"),
        ("some-bin", b"\x00\xff,"),
        ("x-dpsr-peer", "ipv4:1.2.3.4:5"),
    ]
    answer, call = front.channel.unary_unary(method).with_call(data, timeout=30, metadata=sent)
    seen = json.loads(answer)
    peers = [value for key, value in seen["metadata"] if key == "x-dpsr-peer"]
    assert len(peers) == 1
    assert peers[0].startswith("ipv4:127.0.0.1:")
    custom = [(key, value) for key, value in seen["metadata"] if key in {"x-request-id", "twice", "some-bin"}]
    assert sorted(custom) == [("some-bin", "00ff2c"), ("twice", "1"), ("twice", "2"), ("x-request-id", "abc")]
    assert 20 < seen["seconds"] <= 31
    assert seen["bytes"] == len(data)
    assert [tuple(pair) for pair in call.initial_metadata()] == [
        ("first", "1"),
        ("first", "2"),
        ("first-bin", b"\x00\xff"),
    ]
    assert {("last", "x"), ("last-bin", b"\xff\x00")} <= {tuple(pair) for pair in call.trailing_metadata()}


def test_calls_without_a_deadline_have_none_behind(front: Front) -> None:
    for data, method in ((b"forward", PREDICT), (b"any", "/test.Backend/Describe")):
        assert json.loads(front.channel.unary_unary(method)(data))["seconds"] is None


@pytest.mark.parametrize(("data", "method"), FORWARDED)
def test_errors_of_the_server_behind_come_through(front: Front, data: bytes, method: str) -> None:
    error = front.refusal(data + b" fail", method)
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "nothing here: \u4e2d\u6587, 100 %\n")
    trailing = {tuple(pair) for pair in error.trailing_metadata()}
    assert {("last", "x"), ("last-bin", b"\xff\x00"), ("grpc-status-details-bin", b"\x08\x05")} <= trailing


@pytest.mark.parametrize(("data", "method"), [(b"forward wait", PREDICT), (b"any wait", "/test.Backend/Describe")])
def test_cancellation_and_deadline_reach_the_server_behind(
    front: Front, backend: Backend, data: bytes, method: str
) -> None:
    before = backend.cancelled
    assert front.refusal(data, method, timeout=0.3).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for(lambda: backend.cancelled == before + 1)
    call = front.start(data, method)
    time.sleep(0.2)
    call.cancel()
    wait_for(lambda: backend.cancelled == before + 2)
    assert front.service.cancels == 0


def test_unknown_methods_are_refused_by_the_server_behind(front: Front) -> None:
    error = front.refusal(b"", "/no.Service/AtAll")
    assert (error.code(), error.details()) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


def test_streams_of_answers(front: Front) -> None:
    call = front.channel.unary_stream("/test.Backend/Count")(b"[1000, 0]", timeout=TIMEOUT)
    assert list(call) == [b"%d" % i for i in range(1000)]
    assert ("counted", "1000") in {tuple(pair) for pair in call.trailing_metadata()}


def test_streams_of_requests(front: Front) -> None:
    words = [b"%d" % i for i in range(1000)]
    assert front.channel.stream_unary("/test.Backend/Join")(iter(words), timeout=TIMEOUT) == b"+".join(words)
    assert front.channel.stream_unary("/test.Backend/Join")(iter([]), timeout=TIMEOUT) == b""


def test_conversations(front: Front) -> None:
    spoken = threading.Semaphore(0)
    words = [b"one", b"two", b"three"]

    def speak() -> Iterator[bytes]:
        for word in words:
            assert spoken.acquire(timeout=TIMEOUT)
            yield word

    call = front.channel.stream_stream("/test.Backend/Chat")(speak(), timeout=TIMEOUT)
    assert ("greeting", "hello") in {tuple(pair) for pair in call.initial_metadata()}  # before any message
    for word in words:  # each is answered before the next is sent
        spoken.release()
        assert next(call) == word.upper()
    assert list(call) == []
    assert call.code() == grpc.StatusCode.OK


def test_the_server_behind_may_end_a_conversation(front: Front) -> None:
    left = threading.Event()

    def speak() -> Iterator[bytes]:
        yield b"leave"
        left.wait(TIMEOUT)

    call = front.channel.stream_stream("/test.Backend/Chat")(speak(), timeout=TIMEOUT)
    with pytest.raises(grpc.RpcError) as error:
        list(call)
    left.set()
    assert (error.value.code(), error.value.details()) == (grpc.StatusCode.ABORTED, "left in the middle")


def test_a_stream_that_is_cancelled_ends_behind(front: Front, backend: Backend) -> None:
    before = backend.cancelled
    calls = [front.channel.unary_stream("/test.Backend/Count")(b"[100000, 0.001]") for _ in range(10)]
    for call in calls:
        assert next(call) == b"0"
        call.cancel()
    wait_for(lambda: backend.cancelled == before + 10)


def test_without_a_server_behind_forwarded_calls_are_unavailable(make: Callable[..., Front], tmp_path: Path) -> None:
    front = make(backend=f"unix:{tmp_path}/none.sock")
    for data, method in ((b"forward", PREDICT), (b"", "/test.Backend/Describe")):
        assert front.refusal(data, method).code() == grpc.StatusCode.UNAVAILABLE
    assert front.call(b"answered") == b"answered"


# --- The port ---------------------------------------------------------------------------------------------------------


def test_a_port_in_use_is_reported(make: Callable[..., Front], front: Front) -> None:
    assert front.port > 0
    second = make(address=f"127.0.0.1:{front.port}")
    assert second.port == 0
    second.transport.shutdown(1)


def test_a_port_is_shared_on_request(make: Callable[..., Front]) -> None:
    first = make(reuse_port=True)
    second = make(reuse_port=True, address=f"127.0.0.1:{first.port}")
    assert second.port == first.port
    first.close()
    assert second.call(b"answered", wait_for_ready=True) == b"answered"


def test_ipv6_addresses(make: Callable[..., Front]) -> None:
    front = make(address="[::]:0")
    if front.port == 0:
        pytest.skip("this machine has no IPv6")
    assert front.call(b"answered") == b"answered"


def test_what_is_not_a_service_or_half_of_a_key_is_refused(echo: Any, backend: Backend) -> None:
    options: dict[str, Any] = {
        "address": "127.0.0.1:0",
        "backend": backend.address,
        "threads": 1,
        "max_message_bytes": MAX_MESSAGE,
        "reuse_port": False,
        "key": None,
        "certificate": None,
        "client_ca": None,
    }
    service = echo.EchoService()
    with pytest.raises(TypeError, match=r"dpsr\.serving\.Service"):
        transport.Transport(echo.other_capsule(), **options)
    with pytest.raises(ValueError, match="threads must be at least 1, is 0"):
        transport.Transport(service.capsule, **{**options, "threads": 0})
    for half in ({"key": b"k"}, {"certificate": b"c"}, {"client_ca": b"a"}):
        with pytest.raises(ValueError, match="both key and certificate"):
            transport.Transport(service.capsule, **{**options, **half})


# --- TLS --------------------------------------------------------------------------------------------------------------


def secure_call(front: Front, keys: Path, name: str | None = None) -> bytes:
    pair = [(keys / f"{name}.{part}").read_bytes() for part in ("key", "pem")] if name else [None, None]
    credentials = grpc.ssl_channel_credentials((keys / "ca.pem").read_bytes(), *pair)
    with grpc.secure_channel(f"localhost:{front.port}", credentials) as channel:
        return channel.unary_unary(PREDICT)(b"secret", timeout=5)


def test_tls(make: Callable[..., Front], keys: Path) -> None:
    front = make(key=(keys / "server.key").read_bytes(), certificate=(keys / "server.pem").read_bytes())
    assert secure_call(front, keys) == b"secret"
    assert front.refusal(b"plain", timeout=5).code() == grpc.StatusCode.UNAVAILABLE


def test_a_key_of_another_certificate_opens_no_port(make: Callable[..., Front], keys: Path) -> None:
    front = make(key=(keys / "client.key").read_bytes(), certificate=(keys / "server.pem").read_bytes())
    assert front.port == 0


def test_mutual_tls(make: Callable[..., Front], keys: Path) -> None:
    files = {"key": "server.key", "certificate": "server.pem", "client_ca": "ca.pem"}
    front = make(**{name: (keys / file).read_bytes() for name, file in files.items()})
    assert secure_call(front, keys, "client") == b"secret"
    for name in (None, "stranger"):
        with pytest.raises(grpc.RpcError) as error:
            secure_call(front, keys, name)
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE


# --- The end ----------------------------------------------------------------------------------------------------------


def test_a_shutdown_lets_calls_end_and_takes_no_new_one(front: Front) -> None:
    calls = [front.start(b"later 1"), front.start(b"later 0.5 forward"), front.start(b"sleep 0.8")]
    stream = front.channel.unary_stream("/test.Backend/Count")(b"[20, 0.02]", timeout=TIMEOUT)
    assert next(stream) == b"0"
    wait_for(lambda: front.service.waiting == 2)
    closing = threading.Thread(target=front.transport.shutdown, args=(TIMEOUT,))
    closing.start()
    time.sleep(0.2)
    with front.connect(("grpc.use_local_subchannel_pool", 1)) as late, pytest.raises(grpc.RpcError) as error:
        late.unary_unary(PREDICT)(b"late", timeout=TIMEOUT)
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    assert calls[0].result() == b"later 1"
    assert json.loads(calls[1].result())["bytes"] == len(b"later 0.5 forward")
    assert calls[2].result() == b"sleep 0.8"
    assert list(stream) == [b"%d" % i for i in range(1, 20)]
    closing.join(TIMEOUT)
    assert not closing.is_alive()


def test_a_shutdown_cancels_what_lasts_longer(front: Front, backend: Backend) -> None:
    before = backend.cancelled
    calls = [front.start(b"later 30"), front.start(b"forward wait"), front.start(b"", "/none.Of/Them")]
    stream = front.channel.unary_stream("/test.Backend/Count")(b"[100000, 0.001]", timeout=TIMEOUT)
    silent = front.channel.stream_stream("/test.Backend/Chat")(iter(threading.Event().wait, None), timeout=TIMEOUT)
    assert next(stream) == b"0"
    assert silent.initial_metadata()
    wait_for(lambda: front.service.waiting == 1)
    start = time.monotonic()
    front.transport.shutdown(0.3)
    assert time.monotonic() - start < 20
    assert front.service.cancels == 1
    assert all(call.exception() is not None for call in calls)
    with pytest.raises(grpc.RpcError):
        list(stream)
    wait_for(lambda: backend.cancelled >= before + 2)
    front.transport.shutdown(0.3)  # a second time, nothing
    del stream, silent


def test_shutdowns_under_load_leave_no_thread(make: Callable[..., Front]) -> None:
    make().close()  # threads that gRPC keeps for itself have started
    gc.collect()
    before = len(os.listdir("/proc/self/task"))
    for seed in range(10):
        front = make(threads=4)
        pick = random.Random(seed)
        kinds = [b"quick", b"later 0.01", b"forward", b"later 0.01 forward", b"sleep 0.01", b"later 5"]
        calls = [front.start(pick.choice(kinds)) for _ in range(100)]
        for call in pick.sample(calls, 20):
            call.cancel()
        closers = [threading.Thread(target=front.transport.shutdown, args=(0.05,)) for _ in range(3)]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join(TIMEOUT)
            assert not closer.is_alive()
        assert all(call.done() or call.exception(TIMEOUT) for call in calls)
        front.channel.close()
    wait_for(lambda: len(os.listdir("/proc/self/task")) <= before + 2)


def test_a_transport_that_is_dropped_shuts_down(echo: Any, backend: Backend) -> None:
    front = Front(echo, backend=backend.address)
    assert front.call(b"answered") == b"answered"
    front.channel.close()
    del front.transport, front.service
    gc.collect()
    with pytest.raises(OSError):  # noqa: PT011  (refused or reset, depending on the system)
        socket.create_connection(("127.0.0.1", front.port), 1)


# --- Load and bad clients ---------------------------------------------------------------------------------------------


def test_many_callers(make: Callable[..., Front]) -> None:
    front = make(threads=4)
    channels = [front.connect(("grpc.use_local_subchannel_pool", 1)) for _ in range(8)]
    end = time.monotonic() + 4
    wrong: list[str] = []
    answered = [0] * 200

    def call(caller: int) -> None:
        pick = random.Random(caller)
        predict = channels[caller % 8].unary_unary(PREDICT)
        unknown = channels[caller % 8].unary_unary("/test.Backend/Describe")
        while time.monotonic() < end:
            kind = pick.random()
            data = b"%d of %d %s" % (answered[caller], caller, pick.randbytes(pick.randrange(2000)))
            try:
                if kind < 0.8:
                    right = predict(data, timeout=TIMEOUT) == data
                elif kind < 0.9:
                    right = json.loads(predict(b"forward", timeout=TIMEOUT))["bytes"] == 7
                elif kind < 0.95:
                    right = json.loads(unknown(b"", timeout=TIMEOUT))["bytes"] == 0
                else:
                    predict.future(b"later 0.02", timeout=TIMEOUT).cancel()
                    right = True
            except grpc.RpcError as error:
                wrong.append(f"{error.code()}: {error.details()}")
                return
            if not right:
                wrong.append(repr(data))
            answered[caller] += 1

    callers = [threading.Thread(target=call, args=(caller,)) for caller in range(200)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for channel in channels:
        channel.close()
    assert wrong == []
    assert min(answered) > 0


def test_memory_is_flat_over_many_calls(front: Front) -> None:
    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def run(calls: int) -> None:
        pending = [front.start(b"later 2" if i % 4 == 0 else bytes(20_000)) for i in range(calls)]
        for i, call in enumerate(pending):
            if i % 4 == 0:
                call.cancel()
            else:
                assert len(call.result()) == 20_000

    for _ in range(10):
        run(200)
    before = resident()
    for _ in range(50):
        run(200)
    assert resident() - before < 30 << 20  # 10,000 calls of 20 kB would leave 200 MB


def test_bad_clients_harm_nobody(front: Front) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    half_open = [socket.create_connection(("127.0.0.1", front.port)) for _ in range(50)]
    for seed in range(200):
        pick = random.Random(seed)
        client = socket.create_connection(("127.0.0.1", front.port))
        data = [b"", b"GET / HTTP/1.1\r\n\r\n", preface, preface + pick.randbytes(300), pick.randbytes(100)][seed % 5]
        client.sendall(data)
        if seed % 2:  # a reset in place of an orderly end
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    assert front.call(b"answered") == b"answered"
    for client in half_open:
        client.close()


LIBRARIES = """
import sys
for name in sys.argv[4:]:
    __import__(name)
sys.path.insert(0, sys.argv[1])
import echo_service, grpc, tensorflow as tf
from dpsr.serving.engine import _transport
service = echo_service.EchoService()
transport = _transport.Transport(service.capsule, address="127.0.0.1:0", backend=sys.argv[2], threads=2,
    max_message_bytes=1 << 20, reuse_port=False, key=None, certificate=None, client_ca=None)
channel = grpc.insecure_channel(f"127.0.0.1:{transport.port}")
assert tf.io.parse_tensor(tf.io.serialize_tensor(tf.range(3) + 1), tf.int32).numpy().tolist() == [1, 2, 3]
assert channel.unary_unary(sys.argv[3])(b"answered", timeout=60) == b"answered"
assert channel.unary_unary(sys.argv[3])(b"forward", timeout=60)
server = tf.distribute.Server.create_local_server()
assert server.target.startswith("grpc://")
transport.shutdown(1)
assert channel.unary_unary("/a/b").future(b"", timeout=1).exception() is not None
print("done")
"""


@pytest.mark.parametrize(
    "order",
    [
        ("tensorflow", "grpc", "dpsr.serving.engine._transport"),
        ("dpsr.serving.engine._transport", "grpc", "tensorflow"),
        ("grpc", "dpsr.serving.engine._transport", "tensorflow"),
    ],
    ids=lambda order: "-".join(name.rsplit(".", 1)[-1] for name in order),
)
def test_three_copies_of_grpc_live_in_one_process(echo: Any, backend: Backend, order: tuple[str, ...]) -> None:
    folder = str(Path(echo.__file__).parent)
    command = [sys.executable, "-c", LIBRARIES, folder, backend.address, PREDICT, *order]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (run.returncode, run.stdout.splitlines()[-1:]) == (0, ["done"]), run.stderr
