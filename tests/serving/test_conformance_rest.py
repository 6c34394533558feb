"""TensorFlow Serving's REST interface row by row; conftest.py describes how to test another server."""

import base64
import json
import socket
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import pytest
import tiny_shop

MODEL = f"/v1/models/{tiny_shop.NAME}"
ours_only = pytest.mark.skipif(
    "config.getoption('--target') or config.getoption('--rest-target')", reason="not part of stock TensorFlow Serving"
)


class Rest:
    """Status and parsed body of every answer."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __call__(self, path: str, body: Any = None) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"http://{self.target}{path}", data), timeout=30
            ) as response:
                assert response.headers.get_content_type() == "application/json"
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


@pytest.fixture(scope="module")
def rest(rest_target: str) -> Rest:
    return Rest(rest_target)


def expected_rows(queries: list[bytes], bonus: np.ndarray | None = None) -> list[dict[str, Any]]:
    wanted = tiny_shop.expected(queries, 1, bonus)
    wanted["item_id"] = wanted["item_id"].astype(str)
    return [{alias: array[row].tolist() for alias, array in wanted.items()} for row in range(len(queries))]


def expected_columns(queries: list[bytes]) -> dict[str, Any]:
    wanted = tiny_shop.expected(queries, 1)
    wanted["item_id"] = wanted["item_id"].astype(str)
    return {alias: array.tolist() for alias, array in wanted.items()}


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/1", MODEL.replace("v1/models", "V1/Models")])
@pytest.mark.parametrize("instances", [["red", "手机"], [{"query": "red"}, {"query": "手机"}]])
def test_rows_in_rows_out(rest: Rest, path: str, instances: list[Any]) -> None:
    assert rest(f"{path}:predict", {"instances": instances}) == (
        200,
        {"predictions": expected_rows([b"red", "手机".encode()])},
    )


@pytest.mark.parametrize("inputs", [["red", "blue tea"], {"query": ["red", "blue tea"]}])
def test_columns_in_columns_out(rest: Rest, inputs: Any) -> None:
    body = {"signature_name": "serving_default", "inputs": inputs}
    assert rest(f"{MODEL}:predict", body) == (200, {"outputs": expected_columns([b"red", b"blue tea"])})


def test_bytes_come_in_base64(rest: Rest) -> None:
    query = b"\xff\x00\xfe"
    encoded = {"b64": base64.b64encode(query).decode()}
    wanted = (200, {"predictions": expected_rows([query])})
    assert rest(f"{MODEL}:predict", {"instances": [encoded]}) == wanted
    assert rest(f"{MODEL}:predict", {"instances": [{"query": encoded}]}) == wanted


def test_several_inputs_by_name(rest: Rest) -> None:
    instances = [
        {"query": "red", "gender": "f", "history": [4, -1]},
        {"query": "blue tea", "gender": "", "history": [5, 5]},
    ]
    bonus = tiny_shop.personal_bonus([b"f", b""], np.array([[4, -1], [5, 5]]))
    wanted = (200, {"predictions": expected_rows([b"red", b"blue tea"], bonus)})
    assert rest(f"{MODEL}:predict", {"signature_name": "personalized", "instances": instances}) == wanted


def test_a_single_output_drops_its_name(rest: Rest) -> None:
    vectors = tiny_shop.QUERY_VECTORS[3]
    heads = [[vectors.tolist(), (-vectors).tolist()]]
    body = {"signature_name": "embed_query"}
    assert rest(f"{MODEL}:predict", {**body, "instances": ["red"]}) == (200, {"predictions": heads})
    assert rest(f"{MODEL}:predict", {**body, "inputs": ["red"]}) == (200, {"outputs": heads})


def test_numbers_keep_their_digits(rest: Rest) -> None:
    inputs = {
        "floats": [[0.1, -1e-7]],
        "doubles": [1 / 3],
        "int32s": [-(2**31)],
        "int64s": [[2**62]],
        "bools": [True],
        "texts": ['quote " and \\ and \n'],
    }
    assert rest(f"{MODEL}:predict", {"signature_name": "echo", "inputs": inputs}) == (200, {"outputs": inputs})


def test_infinities_and_nan(rest: Rest) -> None:
    instance = {"floats": [np.nan, -np.inf], "doubles": np.inf, "int32s": 1, "int64s": [1], "bools": True, "texts": ""}
    status, answer = rest(f"{MODEL}:predict", {"signature_name": "echo", "instances": [instance]})
    assert status == 200
    row = answer["predictions"][0]
    assert np.isnan(row["floats"][0])
    assert (row["floats"][1], row["doubles"]) == (-np.inf, np.inf)


# --- errors -----------------------------------------------------------------------------------------------------------

PREDICT_ERRORS: dict[str, tuple[Any, str]] = {
    "empty": (b"", "JSON Parse error: The document is empty"),
    "no JSON": (b'{"instances": [', "JSON Parse error: "),
    "no object": ([1], "JSON Value: [1] Is not object"),
    "neither key": ({"signature_name": "serving_default"}, "Missing 'inputs' or 'instances' key"),
    "both keys": (
        {"instances": ["a"], "inputs": ["a"]},
        'JSON Value: {"instances": ["a"], "inputs": ["a"]} Not formatted correctly expecting only one of ',
    ),
    "instances is no list": ({"instances": "a"}, "Excepting 'instances' to be an list/array"),
    "no instances": ({"instances": []}, "No values in 'instances' array"),
    "signature is no name": ({"signature_name": 1, "instances": ["a"]}, "'signature_name' key must be a string value."),
    "unknown signature": (
        {"signature_name": "search", "instances": ["a"]},
        'Serving signature name: "search" not found in signature def',
    ),
    "number for string": (
        {"instances": ["a", 1]},
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: 1 Type: Number is not "
        "of expected type: string",
    ),
    "null": ({"inputs": [None]}, "JSON Value: null Type: Null is not of expected type: string"),
    "float for int": (
        {"signature_name": "slow", "inputs": [1.5]},
        "JSON Value: 1.5 Type: Number is not of expected type: int32",
    ),
    "too large an int": (
        {"signature_name": "slow", "inputs": [2**31]},
        "JSON Value: 2147483648 Type: Number is not of expected type: int32",
    ),
    "bool for int": ({"signature_name": "slow", "inputs": [True]}, "is not of expected type: int32"),
    "plain value for many inputs": (
        {"signature_name": "personalized", "inputs": ["a"]},
        "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
        "tensorinfo_map",
    ),
    "plain instances for many inputs": (
        {"signature_name": "personalized", "instances": ["a"]},
        "instances is a plain list, but expecting list of objects",
    ),
    "missing input": (
        {"signature_name": "personalized", "inputs": {"query": ["a"], "gender": ["f"]}},
        "Missing named input: history in 'inputs' object.",
    ),
    "missing key": (
        {"signature_name": "personalized", "instances": [{"query": "a", "gender": "f"}]},
        "keys must be equal to: gender,history,query",
    ),
    "unknown key": (
        {"instances": [{"text": "a"}]},
        "Failed to process element: 0 key: text of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not "
        "have named input: text",
    ),
    "object after value": (
        {"instances": ["a", {"query": "a"}]},
        "Expecting value/list but got object at item 1 of input list",
    ),
    "value after object": (
        {"instances": [{"query": "a"}, "a"]},
        "Expecting object but got list at item 1 of input list",
    ),
    "ragged": (
        {"signature_name": "echo", "inputs": {"bools": [[True], [True, False]]}},
        "Encountered list at unexpected size: 2 at level: 1 expected size: 1",
    ),
    "ragged instances": (
        {
            "signature_name": "personalized",
            "instances": [{"query": "", "gender": "", "history": history} for history in ([1], [1, 2])],
        },
        "Expecting shape [1] but got: [2]",
    ),
    "value among lists": (
        {"inputs": [["a"], "b"]},
        'JSON Value: "b" found at incorrect level: 2 in the JSON DOM. Expected at level: 2',
    ),
    "list among values": ({"inputs": ["a", ["b"]]}, "Encountered list at unexpected level: 1 expected < 1"),
    "no base64": ({"inputs": [{"b64": "?"}]}, "Unable to base64 decode"),
    "no bytes": ({"inputs": [{"b64": 1}]}, 'JSON Value: {"b64": 1} not formatted correctly for base64 data'),
    "an op's own": (
        {"signature_name": "parse_number", "inputs": ["12a"]},
        "StringToNumberOp could not correctly convert string: 12a",
    ),
    "outputs without rows": (
        {"signature_name": "tokenize", "instances": ["a bc d", "e"]},
        "has inconsistent batch size: ",
    ),
    "lossy": (
        {"signature_name": "echo", "inputs": {"bools": [True], "doubles": [1], "floats": [[16777217, 1]]}},
        "Cannot convert JSON value: 16777217 to float without loss of precision.",
    ),
}


@pytest.mark.parametrize("name", PREDICT_ERRORS)
def test_predict_refuses_with_400_and_the_stock_text(rest: Rest, name: str) -> None:
    body, text = PREDICT_ERRORS[name]
    status, answer = rest(f"{MODEL}:predict", body)
    assert status == 400
    assert list(answer) == ["error"]
    assert text in answer["error"]


BODY = {"instances": ["red"]}
PATH_ERRORS: dict[str, tuple[str, Any, int, str]] = {
    "unknown model": ("/v1/models/nobody:predict", BODY, 404, "Servable not found for request: Latest(nobody)"),
    "unknown version": (
        f"{MODEL}/versions/7:predict",
        BODY,
        404,
        f"Servable not found for request: Specific({tiny_shop.NAME}, 7)",
    ),
    "unknown label": (f"{MODEL}/labels/canary:predict", BODY, 400, "Unrecognized servable version label: canary"),
    "huge version": (f"{MODEL}/versions/{10**30}:predict", BODY, 400, "Failed to convert version: "),
    "version is no number": (f"{MODEL}/versions/x:predict", BODY, 400, "Malformed request: POST"),
    "no method": (MODEL, BODY, 400, f"Malformed request: POST {MODEL}"),
    "unknown method": (f"{MODEL}:search", BODY, 400, f"Malformed request: POST {MODEL}:search"),
    "predict by GET": (f"{MODEL}:predict", None, 400, f"Malformed request: GET {MODEL}:predict"),
    "status of an unknown model": ("/v1/models/nobody", None, 404, "Could not find any versions of model nobody"),
    "status of an unknown version": (
        f"{MODEL}/versions/7",
        None,
        404,
        f"Could not find version 7 of model {tiny_shop.NAME}",
    ),
    "metadata of an unknown model": (
        "/v1/models/nobody/metadata",
        None,
        404,
        "Servable not found for request: Latest(nobody)",
    ),
    "a path that climbs": (f"{MODEL}/../../etc/passwd", None, 400, "Malformed request: GET"),
}


@pytest.mark.parametrize("name", PATH_ERRORS)
def test_a_path_that_names_nothing_is_refused(rest: Rest, name: str) -> None:
    path, body, code, text = PATH_ERRORS[name]
    status, answer = rest(path, body)
    assert (status, list(answer)) == (code, ["error"])
    assert text in answer["error"]


@ours_only
@pytest.mark.parametrize("method", ["classify", "regress"])
def test_methods_that_are_not_implemented_are_501(rest: Rest, method: str) -> None:
    assert rest(f"{MODEL}:{method}", BODY)[0] == 501


@ours_only
def test_a_path_of_no_interface_is_404(rest: Rest) -> None:
    assert rest("/")[0] == 404
    assert rest("/monitoring")[0] == 404


@ours_only
def test_too_large_a_body_is_413(rest: Rest) -> None:
    status, answer = rest(f"{MODEL}:predict", b" " * (4 << 20) + b"{}")
    assert status == 413
    assert "serving.max_message_bytes" in answer["error"]


@ours_only
def test_lists_too_deep_are_an_error(rest: Rest) -> None:
    for depth in (500, 900, 100_000):
        status, _ = rest(f"{MODEL}:predict", b'{"inputs": ' + b"[" * depth + b"]" * depth + b"}")
        assert status == 400


@ours_only
def test_a_client_that_disconnects_does_not_affect_the_next(rest: Rest) -> None:
    host, _, port = rest.target.rpartition(":")
    for part in (b"POST ", b"POST /v1/models/tiny_shop:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(part)
    assert rest(f"{MODEL}:predict", BODY)[0] == 200


# --- the other calls --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/1"])
def test_status(rest: Rest, path: str) -> None:
    status = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert rest(path) == (200, {"model_version_status": [status]})


@pytest.mark.parametrize("path", [f"{MODEL}/metadata", f"{MODEL}/versions/1/metadata"])
def test_metadata(rest: Rest, path: str) -> None:
    code, answer = rest(path)
    assert code == 200
    assert answer["model_spec"]["name"] == tiny_shop.NAME
    assert answer["model_spec"]["version"] == "1"
    history = answer["metadata"]["signature_def"]["signature_def"]["personalized"]["inputs"]["history"]
    assert history["dtype"] == "DT_INT64"
    assert [dim["size"] for dim in history["tensor_shape"]["dim"]] == ["-1", "-1"]
