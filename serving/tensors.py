"""``TensorProto`` to NumPy and back: fast for the usual encodings, by TensorFlow's own code for all others.

TensorFlow is imported for the rare encodings only, so that clients with plain arrays do not need it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

DT_STRING = 7

_TYPES: dict[int, tuple[str, str, type[np.generic] | None]] = {
    1: ("float", "float_val", np.float32),
    2: ("double", "double_val", np.float64),
    3: ("int32", "int_val", np.int32),
    4: ("uint8", "int_val", np.uint8),
    5: ("int16", "int_val", np.int16),
    6: ("int8", "int_val", np.int8),
    DT_STRING: ("string", "string_val", None),
    9: ("int64", "int64_val", np.int64),
    10: ("bool", "bool_val", np.bool_),
    17: ("uint16", "int_val", np.uint16),
    22: ("uint32", "uint32_val", np.uint32),
    23: ("uint64", "uint64_val", np.uint64),
}
"""``DataType`` number -> TensorFlow's name, the repeated field of ``TensorProto``, the NumPy type."""

_NUMBERS = {np.dtype(kind): number for number, (_, _, kind) in _TYPES.items() if kind is not None}

_MAX_EXPANSION = 4 << 20
"""Bytes up to which a tensor is expanded whose message holds fewer values than elements."""


def type_name(number: int) -> str:
    """TensorFlow's name of a ``DataType`` number, as its errors print it: 1 is ``float``."""
    if number in _TYPES:
        return _TYPES[number][0]
    if number == 19:
        return "half"
    import tensorflow as tf

    return str(tf.dtypes.as_dtype(number).name)


def numpy_type(number: int) -> type[np.generic] | None:
    """NumPy type of a ``DataType`` number; None for strings and for types that NumPy lacks."""
    return _TYPES[number][2] if number in _TYPES else None


def decode(proto: Any) -> np.ndarray:
    """The array of a ``TensorProto``; strings become an object array of ``bytes``.

    Accepts every encoding that ``tensorflow::Tensor::FromProto`` accepts: ``tensor_content``, the ``*_val`` fields,
    and fewer values than elements, where the last value fills the rest.

    Raises:
        ValueError: the message is not a valid tensor.
    """
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    known = proto.dtype in _TYPES and not proto.tensor_shape.unknown_rank and all(size >= 0 for size in shape)
    array = _decode_plain(proto, shape) if known else None
    return _decode_any(proto, shape) if array is None else array


def _decode_plain(proto: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """One value per element; None for every other encoding."""
    count = math.prod(shape)
    _, field, kind = _TYPES[proto.dtype]
    content = proto.tensor_content
    if kind is not None and content:
        if len(content) != count * np.dtype(kind).itemsize:
            return None
        return np.frombuffer(content, kind).reshape(shape)
    values = getattr(proto, field)
    if content or len(values) != count:
        return None
    if kind is None:
        array = np.empty(count, object)
        array[:] = list(values)
        return array.reshape(shape)
    try:
        return np.array(values, kind).reshape(shape)
    except OverflowError:  # TensorFlow wraps around; its own code decides how
        return None


def _decode_any(proto: Any, shape: tuple[int, ...]) -> np.ndarray:
    import tensorflow as tf

    if math.prod(shape) * 8 > max(_MAX_EXPANSION, 8 * proto.ByteSize()):
        raise ValueError(f"a tensor of shape {list(shape)} from a message of {proto.ByteSize()} bytes is too large")
    try:
        parsed = tf.io.parse_tensor(proto.SerializeToString(), tf.dtypes.as_dtype(proto.dtype)).numpy()
    except (tf.errors.OpError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not a tensor: {error}") from error
    if proto.dtype == DT_STRING:
        parsed = np.asarray(parsed, object)
    return np.asarray(parsed)


def encode(array: np.ndarray, proto: Any) -> None:
    """Writes an array into an empty ``TensorProto``: numbers as ``tensor_content``, strings as ``string_val``.

    Raises:
        ValueError: the array's type has no tensor type, or an object array holds anything but ``str`` and ``bytes``.
    """
    if array.dtype.kind in "OSU":
        proto.dtype = DT_STRING
        values = array.ravel().tolist()
        try:
            proto.string_val.extend(values)  # nearly always bytes, which need no conversion
        except TypeError:
            del proto.string_val[:]
            try:
                proto.string_val.extend([_as_bytes(value) for value in values])
            except TypeError as error:
                raise ValueError(f"an object array is sent as strings, but {error}; expected str or bytes") from None
    elif array.dtype in _NUMBERS:
        proto.dtype = _NUMBERS[array.dtype]
        proto.tensor_content = array.tobytes()
    else:
        _encode_any(array, proto)
        return
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size


def _as_bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8")
    raise TypeError(f"it holds a {type(value).__name__}: {value!r}")


def _encode_any(array: np.ndarray, proto: Any) -> None:
    import tensorflow as tf

    try:
        proto.CopyFrom(tf.make_tensor_proto(array))
    except (TypeError, ValueError) as error:
        raise ValueError(f"numpy type {array.dtype} has no tensor type: {error}") from None
