"""The choice of a data plane, and that both send the same bytes."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tiny_shop
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

from dpsr.serving.api.native_plane import find_transport
from dpsr.serving.errors import ServableError
from dpsr.serving.tensors import encode

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
CHECK = "/grpc.health.v1.Health/Check"
TRANSPORT = "dpsr.serving.engine._transport"


def test_python_answers_where_it_is_asked_to() -> None:
    module, reason = find_transport(tiny_shop.serving_config(data_plane="python"))
    assert module is None
    assert reason == 'serving.data_plane = "python"'


def test_a_build_without_a_transport_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, TRANSPORT, None)
    module, reason = find_transport(tiny_shop.serving_config(data_plane="auto"))
    assert module is None
    assert "make deps-native" in reason
    with pytest.raises(ServableError, match="make deps-native"):
        find_transport(tiny_shop.serving_config(data_plane="native"))


def test_a_long_temporary_directory_is_left_for_a_short_one(
    exported: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of a socket has at most 107 bytes."""
    if importlib.util.find_spec(TRANSPORT) is None:
        pytest.skip("this build has no native data plane; make deps-native, then build again")
    base_path = tmp_path / tiny_shop.NAME
    shutil.copytree(exported[1], base_path / "1")
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    server = tiny_shop.server(base_path, data_plane="native", rest_port=-1)
    with grpc.insecure_channel(f"127.0.0.1:{server.start()}") as channel:
        assert channel.unary_unary(PREDICT)(predict(query=[b"x"]), timeout=20)
    server.stop()
    assert list(long.iterdir()) == []


def test_a_machine_without_a_temporary_directory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec(TRANSPORT) is None:
        pytest.skip("this build has no native data plane; make deps-native, then build again")
    monkeypatch.setattr("tempfile.tempdir", "/nothing")
    with pytest.raises(ServableError, match=r"nothing.*TMPDIR, or set serving.data_plane"):
        tiny_shop.server(tmp_path, data_plane="native", rest_port=-1).start()


@pytest.fixture(scope="module")
def channels(exported: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[grpc.Channel]]:
    """To servers of the same version, one with each plane."""
    if importlib.util.find_spec(TRANSPORT) is None:
        pytest.skip("this build has no native data plane; make deps-native, then build again")
    base_path = tmp_path_factory.mktemp("planes") / tiny_shop.NAME
    shutil.copytree(exported[1], base_path / "1")
    servers = [tiny_shop.server(base_path, data_plane=plane, rest_port=-1) for plane in ("python", "native")]
    channels = [grpc.insecure_channel(f"127.0.0.1:{server.start()}") for server in servers]
    assert [server.data_plane.split()[0] for server in servers] == ["python", "native"]
    yield channels
    for channel, server in zip(channels, servers, strict=True):
        channel.close()
        server.stop()


def predict(signature: str = "", *, outputs: tuple[str, ...] = (), **inputs: Any) -> bytes:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = tiny_shop.NAME
    request.model_spec.signature_name = signature
    request.output_filter.extend(outputs)
    for alias, array in inputs.items():
        encode(np.asarray(array, dtype=object if isinstance(array[0], bytes) else None), request.inputs[alias])
    return bytes(request.SerializeToString())


def metadata(*fields: str) -> bytes:
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = tiny_shop.NAME
    request.metadata_field.extend(fields)
    return bytes(request.SerializeToString())


ECHO = {
    "floats": np.array([[1, 2], [3, 4]], np.float32),
    "doubles": np.array([0.1, -2.0]),
    "int32s": np.array([1, -2], np.int32),
    "int64s": np.array([[1], [-(2**60)]]),
    "bools": np.array([True, False]),
    "texts": [b"", b"\xff\x00"],
}
CALLS = {
    "a query": (PREDICT, predict(query=[b"red"])),
    "queries": (PREDICT, predict(query=[b"red", b"", b"\xff"])),
    "another signature": (PREDICT, predict("embed_query", query=[b"red"])),
    "one output": (PREDICT, predict(query=[b"red"], outputs=("score",))),
    "outputs in another order": (PREDICT, predict(query=[b"red"], outputs=("score", "head"))),
    "every type": (PREDICT, predict("echo", **ECHO)),
    "outputs of other lengths": (PREDICT, predict("tokenize", query=[b"green tea", b"red"])),
    "an unknown output": (PREDICT, predict(query=[b"red"], outputs=("nothing",))),
    "an unknown signature": (PREDICT, predict("nothing", query=[b"red"])),
    "another type": (PREDICT, predict(query=np.array([1], np.int64))),
    "another shape": (PREDICT, predict("personalized", query=[b"a"], gender=[b"b"], history=np.array([1]))),
    "a text that is too long": (PREDICT, predict(query=[b"x" * 5000])),
    "values that the graph refuses": (PREDICT, predict("parse_number", text=[b"not a number\xff"])),
    "no message": (PREDICT, b"\xff\xff"),
    "an empty message": (PREDICT, b""),
    "signatures": (METADATA, metadata("signature_def")),
    "another field": (METADATA, metadata("other")),
    "health": (CHECK, b""),
    "health of a service": (CHECK, b"\x0a\x24tensorflow.serving.PredictionService"),
    "health of no service": (CHECK, b"\x0a\x01x"),
    "a method that nobody has": ("/tensorflow.serving.PredictionService/Forget", b""),
}


@pytest.mark.parametrize("name", CALLS)
def test_both_planes_send_the_same_bytes(channels: list[grpc.Channel], name: str) -> None:
    method, message = CALLS[name]

    def answer(channel: grpc.Channel) -> Any:
        try:
            return channel.unary_unary(method)(message, timeout=60)
        except grpc.RpcError as error:
            return error.code(), error.details()

    python, native = map(answer, channels)
    assert native == python


@pytest.mark.parametrize("name", ["a query", "queries", "one output", "outputs in another order", "every type"])
def test_plain_requests_do_not_reach_python(
    channels: list[grpc.Channel], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    method, message = CALLS[name]

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr("dpsr.serving.api.predictor.Predictor.predict", fail)
    python, native = channels
    with pytest.raises(grpc.RpcError):
        python.unary_unary(method)(message, timeout=60)
    assert native.unary_unary(method)(message, timeout=60)
