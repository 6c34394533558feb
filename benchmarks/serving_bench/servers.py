"""Servers under comparison, each in a process of its own, with their processor time and memory."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import grpc
from serving_bench.servable import NAME

Plane = Literal["python", "native"]
START_SECONDS = 600.0


class Server(NamedTuple):
    address: str
    pid: int

    def cpu_seconds(self) -> float:
        """Processor time so far; other work on the machine affects it less than the clock."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        """Resident memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def run_plain(base_paths: Sequence[Path], ports: Any) -> None:
    """Plain server: a gRPC thread pool around ``tf.saved_model.load``."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    from dpsr.ops_cc import library

    library.load_all()
    loaded = tf.saved_model.load(str(base_paths[0] / "1"))

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


def run_dpsr(base_paths: Sequence[Path], ports: Any, *, data_plane: Plane) -> None:
    """The server of dpsr with the first model; a reload adds the second one."""
    from dpsr.config import ServingConfig
    from dpsr.serving.manager.model_config import ServedModel
    from dpsr.serving.server import ModelServer

    config = ServingConfig(port=0, rest_port=-1, log_requests="none", allow_reload=True, data_plane=data_plane)
    server = ModelServer([ServedModel(NAME, base_paths[0])], config)
    ports.put(server.start())
    server.wait()


def run_graph(base_paths: Sequence[Path], results: Any, calls: int) -> None:
    """Processor seconds of a run without server and messages: by ``tf.saved_model.load``, and by the session."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    from dpsr.serving.engine.loaded_model import LoadedModel

    texts = [f"query number {index}".encode() for index in range(100)]
    model = LoadedModel.load(NAME, 1, base_paths[0] / "1")
    prepared = []
    for text in texts:
        request = predict_pb2.PredictRequest()
        proto = request.inputs["query"]
        proto.dtype = 7
        proto.tensor_shape.dim.add().size = 1
        proto.string_val.append(text)
        prepared.append(model.prepare(request))
    ours = _seconds_per_call(lambda index: dict(model.run(prepared[index])), calls)
    model.close()
    loaded = tf.saved_model.load(str(base_paths[0] / "1"))
    function = loaded.signatures["serving_default"]
    queries = [tf.constant([text]) for text in texts]
    plain = _seconds_per_call(
        lambda index: {alias: tensor.numpy() for alias, tensor in function(query=queries[index]).items()}, calls
    )
    results.put((plain, ours))


def _seconds_per_call(call: Callable[[int], object], calls: int) -> float:
    for index in range(100):
        call(index)
    before = time.process_time()
    for index in range(calls):
        call(index % 100)
    return (time.process_time() - before) / calls


@contextlib.contextmanager
def started(base_paths: Sequence[Path], *runs: Any) -> Iterator[list[Server]]:
    """Ready servers, one per function."""
    context = multiprocessing.get_context("spawn")
    processes: list[Any] = []
    servers = []
    try:
        for run in runs:
            ports = context.Queue()
            processes.append(context.Process(target=run, args=(base_paths, ports), daemon=True))
            processes[-1].start()
            servers.append(Server(f"127.0.0.1:{_first(ports, processes[-1])}", processes[-1].pid))
        yield servers
    finally:
        for process in processes:
            process.terminate()
            process.join()


def graph_cpu_seconds(base_paths: Sequence[Path], calls: int) -> tuple[float, float]:
    """As ``run_graph``, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=run_graph, args=(base_paths, results, calls), daemon=True)
    process.start()
    plain, ours = _first(results, process)
    process.join()
    return float(plain), float(ours)


def _first(queue: Any, process: Any) -> Any:
    deadline = time.monotonic() + START_SECONDS
    while queue.empty():
        if not process.is_alive() or time.monotonic() > deadline:
            raise SystemExit("a server did not start; its own error is above")
        time.sleep(0.05)
    return queue.get()
