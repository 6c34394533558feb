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


_GRAPH_QUERIES = 100


class GraphSeconds(NamedTuple):
    """Processor seconds of one run of the graph in process."""

    session: float
    """By the server's own session."""
    function: float
    """By ``tf.saved_model.load``, with NumPy outputs."""


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


def run_graph(base_paths: Sequence[Path], questions: Any, answers: Any) -> None:
    """Runs of the graph without server and messages: takes numbers of runs, answers with ``GraphSeconds``."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    from dpsr.serving.engine.loaded_model import LoadedModel

    texts = [f"query number {index}".encode() for index in range(_GRAPH_QUERIES)]
    path = base_paths[0] / "1"
    model = LoadedModel.load(NAME, 1, path)
    prepared = []
    for text in texts:
        request = predict_pb2.PredictRequest()
        proto = request.inputs["query"]
        proto.dtype = 7
        proto.tensor_shape.dim.add().size = 1
        proto.string_val.append(text)
        prepared.append(model.prepare(request))
    loaded = tf.saved_model.load(str(path))
    function = loaded.signatures["serving_default"]
    queries = [tf.constant([text]) for text in texts]

    def run_session(index: int) -> None:
        dict(model.run(prepared[index]))

    def run_function(index: int) -> None:
        for tensor in function(query=queries[index]).values():
            tensor.numpy()

    for run in (run_session, run_function):
        _seconds_per_run(run, _GRAPH_QUERIES)
    while True:
        runs = questions.get()
        answers.put((_seconds_per_run(run_session, runs), _seconds_per_run(run_function, runs)))


def _seconds_per_run(run: Callable[[int], None], runs: int) -> float:
    before = time.process_time()
    for index in range(runs):
        run(index % _GRAPH_QUERIES)
    return (time.process_time() - before) / runs


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


@contextlib.contextmanager
def started_graph(base_paths: Sequence[Path], runs: int) -> Iterator[Callable[[], GraphSeconds]]:
    """Measures one run of the graph as a mean of ``runs``, in a process of its own that stays loaded."""
    context = multiprocessing.get_context("spawn")
    questions, answers = context.Queue(), context.Queue()
    process = context.Process(target=run_graph, args=(base_paths, questions, answers), daemon=True)
    process.start()

    def measure() -> GraphSeconds:
        questions.put(runs)
        return GraphSeconds(*_first(answers, process))

    try:
        yield measure
    finally:
        process.terminate()
        process.join()


def _first(queue: Any, process: Any) -> Any:
    deadline = time.monotonic() + START_SECONDS
    while queue.empty():
        if not process.is_alive() or time.monotonic() > deadline:
            raise SystemExit("a process did not answer; its own error is above")
        time.sleep(0.05)
    return queue.get()
