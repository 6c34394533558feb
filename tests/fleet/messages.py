"""Serialised ``PredictRequest`` messages, written by hand: the stock modules import TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        out.append(byte | 0x80 if value else byte)
        if not value:
            return bytes(out)


def member(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(value: str | int) -> bytes:
    """A ``TensorProto`` of one string or int64."""
    shape = member(2, member(2, b"\x08\x01"))
    if isinstance(value, str):
        return b"\x08\x07" + shape + member(8, value.encode())
    return b"\x08\x09" + shape + member(10, varint(value))


def predict_request(model: str, inputs: Mapping[str, str | int] | None = None, padding: int = 0) -> bytes:
    """A request to a model; ``padding`` bytes lengthen it by a field that no server knows."""
    request = member(1, member(1, model.encode()) + member(3, b"serving_default"))
    for alias, value in (inputs or {"query": "red shoes"}).items():
        request += member(2, member(1, alias.encode()) + member(2, tensor(value)))
    return request + (member(99, bytes(padding)) if padding else b"")
