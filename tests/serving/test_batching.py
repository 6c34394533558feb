"""Micro-batches: no queue while a runner is free, runs shared within a group alone, each caller's own answer."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_shop
from tensorflow_serving.apis import predict_pb2

from dpsr.serving.engine.batching import MAX_BATCH_ROWS, MicroBatcher, respond
from dpsr.serving.engine.loaded_model import Call, LoadedModel
from dpsr.serving.engine.warmup import warm_up
from dpsr.serving.errors import ServingError
from dpsr.serving.tensors import decode, encode


@pytest.fixture(scope="module")
def model(exported: dict[int, Path]) -> Any:
    model = LoadedModel.load(tiny_shop.NAME, 1, exported[1])
    warm_up(model)
    yield model
    model.close()


def make_call(model: LoadedModel, signature: str = "serving_default", /, **inputs: Any) -> Call:
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature
    for alias, value in inputs.items():
        encode(np.asarray(value, object if isinstance(value[0], str) else None), request.inputs[alias])
    return model.prepare(request)


class Recorder:
    """The real run, held until ``gate`` is set; records the calls of each batch."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.batches: list[list[Call]] = []

    def __call__(self, calls: Sequence[Call]) -> Sequence[bytes | ServingError]:
        self.batches.append(list(calls))
        assert self.gate.wait(10)
        return respond(calls)


async def gather(batcher: MicroBatcher, recorder: Recorder, calls: Sequence[Call]) -> list[Any]:
    """Submits all calls while the first runs are held; then releases them."""
    tasks = [asyncio.create_task(batcher.submit(call)) for call in calls]
    await asyncio.sleep(0)  # every task has submitted its call then
    recorder.gate.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


def scores(answer: bytes) -> np.ndarray:
    return decode(predict_pb2.PredictResponse.FromString(answer).outputs["score"])


def run_held_up(calls: Sequence[Call], parallel_runs: int = 2) -> tuple[list[Any], list[list[Call]]]:
    recorder = Recorder()
    batcher = MicroBatcher(recorder, parallel_runs=parallel_runs)
    answers = asyncio.run(gather(batcher, recorder, calls))
    batcher.close()
    return answers, recorder.batches


def test_the_first_run_alone_and_the_rest_together(model: LoadedModel) -> None:
    queries = ["x" * length for length in range(12)]
    calls = [make_call(model, query=[query]) for query in queries]
    answers, batches = run_held_up(calls)
    assert [len(batch) for batch in batches] == [1, 1, 10]
    for query, answer in zip(queries, answers, strict=True):
        np.testing.assert_array_equal(scores(answer), tiny_shop.expected([query.encode()], 1)["score"])


def test_a_shared_run_gives_the_bytes_of_single_runs(model: LoadedModel) -> None:
    calls = [make_call(model, query=["y" * (7 * row % 11) for row in range(rows)]) for rows in (1, 3, 2, 5, 1)]
    assert respond(calls) == [respond([call])[0] for call in calls]


def test_a_batch_has_at_most_its_rows(model: LoadedModel) -> None:
    calls = [make_call(model, query=["a"] * rows) for rows in (1, 10, 10, 10, 10, 40, 2)]
    _, batches = run_held_up(calls, parallel_runs=1)
    assert [[call.rows for call in batch] for batch in batches] == [[1], [10, 10, 10, 2], [10], [40]]
    assert all(sum(call.rows for call in batch) <= MAX_BATCH_ROWS or len(batch) == 1 for batch in batches)


def test_only_equal_signatures_filters_and_trailing_shapes_share_a_run(model: LoadedModel) -> None:
    def personal(width: int) -> Call:
        return make_call(model, "personalized", query=["a"], gender=["f"], history=np.zeros((1, width), np.int64))

    filtered = predict_pb2.PredictRequest(output_filter=["score"])
    encode(np.array(["a"], object), filtered.inputs["query"])
    calls = [
        make_call(model, query=["hold"]),
        make_call(model, query=["a"]),
        personal(2),
        personal(3),
        model.prepare(filtered),
        make_call(model, query=["b"]),
        personal(2),
    ]
    _, batches = run_held_up(calls, parallel_runs=1)
    order = {id(call): index for index, call in enumerate(calls)}
    assert [[order[id(call)] for call in batch] for batch in batches] == [[0], [1, 5], [2, 6], [3], [4]]


def test_signatures_whose_rows_depend_on_each_other_run_alone(model: LoadedModel) -> None:
    assert model.independent_rows == {"serving_default", "personalized", "parse_number"}
    calls = [make_call(model, "tokenize", query=["a bc"]) for _ in range(4)]
    answers, batches = run_held_up(calls, parallel_runs=1)
    assert [len(batch) for batch in batches] == [1, 1, 1, 1]
    for answer in answers:
        response = predict_pb2.PredictResponse.FromString(answer)
        assert decode(response.outputs["row_splits"]).tolist() == [0, 2]


def test_a_bad_request_fails_alone_in_its_batch(model: LoadedModel) -> None:
    texts = ["0", "1", "2", "three", "4"]
    answers, batches = run_held_up([make_call(model, "parse_number", text=[text]) for text in texts], 1)
    assert [len(batch) for batch in batches] == [1, 4]
    for text, answer in zip(texts, answers, strict=True):
        if text == "three":
            assert isinstance(answer, ServingError)
            assert "could not correctly convert string: three" in answer.message
        else:
            number = decode(predict_pb2.PredictResponse.FromString(answer).outputs["number"])
            assert number.tolist() == [float(text)]


def test_requests_cancelled_in_the_queue_are_not_run(model: LoadedModel) -> None:
    calls = [make_call(model, query=[letter]) for letter in "abc"]
    recorder = Recorder()
    batcher = MicroBatcher(recorder, parallel_runs=1)

    async def cancel_the_second() -> list[Any]:
        tasks = [asyncio.create_task(batcher.submit(call)) for call in calls]
        await asyncio.sleep(0)
        tasks[1].cancel()
        recorder.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(cancel_the_second())
    batcher.close()
    assert isinstance(answers[1], asyncio.CancelledError)
    assert recorder.batches == [[calls[0]], [calls[2]]]
    assert isinstance(answers[2], bytes)


def test_a_crash_of_a_run_reaches_all_its_callers_and_the_next_run_goes_on(model: LoadedModel) -> None:
    crashes = [True, False]

    def run(calls: Sequence[Call]) -> Sequence[bytes | ServingError]:
        if crashes.pop(0):
            raise MemoryError("no room")
        return respond(calls)

    batcher = MicroBatcher(run, parallel_runs=1)

    async def both() -> list[Any]:
        return [
            *await asyncio.gather(batcher.submit(make_call(model, query=["a"])), return_exceptions=True),
            await batcher.submit(make_call(model, query=["b"])),
        ]

    first, second = asyncio.run(both())
    batcher.close()
    assert isinstance(first, MemoryError)
    assert isinstance(second, bytes)
