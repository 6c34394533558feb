"""Prometheus metrics that add up, and logs of one JSON object per line."""

import io
import json
import logging
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tiny_shop
from prometheus_client.parser import text_string_to_metric_families
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from waiting import wait_for

from dpsr.serving.client import PredictClient
from dpsr.serving.errors import ServingError
from dpsr.serving.logs import JsonLines
from dpsr.serving.metrics import Metrics, ModelFigures, RequestLabels

NAME = tiny_shop.NAME


class Served:
    """A server, its client and its figures."""

    def __init__(self, base_path: Path, **options: Any) -> None:
        self.server = tiny_shop.server(base_path, **options)
        self.target = f"127.0.0.1:{self.server.start()}"
        self.client = PredictClient(self.target)
        self.rest = f"http://127.0.0.1:{self.server.rest_port}"

    def predict(self, *queries: str, **options: Any) -> Any:
        return self.client.predict(NAME, {"query": list(queries)}, **options)

    def figures(self) -> dict[tuple[str, ...], float]:
        """(name, label values ...) -> value of all samples that are not zero."""
        with urllib.request.urlopen(f"{self.rest}/monitoring/prometheus/metrics", timeout=20) as response:
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            page = response.read().decode()
        samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
        order = ("model", "version", "signature", "code", "status", "le")
        return {
            (sample.name, *(sample.labels[name] for name in order if name in sample.labels)): sample.value
            for sample in samples
            if sample.value
        }

    def close(self) -> None:
        self.client.close()
        self.server.stop()


@pytest.fixture
def serve(publish: Callable[..., Path], base_path: Path) -> Iterator[Callable[..., Served]]:
    opened: list[Served] = []

    def start(**options: Any) -> Served:
        def describe(path: Path) -> None:
            (path / "assets.extra" / "manifest.json").write_text(json.dumps({"items": 50}))

        publish(1, change=describe)
        opened.append(Served(base_path, **options))
        return opened[-1]

    yield start
    for served in opened:
        served.close()


@pytest.fixture
def log() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Log lines that a server process would write."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("dpsr.serving.requests")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_the_figures_count_the_requests(serve: Callable[..., Served]) -> None:
    served = serve()
    for _ in range(3):
        served.predict("red", "blue")
    served.client.predict(NAME, {"query": ["a b"]}, signature="tokenize")
    body = json.dumps({"instances": ["red", "a", "b"]}).encode()
    urllib.request.urlopen(f"{served.rest}/v1/models/{NAME}:predict", body, timeout=20).read()
    with pytest.raises(ServingError):
        served.client.predict(NAME, {"text": ["red"]})
    with pytest.raises(ServingError):
        served.client.predict("nobody", {"query": ["red"]})
    figures = served.figures()
    default = (NAME, "1", "serving_default")
    assert figures["dpsr_requests_total", *default, "OK"] == 4
    assert figures["dpsr_requests_total", NAME, "1", "tokenize", "OK"] == 1
    assert figures["dpsr_requests_total", NAME, "1", "", "INVALID_ARGUMENT"] == 1
    assert figures["dpsr_requests_total", "", "", "", "NOT_FOUND"] == 1
    assert figures["dpsr_request_seconds_count", *default] == 4
    assert figures["dpsr_request_seconds_bucket", *default, "+Inf"] == 4
    assert figures["dpsr_batch_rows_sum", *default] == 3 * 2 + 3
    assert figures["dpsr_batch_requests_sum", *default] == 4
    assert figures["dpsr_results_total", *default] == (3 * 2 + 3) * tiny_shop.K
    assert ("dpsr_short_rows_total", *default) not in figures
    assert figures["dpsr_loaded_versions", NAME] == 1
    assert figures["dpsr_newest_version", NAME] == 1
    assert figures["dpsr_index_items", NAME] == 50
    assert ("dpsr_in_flight",) not in figures


def test_what_is_in_flight_is_shown(serve: Callable[..., Served], start_slow_calls: Callable[..., list[Any]]) -> None:
    served = serve()
    slow = start_slow_calls(served.target, 3, 2_000_000_000)  # minutes; the end of the server cancels them
    assert served.figures()["dpsr_in_flight",] == 3
    for call in slow:
        call.cancel()
    wait_for(lambda: ("dpsr_in_flight",) not in served.figures())


def test_requests_of_unknown_names_make_no_new_series(serve: Callable[..., Served]) -> None:
    served = serve()
    for number in range(20):
        for model, version, signature in (
            (f"m{number}", None, "s"),
            (NAME, 5 + number, "s"),
            (NAME, None, f"s{number}"),
        ):
            with pytest.raises(ServingError):
                served.client.predict(model, {"query": ["a"]}, version=version, signature=signature)
    series = {labels for labels in served.figures() if labels[0] == "dpsr_requests_total"}
    assert {labels[1:] for labels in series} == {("", "", "", "NOT_FOUND"), (NAME, "1", "", "FAILED_PRECONDITION")}


def test_rows_with_fewer_items_than_asked_are_counted() -> None:
    metrics = Metrics()
    heads = [np.array([[0, 1, 1], [0, -1, -1], [-1, -1, -1]], np.int32), np.zeros(3, np.int32)]
    metrics.note_run(RequestLabels(NAME, "1", "serving_default"), rows=3, requests=1, heads=heads)
    page = metrics.page([ModelFigures(NAME, [1], items=None)]).decode()
    labels = f'{{model="{NAME}",signature="serving_default",version="1"}}'
    assert f"dpsr_results_total{labels} 4.0" in page
    assert f"dpsr_short_rows_total{labels} 2.0" in page


def test_a_request_id_is_kept_or_made(serve: Callable[..., Served]) -> None:
    served = serve()
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "nobody"
    with grpc.insecure_channel(served.target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for given, kept in (("trace-1:a", True), ("two words", False), ("x" * 129, False), (None, False)):
            metadata = (("x-request-id", given),) if given else ()
            with pytest.raises(grpc.RpcError) as error:
                stub.Predict(request, timeout=20, metadata=metadata)
            returned = dict(error.value.trailing_metadata())["x-request-id"]
            assert (returned == given) is kept
            assert len(returned) <= 128
    headers = {"X-Request-Id": "trace-2"}
    with urllib.request.urlopen(urllib.request.Request(f"{served.rest}/v1/models/{NAME}", headers=headers)) as response:
        assert response.headers["X-Request-Id"] == "trace-2"


def test_failed_requests_are_logged_as_json(
    serve: Callable[..., Served], log: Callable[[], list[dict[str, Any]]]
) -> None:
    served = serve()
    served.predict("red")
    with pytest.raises(ServingError):
        served.client.predict(NAME, {"text": ["new\nline"]})
    (line,) = log()
    assert (line["level"], line["message"], line["protocol"]) == ("WARNING", "request", "grpc")
    assert (line["model"], line["version"], line["code"]) == (NAME, "1", "INVALID_ARGUMENT")
    assert line["error"].startswith("Signature input alias: query")
    assert line["peer"].startswith("ipv4:127.0.0.1:")
    assert line["ms"] > 0
    assert len(line["request_id"]) == 16


@pytest.mark.parametrize(("log_requests", "codes"), [("none", []), ("all", ["OK", "NOT_FOUND"])])
def test_which_requests_are_logged_is_configured(
    serve: Callable[..., Served], log: Callable[[], list[dict[str, Any]]], log_requests: str, codes: list[str]
) -> None:
    served = serve(log_requests=log_requests)
    served.predict("red", "blue")
    with pytest.raises(ServingError):
        served.predict("red", version=7)
    served.close()
    lines = sorted(log(), key=lambda line: line["time"])
    assert [line["code"] for line in lines] == codes
    assert [line.get("rows") for line in lines] == [2, None][: len(codes)]
