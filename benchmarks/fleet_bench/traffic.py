"""Clients of a fleet in a process of their own: closed loops over many models, every failure kept."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import grpc
import numpy as np

METHOD = "/tensorflow.serving.PredictionService/Predict"
TIMEOUT = 60.0


@dataclass
class Answers:
    """What the callers got."""

    requests: int = 0
    failures: list[tuple[float, str, str, str]] = field(default_factory=list)
    """Time since the epoch, model, gRPC status, text."""
    latencies: list[float] = field(default_factory=list)
    """Milliseconds of the answered requests."""
    order: list[str] = field(default_factory=list)
    """Models in the order of the requests."""
    variants: dict[str, int] = field(default_factory=dict)
    """Variant that the proxy has named -> answers."""
    variants_of: dict[str, set[str]] = field(default_factory=dict)
    """Key -> variants that it got."""

    def percentile(self, share: float) -> float:
        """A percentile of the latencies in milliseconds."""
        return float(np.percentile(self.latencies, share)) if self.latencies else float("nan")


@dataclass(frozen=True)
class Load:
    """What the callers send."""

    address: str
    requests: dict[str, bytes]
    """Model or alias -> serialised request."""
    weights: Sequence[float]
    """Of the models, in their order."""
    callers: int = 8
    pause: float = 0.0
    """Seconds between an answer and the next request of a caller."""
    keys: tuple[str, int] | None = None
    """Header, and number of its different values, from which each request draws one."""
    count: int | None = None
    """Requests in all; None until ``stop``."""
    seed: int = 1


class Traffic:
    """Runs a load from the start of its ``with`` block to ``stop``."""

    def __init__(self, load: Load) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, child = context.Pipe()
        self._process = context.Process(target=_run, args=(load, child), daemon=True)

    def __enter__(self) -> Traffic:
        self._process.start()
        assert self._connection.recv() == "started"
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.is_alive():
            self._process.terminate()
        self._process.join()

    def stop(self) -> Answers:
        """Ends the callers; returns what they got."""
        self._connection.send("stop")
        return self.wait()

    def wait(self) -> Answers:
        """What the callers got, when they have sent ``count`` requests."""
        answers: Answers = self._connection.recv()
        return answers


def _run(load: Load, connection: Connection) -> None:
    connection.send(asyncio.run(_callers(load, connection)))


async def _callers(load: Load, connection: Connection) -> Answers:
    names = list(load.requests)
    answers, random = Answers(), np.random.default_rng(load.seed)
    shares = np.asarray(load.weights, float) / np.sum(load.weights)
    drawn = iter(())
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def next_name() -> str:
        nonlocal drawn
        try:
            return names[next(drawn)]
        except StopIteration:
            drawn = iter(random.choice(len(names), 10_000, p=shares).tolist())
            return names[next(drawn)]

    async def caller(call: grpc.aio.UnaryUnaryMultiCallable) -> None:
        while not stopping.is_set() and (load.count is None or len(answers.order) < load.count):
            name = next_name()
            answers.order.append(name)
            key = f"user-{random.integers(load.keys[1])}" if load.keys else ""
            metadata = ((load.keys[0], key),) if load.keys else ()
            start = time.perf_counter()
            pending = call(load.requests[name], timeout=TIMEOUT, metadata=metadata)
            try:
                await pending
                answers.latencies.append(1000 * (time.perf_counter() - start))
                if load.keys:
                    variant = str(dict(await pending.initial_metadata()).get("x-dpsr-variant", ""))
                    answers.variants[variant] = answers.variants.get(variant, 0) + 1
                    answers.variants_of.setdefault(key, set()).add(variant)
            except grpc.aio.AioRpcError as error:
                answers.failures.append((time.time(), name, error.code().name, error.details() or ""))
            answers.requests += 1
            if load.pause:
                await asyncio.sleep(load.pause)

    channels = [
        grpc.aio.insecure_channel(load.address, (("grpc.use_local_subchannel_pool", 1),)) for _ in range(load.callers)
    ]

    def stop() -> None:
        loop.remove_reader(connection.fileno())
        stopping.set()

    for channel in channels:
        await channel.channel_ready()
    connection.send("started")
    if load.count is None:
        loop.add_reader(connection.fileno(), stop)
    await asyncio.gather(*(caller(channel.unary_unary(METHOD)) for channel in channels))
    for channel in channels:
        await channel.close()
    return answers


def request_of(model: str, query: str = "red shoes") -> bytes:
    """A serialised ``PredictRequest`` of one query, without TensorFlow."""

    def member(number: int, content: bytes) -> bytes:
        assert len(content) < 128
        return bytes([number << 3 | 2, len(content)]) + content

    shape = member(2, member(2, b"\x08\x01"))
    tensor = b"\x08\x07" + shape + member(8, query.encode())
    entry = member(1, b"query") + member(2, tensor)
    return member(1, member(1, model.encode())) + member(2, entry)


def zipf(count: int, exponent: float = 1.0) -> list[float]:
    """Weights 1 / rank ** exponent."""
    return [1.0 / rank**exponent for rank in range(1, count + 1)]
