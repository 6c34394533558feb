"""Several models in one server: config file, version policies, labels, and reloads as a whole or not at all."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tiny_shop
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc
from waiting import wait_for

from dpsr.config import ServingConfig
from dpsr.serving.client import PredictClient
from dpsr.serving.errors import ServableError, ServingError
from dpsr.serving.manager.model_config import read_model_config
from dpsr.serving.server import ModelServer

QUERIES = [b"red", b"blue tea"]
ONE = 'model_config_list {{ config {{ name: "one" base_path: "{base}/one" {more} }} }}'


@pytest.fixture(autouse=True)
def poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpsr.serving.manager.versions.POLL_SECONDS", 0.1)


@pytest.fixture
def base(tmp_path: Path, exported: dict[int, Path]) -> Path:
    """Directories ``one`` with versions 1, 2 and 3, and ``two`` with version 2."""
    for name, version, source in (("one", 1, 1), ("one", 2, 2), ("one", 3, 1), ("two", 2, 2)):
        shutil.copytree(exported[source], tmp_path / name / str(version))
    return tmp_path


@pytest.fixture
def serve(base: Path) -> Iterator[Callable[..., PredictClient]]:
    """Starts a server of a model config; returns a client."""
    opened: list[Any] = []

    def start(config: str, **options: Any) -> PredictClient:
        file = base / "models.config"
        file.write_text(config.format(base=base, more=""))
        server = ModelServer(
            read_model_config(file),
            tiny_shop.serving_config(
                **{"rest_port": -1, "model_config_file": str(file), "allow_reload": True, **options}
            ),
        )
        opened.append(server.stop)
        client = PredictClient(f"127.0.0.1:{server.start()}")
        opened.append(client.close)
        return client

    yield start
    for close in reversed(opened):
        close()


def answering(client: PredictClient, model: str, **version: Any) -> int:
    """Number of the exported version that answers, by its scores."""
    score = client.predict(model, {"query": QUERIES}, **version)["score"]
    return next(number for number in (1, 2) if np.array_equal(score, tiny_shop.expected(QUERIES, number)["score"]))


def available(client: PredictClient, model: str) -> list[int]:
    return [version for version, status in client.status(model).items() if status.state == "AVAILABLE"]


def reload(client: PredictClient, config: str) -> None:
    """``HandleReloadConfigRequest`` by the stock stub."""
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(config, request.config)
    with grpc.insecure_channel(client._target) as channel:
        response = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request, timeout=60)
    assert response.status.error_code == 0


def policy(text: str, labels: str = "") -> str:
    return "model_version_policy { " + text + " } " + labels


POLICIES = {
    "": [3],
    policy("latest { num_versions: 2 }"): [3, 2],
    policy("specific { versions: 1 versions: 2 }"): [2, 1],
    policy("all {}"): [3, 2, 1],
}


@pytest.mark.parametrize("text", POLICIES)
def test_the_policy_selects_the_versions(serve: Callable[..., PredictClient], base: Path, text: str) -> None:
    client = serve(ONE.format(base=base, more=text).replace("{", "{{").replace("}", "}}"))
    wanted = POLICIES[text]
    assert available(client, "one") == wanted
    for version in (1, 2, 3):
        if version in wanted:
            assert answering(client, "one", version=version) == {1: 1, 2: 2, 3: 1}[version]
        else:
            with pytest.raises(ServingError, match=rf"Servable not found for request: Specific\(one, {version}\)"):
                client.predict("one", {"query": QUERIES}, version=version)
    assert answering(client, "one") == {3: 1, 2: 2}[wanted[0]]


BOTH = """model_config_list {{
  config {{ name: "one" base_path: "one" model_platform: "tensorflow"
    model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}
    version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 2 }} }}
  config {{ name: "two" base_path: "{base}/two" }}
}}"""


def test_two_models_and_labels(serve: Callable[..., PredictClient]) -> None:
    client = serve(BOTH)
    assert answering(client, "one", label="stable") == 1
    assert answering(client, "one", label="canary") == 2
    assert answering(client, "two") == 2
    for model, label in (("one", "beta"), ("two", "stable"), ("nobody", "stable")):
        with pytest.raises(ServingError, match=f"Unrecognized servable version label: {label}") as error:
            client.predict(model, {"query": QUERIES}, label=label)
        assert error.value.code == grpc.StatusCode.INVALID_ARGUMENT


def test_a_reload_replaces_everything(serve: Callable[..., PredictClient], base: Path) -> None:
    client = serve(BOTH)
    reload(
        client,
        ONE.format(base=base, more=policy("all {}", 'version_labels { key: "stable" value: 3 }')),
    )
    assert available(client, "one") == [3, 2, 1]
    assert answering(client, "one", label="stable") == 1
    with pytest.raises(ServingError, match="Unrecognized servable version label: canary"):
        client.predict("one", {"query": QUERIES}, label="canary")
    with pytest.raises(ServingError, match=r"Servable not found for request: Latest\(two\)"):
        client.predict("two", {"query": QUERIES})
    with pytest.raises(ServingError, match="Could not find any versions of model two"):
        client.status("two")
    reload(client, f'model_config_list {{ config {{ name: "one" base_path: "{base}/two" }} }}')
    assert available(client, "one") == [2]
    assert answering(client, "one") == 2


NOT_ALLOWED = {
    "a label on a version that is not loaded": (
        policy("latest {}", 'version_labels { key: "stable" value: 1 }'),
        "FAILED_PRECONDITION",
        "Request to assign label stable to version 1 of model one, which is not currently available",
    ),
    "a version that is not there": (policy("specific { versions: 9 }"), "FAILED_PRECONDITION", "9: no such version"),
    "no versions": (policy("specific {}"), "INVALID_ARGUMENT", "names no version"),
    "a platform": ('model_platform: "torch"', "INVALID_ARGUMENT", "model_platform 'torch'; expected 'tensorflow'"),
}


@pytest.mark.parametrize("name", NOT_ALLOWED)
def test_a_reload_that_cannot_be_served_changes_nothing(
    serve: Callable[..., PredictClient], base: Path, name: str
) -> None:
    client = serve(BOTH)
    more, code, text = NOT_ALLOWED[name]
    with pytest.raises(grpc.RpcError) as error:
        reload(client, ONE.format(base=base, more=more))
    assert error.value.code() == grpc.StatusCode[code]
    assert text in error.value.details()
    assert available(client, "one") == [2, 1]
    assert answering(client, "one", label="stable") == 1
    assert answering(client, "two") == 2


def test_a_client_reads_nothing_outside_of_the_operators_directories(
    serve: Callable[..., PredictClient], base: Path, exported: dict[int, Path]
) -> None:
    client = serve(BOTH)
    outside = exported[1].parent
    for path in (str(outside), f"{base}/../{outside.parent.name}/{outside.name}"):
        with pytest.raises(grpc.RpcError) as error:
            reload(client, f'model_config_list {{ config {{ name: "x" base_path: "{path}" }} }}')
        assert error.value.code() == grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.RpcError) as error:
        reload(client, 'model_config_list { config { name: "x" base_path: "one" } }')
    assert "Expected model x to have an absolute path" in error.value.details()


def test_a_server_may_start_empty_and_gets_its_models_from_the_file(
    serve: Callable[..., PredictClient], base: Path, exported: dict[int, Path]
) -> None:
    client = serve("model_config_list {{ }}", model_config_poll_seconds=0.1)
    with pytest.raises(ServingError, match=r"Servable not found for request: Latest\(one\)"):
        client.predict("one", {"query": QUERIES})
    (base / "models.config").write_text(ONE.format(base=base, more=""))
    wait_for(lambda: client.wait_until_ready("one") == 3)
    assert answering(client, "one") == 1
    with pytest.raises(grpc.RpcError) as error:  # the file's directories are the operator's now, and no others
        reload(client, f'model_config_list {{ config {{ name: "x" base_path: "{exported[1].parent}" }} }}')
    assert error.value.code() == grpc.StatusCode.PERMISSION_DENIED
    reload(client, f'model_config_list {{ config {{ name: "two" base_path: "{base}/two" }} }}')
    assert answering(client, "two") == 2


def test_the_status_of_a_refused_model_tells_why(serve: Callable[..., PredictClient], base: Path) -> None:
    client = serve(ONE, model_config_poll_seconds=0.1)
    broken = base / "broken" / "7"
    broken.mkdir(parents=True)
    (broken / "saved_model.pb").write_bytes(b"no protocol buffer")

    def write(*names: str) -> None:
        models = " ".join(f'config {{ name: "{name}" base_path: "{base}/{name}" }}' for name in names)
        (base / "models.config").write_text(f"model_config_list {{ {models} }}")

    write("one", "broken")

    def refused() -> bool:
        try:
            status = client.status("broken")
        except ServingError:
            return False
        return status[7].state == "END" and "broken/7" in status[7].error_message

    wait_for(refused)
    assert answering(client, "one") == 1
    write("one", "two")
    assert client.wait_until_ready("two") == 2
    with pytest.raises(ServingError, match="Could not find any versions of model broken"):
        client.status("broken")


def test_a_reload_is_refused_unless_it_is_allowed(serve: Callable[..., PredictClient], base: Path) -> None:
    client = serve(BOTH, allow_reload=False)
    with pytest.raises(grpc.RpcError) as error:
        reload(client, ONE.format(base=base, more=""))
    assert error.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "serving.allow_reload = true" in error.value.details()
    assert available(client, "one") == [2, 1]
    assert answering(client, "two") == 2
    assert not ServingConfig().allow_reload


def test_the_config_file_is_followed_without_allow_reload(
    serve: Callable[..., PredictClient], base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve(ONE, model_config_poll_seconds=0.1, allow_reload=False)
    assert available(client, "one") == [3]
    file = base / "models.config"
    file.write_text("model_config_list { config {")  # half-written
    wait_for(lambda: any("models.config: not applied" in record.getMessage() for record in caplog.records))
    assert available(client, "one") == [3]
    file.write_text(BOTH.format(base=base))
    wait_for(lambda: available(client, "one") == [2, 1])
    assert answering(client, "two") == 2


def test_load_the_next_move_the_label_unload_the_last(serve: Callable[..., PredictClient], base: Path) -> None:
    client = serve(ONE)
    label = 'version_labels {{ key: "stable" value: {} }}'
    for versions, stable, exported in (([1], 1, 1), ([1, 2], 1, 1), ([1, 2], 2, 2), ([2], 2, 2)):
        text = "".join(f"versions: {version} " for version in versions)
        reload(client, ONE.format(base=base, more=policy(f"specific {{ {text} }}", label.format(stable))))
        assert available(client, "one") == versions[::-1]
        assert answering(client, "one", label="stable") == exported


BAD_FILES = {
    "model_config_list { config { nam": "not a text ModelServerConfig",
    'model_config_list { config { name: "../x" base_path: "/x" } }': "name '../x' of a model: expected letters",
    'model_config_list { config { name: "x" } }': "Expected model x to have an absolute path",
    'model_config_list { config { name: "x" base_path: "a" } config { name: "x" base_path: "b" } }': "configured twice",
    "custom_model_config {}": "has no model_config_list",
}


@pytest.mark.parametrize("text", BAD_FILES)
def test_a_config_file_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path, text: str) -> None:
    file = tmp_path / "models.config"
    with pytest.raises(ServableError, match=r"models\.config: No such file"):
        read_model_config(file)
    file.write_text(text)
    with pytest.raises(ServableError) as error:
        read_model_config(file)
    assert BAD_FILES[text] in str(error.value)
    assert str(file) in str(error.value)


def test_the_command_serves_a_config_file(base: Path) -> None:
    (base / "models.config").write_text(BOTH.format(base=base))
    command = [sys.executable, "-m", "dpsr.cli", "serve", "--model-config-file", str(base / "models.config")]
    command += ["--set", "serving.port=0", "--set", "serving.rest_port=-1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready.startswith("ready: one version 2 1, two version 2 on 127.0.0.1:")
        with PredictClient(ready.split()[-1]) as client:
            assert answering(client, "two") == 2
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0
