"""The client: NumPy in and out, errors with code and text, no import of TensorFlow before the first client."""

import subprocess
import sys

import grpc
import numpy as np
import pytest
import tiny_shop

from dpsr.serving.client import PredictClient, SignatureSpec, TensorSpec, VersionStatus
from dpsr.serving.errors import ServingError

NAME = tiny_shop.NAME


def test_importing_the_client_imports_no_tensorflow() -> None:
    code = "import sys, dpsr.serving.client; print('tensorflow' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "False"


def test_str_bytes_and_arrays_of_both_are_the_same_query(client: PredictClient) -> None:
    wanted = tiny_shop.expected(["手机".encode()], 1)
    for query in (["手机"], ["手机".encode()], np.array(["手机"]), np.array(["手机"], object), ("手机",)):
        answer = client.predict(NAME, {"query": query})
        assert set(answer) == set(wanted)
        for alias, array in wanted.items():
            assert answer[alias].dtype == array.dtype
            np.testing.assert_array_equal(answer[alias], array)


def test_values_keep_their_bytes_and_types(client: PredictClient) -> None:
    inputs = {
        "floats": [[0.5, 1.0]],
        "doubles": np.array([1 / 3]),
        "int32s": np.array([5], np.int32),
        "int64s": [[2**40]],
        "bools": [True],
        "texts": [b"nul\x00", b"\xff", ""],
    }
    answer = client.predict(NAME, inputs, signature="echo")
    assert answer["texts"].tolist() == [b"nul\x00", b"\xff", b""]
    assert {alias: array.dtype.name for alias, array in answer.items()} == {
        "floats": "float32",
        "doubles": "float64",
        "int32s": "int32",
        "int64s": "int64",
        "bools": "bool",
        "texts": "object",
    }
    assert answer["int64s"].tolist() == [[2**40]]


def test_outputs_and_version_can_be_chosen(client: PredictClient) -> None:
    answer = client.predict(NAME, {"query": ["red"]}, version=1, outputs=["head"])
    assert list(answer) == ["head"]


def test_an_answer_tells_its_version(client: PredictClient) -> None:
    answer = client.answer(NAME, {"query": ["red"]}, outputs=["score"], headers=(("x-dpsr-variant", "v"),))
    assert answer.version == 1
    np.testing.assert_array_equal(answer.outputs["score"], tiny_shop.expected([b"red"], 1)["score"])


def test_labels_are_asked_for(client: PredictClient) -> None:
    with pytest.raises(ServingError, match="version label: canary"):
        client.answer(NAME, {"query": ["red"]}, label="canary")
    with pytest.raises(ServingError, match="version label: canary"):
        client.metadata(NAME, label="canary")


def test_metadata_lists_the_signatures(client: PredictClient) -> None:
    metadata = client.metadata(NAME)
    assert metadata.version == 1
    assert metadata.signatures["serving_default"] == SignatureSpec(
        inputs={"query": TensorSpec("string", (None,))},
        outputs={
            "head": TensorSpec("int32", (None, tiny_shop.K)),
            "item_id": TensorSpec("string", (None, tiny_shop.K)),
            "score": TensorSpec("float", (None, tiny_shop.K)),
        },
    )
    assert "__saved_model_init_op" not in metadata.signatures


def test_status_and_wait_until_ready(client: PredictClient) -> None:
    assert client.status(NAME) == {1: VersionStatus("AVAILABLE", 0, "")}
    assert client.wait_until_ready(NAME, timeout=5) == 1


def test_an_error_has_the_servers_code_and_text(client: PredictClient) -> None:
    with pytest.raises(ServingError) as error:
        client.predict("nobody", {"query": ["red"]})
    assert error.value.code == grpc.StatusCode.NOT_FOUND
    assert error.value.message == "Servable not found for request: Latest(nobody)"
    assert str(error.value) == "NOT_FOUND: Servable not found for request: Latest(nobody)"


def test_an_address_without_a_server(target: str) -> None:
    with PredictClient("127.0.0.1:1", timeout=2) as client:
        with pytest.raises(ServingError) as error:
            client.predict(NAME, {"query": ["red"]})
        assert error.value.code == grpc.StatusCode.UNAVAILABLE
        with pytest.raises(ServingError, match=r"model tiny_shop at 127\.0\.0\.1:1 was not ready within 0.2 s"):
            client.wait_until_ready(NAME, timeout=0.2)


@pytest.mark.parametrize("value", [[["a"], ["b", "c"]], [1, "a"], np.array([None])])
def test_an_input_that_is_not_a_tensor_is_named(client: PredictClient, value: object) -> None:
    with pytest.raises(ValueError, match=r"^input query: "):
        client.predict(NAME, {"query": value})
