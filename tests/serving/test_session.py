"""The native session: answers equal those of NumPy and the protobuf library, for every type and shape."""

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tiny_shop
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2
from waiting import wait_for

from dpsr.serving.engine.loader import load_session, native
from dpsr.serving.tensors import encode

TYPES = ("float32", "float64", "int8", "uint16", "int64", "bool", "string", "float16", "bfloat16", "complex64")
SPEC = model_pb2.ModelSpec(name="tiny", signature_name="s").SerializeToString()


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Functions by type that return their input, and its rank as a scalar."""
    path = tmp_path_factory.mktemp("echo")
    module = tf.Module()
    signatures = {
        name: tf.function(
            lambda x: {"same": tf.identity(x), "rank": tf.rank(x)}, input_signature=[tf.TensorSpec(None, name, "x")]
        ).get_concrete_function()
        for name in TYPES
    }
    tf.saved_model.save(module, str(path), signatures=signatures)
    session, meta_graph = load_session(path)
    definitions = {name: meta_graph.signature_def[name] for name in TYPES}

    def function(name: str, outputs: tuple[str, ...] = ("rank", "same")) -> Any:
        (source,) = definitions[name].inputs.values()
        named = [(alias, definitions[name].outputs[alias].name) for alias in outputs]
        return session.function([(source.name, source.dtype)], named)

    yield function
    session.close()


def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    random = np.random.default_rng(3)
    if name == "string":
        texts = [
            bytes(random.integers(0, 256, length, np.uint8)) for length in random.integers(0, 300, int(np.prod(shape)))
        ]
        array = np.empty(len(texts), object)
        array[:] = texts
        return array.reshape(shape)
    return (random.integers(0, 100, shape) if name != "bool" else random.integers(0, 2, shape)).astype(
        tf.dtypes.as_dtype(name).as_numpy_dtype
    )


def proto_of(array: np.ndarray) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto()
    encode(array, proto)
    proto.tensor_shape.SetInParent()  # TensorFlow Serving writes that of a scalar too
    return proto


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (4, 1, 3)])
def test_messages_are_those_of_the_protobuf_library(echo: Any, name: str, shape: tuple[int, ...]) -> None:
    array = values(name, shape)
    outputs = echo(name).run([[array]], [shape[0] if shape else 1], SPEC)
    np.testing.assert_array_equal(outputs["same"], array)
    assert outputs["same"].dtype == array.dtype
    expected = predict_pb2.PredictResponse()
    expected.model_spec.ParseFromString(SPEC)
    expected.outputs["rank"].CopyFrom(proto_of(np.array(len(shape), np.int32)))
    expected.outputs["same"].CopyFrom(proto_of(array))
    found = predict_pb2.PredictResponse.FromString(outputs.messages[0])
    if name not in ("float16", "bfloat16", "complex64"):  # the oracle writes these value by value
        assert found == expected
    np.testing.assert_array_equal(tf.make_ndarray(found.outputs["same"]), array)


@pytest.mark.parametrize("name", ["float64", "string"])
def test_calls_of_a_shared_run_get_their_own_rows(echo: Any, name: str) -> None:
    function, parts = echo(name, ("same",)), [values(name, (rows, 3)) for rows in (2, 0, 1, 4)]
    outputs = function.run([[part] for part in parts], [len(part) for part in parts], SPEC)
    assert outputs.by_row
    for part, message in zip(parts, outputs.messages, strict=True):
        (alone,) = function.run([[part]], [len(part)], SPEC).messages
        assert predict_pb2.PredictResponse.FromString(message) == predict_pb2.PredictResponse.FromString(alone)
    assert not function.run([[part] for part in parts], [1, 1, 1, 1], SPEC).by_row
    assert not echo(name).run([[part] for part in parts], [2, 0, 1, 4], SPEC).messages  # a scalar has no rows


def test_arrays_of_another_type_or_shape_are_refused(echo: Any) -> None:
    with pytest.raises(ValueError, match="different shapes"):
        echo("float32").run([[np.zeros((1, 2), np.float32)], [np.zeros((1, 3), np.float32)]], [1, 1])
    with pytest.raises(TypeError, match="differs from that of the input"):
        echo("float32").run([[np.zeros(2, np.float64)]], [2])
    for wrong in (np.array(["text"], object), np.array([b"bytes"]), np.array([None], object)):
        with pytest.raises(TypeError, match="object array of bytes"):
            echo("string").run([[wrong]], [1])
    with pytest.raises(KeyError):
        echo("float32").run([[np.zeros(2, np.float32)]], [2])["other"]


def test_strided_arrays_keep_their_order(echo: Any) -> None:
    for name in ("int64", "string"):
        array = values(name, (4, 6))[::2, ::-1]
        np.testing.assert_array_equal(echo(name).run([[array]], [2])["same"], array)


def test_outputs_and_functions_outlive_a_session(exported: dict[int, Path]) -> None:
    session, meta_graph = load_session(exported[1])
    signature = meta_graph.signature_def["serving_default"]
    function = session.function([(signature.inputs["query"].name, 7)], [("score", signature.outputs["score"].name)])
    scores = function.run([[np.array([b"red"], object)]], [1], in_background=True)["score"]
    session.close()
    session.close()
    np.testing.assert_array_equal(scores, tiny_shop.expected([b"red"], 1)["score"])
    with pytest.raises(native().SessionError, match="unloaded") as error:
        function.run([[np.array([b"red"], object)]], [1])
    assert error.value.args[0] == 9  # FAILED_PRECONDITION
    with pytest.raises(native().SessionError, match="unloaded"):
        session.function([], [])


def test_closing_a_session_cancels_its_run_and_frees_it_afterwards(exported: dict[int, Path]) -> None:
    session, meta_graph = load_session(exported[1])
    signature = meta_graph.signature_def["slow"]
    function = session.function([(signature.inputs["steps"].name, 3)], [("done", signature.outputs["done"].name)])
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(function.run, [[np.array([2_000_000_000], np.int32)]], [1])
        wait_for(run.running)
        session.close()
        del session
        gc.collect()
        with pytest.raises(native().SessionError):
            run.result(timeout=60)


def test_an_unknown_tensor_is_named(exported: dict[int, Path]) -> None:
    session, _ = load_session(exported[1])
    for name in ("nothing:0", "nothing", "serving_default_query:1", "serving_default_query:0x", ""):
        with pytest.raises(IndexError, match=f"no tensor '{name}'"):
            session.function([], [("alias", name)])
    session.close()


def test_the_description_is_read_without_the_graph(exported: dict[int, Path]) -> None:
    session, described = load_session(exported[1])
    session.close()
    (whole,) = saved_model_pb2.SavedModel.FromString((exported[1] / "saved_model.pb").read_bytes()).meta_graphs
    assert whole.graph_def.ByteSize() > 1000
    whole.ClearField("graph_def")
    whole.ClearField("object_graph_def")
    assert described == whole
