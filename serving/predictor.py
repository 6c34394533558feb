"""One prediction from its message to its answer: what every protocol shares."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import NamedTuple

import grpc

from dpsr.serving.batching import MicroBatcher
from dpsr.serving.errors import ServingError
from dpsr.serving.models import Models
from dpsr.serving.runtime import Call, Servable


class Wanted(NamedTuple):
    """Which servable a request asks for; None for what it leaves open."""

    name: str
    version: int | None = None
    label: str | None = None


class Predictor:
    """Finds the servable, validates, and runs; used from one event loop."""

    def __init__(self, models: Models, batcher: MicroBatcher, *, max_in_flight: int) -> None:
        """Keeps the parts.

        Args:
            models: what is served.
            batcher: runs the predictions.
            max_in_flight: predictions beyond this many at once are refused.
        """
        self._models = models
        self._batcher = batcher
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._stopping = False
        self._idle = asyncio.Event()

    async def predict(self, wanted: Wanted, prepare: Callable[[Servable], Call]) -> bytes:
        """The rendered answer.

        Args:
            wanted: the servable.
            prepare: validates the request against it.

        Raises:
            ServingError: the request does not fit, or fails, or there are too many.
        """
        if self._stopping:
            raise ServingError(grpc.StatusCode.UNAVAILABLE, "the server is stopping; ask another one")
        if self._in_flight >= self._max_in_flight:
            raise ServingError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._in_flight} requests are in flight, as many as serving.max_in_flight allows; try again later",
            )
        self._in_flight += 1
        try:
            with self._models.use(*wanted) as servable:
                return await self._batcher.submit(prepare(servable))
        finally:
            self._in_flight -= 1
            if self._stopping and not self._in_flight:
                self._idle.set()

    async def finish(self, grace: float) -> None:
        """Refuses new predictions, and waits ``grace`` seconds at most for those in flight."""
        self._stopping = True
        if self._in_flight:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), grace)
