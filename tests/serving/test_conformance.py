"""TensorFlow Serving's behaviour row by row, by its stock stubs; conftest.py describes how to test another server."""

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
import tiny_shop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

NAME = tiny_shop.NAME
TIMEOUT = 20
ours_only = pytest.mark.skipif(
    "config.getoption('--target') or config.getoption('--rest-target')", reason="not part of stock TensorFlow Serving"
)


@pytest.fixture(scope="module")
def predictions(channel: grpc.Channel) -> Any:
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def models(channel: grpc.Channel) -> Any:
    return model_service_pb2_grpc.ModelServiceStub(channel)


def make_request(signature: str = "", /, **inputs: Any) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = NAME
    request.model_spec.signature_name = signature
    for alias, value in inputs.items():
        proto = value if isinstance(value, TensorProto) else tf.make_tensor_proto(value)
        request.inputs[alias].CopyFrom(proto)
    return request


def proto_of(dtype: Any, shape: list[int], **fields: Any) -> Any:
    proto = TensorProto(dtype=tf.dtypes.as_dtype(dtype).as_datatype_enum, **fields)
    for size in shape:
        proto.tensor_shape.dim.add().size = size
    return proto


def valid() -> predict_pb2.PredictRequest:
    return make_request(query=[b"red"])


def changed(change: Callable[[predict_pb2.PredictRequest], Any]) -> predict_pb2.PredictRequest:
    request = valid()
    change(request)
    return request


def echo_inputs() -> dict[str, Any]:
    return {
        "floats": np.array([[0.5, -1.0], [np.inf, 1e-40]], np.float32),
        "doubles": np.array([1 / 3]),
        "int32s": np.array([-(2**31), 7], np.int32),
        "int64s": np.array([[2**62], [-1]]),
        "bools": np.array([True, False]),
        "texts": np.array(["iPhone", "手机", b"\xff\x00\xfe", ""], dtype=object),
    }


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 33, 200])
def test_every_batch_size_has_the_oracles_answer(predictions: Any, rows: int) -> None:
    queries = [b"x" * (index % 23) for index in range(rows)]
    tensor = proto_of(tf.string, [rows], string_val=queries)
    response = predictions.Predict(make_request(query=tensor), timeout=TIMEOUT)
    wanted = tiny_shop.expected(queries, 1) if rows else {}
    assert set(response.outputs) == {"item_id", "score", "head"}
    for alias, proto in response.outputs.items():
        array = tf.make_ndarray(proto)
        assert array.shape == (rows, tiny_shop.K)
        if rows:
            np.testing.assert_array_equal(array, wanted[alias])


def test_the_response_names_model_version_and_signature(predictions: Any) -> None:
    spec = predictions.Predict(valid(), timeout=TIMEOUT).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == (NAME, 1, "serving_default")


def test_a_request_may_name_a_version(predictions: Any) -> None:
    request = changed(lambda request: setattr(request.model_spec.version, "value", 1))
    assert predictions.Predict(request, timeout=TIMEOUT).model_spec.version.value == 1


def test_personalized_joins_inputs_of_two_types(predictions: Any) -> None:
    queries, gender, history = [b"red", b"blue tea"], [b"f", b""], np.array([[4, -1], [5, 5]])
    request = make_request("personalized", query=queries, gender=gender, history=history)
    response = predictions.Predict(request, timeout=TIMEOUT)
    wanted = tiny_shop.expected(queries, 1, tiny_shop.personal_bonus(gender, history))
    for alias, array in wanted.items():
        np.testing.assert_array_equal(tf.make_ndarray(response.outputs[alias]), array)


def test_output_filter_selects(predictions: Any) -> None:
    request = changed(lambda request: request.output_filter.extend(["score"]))
    response = predictions.Predict(request, timeout=TIMEOUT)
    assert set(response.outputs) == {"score"}
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["score"]), tiny_shop.expected([b"red"], 1)["score"])


def test_ragged_answers_stay_whole(predictions: Any) -> None:
    response = predictions.Predict(make_request("tokenize", query=[b"a bc", b"", b"def"]), timeout=TIMEOUT)
    assert tf.make_ndarray(response.outputs["values"]).tolist() == [1, 2, 3]
    assert tf.make_ndarray(response.outputs["row_splits"]).tolist() == [0, 2, 2, 3]


def test_every_type_comes_back_as_it_was_sent(predictions: Any) -> None:
    inputs = echo_inputs()
    response = predictions.Predict(make_request("echo", **inputs), timeout=TIMEOUT)
    for alias, array in inputs.items():
        returned = tf.make_ndarray(response.outputs[alias])
        wanted = tf.make_ndarray(tf.make_tensor_proto(array))
        assert returned.dtype == wanted.dtype
        np.testing.assert_array_equal(returned, wanted)


ENCODINGS = {
    "content": ("int32s", proto_of(tf.int32, [2], tensor_content=np.array([5, -6], np.int32).tobytes()), [5, -6]),
    "values": ("int32s", proto_of(tf.int32, [2], int_val=[5, -6]), [5, -6]),
    "the last value fills": ("int32s", proto_of(tf.int32, [4], int_val=[5, -6]), [5, -6, -6, -6]),
    "no value is zero": ("int32s", proto_of(tf.int32, [2]), [0, 0]),
    "empty": ("int32s", proto_of(tf.int32, [0]), []),
    "surplus values are dropped": ("int32s", proto_of(tf.int32, [1], int_val=[5, 6]), [5]),
    "int64 values": ("int64s", proto_of(tf.int64, [1, 2], int64_val=[2**40, -1]), [[2**40, -1]]),
    "bool values": ("bools", proto_of(tf.bool, [2], bool_val=[True, False]), [True, False]),
    "float values": ("floats", proto_of(tf.float32, [1, 2], float_val=[0.5, 2]), [[0.5, 2.0]]),
    "double content": ("doubles", proto_of(tf.float64, [1], tensor_content=np.array([0.1]).tobytes()), [0.1]),
    "one string for all": ("texts", proto_of(tf.string, [2], string_val=[b"a"]), [b"a", b"a"]),
    "no string is empty": ("texts", proto_of(tf.string, [1]), [b""]),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_encoding_of_a_tensor_is_understood(predictions: Any, name: str) -> None:
    alias, proto, wanted = ENCODINGS[name]
    response = predictions.Predict(make_request("echo", **{**echo_inputs(), alias: proto}), timeout=TIMEOUT)
    assert tf.make_ndarray(response.outputs[alias]).tolist() == wanted


# --- errors -----------------------------------------------------------------------------------------------------------

INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
ERRORS: dict[str, tuple[predict_pb2.PredictRequest, grpc.StatusCode, str]] = {
    "no model_spec": (changed(lambda r: r.ClearField("model_spec")), INVALID, "Missing ModelSpec"),
    "empty name": (
        changed(lambda r: r.model_spec.ClearField("name")),
        INVALID,
        "ModelSpec has no name specified.",
    ),
    "unknown model": (
        changed(lambda r: setattr(r.model_spec, "name", "nobody")),
        MISSING,
        "Servable not found for request: Latest(nobody)",
    ),
    "unknown version": (
        changed(lambda r: setattr(r.model_spec.version, "value", 7)),
        MISSING,
        f"Servable not found for request: Specific({NAME}, 7)",
    ),
    "unknown model and version": (
        changed(lambda r: (setattr(r.model_spec, "name", "nobody"), setattr(r.model_spec.version, "value", 7))),
        MISSING,
        "Servable not found for request: Specific(nobody, 7)",
    ),
    "unknown label": (
        changed(lambda r: setattr(r.model_spec, "version_label", "canary")),
        INVALID,
        "Unrecognized servable version label: canary",
    ),
    "unknown signature": (
        make_request("search", query=[b"red"]),
        grpc.StatusCode.FAILED_PRECONDITION,
        'Serving signature key "search" not found.',
    ),
    "missing input": (
        make_request("personalized", query=[b"red"], gender=[b"f"]),
        INVALID,
        "input size does not match signature: 2!=3 len({gender,query}) != len({gender,history,query}). "
        "Sent extra: {}. Missing but required: {history}.",
    ),
    "extra input": (
        make_request(query=[b"red"], user=[b"me"]),
        INVALID,
        "input size does not match signature: 2!=1 len({query,user}) != len({query}). Sent extra: {user}. "
        "Missing but required: {}.",
    ),
    "no input": (
        make_request(),
        INVALID,
        "input size does not match signature: 0!=1 len({}) != len({query}). Sent extra: {}. "
        "Missing but required: {query}.",
    ),
    "misnamed input": (
        make_request(text=[b"red"]),
        INVALID,
        "Signature input alias: query(feed name: serving_default_query:0) not found in request and no default value "
        "provided. Inputs expected to be in the request {text}, or default input alias set: ",
    ),
    "unknown output": (
        changed(lambda r: r.output_filter.extend(["price"])),
        INVALID,
        "output tensor alias not found in signature: price Outputs expected to be in the set {head,item_id,score}.",
    ),
    "output twice": (
        changed(lambda r: r.output_filter.extend(["head", "head"])),
        INVALID,
        "duplicate output tensor alias: head",
    ),
    "undecodable tensor": (
        make_request("slow", steps=proto_of(tf.int32, [2], tensor_content=b"abc")),
        INVALID,
        "tensor parsing error: steps",
    ),
    "tensor without a type": (make_request(query=TensorProto()), INVALID, "tensor parsing error: query"),
    "negative size": (
        make_request(query=proto_of(tf.string, [-1], string_val=[b"a"])),
        INVALID,
        "tensor parsing error: query",
    ),
    "string for int": (
        make_request("slow", steps=[b"a"]),
        INVALID,
        "Expects arg[0] to be int32 but string is provided",
    ),
    "float for string": (
        make_request(query=np.array([1.0], np.float32)),
        INVALID,
        "Expects arg[0] to be string but float is provided",
    ),
    "the second argument": (
        make_request("personalized", query=[b"red"], gender=[b"f"], history=np.array([[1]], np.int32)),
        INVALID,
        "Expects arg[1] to be int64 but int32 is provided",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_predict_refuses_with_the_stock_code_and_text(predictions: Any, name: str) -> None:
    request, code, text = ERRORS[name]
    with pytest.raises(grpc.RpcError) as error:
        predictions.Predict(request, timeout=TIMEOUT)
    assert (error.value.code(), error.value.details()) == (code, text)


def test_an_ops_own_error_reaches_the_caller(predictions: Any) -> None:
    with pytest.raises(grpc.RpcError) as error:
        predictions.Predict(make_request("parse_number", text=[b"12a"]), timeout=TIMEOUT)
    assert error.value.code() == INVALID
    assert error.value.details().startswith("StringToNumberOp could not correctly convert string: 12a")


def test_an_ops_own_error_may_quote_bytes_that_are_not_utf8(predictions: Any) -> None:
    with pytest.raises(grpc.RpcError) as error:
        predictions.Predict(make_request("parse_number", text=[b"\xff1"]), timeout=TIMEOUT)
    assert error.value.code() == INVALID
    assert "could not correctly convert string" in error.value.details()


@ours_only
def test_a_wrong_rank_is_refused_before_it_runs(predictions: Any) -> None:
    with pytest.raises(grpc.RpcError) as error:
        predictions.Predict(make_request(query=[[b"red"]]), timeout=TIMEOUT)
    assert (error.value.code(), error.value.details()) == (INVALID, "input query has shape [1, 1], expected [?]")


@ours_only
def test_a_tiny_message_cannot_ask_for_a_huge_tensor(predictions: Any) -> None:
    bomb = proto_of(tf.int64, [1, 1 << 40], int64_val=[1])
    with pytest.raises(grpc.RpcError) as error:
        predictions.Predict(make_request("echo", **{**echo_inputs(), "int64s": bomb}), timeout=TIMEOUT)
    assert (error.value.code(), error.value.details()) == (INVALID, "tensor parsing error: int64s")


@ours_only
def test_a_message_that_is_not_a_request_is_an_error(channel: grpc.Channel) -> None:
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError) as error:
        call(b"\xff\xff", timeout=TIMEOUT)
    assert error.value.code() == grpc.StatusCode.INTERNAL


# --- the other calls --------------------------------------------------------------------------------------------------


def test_metadata_is_the_signature_map(predictions: Any) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = NAME
    response = predictions.GetModelMetadata(request, timeout=TIMEOUT)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert (response.model_spec.name, response.model_spec.version.value) == (NAME, 1)
    personalized = signatures.signature_def["personalized"]
    assert personalized.inputs["history"].dtype == tf.int64.as_datatype_enum
    assert [dim.size for dim in personalized.outputs["score"].tensor_shape.dim] == [-1, tiny_shop.K]


METADATA_ERRORS = {
    "no model_spec": ("", ["signature_def"], INVALID, "Missing ModelSpec"),
    "no field": (NAME, [], INVALID, "GetModelMetadataRequest must specify at least one metadata_field"),
    "unknown field": (NAME, ["cost"], INVALID, "Metadata field %s is not supportedcost"),
    "unknown model": ("nobody", ["signature_def"], MISSING, "Servable not found for request: Latest(nobody)"),
}


@pytest.mark.parametrize("name", METADATA_ERRORS)
def test_metadata_refuses_with_the_stock_code_and_text(predictions: Any, name: str) -> None:
    model, fields, code, text = METADATA_ERRORS[name]
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    if model:
        request.model_spec.name = model
    with pytest.raises(grpc.RpcError) as error:
        predictions.GetModelMetadata(request, timeout=TIMEOUT)
    assert (error.value.code(), error.value.details()) == (code, text)


@pytest.mark.parametrize("version", [None, 1])
def test_status_of_a_served_model(models: Any, version: int | None) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = NAME
    if version:
        request.model_spec.version.value = version
    (status,) = models.GetModelStatus(request, timeout=TIMEOUT).model_version_status
    assert (status.version, status.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    assert (status.status.error_code, status.status.error_message) == (0, "")


STATUS_ERRORS = {
    "no model_spec": ("", None, INVALID, "Missing ModelSpec"),
    "unknown model": ("nobody", None, MISSING, "Could not find any versions of model nobody"),
    "unknown version": (NAME, 7, MISSING, f"Could not find version 7 of model {NAME}"),
}


@pytest.mark.parametrize("name", STATUS_ERRORS)
def test_status_refuses_with_the_stock_code_and_text(models: Any, name: str) -> None:
    model, version, code, text = STATUS_ERRORS[name]
    request = get_model_status_pb2.GetModelStatusRequest()
    if model:
        request.model_spec.name = model
    if version:
        request.model_spec.version.value = version
    with pytest.raises(grpc.RpcError) as error:
        models.GetModelStatus(request, timeout=TIMEOUT)
    assert (error.value.code(), error.value.details()) == (code, text)


def test_a_reload_without_a_list_of_models_is_refused(models: Any) -> None:
    with pytest.raises(grpc.RpcError) as error:
        models.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest(), timeout=TIMEOUT)
    assert error.value.code() == INVALID
    assert error.value.details() == (
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
    )


@ours_only
@pytest.mark.parametrize("method", ["Classify", "Regress", "MultiInference"])
def test_calls_that_are_not_implemented_name_the_alternative(predictions: Any, method: str) -> None:
    request = {
        "Classify": classification_pb2.ClassificationRequest,
        "Regress": regression_pb2.RegressionRequest,
        "MultiInference": inference_pb2.MultiInferenceRequest,
    }[method]()
    with pytest.raises(grpc.RpcError) as error:
        getattr(predictions, method)(request, timeout=TIMEOUT)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert error.value.details().startswith(f"{method}: ")


@ours_only
@pytest.mark.parametrize("service", ["", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"])
def test_health_is_serving(channel: grpc.Channel, service: str) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    response = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT)
    assert response.status == health_pb2.HealthCheckResponse.SERVING


@ours_only
def test_health_of_an_unknown_service_is_not_found(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as error:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="x"), timeout=TIMEOUT)
    assert error.value.code() == MISSING
