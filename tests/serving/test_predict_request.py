"""The data plane's readers of requests against protobuf: what they accept, protobuf reads the same way."""

import json
import random
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import HealthCheckRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from dpsr.serving.tensors import decode, encode

CORE = Path(__file__).resolve().parents[2] / "serving" / "engine" / "native"
REQUESTS, MUTATIONS = 2_000, 20_000
MESSAGES: dict[str, Any] = {"p": PredictRequest, "m": GetModelMetadataRequest, "h": HealthCheckRequest}
DTYPES = (np.float32, np.float64, np.int32, np.int64, np.bool_, object)
TEXTS = ("", "query", "shop", "красные туфли", "新しい靴", "a\0b", "é" * 90, "🙂")
FIELDS = {1: "float_val", 2: "double_val", 3: "int_val", 9: "int64_val", 10: "bool_val"}

Message = tuple[str, bytes]
"""A key of ``MESSAGES``, and a serialised message."""


@pytest.fixture(scope="module")
def read() -> Callable[[list[Message]], list[Any]]:
    """What the readers make of messages; None for a refused one."""
    built = subprocess.run(
        ["make", "-s", "--no-print-directory", "-C", str(CORE), "reader"], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    program = CORE.parents[2] / "build" / "data_plane" / "read_requests"

    def run(messages: list[Message]) -> list[Any]:
        sent = b"".join(kind.encode() + struct.pack("<I", len(data)) + data for kind, data in messages)
        lines = subprocess.run([str(program)], input=sent, capture_output=True, check=True).stdout.splitlines()
        assert len(lines) == len(messages)
        return [None if line == b"refused" else json.loads(line) for line in lines]

    return run


def draw_array(draw: random.Random) -> np.ndarray:
    """An array of up to three dimensions."""
    shape = [draw.choice((0, 1, 1, 2, 3, 5)) for _ in range(draw.randrange(4))]
    kind = draw.choice(DTYPES)
    count = int(np.prod(shape, dtype=int))
    if kind is object:
        array = np.empty(count, object)
        array[:] = [draw.randbytes(draw.randrange(40)) for _ in range(count)]
        return array.reshape(shape)
    return np.frombuffer(draw.randbytes(8 * count), np.int64).astype(kind).reshape(shape)


def fill_tensor(draw: random.Random, proto: Any) -> None:
    """One of the encodings: this project's client's, the stock client's, or the fields of values."""
    array, way = draw_array(draw), draw.randrange(3)
    if way == 0 or array.dtype == object:
        encode(array, proto)
    elif way == 1 and array.size != 1:  # of one value it writes a field, below
        proto.CopyFrom(tf.make_tensor_proto(array))
    else:
        proto.CopyFrom(tf.make_tensor_proto(array[..., np.newaxis][..., :0]))  # its type
        del proto.tensor_shape.dim[:]
        for size in array.shape:
            proto.tensor_shape.dim.add(size=size, name=draw.choice(("", "", "rows")))
        proto.ClearField("tensor_content")
        getattr(proto, FIELDS[proto.dtype]).extend(array.ravel().tolist())


def draw_request(draw: random.Random) -> Message:
    """A request in a plain form."""
    kind = draw.choices("pmh", (8, 1, 1))[0]
    request = MESSAGES[kind]()
    if kind == "h":
        request.service = draw.choice(TEXTS)
        return kind, request.SerializeToString()
    request.model_spec.name = draw.choice(TEXTS)
    request.model_spec.signature_name = draw.choice(TEXTS)
    named = draw.randrange(4)
    if named == 1:
        request.model_spec.version.value = draw.choice((0, 1, 7, 1_700_000_000, -1, 2**63 - 1))
    elif named == 2:
        request.model_spec.version_label = draw.choice(TEXTS)
    texts = draw.sample(TEXTS, draw.randrange(3))
    if kind == "m":
        request.metadata_field.extend(texts)
        return kind, request.SerializeToString()
    request.output_filter.extend(texts)
    for alias in draw.sample(TEXTS, draw.randrange(4)):
        fill_tensor(draw, request.inputs[alias])
    return kind, request.SerializeToString()


def varint(value: int) -> bytes:
    """The shortest form."""
    return bytes([value & 0x7F | 0x80]) + varint(value >> 7) if value > 0x7F else bytes([value])


def take_varint(data: bytes, place: int) -> tuple[int, int]:
    """A number, and the place behind it."""
    value = shift = 0
    while True:
        value |= (data[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if data[place - 1] < 0x80:
            return value, place


def split(data: bytes) -> list[bytes] | None:
    """The fields of a message; None for what is none."""
    fields, place = [], 0
    try:
        while place < len(data):
            start = place
            tag, place = take_varint(data, place)
            if not 1 <= tag >> 3 <= 20 or tag & 7 not in (0, 1, 2, 5):
                return None
            if tag & 7 == 0:
                _, place = take_varint(data, place)
            elif tag & 7 == 2:
                size, place = take_varint(data, place)
                place += size
            else:
                place += 8 if tag & 7 == 1 else 4
            if place > len(data):
                return None
            fields.append(data[start:place])
    except IndexError:
        return None
    return fields


def change_fields(draw: random.Random, data: bytes, depth: int = 0) -> bytes:
    """Repeats, drops, swaps or unpacks fields of the message or of one inside it; all lengths stay right."""
    fields = split(data)
    if not fields:
        return data
    place = draw.randrange(len(fields))
    field = fields[place]
    if field[0] & 7 == 2 and depth < 4 and draw.random() < 0.75:
        _, start = take_varint(field, 1)
        inner = change_fields(draw, field[start:], depth + 1)
        if inner != field[start:]:
            fields[place] = field[:1] + varint(len(inner)) + inner
            return b"".join(fields)
    change = draw.randrange(6)
    if change == 0:
        fields.insert(draw.randrange(len(fields) + 1), field)
    elif change == 1:
        del fields[place]
    elif change == 2:
        draw.shuffle(fields)
    elif change == 3:  # the same bytes as another field's
        fields[place] = bytes([draw.randrange(1, 16) << 3 | field[0] & 7]) + field[1:]
    elif change == 4 and field[0] & 7 == 0:
        fields[place] = field[:1] + varint(draw.choice((0, 1, 2, 3, 7, 2**31, 2**32 - 1, 2**63, 2**64 - 1)))
    elif field[0] & 7 == 2:  # numbers one by one, or as many empty texts
        _, start = take_varint(field, 1)
        fields[place] = b"".join(bytes([field[0] & 0xF8 | draw.choice((0, 2)), byte & 0x7F]) for byte in field[start:9])
    return b"".join(fields)


def change_bytes(draw: random.Random, data: bytes, other: bytes) -> bytes:
    """Flips, replaces, cuts or splices bytes."""
    if not data:
        return other
    place = draw.randrange(len(data))
    match draw.randrange(5):
        case 0:
            return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]
        case 1:
            return data[:place] + draw.randbytes(1) + data[place + 1 :]
        case 2:
            return data[:place]
        case 3:
            return data[:place] + data[place + draw.randrange(1, 9) :]
        case _:
            return data[:place] + other[draw.randrange(len(other) + 1) :]


def mutations(draw: random.Random, requests: list[Message]) -> Iterator[Message]:
    """Requests with changes among their fields, their bytes, or both."""
    for _ in range(MUTATIONS):
        (kind, data), (_, other) = draw.choice(requests), draw.choice(requests)
        changed = data
        for _ in range(draw.randrange(1, 4)):
            fields = draw.random() < 0.7
            changed = change_fields(draw, changed) if fields else change_bytes(draw, changed, other)
        yield kind, changed


def text(hexadecimal: str | None) -> str | None:
    """A text of the program; None for none."""
    return None if hexadecimal is None else bytes.fromhex(hexadecimal).decode("utf-8")


def texts(hexadecimals: list[str]) -> list[str | None]:
    """Texts of the program."""
    return [text(each) for each in hexadecimals]


def check_spec(found: list[Any], spec: Any) -> None:
    """Compares a model specification."""
    choice = spec.WhichOneof("version_choice")
    assert text(found[0]) == spec.name
    assert found[1] == (spec.version.value if choice == "version" else None)
    assert text(found[2]) == (spec.version_label if choice == "version_label" else None)
    assert text(found[3]) == spec.signature_name


def check_tensor(found: list[Any], proto: Any) -> None:
    """Compares a tensor with what the Python plane decodes."""
    _, dtype, dims, strings, numbers = found
    array = decode(proto)
    assert dtype == proto.dtype
    assert dims == [dim.size for dim in proto.tensor_shape.dim] == list(array.shape)
    if dtype == 7:
        assert [bytes.fromhex(each) for each in strings] == array.ravel().tolist()
        assert not numbers
    else:
        assert not strings
        assert bytes.fromhex(numbers) == array.tobytes()


def check(message: Message, found: Any) -> None:
    """Compares what a reader accepted with protobuf's own reading."""
    kind, data = message
    request = MESSAGES[kind].FromString(data)
    if kind == "h":
        assert text(found) == request.service
        return
    assert request.HasField("model_spec")
    check_spec(found[0], request.model_spec)
    if kind == "m":
        assert texts(found[1]) == list(request.metadata_field)
        return
    assert {field.name for field, _ in request.ListFields()} <= {"model_spec", "inputs", "output_filter"}
    assert texts(found[2]) == list(request.output_filter)
    assert sorted(text(each[0]) or "" for each in found[1]) == sorted(request.inputs)
    for each in found[1]:
        check_tensor(each, request.inputs[text(each[0])])


def test_requests_in_plain_forms_are_accepted_and_read_as_protobuf_reads_them(
    read: Callable[[list[Message]], list[Any]],
) -> None:
    draw = random.Random(5)
    requests = [draw_request(draw) for _ in range(REQUESTS)]
    for request, found in zip(requests, read(requests), strict=True):
        assert found is not None, request
        check(request, found)


def test_what_is_accepted_of_mutated_requests_is_what_protobuf_reads(
    read: Callable[[list[Message]], list[Any]],
) -> None:
    draw = random.Random(6)
    messages = list(mutations(draw, [draw_request(draw) for _ in range(REQUESTS)]))
    accepted = [(message, found) for message, found in zip(messages, read(messages), strict=True) if found is not None]
    for message, found in accepted:
        try:
            check(message, found)
        except (AssertionError, DecodeError, ValueError) as error:
            raise AssertionError(f"{message} was read as {found}") from error
    # Both happen often: neither a reader that refuses everything passes, nor mutations that change nothing.
    assert MUTATIONS // 10 < len(accepted) < MUTATIONS * 9 // 10
