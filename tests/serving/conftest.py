"""Fixtures: a real server of a small real servable, or the server at the address of --target.

The conformance tables call an address by the stock stubs and by HTTP. To run them against TensorFlow Serving, let it
serve the output of ``tiny_shop.py`` and name its addresses:

    pytest tests/serving/test_conformance.py tests/serving/test_conformance_rest.py --target H:P --rest-target H:P
"""

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

sys.path.insert(0, str(Path(__file__).parent))
import tiny_shop

from dpsr.serving.client import PredictClient
from dpsr.serving.tensors import encode

PLANES = ("python", "native")
ON_BOTH_PLANES = {
    "test_conformance",
    "test_fuzz",
    "test_limits",
    "test_metrics",
    "test_models",
    "test_server",
    "test_versions",
}
"""Test files that run once with each data plane."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in ON_BOTH_PLANES and not metafunc.config.getoption("--target"):
        metafunc.parametrize("data_plane", PLANES, indirect=True, scope="session")


@pytest.fixture(scope="session", autouse=True)
def data_plane(request: pytest.FixtureRequest) -> Iterator[str]:
    """The data plane of the servers that a test starts."""
    plane = getattr(request, "param", "auto")
    if plane == "native" and importlib.util.find_spec("dpsr.serving.engine._transport") is None:
        pytest.skip("this build has no native data plane; make deps-native, then build again")
    tiny_shop.data_plane = plane
    yield plane
    tiny_shop.data_plane = "auto"


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Directories of versions 1 and 2 of the tiny shop; read-only."""
    folder = tmp_path_factory.mktemp("exported")
    for version in (1, 2):
        tiny_shop.write(folder / str(version), version)
    return {version: folder / str(version) for version in (1, 2)}


@pytest.fixture
def base_path(tmp_path: Path) -> Path:
    return tmp_path / tiny_shop.NAME


@pytest.fixture
def publish(exported: dict[int, Path], base_path: Path) -> Callable[..., Path]:
    """Publishes a copy of an exported version, after ``change`` has altered it, by a rename."""

    def copy(version: int, *, source: int | None = None, change: Callable[[Path], None] | None = None) -> Path:
        hidden = base_path / f".{version}.part"
        shutil.copytree(exported[source or version], hidden)
        if change:
            change(hidden)
        return hidden.rename(base_path / str(version))

    return copy


@pytest.fixture(scope="session")
def targets(
    pytestconfig: pytest.Config, data_plane: str, exported: dict[int, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """gRPC and REST address of a server of version 1."""
    given = pytestconfig.getoption("--target"), pytestconfig.getoption("--rest-target")
    if any(given):
        yield given
        return
    base_path = tmp_path_factory.mktemp("served") / tiny_shop.NAME
    shutil.copytree(exported[1], base_path / "1")
    server = tiny_shop.server(base_path, allow_reload=True)  # as TensorFlow Serving does
    yield f"127.0.0.1:{server.start()}", f"127.0.0.1:{server.rest_port}"
    server.stop()


@pytest.fixture(scope="session")
def target(targets: tuple[str, str]) -> str:
    """gRPC address of a server of version 1."""
    if not targets[0]:
        pytest.skip("--target is not given")
    return targets[0]


@pytest.fixture(scope="session")
def rest_target(targets: tuple[str, str]) -> str:
    """REST address of a server of version 1."""
    if not targets[1]:
        pytest.skip("--rest-target is not given")
    return targets[1]


@pytest.fixture(scope="session")
def channel(target: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(target) as channel:
        yield channel


@pytest.fixture(scope="session")
def client(target: str) -> Iterator[PredictClient]:
    with PredictClient(target) as client:
        yield client


@pytest.fixture
def start_slow_calls() -> Iterator[Callable[..., list[Any]]]:
    """Starts ``count`` calls of ``steps`` loop iterations; returns their futures once the server has received them."""
    channels = []

    def start(target: str, count: int, steps: int) -> list[Any]:
        channels.append(grpc.insecure_channel(target))
        grpc.channel_ready_future(channels[-1]).result(timeout=60)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = tiny_shop.NAME
        request.model_spec.signature_name = "slow"
        encode(np.array([steps], np.int32), request.inputs["steps"])
        predictions = prediction_service_pb2_grpc.PredictionServiceStub(channels[-1])
        futures = [predictions.Predict.future(request, timeout=120) for _ in range(count)]
        # A connection keeps the order of its calls: after the answer to this one, the others have arrived.
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = tiny_shop.NAME
        model_service_pb2_grpc.ModelServiceStub(channels[-1]).GetModelStatus(status, timeout=120, wait_for_ready=True)
        return futures

    yield start
    for channel in channels:
        channel.close()
