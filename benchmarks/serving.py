"""Throughput and latency of the model server beside a plain one: a gRPC thread pool around the same SavedModel.

    python benchmarks/serving.py                        # a generated servable: 20,000 items, exact search, K = 100
    python benchmarks/serving.py --servable DIR/1       # an exported one

Both servers run in processes of their own, at the same time, and are asked in turns by the same client; a figure is
the median of the rounds, CPU ms the server's processor time per request. The answers of both are compared first.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
from tabulate import tabulate

NAME = "bench"
METHOD = "/tensorflow.serving.PredictionService/Predict"
SERVERS = ("plain", "dpsr")


def write_servable(path: Path, items: int, dimension: int, k: int) -> None:
    """A servable of the usual signature: hashed query vectors, exact inner products, the k best ids."""
    import tensorflow as tf

    random = np.random.default_rng(1)

    class Shop(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.items = tf.Variable(random.normal(size=(items, dimension)).astype(np.float32), trainable=False)
            self.queries = tf.Variable(random.normal(size=(1000, dimension)).astype(np.float32), trainable=False)
            self.ids = tf.Variable([f"item-{row}" for row in range(items)], trainable=False)

        def search(self, query: Any) -> dict[str, Any]:
            vectors = tf.gather(self.queries, tf.strings.to_hash_bucket_fast(query, 1000))
            score, rows = tf.math.top_k(tf.matmul(vectors, self.items, transpose_b=True), k)
            return {"item_id": tf.gather(self.ids, rows), "score": score, "head": tf.zeros_like(rows)}

    shop = Shop()
    search = tf.function(shop.search).get_concrete_function(query=tf.TensorSpec([None], tf.string, "query"))
    tf.saved_model.save(shop, str(path), signatures={"serving_default": search})
    _write_warm_up(path)


def _write_warm_up(path: Path) -> None:
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    (path / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(path / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for text in (b"red shoes", b"phone"):
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.model_spec.name = NAME
            log.predict_log.request.inputs["query"].CopyFrom(tf.make_tensor_proto([text]))
            writer.write(log.SerializeToString())


def run_plain(path: Path, ports: Any) -> None:
    """The peer: what one writes in an hour."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    from dpsr.ops_cc import library

    library.load_all()
    loaded = tf.saved_model.load(str(path))

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
            function = loaded.signatures[request.model_spec.signature_name or "serving_default"]
            inputs = {alias: tf.constant(tf.make_ndarray(proto)) for alias, proto in request.inputs.items()}
            response = predict_pb2.PredictResponse()
            for alias, tensor in function(**inputs).items():
                response.outputs[alias].CopyFrom(tf.make_tensor_proto(tensor.numpy()))
            return response

    server = grpc.server(ThreadPoolExecutor(32))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    ports.put(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    server.wait_for_termination()


def run_dpsr(path: Path, ports: Any) -> None:
    from dpsr.config import ServingConfig
    from dpsr.serving.model_config import ServedModel
    from dpsr.serving.server import ModelServer

    server = ModelServer([ServedModel(NAME, path.parent)], ServingConfig(port=0, rest_port=-1))
    ports.put(server.start())
    server.wait()


class Server(NamedTuple):
    address: str
    pid: int

    def cpu_seconds(self) -> float:
        """Processor time so far; unlike the clock it does not depend on what else the machine does."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def servers(path: Path) -> Iterator[dict[str, Server]]:
    """Both servers, by name."""
    context = multiprocessing.get_context("spawn")
    processes, started = [], {}
    for name, run in zip(SERVERS, (run_plain, run_dpsr), strict=True):
        ports = context.Queue()
        processes.append(context.Process(target=run, args=(path, ports), daemon=True))
        processes[-1].start()
        while ports.empty():
            if not processes[-1].is_alive():
                raise SystemExit(f"the {name} server did not start; its own error is above")
            time.sleep(0.1)
        started[name] = Server(f"127.0.0.1:{ports.get()}", processes[-1].pid)
    try:
        yield started
    finally:
        for process in processes:
            process.terminate()


def make_requests(count: int) -> list[bytes]:
    """Serialised requests of one query each."""
    from tensorflow_serving.apis import predict_pb2

    requests = []
    for index in range(count):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = NAME
        proto = request.inputs["query"]
        proto.dtype = 7
        proto.tensor_shape.dim.add().size = 1
        proto.string_val.append(f"query number {index}".encode())
        requests.append(request.SerializeToString())
    return requests


def check_answers(started: dict[str, Server], requests: list[bytes]) -> None:
    """Fails unless both servers give the same items."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    for request in requests:
        items = []
        for server in started.values():
            with grpc.insecure_channel(server.address) as channel:
                answer = channel.unary_unary(METHOD)(request, timeout=60)
            items.append(tf.make_ndarray(predict_pb2.PredictResponse.FromString(answer).outputs["item_id"]))
        np.testing.assert_array_equal(*items)


async def measure(address: str, requests: list[bytes], concurrency: int, seconds: float) -> tuple[float, list[float]]:
    """Requests per second, and the latency of each in milliseconds, of callers that wait for their answers."""
    latencies: list[float] = []
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(METHOD)
        await call(requests[0])
        begin = time.perf_counter()

        async def caller(offset: int) -> None:
            index = offset
            while (start := time.perf_counter()) < begin + seconds:
                await call(requests[index % len(requests)])
                latencies.append(1000 * (time.perf_counter() - start))
                index += concurrency

        await asyncio.gather(*(caller(offset) for offset in range(concurrency)))
        return len(latencies) / (time.perf_counter() - begin), latencies


def compare(
    started: dict[str, Server], requests: list[bytes], concurrency: int, rounds: int, seconds: float
) -> list[Any]:
    """One row of the table."""
    figures: dict[str, list[list[float]]] = {name: [] for name in started}
    for turn in range(rounds):
        for name in sorted(started, reverse=bool(turn % 2)):
            before = started[name].cpu_seconds()
            rate, latencies = asyncio.run(measure(started[name].address, requests, concurrency, seconds))
            cpu = 1000 * (started[name].cpu_seconds() - before) / len(latencies)
            figures[name].append([rate, *np.percentile(latencies, [50, 99]), cpu])
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in figures.items()
    }
    pairs = list(zip(figures["dpsr"], figures["plain"], strict=True))
    ratios = [statistics.median(ours[column] / plain[column] for ours, plain in pairs) for column in (0, 3)]
    return [concurrency, *medians["plain"], *medians["dpsr"], *(f"{ratio:.2f}" for ratio in ratios)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servable", type=Path, help="a version directory with a serving_default of `query`")
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAME / "1"
        if arguments.servable:
            shutil.copytree(arguments.servable, path)
        else:
            write_servable(path, arguments.items, 64, arguments.k)
        requests = make_requests(500)
        with servers(path) as started:
            check_answers(started, requests[:20])
            rows = [
                compare(started, requests, concurrency, arguments.rounds, arguments.seconds)
                for concurrency in arguments.concurrency
            ]
    headers = [
        "callers",
        *(f"{name} {what}" for name in SERVERS for what in ("req/s", "p50 ms", "p99 ms", "CPU ms")),
        "ratio req/s",
        "ratio CPU",
    ]
    print(tabulate(rows, headers=headers, floatfmt=",.2f"))
    print(f"\n{os.cpu_count()} cores shared with the client, {platform.processor() or platform.machine()}, ", end="")
    print(f"Python {platform.python_version()}; medians of {arguments.rounds} rounds of {arguments.seconds:g} s")


if __name__ == "__main__":
    main()
