"""The model server: models behind TensorFlow Serving's gRPC services and REST, and ``grpc.health.v1``.

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
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dpsr.config import ServingConfig
from dpsr.serving import READY_PREFIX, tls
from dpsr.serving.api.decoding import Decoder
from dpsr.serving.api.grpc_api import MODEL_SERVICE, PREDICTION_SERVICE, GrpcApi
from dpsr.serving.api.health import Health
from dpsr.serving.api.native_plane import NativePlane, find_transport
from dpsr.serving.api.predictor import Predictor
from dpsr.serving.api.rest_api import RestApi
from dpsr.serving.engine.batching import MicroBatcher, respond
from dpsr.serving.engine.loader import native
from dpsr.serving.errors import ServableError
from dpsr.serving.logs import log_lost, log_request, log_to_stderr
from dpsr.serving.manager.data_plane import PYTHON_ONLY
from dpsr.serving.manager.model_config import ServedModel
from dpsr.serving.manager.models import Models
from dpsr.serving.metrics import Metrics

_log = logging.getLogger(__name__)

_COLLECT_SECONDS = 0.25
"""Pause between two collections of what the native plane has counted, and of its lines for the log."""
_POLL_SECONDS = 0.01
_PAUSE_SECONDS = 0.2
"""Time for requests that were sent before the stop to arrive."""


class ModelServer:
    """Serves models, and follows their directories of versions."""

    def __init__(self, models: Sequence[ServedModel], config: ServingConfig) -> None:
        """Prepares a server; ``start`` starts it.

        Args:
            models: the models to serve.
            config: addresses and limits.
        """
        self._config = config
        cores = len(os.sched_getaffinity(0))
        self._parallel_runs = max(2, cores // config.workers)
        self._in_flight = native().InFlight(config.max_in_flight)
        transport, self._plane_reason = find_transport(config)
        self._plane = NativePlane(transport, config, self._in_flight, self._parallel_runs) if transport else None
        self.models = Models(models, drain_seconds=config.drain_seconds, plane=self._plane or PYTHON_ONLY)
        self.rest_port: int | None = None
        """Port of the REST interface; None before ``start`` and without the interface."""
        self._rest: RestApi | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="server", daemon=True)
        self._collecting: asyncio.Task[None] | None = None
        self._closing: threading.Thread | None = None
        self._stopped = threading.Event()
        self._stop_once = threading.Lock()

    def start(self) -> int:
        """Listens, loads and warms up the models, and then serves; health is NOT_SERVING until then.

        Returns:
            The gRPC port.

        Raises:
            ServableError: a port is taken, or a model cannot be served; the server is stopped.
        """
        self._thread.start()
        try:
            self._run(self._build())
            if self._config.workers > 1:  # a listening worker gets connections at once, so the models come first
                self.models.load_first()
                port = self._run(self._listen())
            else:
                port = self._run(self._listen())
                self.models.load_first()
            gc.collect()
            gc.freeze()  # imported modules and loaded models live as long as the process: no collection walks them
            self._run(self._report(serving=True))
        except BaseException:
            self.stop(grace=0)
            raise
        file = self._config.model_config_file
        self.models.start_polling(Path(file) if file else None, self._config.model_config_poll_seconds)
        return port

    def stop(self, grace: float | None = None) -> None:
        """Refuses new requests, waits for those in flight, and frees the models.

        Args:
            grace: seconds after which requests in flight are cancelled; by default ``serving.drain_seconds``.
        """
        with self._stop_once:
            if self._stopped.is_set():
                return
            if self._thread.is_alive():
                self._run(self._drain(self._config.drain_seconds if grace is None else grace))
                self.models.close()  # cancels runs that outlived the drain
                if self._closing is not None:
                    self._closing.join()
                self._close_threads()
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
            self._loop.close()
            self._stopped.set()

    @property
    def data_plane(self) -> str:
        """Which data plane answers, and why: ``native (...)`` or ``python (...)``."""
        return f"{'python' if self._plane is None else 'native'} ({self._plane_reason})"

    def wait(self) -> None:
        """Returns when the server has been stopped."""
        self._stopped.wait()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _build(self) -> None:
        config = self._config
        self._metrics = Metrics()
        self._decoder = Decoder()
        self._batcher = MicroBatcher(partial(respond, metrics=self._metrics), parallel_runs=self._parallel_runs)
        services = (PREDICTION_SERVICE, MODEL_SERVICE)
        self._health = Health(("", *services))
        await self._report(serving=False)
        # Without workers, a second server on the port is an error.
        reuse_port = int(config.workers > 1 and self._plane is None)
        most_bytes = config.max_message_bytes if self._plane is None else -1  # the native plane has the limit
        self._server = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", reuse_port),
                ("grpc.max_receive_message_length", most_bytes),
                ("grpc.max_send_message_length", -1),
            )
        )
        self._predictor = Predictor(self.models, self._batcher, self._decoder, self._metrics, config, self._in_flight)
        GrpcApi(self.models, self._predictor, config, behind_native_plane=self._plane is not None).add_to(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if config.reflection:
            _enable_reflection(self._server, services)

    async def _listen(self) -> int:
        host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
        address = f"{host}:{self._config.port}"
        try:
            if self._plane is not None:
                self._server.add_insecure_port(self._plane.make_backend_address())
                await self._server.start()
                port = self._plane.start(address, tls.pem_texts(self._config))
            else:
                credentials = tls.grpc_credentials(self._config)
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
                f"serving.port (0 takes a free port) or serving.host",
            )
        if self._plane is None:
            await self._server.start()
        self._collecting = self._loop.create_task(self._collect_regularly())
        if self._config.rest_port >= 0:
            self._rest = RestApi(
                self.models, self._predictor, self._decoder, self._metrics, self._config, before_page=self._collect
            )
            self.rest_port = await self._rest.listen(tls.http_context(self._config))
        return int(port)

    async def _drain(self, grace: float) -> None:
        # The transport drops requests that it has received but not handed over, so it closes last: requests sent before
        # the stop are still answered, later ones get UNAVAILABLE, which clients may retry.
        pause = min(_PAUSE_SECONDS, grace)
        end = self._loop.time() + grace
        await self._health.close()
        self._tell_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        await asyncio.sleep(pause)
        if self._plane is not None:
            self._plane.refuse()
        await self._predictor.finish(grace)
        await asyncio.sleep(pause)
        if self._rest is not None:
            await self._rest.close()
        if self._plane is not None:
            left = max(0.0, end - self._loop.time())
            # Its threads end when their runs do, of which the longest are cancelled after the drain.
            self._closing = threading.Thread(target=self._plane.close, args=(left,), name="close the native plane")
            self._closing.start()
            while self._closing.is_alive() and self._loop.time() < end:
                await asyncio.sleep(_POLL_SECONDS)
        await self._server.stop(max(0.0, end - self._loop.time()))
        if self._collecting is not None:
            self._collecting.cancel()
            self._collect()

    async def _report(self, *, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse
        await self._health.report(serving=serving)
        self._tell_health(status.SERVING if serving else status.NOT_SERVING)

    def _tell_health(self, status: int) -> None:
        if self._plane is not None:
            self._plane.report(dict.fromkeys(self._health.services, status))

    def _collect(self) -> None:
        """Counts and logs what happened outside of the event loop."""
        self._metrics.show_in_flight(self._in_flight.count)
        if self._plane is None:
            return
        self._metrics.add(self._plane.take_figures())
        lines, lost = self._plane.take_lines()
        for line in lines:
            log_request(line)
        if lost:
            log_lost(lost)

    async def _collect_regularly(self) -> None:
        while True:
            await asyncio.sleep(_COLLECT_SECONDS)
            self._collect()

    def _close_threads(self) -> None:
        self._batcher.close()
        self._decoder.close()


def _enable_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    from grpc_reflection.v1alpha import reflection

    reflection.enable_server_reflection((*services, reflection.SERVICE_NAME), server)


def serve(
    models: Sequence[ServedModel],
    config: ServingConfig,
    announce: Callable[[str], object] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains.

    Args:
        models: the models to serve.
        config: addresses and limits.
        announce: called once when the models are loaded, with one or two lines that name the addresses; by default
            they are printed.

    Raises:
        ServableError: as ``ModelServer.start``.
    """
    log_to_stderr()
    server = ModelServer(models, config)
    asked_to_stop = threading.Event()
    ready = False

    def stop(number: int, _: FrameType | None) -> None:
        if not ready:  # loading may take minutes, and no request is in flight
            raise SystemExit(128 + number)
        asked_to_stop.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        _log.info("data plane: %s", server.data_plane)
        port = server.start()
        ready = True
        served = ", ".join(
            f"{model.name} version {' '.join(map(str, model.versions))}" for model in server.models.figures()
        )
        rest = f"REST on {config.host}:{server.rest_port}\n" if server.rest_port is not None else ""
        lines = f"{rest}{READY_PREFIX}{served} on {config.host}:{port}"
        if announce:
            announce(lines)
        else:
            print(lines, flush=True)  # a pipe gets the address now, not at the end
        asked_to_stop.wait()
        _log.info("stopping: requests in flight have %g s to end", config.drain_seconds)
        server.stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
