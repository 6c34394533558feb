"""``grpc.health.v1.Health`` whose ``Watch`` calls end at a shutdown."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

_LAST_STATUS_SECONDS = 0.1
"""Time for the final NOT_SERVING to reach the watchers."""


class Health(health_aio.HealthServicer):
    """Stock servicer, except that a ``Watch`` ends when the server stops and not when its client likes."""

    def __init__(self, services: tuple[str, ...]) -> None:
        """Names the services.

        Args:
            services: their names; ``""`` is the server as a whole.
        """
        super().__init__()
        self.services = services
        self._closing = asyncio.Event()

    async def report(self, *, serving: bool) -> None:
        """Sets the status of every service."""
        status = health_pb2.HealthCheckResponse
        for service in self.services:
            await self.set(service, status.SERVING if serving else status.NOT_SERVING)

    async def close(self) -> None:
        """Reports every service as NOT_SERVING, for good, and ends the watches."""
        await self.enter_graceful_shutdown()
        self._closing.set()

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> None:
        """Sends the status now and whenever it changes, until the server stops."""
        watch = asyncio.ensure_future(super().Watch(request, context))
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({watch, closing}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({watch}, timeout=_LAST_STATUS_SECONDS)
        finally:
            watch.cancel()
            closing.cancel()
