"""A model server without models: follows a model config file as TensorFlow Serving does, and answers with its name.

It speaks the real protocols on a real port, loads a model by waiting, and needs no TensorFlow, so that a test has many.
"""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from dpsr.serving.fleet.server_link import ServerLink
from dpsr.serving.fleet.wire import GetModelStatusRequest, GetModelStatusResponse

START, LOADING, AVAILABLE, UNLOADING, END = 10, 20, 30, 40, 50


class LightServer:
    """One server; ``kill`` ends it without a farewell, ``start`` starts it again on its port."""

    def __init__(
        self, name: str, config_file: Path, *, load_seconds: float = 0.1, port: int = 0, load_first: bool = False
    ) -> None:
        self.name = name
        self.config_file = config_file
        self.load_seconds = load_seconds
        self.port = port
        self.load_first = load_first
        """Whether the port opens when the models are there: no request comes before them, however fast it starts."""
        self.broken: dict[str, str] = {}
        """Model -> why its load fails."""
        self.loads: list[str] = []
        """Models in the order of their loads."""
        self.served: list[str] = []
        """Models of the requests, in their order."""
        self.most_at_once = 0
        """The most models that were in memory together."""
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._states: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        options = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1))
        self._server = grpc.server(ThreadPoolExecutor(8), options=options)
        status = grpc.unary_unary_rpc_method_handler(
            self._status, GetModelStatusRequest.FromString, GetModelStatusResponse.SerializeToString
        )
        predict = grpc.unary_unary_rpc_method_handler(self._predict, GetModelStatusRequest.FromString)
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler("tensorflow.serving.ModelService", {"GetModelStatus": status}),
                grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", {"Predict": predict}),
            )
        )
        self._health = health.HealthServicer()
        self.report(serving=True)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if self.load_first:
            self._look()
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()
        self._follower = threading.Thread(target=self._follow, daemon=True)
        self._follower.start()

    def kill(self) -> None:
        self._stop.set()
        self._follower.join()
        self._server.stop(None).wait()

    def report(self, *, serving: bool) -> None:
        """Sets what the health service answers."""
        status = health_pb2.HealthCheckResponse
        self._health.set("", status.SERVING if serving else status.NOT_SERVING)

    def hold(self, *models: str) -> None:
        """Writes the config file; returns when the server has exactly these models."""
        ServerLink.write_config(self.config_file, {model: f"/models/{model}" for model in models})
        while self.available() != set(models):
            time.sleep(0.005)

    def available(self) -> set[str]:
        with self._lock:
            return {model for model, state in self._states.items() if state == AVAILABLE}

    def _follow(self) -> None:
        while not self._stop.wait(0.02):
            self._look()

    def _look(self) -> None:
        wanted = set(ServerLink.read_config(self.config_file))
        for model in sorted(wanted - self.available()):
            self._load(model)
        for model in self.available() - wanted:
            self._set(model, END)

    def _load(self, model: str) -> None:
        if model in self.broken:
            self._set(model, END)
            return
        self._set(model, LOADING)
        self.loads.append(model)
        time.sleep(self.load_seconds)
        self._set(model, AVAILABLE)
        self.most_at_once = max(self.most_at_once, len(self.available()))

    def _set(self, model: str, state: int) -> None:
        with self._lock:
            self._states[model] = state

    def _status(self, request, context):  # type: ignore[no-untyped-def]
        model = request.model_spec.name
        with self._lock:
            state = self._states.get(model)
        if state is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {model}")
        response = GetModelStatusResponse()
        entry = response.model_version_status.add(version=1, state=state)
        if model in self.broken:
            entry.status.error_code, entry.status.error_message = 3, self.broken[model]
        return response

    def _predict(self, request, context):  # type: ignore[no-untyped-def]
        model = request.model_spec.name
        if model not in self.available():
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({model})")
        self.served.append(model)
        return self.name.encode()


if __name__ == "__main__":  # NAME CONFIG_FILE PORT MODEL...: for tests that kill the process
    name, config, port, *models = sys.argv[1:]
    ServerLink.write_config(Path(config), {model: f"/models/{model}" for model in models})
    LightServer(name, Path(config), port=int(port), load_seconds=0.0, load_first=True)
    threading.Event().wait()
