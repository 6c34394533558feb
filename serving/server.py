"""The model server: the versions of models behind TensorFlow Serving's gRPC services and ``grpc.health.v1``.

Example:
    >>> models = [ServedModel("shop", Path("runs/shop/servables/shop"))]
    >>> server = ModelServer(models, ServingConfig(port=0))
    >>> port = server.start()
    >>> server.stop()
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2_grpc

from dpsr.config import ServingConfig
from dpsr.serving import tls
from dpsr.serving.api.grpc_api import MODEL_SERVICE, PREDICTION_SERVICE, GrpcApi
from dpsr.serving.api.health import Health
from dpsr.serving.api.predictor import Predictor
from dpsr.serving.engine.batching import MicroBatcher, respond
from dpsr.serving.errors import ServableError
from dpsr.serving.logs import log_to_stderr
from dpsr.serving.manager.model_config import ServedModel
from dpsr.serving.manager.models import Models
from dpsr.serving.metrics import Metrics

if TYPE_CHECKING:
    from dpsr.serving.api.rest_api import RestApi

DRAIN_SECONDS = 30.0
READY_PREFIX = "ready: "
"""Starts the line that ``serve`` prints when it is ready; the line ends with ``host:port``."""

_PAUSE_SECONDS = 0.2


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
            self._run(self._build())
            if self._config.workers > 1:  # the kernel sends a worker connections as soon as it listens
                self.models.load_first()
                port = self._run(self._listen())
            else:
                port = self._run(self._listen())
                self.models.load_first()
            gc.collect()
            gc.freeze()  # the modules' objects live as long as the process; collections need not walk them again
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

    async def _build(self) -> None:
        config = self._config
        self._metrics = Metrics()
        cores = len(os.sched_getaffinity(0))
        runs = max(2, cores // config.workers)
        self._batcher = MicroBatcher(partial(respond, metrics=self._metrics), parallel_runs=runs)
        services = (PREDICTION_SERVICE, MODEL_SERVICE)
        self._health = Health(("", *services))
        await self._health.report(serving=False)
        self._server = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", int(config.workers > 1)),  # else a second server on the port is an error
                ("grpc.max_receive_message_length", config.max_message_bytes),
                ("grpc.max_send_message_length", -1),
            )
        )
        self._predictor = Predictor(self.models, self._batcher, self._metrics, config)
        GrpcApi(self.models, self._predictor, reloads=config.workers == 1).add_to(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if config.reflection:
            _enable_reflection(self._server, services)

    async def _listen(self) -> int:
        host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
        address = f"{host}:{self._config.port}"
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
        from dpsr.serving.api.rest_api import RestApi

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


def serve(
    models: Sequence[ServedModel],
    config: ServingConfig,
    announce: Callable[[str], object] = print,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains; announces in one or two lines when it is ready.

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
        rest = f"REST on {config.host}:{server.rest_port}\n" if server.rest_port is not None else ""
        announce(f"{rest}{READY_PREFIX}{served} on {config.host}:{port}")
        sys.stdout.flush()
        asked_to_stop.wait()
        logging.getLogger(__name__).info("stopping: waiting for the requests in flight")
        server.stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
