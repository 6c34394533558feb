"""Mutated requests: each gets an answer or an error code, and the next valid request is answered.

``DPSR_FUZZ_REQUESTS=100000 pytest -m slow tests/serving/test_fuzz.py`` is the long run.
"""

import http.client
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tiny_shop
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from dpsr.serving.client import PredictClient
from dpsr.serving.tensors import encode

NAME = tiny_shop.NAME
LONG = int(os.environ.get("DPSR_FUZZ_REQUESTS", "20000"))
SHORT = 600
TIMEOUT = 60.0
IN_FLIGHT = 32
PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
HANGS_AND_CRASHES = {
    grpc.StatusCode.UNKNOWN,  # an uncaught exception
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}
INPUTS: dict[str, dict[str, Any]] = {
    "serving_default": {"query": ["red", "blue tea"]},
    "personalized": {"query": ["red"], "gender": ["f"], "history": [[3, -1]]},
    "embed_query": {"query": ["phone"]},
    "tokenize": {"query": ["a bc", ""]},
    "parse_number": {"text": ["1.5"]},
    "echo": {
        "floats": [[0.5, 1.0]],
        "doubles": [0.25],
        "int32s": [7],
        "int64s": [[1, 2]],
        "bools": [True],
        "texts": ["x"],
    },
}
TYPES = {"floats": np.float32, "int32s": np.int32, "bools": np.bool_}
Request = tuple[str, bytes]


@pytest.fixture
def server(publish: Callable[..., Path], base_path: Path) -> Iterator[Any]:
    publish(1)
    server = tiny_shop.server(base_path, max_in_flight=2 * IN_FLIGHT, log_requests="none")
    server.grpc_port = server.start()
    yield server
    server.stop()


def grpc_seeds() -> list[tuple[str, Any]]:
    seeds: list[tuple[str, Any]] = []
    for signature, inputs in INPUTS.items():
        request = predict_pb2.PredictRequest()
        request.model_spec.signature_name = signature
        for alias, values in inputs.items():
            flat = np.asarray(values)
            array = flat.astype(object) if flat.dtype.kind == "U" else flat.astype(TYPES.get(alias, flat.dtype))
            encode(array, request.inputs[alias])
        seeds.append((PREDICT, request))
    seeds.append((METADATA, get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])))
    seeds.append((STATUS, get_model_status_pb2.GetModelStatusRequest()))
    for _, request in seeds:
        request.model_spec.name = NAME
    return seeds


def mutated_bytes(data: bytes, dice: random.Random) -> bytes:
    """Flips, inserts, drops, repeats or cuts off bytes, one to four times."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        start = dice.randrange(len(changed) + 1)
        end = min(len(changed), start + dice.randint(1, 8))
        match dice.randrange(6):
            case 0 if changed:
                changed[start % len(changed)] ^= 1 << dice.randrange(8)
            case 1:
                changed[start:start] = dice.randbytes(dice.randint(1, 8))
            case 2:
                del changed[start:end]
            case 3:
                changed[start:start] = changed[start:end]
            case 4:
                changed[start:end] = dice.choice((b"\xff" * 10, b"\x00" * 4, b"[[[[", b"1e999", b'"b64":', b"{", b"-"))
            case _ if dice.random() < 0.2:
                del changed[start:]
    return bytes(changed)


def mutated_message(request: Any, dice: random.Random) -> bytes:
    """Changes fields of a ``PredictRequest``; the result still parses."""
    message = type(request)()
    message.CopyFrom(request)
    if isinstance(message, predict_pb2.PredictRequest):
        alias = dice.choice(sorted(message.inputs))
        proto = message.inputs[alias]
        match dice.randrange(7):
            case 0:
                proto.dtype = dice.randrange(0, 30)
            case 1:
                proto.tensor_shape.dim.add().size = dice.choice((-1, 0, 1, 2, 1000, 1 << 40, (1 << 63) - 1))
            case 2 if proto.tensor_shape.dim:
                proto.tensor_shape.dim[0].size = dice.choice((-(1 << 63), -1, 0, 3, 1023, 1 << 31, (1 << 63) - 1))
            case 3:
                proto.tensor_content = dice.randbytes(dice.randint(0, 40))
            case 4:
                proto.tensor_shape.unknown_rank = True
            case 5:
                proto.string_val.append(dice.randbytes(dice.choice((0, 5, 5000))))
            case _:
                message.inputs[dice.choice(("", "query", "text", "\x00"))].CopyFrom(proto)
        if dice.random() < 0.2:
            message.output_filter.append(dice.choice(("score", "head", "", "nothing")))
    if dice.random() < 0.1:
        message.model_spec.version.value = dice.choice((0, 1, -1, (1 << 63) - 1))
    return bytes(message.SerializeToString())


def fuzzed_grpc(count: int, seed: int) -> Iterator[Request]:
    dice, seeds = random.Random(seed), grpc_seeds()
    for _ in range(count):
        method, request = dice.choice(seeds)
        if dice.random() < 0.5:
            yield method, mutated_bytes(request.SerializeToString(), dice)
        else:
            yield method, mutated_message(request, dice)


def mutated_tree(tree: Any, dice: random.Random) -> Any:
    """Replaces one value of a JSON tree by an odd one."""
    if isinstance(tree, dict | list) and tree and dice.random() < 0.8:
        key = dice.choice(list(tree) if isinstance(tree, dict) else range(len(tree)))
        copy = tree.copy()
        copy[key] = mutated_tree(tree[key], dice)
        return copy
    odd: list[Any] = [None, True, -1, 1e300, float("nan"), 2**70, "", "\ud800", [], {}, {"b64": "?"}, {"b64": "AA=="}]
    return dice.choice([*odd, [tree], [tree, [tree]], {"query": tree}, "x" * 5000, [tree] * 2000])


def fuzzed_json(count: int, seed: int) -> Iterator[Request]:
    dice = random.Random(seed)
    for _ in range(count):
        signature, inputs = dice.choice(list(INPUTS.items()))
        tree: dict[str, Any] = {"signature_name": signature, "inputs": inputs}
        if dice.random() < 0.5:
            rows = [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
            tree = {"signature_name": signature, "instances": rows}
        if dice.random() < 0.5:
            yield f"/v1/models/{NAME}:predict", mutated_bytes(json.dumps(tree).encode(), dice)
        else:
            yield f"/v1/models/{NAME}:predict", json.dumps(mutated_tree(tree, dice)).encode()


def ask_grpc(server: Any, requests: Iterator[Request]) -> Counter[str]:
    """The codes of all answers; fails on one that means a crash or a hang."""
    codes: Counter[str] = Counter()
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        under_way: list[tuple[Request, Any]] = []

        def settle(keep: int) -> None:
            while len(under_way) > keep:
                (method, data), future = under_way.pop(0)
                code = future.code()
                assert code not in HANGS_AND_CRASHES, (method, data, code, future.details())
                codes[code.name] += 1

        for method, data in requests:
            under_way.append(((method, data), channel.unary_unary(method).future(data, timeout=TIMEOUT)))
            settle(IN_FLIGHT)
        settle(0)
    return codes


def ask_rest(server: Any, requests: Iterator[Request]) -> Counter[int]:
    """The HTTP codes of all answers; fails on one without a JSON body, or on an error of the server itself."""
    codes: Counter[int] = Counter()
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=TIMEOUT)
    for path, body in requests:
        connection.request("POST", path, body)
        response = connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == 200 or list(answer) == ["error"], (body, answer)
        assert response.status != 500, (body, answer)
        codes[response.status] += 1
    connection.close()
    return codes


@pytest.mark.parametrize("count", [SHORT, pytest.param(LONG, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])])
def test_every_mutated_request_gets_an_answer_or_a_code(server: Any, count: int) -> None:
    codes = ask_grpc(server, fuzzed_grpc(count // 2, seed=count))
    statuses = ask_rest(server, fuzzed_json(count - count // 2, seed=count))
    assert codes.total() + statuses.total() == count
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND"} <= set(codes)
    assert {200, 400} <= set(statuses)
    with PredictClient(f"127.0.0.1:{server.grpc_port}") as client:
        answer = client.predict(NAME, {"query": [b"red"]})
    np.testing.assert_array_equal(answer["score"], tiny_shop.expected([b"red"], 1)["score"])
    assert server._in_flight.count == 0
