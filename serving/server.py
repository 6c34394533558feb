"""The model server: one model's versions behind TensorFlow Serving's gRPC services and ``grpc.health.v1``.

Example:
    >>> server = ModelServer("shop", "runs/shop/servables/shop", port=0)
    >>> port = server.start()
    >>> server.stop()
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import FrameType
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc

from dpsr.config import ServingConfig
from dpsr.serving.batching import MicroBatcher
from dpsr.serving.errors import ServableError
from dpsr.serving.grpc_api import MODEL_SERVICE, PREDICTION_SERVICE, GrpcApi
from dpsr.serving.health import Health
from dpsr.serving.versions import ModelVersions

DRAIN_SECONDS = 30.0
READY_PREFIX = "ready: "
"""Starts the line that ``serve`` prints when it is ready; the line ends with ``host:port``."""

_PAUSE_SECONDS = 0.2
_CHANNEL_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a silent sharer
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


class ModelServer:
    """Serves the highest version below a directory, and every higher one that appears."""

    def __init__(
        self,
        name: str,
        base_path: str | os.PathLike[str],
        *,
        host: str = "127.0.0.1",
        port: int = 8500,
        max_in_flight: int = 256,
    ) -> None:
        """Prepares a server; ``start`` starts it.

        Args:
            name: the model's name, as clients ask for it.
            base_path: the directory of versions.
            host: the address to listen on.
            port: the gRPC port; 0 takes a free one.
            max_in_flight: predictions beyond this many at once are refused with RESOURCE_EXHAUSTED.
        """
        self._host = host
        self._port = port
        self._max_in_flight = max_in_flight
        self._versions = ModelVersions(name, Path(base_path))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"server of {name}", daemon=True)
        self._stopped = threading.Event()
        self._stop_once = threading.Lock()

    def start(self) -> int:
        """Listens, loads and warms up a version, and then serves; until then the health is NOT_SERVING.

        Returns:
            The gRPC port.

        Raises:
            ServableError: the port is taken, or no version can be served. The server is stopped then.
        """
        self._thread.start()
        try:
            port = self._run(self._listen())
            self._versions.load_first()
            self._run(self._health.report(serving=True))
        except BaseException:
            self.stop(grace=0)
            raise
        self._versions.start_polling()
        return port

    @property
    def version(self) -> int:
        """The version that serves now."""
        with self._versions.use() as servable:
            return servable.version

    def stop(self, grace: float = DRAIN_SECONDS) -> None:
        """Refuses new requests, waits for those in flight, and frees the model.

        Args:
            grace: seconds after which requests in flight are cancelled.
        """
        with self._stop_once:
            if self._stopped.is_set():
                return
            if self._thread.is_alive():
                self._run(self._drain(grace))
                self._versions.close()
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
        self._batcher = MicroBatcher()
        self._health = Health(("", PREDICTION_SERVICE, MODEL_SERVICE))
        await self._health.report(serving=False)
        self._server = grpc.aio.server(options=_CHANNEL_OPTIONS)
        self._api = GrpcApi(self._versions, self._batcher, max_in_flight=self._max_in_flight)
        self._api.add_to(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        host = f"[{self._host}]" if ":" in self._host else self._host
        address = f"{host}:{self._port}"
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError:
            port = 0
        if not port:
            raise ServableError(
                grpc.StatusCode.UNAVAILABLE,
                f"cannot listen on {address}: the port is taken or the address is not this machine's; choose another "
                f"serving.port (0 takes a free one) or serving.host",
            )
        await self._server.start()
        return int(port)

    async def _drain(self, grace: float) -> None:
        # The transport cancels what it has received but not yet handed over, so it is closed last: requests that were
        # on their way when the stop came are still answered, later ones hear UNAVAILABLE, which callers may retry.
        pause = min(_PAUSE_SECONDS, grace)
        await self._health.close()
        await asyncio.sleep(pause)
        await self._api.finish(grace)
        await asyncio.sleep(pause)
        await self._server.stop(grace)
        await asyncio.get_running_loop().run_in_executor(None, self._batcher.close)


def serve(name: str, base_path: str | os.PathLike[str], config: ServingConfig) -> None:
    """Serves a model until SIGTERM or SIGINT, then drains; prints one line when it is ready.

    Raises:
        ServableError: as ``ModelServer.start``.
    """
    server = ModelServer(name, base_path, host=config.host, port=config.port, max_in_flight=config.max_in_flight)
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
        print(f"{READY_PREFIX}{name} version {server.version} on {config.host}:{port}", flush=True)
        asked_to_stop.wait()
        logging.getLogger(__name__).info("stopping: waiting for the requests in flight")
        server.stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
