"""Versions of a model on disk: loading, warm-up, swaps under load, fallback, and reports of broken versions."""

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tiny_shop
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus
from waiting import wait_for

from dpsr.serving.client import PredictClient
from dpsr.serving.engine.loaded_model import Call, LoadedModel
from dpsr.serving.errors import ServableError, ServingError
from dpsr.serving.manager.versions import ModelVersions
from dpsr.serving.tensors import encode

NAME = tiny_shop.NAME
Publish = Callable[..., Path]


@pytest.fixture(autouse=True)
def poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpsr.serving.manager.versions.POLL_SECONDS", 0.1)


@pytest.fixture
def versions(base_path: Path) -> Iterator[ModelVersions]:
    versions = ModelVersions(NAME, base_path)
    yield versions
    versions.close()


@pytest.fixture
def serve(base_path: Path) -> Iterator[Callable[..., PredictClient]]:
    """Starts a server of ``base_path``; returns a client."""
    opened: list[Any] = []

    def start(**options: Any) -> PredictClient:
        server = tiny_shop.server(base_path, **options)
        opened.append(server.stop)
        client = PredictClient(f"127.0.0.1:{server.start()}")
        opened.append(client.close)
        return client

    yield start
    for close in reversed(opened):
        close()


def call_of(model: LoadedModel) -> Call:
    """A search for "red"."""
    request = predict_pb2.PredictRequest()
    encode(np.array([b"red"], object), request.inputs["query"])
    return model.prepare(request)


def state(client: PredictClient, version: int) -> str | None:
    status = client.status(NAME).get(version)
    return status and status.state


def replace_op(path: Path) -> None:
    """Renames an op of the graph to an unknown one of the same length."""
    file = path / "saved_model.pb"
    data = file.read_bytes()
    assert b"StringToNumber" in data
    file.write_bytes(data.replace(b"StringToNumber", b"StringToMumble"))


def damage_graph(path: Path) -> None:
    file = path / "saved_model.pb"
    file.write_bytes(file.read_bytes()[:-100])


def damage_variables(path: Path) -> None:
    for file in (path / "variables").glob("*data*"):
        file.write_bytes(b"")


def bad_warm_up_request(path: Path) -> None:
    bad = tiny_shop.warm_up_record("parse_number", {"text": np.array([b"many"], object)})
    tiny_shop.write_warm_up(path, [*tiny_shop.default_warm_up(), bad])


def classify_warm_up(path: Path) -> None:
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    log.classify_log.SetInParent()
    tiny_shop.write_warm_up(path, [log.SerializeToString()])


def warm_up_in_another_format(path: Path) -> None:
    (path / "assets.extra" / "tf_serving_warmup_requests").write_text("these are no records, but long enough for one")


BROKEN = {
    "op": (replace_op, "NOT_FOUND", "op 'StringToMumble' is in none of the loaded op libraries"),
    "graph": (damage_graph, "DATA_LOSS", "saved_model.pb: damaged"),
    "no graph": (lambda path: (path / "saved_model.pb").unlink(), "NOT_FOUND", "saved_model.pb: No such file"),
    "variables": (damage_variables, None, "cannot be loaded"),
    "warm-up request": (bad_warm_up_request, "INVALID_ARGUMENT", "warm-up request 6 failed: StringToNumberOp"),
    "kind of warm-up": (classify_warm_up, "UNIMPLEMENTED", "record 1 is classify_log"),
    "warm-up record": (
        lambda path: tiny_shop.write_warm_up(path, [b"\xff\xff"]),
        "INVALID_ARGUMENT",
        "Failed to parse warmup record",
    ),
    "warm-up file": (warm_up_in_another_format, "DATA_LOSS", "verify your warmup data is in TFRecord format"),
    "too many warm-ups": (
        lambda path: tiny_shop.write_warm_up(path, tiny_shop.default_warm_up()[:1] * 1001),
        "INVALID_ARGUMENT",
        "Number of warmup records exceeds the maximum (1000)",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_version_is_refused_with_the_reason(versions: ModelVersions, publish: Publish, kind: str) -> None:
    change, code, text = BROKEN[kind]
    publish(1, change=change)
    with pytest.raises(ServableError) as error:
        versions.load_first()
    assert text in str(error.value)
    assert str(versions.base_path) in str(error.value)
    failure = versions.states()[1].error
    assert failure is not None
    assert code is None or failure.code == grpc.StatusCode[code]


def test_without_a_version_the_error_describes_the_expected_directory(versions: ModelVersions, base_path: Path) -> None:
    for prepare in (lambda: None, base_path.mkdir, (base_path / "notes").mkdir, (base_path / ".3.part").mkdir):
        prepare()
        with pytest.raises(ServableError, match="no version to serve; expected a directory with an integer name"):
            versions.load_first()


def test_the_highest_number_is_served_not_the_last_in_the_alphabet(versions: ModelVersions, publish: Publish) -> None:
    publish(2)
    publish(10, source=1)
    assert versions.load_first().version == 10


def test_a_broken_newest_version_at_the_start_leaves_the_one_before(versions: ModelVersions, publish: Publish) -> None:
    publish(1)
    publish(2, change=damage_graph)
    assert versions.load_first().version == 1
    assert versions.states()[2].error is not None


def test_a_swap_loses_no_request_and_mixes_no_versions(serve: Callable[..., PredictClient], publish: Publish) -> None:
    publish(1)
    client = serve()
    queries = [b"red", b"blue tea"]
    wanted = {version: tiny_shop.expected(queries, version)["score"] for version in (1, 2)}
    seen: list[int] = []
    failures: list[BaseException] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                score = client.predict(NAME, {"query": queries}, outputs=["score"])["score"]
                seen.append(next(version for version in wanted if np.array_equal(score, wanted[version])))
            except BaseException as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    publish(2)
    wait_for(lambda: state(client, 1) == "END")
    count = len(seen)
    wait_for(lambda: len(seen) > count + 20)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert {1, 2} == set(seen)
    assert set(seen[count:]) == {2}
    assert {version: status.state for version, status in client.status(NAME).items()} == {2: "AVAILABLE", 1: "END"}
    with pytest.raises(ServingError, match=r"Servable not found for request: Specific\(tiny_shop, 1\)"):
        client.predict(NAME, {"query": queries}, version=1)


def test_the_old_version_ends_the_calls_that_it_has_begun(versions: ModelVersions, publish: Publish) -> None:
    publish(1)
    versions.load_first()
    with ThreadPoolExecutor(1) as pool:
        with versions.use() as old:
            publish(2)
            swap = pool.submit(versions.update)
            wait_for(lambda: versions.states()[1].state == ModelVersionStatus.UNLOADING)
            assert versions.states()[2].state == ModelVersionStatus.AVAILABLE
            with versions.use() as new:
                assert (old.version, new.version) == (1, 2)
            answer = old.run(call_of(old))
            np.testing.assert_array_equal(answer["score"], tiny_shop.expected([b"red"], 1)["score"])
        assert swap.result(timeout=60) is new
    assert versions.states()[1].state == ModelVersionStatus.END


def test_a_hanging_call_is_cancelled_and_delays_no_swap(
    base_path: Path, publish: Publish, start_slow_calls: Callable[..., list[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    publish(1)
    server = tiny_shop.server(base_path, drain_seconds=0.2)
    target = f"127.0.0.1:{server.start()}"
    with PredictClient(target) as client:
        (hanging,) = start_slow_calls(target, 1, 2_000_000_000)
        publish(2)
        wait_for(lambda: state(client, 1) == "END")
        assert "version 1 of tiny_shop: 1 calls are still running 0.2 s after its retirement" in caplog.text
        assert hanging.code() == grpc.StatusCode.UNAVAILABLE
        assert "version 1 of model tiny_shop was unloaded before the request ended" in hanging.details()
        np.testing.assert_array_equal(
            client.predict(NAME, {"query": [b"red"]})["score"], tiny_shop.expected([b"red"], 2)["score"]
        )
        publish(3, source=1)
        wait_for(lambda: state(client, 2) == "END")
    server.stop()


def test_a_retired_version_that_is_still_held_refuses_to_run(
    base_path: Path, publish: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    publish(1)
    versions = ModelVersions(NAME, base_path, drain_seconds=0.1)
    versions.load_first()
    with versions.use() as held:
        call = call_of(held)
        outputs = held.run(call)
        publish(2)
        versions.update()
        assert versions.states()[1].state == ModelVersionStatus.END
        assert "1 calls are still running" in caplog.text
        with pytest.raises(ServingError, match="was unloaded before the request ended"):
            held.run(call)
        np.testing.assert_array_equal(outputs["score"], tiny_shop.expected([b"red"], 1)["score"])
    with versions.use() as newest:
        assert newest.version == 2
    assert not versions._calls
    versions.close()


def test_a_stop_ends_a_hanging_call(
    base_path: Path, publish: Publish, start_slow_calls: Callable[..., list[Any]]
) -> None:
    publish(1)
    server = tiny_shop.server(base_path, drain_seconds=0.2)
    (hanging,) = start_slow_calls(f"127.0.0.1:{server.start()}", 1, 2_000_000_000)
    server.stop()
    assert hanging.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


def test_a_broken_new_version_is_reported_and_the_old_one_goes_on(
    serve: Callable[..., PredictClient], publish: Publish
) -> None:
    publish(1)
    client = serve()
    broken = publish(2, change=replace_op)
    wait_for(lambda: state(client, 2) == "END")
    status = client.status(NAME)[2]
    assert status.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert "op 'StringToMumble' is in none of the loaded op libraries" in status.error_message
    assert client.status(NAME)[1].state == "AVAILABLE"
    answer = client.predict(NAME, {"query": [b"red"]})
    np.testing.assert_array_equal(answer["score"], tiny_shop.expected([b"red"], 1)["score"])
    shutil.rmtree(broken)
    publish(2)  # the repaired version is tried again
    wait_for(lambda: state(client, 2) == "AVAILABLE")


def test_a_broken_version_is_not_tried_again_until_its_files_change(
    versions: ModelVersions, publish: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    publish(1)
    broken = publish(2, change=damage_graph)
    versions.load_first()
    versions.update()
    versions.update()
    assert len([record for record in caplog.records if "cannot be served" in record.message]) == 1
    damage_graph(broken)
    versions.update()
    assert len([record for record in caplog.records if "cannot be served" in record.message]) == 2


def test_a_broken_version_is_retried_after_doubling_pauses(
    versions: ModelVersions, publish: Publish, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing file may arrive later, for example one that is still being copied."""
    now = 1000.0
    monkeypatch.setattr("dpsr.serving.manager.versions.time.monotonic", lambda: now)
    publish(1)
    publish(2, change=damage_graph)
    versions.load_first()
    attempts = []
    for second in range(100):
        now = 1000.0 + second
        caplog.clear()
        versions.update()
        if any("cannot be served" in record.message for record in caplog.records):
            attempts.append(second)
    assert attempts == [10, 30, 70]


@pytest.mark.parametrize("place", ["variables/more", "assets/vocabulary", "saved_model.pb"])
def test_a_version_that_links_outside_is_not_read(
    versions: ModelVersions, publish: Publish, tmp_path: Path, place: str
) -> None:
    (tmp_path / "secret").write_text("keep out")

    def link(path: Path) -> None:
        (path / place).unlink(missing_ok=True)
        (path / place).symlink_to(tmp_path / "secret")

    publish(1, change=link)
    with pytest.raises(ServableError, match=f"{place} leads to .*secret, outside of"):
        versions.load_first()


def test_a_version_that_is_a_link_outside_is_not_read(
    versions: ModelVersions, exported: dict[int, Path], base_path: Path
) -> None:
    base_path.mkdir()
    (base_path / "1").symlink_to(exported[1])
    with pytest.raises(ServableError, match="outside of"):
        versions.load_first()


def test_an_asset_outside_of_the_version_is_not_read(versions: ModelVersions, publish: Publish, tmp_path: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    (tmp_path / "secret").write_text("keep out")

    def point_outside(path: Path) -> None:
        saved_model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
        asset = saved_model.meta_graphs[0].asset_file_def.add(filename="../../../secret")
        asset.tensor_info.name = "nothing:0"
        (path / "saved_model.pb").write_bytes(saved_model.SerializeToString())

    publish(1, change=point_outside)
    with pytest.raises(ServableError, match=r"asset '../../../secret' is outside"):
        versions.load_first()


def test_deleting_the_served_version_rolls_back(versions: ModelVersions, publish: Publish) -> None:
    publish(1)
    newest = publish(2)
    assert versions.load_first().version == 2
    shutil.rmtree(newest)
    rolled_back = versions.update()
    assert rolled_back is not None
    assert rolled_back.version == 1


def test_the_last_version_stays_when_its_files_vanish(versions: ModelVersions, publish: Publish) -> None:
    only = publish(1)
    served = versions.load_first()
    shutil.rmtree(only)
    assert versions.update() is served


def test_a_version_without_warm_up_requests_serves_without_shared_runs(
    versions: ModelVersions, publish: Publish
) -> None:
    publish(1, change=lambda path: shutil.rmtree(path / "assets.extra"))
    assert versions.load_first().independent_rows == set()
