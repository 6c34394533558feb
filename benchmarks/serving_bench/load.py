"""Requests, and a client that sends them at a steady rate."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import grpc
import numpy as np

METHOD = "/tensorflow.serving.PredictionService/Predict"
TIMEOUT = 60.0


class Answer(NamedTuple):
    """Result of one request."""

    due: float
    """Time at which the request was due, on ``time.perf_counter``."""
    seconds: float
    """From ``due`` to the answer."""
    code: str
    version: int


def make_requests(model: str, count: int) -> list[bytes]:
    """Serialised requests of one query each."""
    from tensorflow_serving.apis import predict_pb2

    requests = []
    for index in range(count):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        proto = request.inputs["query"]
        proto.dtype = 7
        proto.tensor_shape.dim.add().size = 1
        proto.string_val.append(f"query number {index}".encode())
        requests.append(request.SerializeToString())
    return requests


@contextlib.asynccontextmanager
async def steady(address: str, requests: Sequence[bytes], rate: float) -> AsyncIterator[list[Answer]]:
    """Sends requests at a fixed rate, independent of their answers; yields the growing list of answers."""
    answers: list[Answer] = []
    tasks: set[asyncio.Task[None]] = set()
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(METHOD)
        await call(requests[0], timeout=TIMEOUT)

        async def ask(due: float, request: bytes) -> None:
            code, version = "OK", 0
            try:
                version = version_of(await call(request, timeout=TIMEOUT))
            except grpc.RpcError as error:
                code = error.code().name
            answers.append(Answer(due, time.perf_counter() - due, code, version))

        async def send() -> None:
            begin = time.perf_counter()
            for number in itertools.count():
                due = begin + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                task = asyncio.create_task(ask(due, requests[number % len(requests)]))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        sender = asyncio.create_task(send())
        try:
            yield answers
        finally:
            sender.cancel()
            await asyncio.gather(sender, *tasks, return_exceptions=True)


def version_of(response: bytes) -> int:
    """Version in a serialised ``PredictResponse``."""
    from tensorflow_serving.apis import predict_pb2

    return int(predict_pb2.PredictResponse.FromString(response).model_spec.version.value)


def p99(answers: Sequence[Answer], begin: float, end: float) -> float:
    """99th percentile in milliseconds of the requests due in [begin, end); NaN without requests."""
    latencies = [1000 * answer.seconds for answer in answers if begin <= answer.due < end]
    return float(np.percentile(latencies, 99)) if latencies else float("nan")


async def until_version(answers: Sequence[Answer], version: int, seconds: float) -> float:
    """Waits for the first answer of a version; returns the time at which its request was due."""
    deadline = time.perf_counter() + seconds
    seen = len(answers)
    while time.perf_counter() < deadline:
        for answer in itertools.islice(answers, seen, None):
            if answer.version >= version:
                return answer.due
        seen = len(answers)
        await asyncio.sleep(0.05)
    raise SystemExit(f"version {version} did not answer within {seconds:g} s")


def reload_config(address: str, models: dict[str, Any]) -> None:
    """Replaces the models of a server: name -> base path."""
    from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

    request = model_management_pb2.ReloadConfigRequest()
    for name, base_path in models.items():
        request.config.model_config_list.config.add(name=name, base_path=str(base_path), model_platform="tensorflow")
    with grpc.insecure_channel(address) as channel:
        model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request, timeout=600)
