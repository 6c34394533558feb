"""The model server: the versions of models behind TensorFlow Serving's gRPC services and ``grpc.health.v1``.

Example:
    >>> models = [ServedModel("shop", Path("runs/shop/servables/shop"))]
    >>> server = ModelServer(models, ServingConfig(port=0))
    >>> port = server.start()
    >>> server.stop()
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Coroutine, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2_grpc

from dpsr.config import ServingConfig
from dpsr.serving import tls
from dpsr.serving.batching import MicroBatcher, respond
from dpsr.serving.errors import ServableError
from dpsr.serving.grpc_api import MODEL_SERVICE, PREDICTION_SERVICE, GrpcApi
from dpsr.serving.health import Health
from dpsr.serving.logs import log_to_stderr
from dpsr.serving.metrics import Metrics
from dpsr.serving.model_config import ServedModel, read_model_config
from dpsr.serving.models import Models
from dpsr.serving.predictor import Predictor

if TYPE_CHECKING:
    from dpsr.serving.rest_api import RestApi

DRAIN_SECONDS = 30.0
READY_PREFIX = "ready: "
"""Starts the line that ``serve`` prints when it is ready; the line ends with ``host:port``."""

_PAUSE_SECONDS = 0.2
_CHANNEL_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a silent sharer
    ("grpc.max_send_message_length", -1),
)


class ModelServer:
    """Serves models, and follows their directories of versions."""

    def __init__(self, models: Sequence[ServedModel], config: ServingConfig) -> None:
        """Prepares a server; ``start`` starts it.

        Args:
            models: what to serve.
            config: where to listen and what to refuse.
        """
        self._config = config
        self.models = Models(models)
        self.rest_port: int | None = None
        """The port of the REST interface, once the server has started; None without one."""
        self._rest: RestApi | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="server", daemon=True)
        self._stopped = threading.Event()
        self._stop_once = threading.Lock()

    def start(self) -> int:
        """Listens, loads and warms up the models, and then serves; until then the health is NOT_SERVING.

        Returns:
            The gRPC port.

        Raises:
            ServableError: the port is taken, or a model cannot be served. The server is stopped then.
        """
        self._thread.start()
        try:
            port = self._run(self._listen())
            self.models.load_first()
            self._run(self._health.report(serving=True))
        except BaseException:
            self.stop(grace=0)
            raise
        file = self._config.model_config_file
        self.models.start_polling(Path(file) if file else None, self._config.model_config_poll_seconds)
        return port

    def stop(self, grace: float = DRAIN_SECONDS) -> None:
        """Refuses new requests, waits for those in flight, and frees the models.

        Args:
            grace: seconds after which requests in flight are cancelled.
        """
        with self._stop_once:
            if self._stopped.is_set():
                return
            if self._thread.is_alive():
                self._run(self._drain(grace))
                self.models.close()
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
            self._loop.close()
            self._stopped.set()

    def wait(self) -> None:
        """Returns when the server has been stopped."""
        self._stopped.wait()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self) -> int:
        self._metrics = Metrics()
        self._batcher = MicroBatcher(partial(respond, metrics=self._metrics))
        services = (PREDICTION_SERVICE, MODEL_SERVICE)
        self._health = Health(("", *services))
        await self._health.report(serving=False)
        limit = ("grpc.max_receive_message_length", self._config.max_message_bytes)
        self._server = grpc.aio.server(options=(*_CHANNEL_OPTIONS, limit))
        self._predictor = Predictor(self.models, self._batcher, self._metrics, self._config)
        GrpcApi(self.models, self._predictor).add_to(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
        address = f"{host}:{self._config.port}"
        if self._config.reflection:
            _enable_reflection(self._server, services)
        credentials = tls.grpc_credentials(self._config)
        try:
            port = (
                self._server.add_secure_port(address, credentials)
                if credentials
                else self._server.add_insecure_port(address)
            )
        except RuntimeError:
            port = 0
        if not port:
            raise ServableError(
                grpc.StatusCode.UNAVAILABLE,
                f"cannot listen on {address}: the port is taken or the address is not this machine's; choose another "
                f"serving.port (0 takes a free one) or serving.host",
            )
        await self._server.start()
        if self._config.rest_port >= 0:
            await self._listen_for_rest()
        return int(port)

    async def _listen_for_rest(self) -> None:
        from dpsr.serving.rest_api import RestApi

        self._rest = RestApi(self.models, self._predictor, self._metrics)
        self.rest_port = await self._rest.listen(self._config, tls.http_context(self._config))

    async def _drain(self, grace: float) -> None:
        # The transport cancels what it has received but not yet handed over, so it is closed last: requests that were
        # on their way when the stop came are still answered, later ones hear UNAVAILABLE, which callers may retry.
        pause = min(_PAUSE_SECONDS, grace)
        await self._health.close()
        await asyncio.sleep(pause)
        await self._predictor.finish(grace)
        await asyncio.sleep(pause)
        if self._rest is not None:
            await self._rest.close()
        await self._server.stop(grace)
        await asyncio.get_running_loop().run_in_executor(None, self._batcher.close)


def _enable_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    from grpc_reflection.v1alpha import reflection

    reflection.enable_server_reflection((*services, reflection.SERVICE_NAME), server)


def served_models(config: ServingConfig, default: ServedModel | None = None) -> list[ServedModel]:
    """What a server of this configuration serves: the models of its model config file, else the default.

    Raises:
        ServableError: the file cannot be used, or there is nothing to serve.
    """
    if config.model_config_file:
        return read_model_config(Path(config.model_config_file))
    if default is None:
        raise ServableError(
            grpc.StatusCode.INVALID_ARGUMENT,
            "no model to serve; name a configuration (-c) or a model config file (serving.model_config_file)",
        )
    return [default]


def serve(models: Sequence[ServedModel], config: ServingConfig) -> None:
    """Serves until SIGTERM or SIGINT, then drains; prints one line when it is ready.

    Raises:
        ServableError: as ``ModelServer.start``.
    """
    log_to_stderr()
    server = ModelServer(models, config)
    asked_to_stop = threading.Event()
    ready = False

    def stop(number: int, _: FrameType | None) -> None:
        if not ready:  # nothing is in flight yet, and loading may take minutes
            raise SystemExit(128 + number)
        asked_to_stop.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        port = server.start()
        ready = True
        loaded = server.models.loaded().items()
        served = ", ".join(f"{name} version {' '.join(map(str, versions))}" for name, versions in loaded)
        if server.rest_port is not None:
            print(f"REST on {config.host}:{server.rest_port}", flush=True)
        print(f"{READY_PREFIX}{served} on {config.host}:{port}", flush=True)
        asked_to_stop.wait()
        logging.getLogger(__name__).info("stopping: waiting for the requests in flight")
        server.stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
