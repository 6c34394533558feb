"""Decoding of tensors against TensorFlow's own, and encoding against decoding."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow.core.framework.tensor_pb2 import TensorProto

from dpsr.serving.tensors import decode, encode, type_name

NUMERIC = [
    np.float32,
    np.float64,
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.bool_,
    np.float16,
    np.complex64,
]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def oracle(proto: TensorProto) -> np.ndarray:
    return tf.io.parse_tensor(proto.SerializeToString(), proto.dtype).numpy()


@pytest.mark.parametrize("dtype", NUMERIC)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_numbers_survive_both_ways(dtype: type, data: st.DataObject) -> None:
    array = data.draw(arrays.arrays(dtype, SHAPES))
    proto = TensorProto()
    encode(array, proto)
    for decoded in (decode(proto), oracle(proto), decode(tf.make_tensor_proto(array))):
        assert decoded.dtype == array.dtype
        np.testing.assert_array_equal(decoded, array)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=6), max_size=6))
def test_bytes_survive_both_ways(values: list[bytes]) -> None:
    array = np.empty(len(values), object)
    array[:] = values
    proto = TensorProto()
    encode(array, proto)
    assert decode(proto).tolist() == list(oracle(proto)) == values


VALUE_FIELDS = {"int_val": "int32", "int64_val": "int64", "float_val": "float32", "string_val": "string"}


@pytest.mark.parametrize("field", VALUE_FIELDS)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 2)])
@pytest.mark.parametrize("count", range(6))
def test_any_number_of_values_is_read_as_tensorflow_reads_it(field: str, shape: tuple, count: int) -> None:
    dtype = tf.dtypes.as_dtype(VALUE_FIELDS[field])
    values = [b"%d" % index for index in range(count)] if field == "string_val" else list(range(count))
    proto = TensorProto(dtype=dtype.as_datatype_enum, **{field: values})
    for size in shape:
        proto.tensor_shape.dim.add().size = size
    np.testing.assert_array_equal(decode(proto), oracle(proto))


def test_values_out_of_range_wrap_as_in_tensorflow() -> None:
    proto = TensorProto(dtype=tf.int8.as_datatype_enum, int_val=[300, -1])
    proto.tensor_shape.dim.add().size = 2
    np.testing.assert_array_equal(decode(proto), oracle(proto))


def test_strings_as_tensor_content_are_understood() -> None:
    proto = TensorProto(dtype=tf.string.as_datatype_enum, tensor_content=b"\x01\x02abc")
    proto.tensor_shape.dim.add().size = 2
    np.testing.assert_array_equal(decode(proto), np.array([b"a", b"bc"], object))


@pytest.mark.parametrize(
    "proto",
    [
        TensorProto(),
        TensorProto(dtype=99),
        TensorProto(dtype=tf.resource.as_datatype_enum),
        TensorProto(dtype=tf.int32.as_datatype_enum, tensor_content=b"abc"),
        TensorProto(dtype=tf.string.as_datatype_enum, tensor_content=b"\x09a"),
    ],
    ids=["no type", "unknown type", "resource", "odd content", "string past the end"],
)
def test_a_message_that_is_not_a_tensor_is_an_error(proto: TensorProto) -> None:
    with pytest.raises(ValueError, match=r"^not a tensor: "):
        decode(proto)


def test_an_object_array_of_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="it holds a int: 3"):
        encode(np.array(["a", 3], object), TensorProto())


def test_arrays_that_are_not_contiguous_keep_their_order() -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4).T[::2]
    proto = TensorProto()
    encode(array, proto)
    np.testing.assert_array_equal(oracle(proto), array)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 7, 9, 10, 17, 19, 22, 23])
def test_type_names_are_those_of_tensorflows_errors(number: int) -> None:
    wanted = {1: "float", 2: "double", 19: "half"}.get(number, tf.dtypes.as_dtype(number).name)
    assert type_name(number) == wanted
