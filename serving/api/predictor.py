"""One prediction from its message to its answer: what every protocol shares."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

import grpc

from dpsr.config import ServingConfig
from dpsr.serving.engine.batching import MicroBatcher
from dpsr.serving.engine.runtime import Call, Servable
from dpsr.serving.engine.validation import Limits
from dpsr.serving.errors import ServingError
from dpsr.serving.logs import RequestContext, log_request
from dpsr.serving.manager.models import Models
from dpsr.serving.metrics import Metrics, RequestLabels, labels_of


class ModelSpec(NamedTuple):
    """Which servable a request asks for; None for what it leaves open."""

    name: str
    version: int | None = None
    label: str | None = None


class Predictor:
    """Finds the servable, validates, runs, and keeps account; used from one event loop."""

    def __init__(self, models: Models, batcher: MicroBatcher, metrics: Metrics, config: ServingConfig) -> None:
        """Keeps the parts.

        Args:
            models: what is served.
            batcher: runs the predictions.
            metrics: counts them.
            config: what to refuse and what to log.
        """
        self._models = models
        self._batcher = batcher
        self._metrics = metrics
        self._max_in_flight = config.max_in_flight
        self._limits = Limits(config.max_batch_rows, config.max_query_bytes)
        self._log_failures = config.log_requests != "none"
        self._log_all = config.log_requests == "all"
        self._in_flight = 0
        self._stopping = False
        self._idle = asyncio.Event()

    async def predict(
        self, wanted: ModelSpec, prepare: Callable[[Servable, Limits], Call], origin: RequestContext
    ) -> bytes:
        """The rendered answer.

        Args:
            wanted: the servable.
            prepare: validates the request against it.
            origin: who asks, and until when.

        Raises:
            ServingError: the request does not fit, or fails, or there are too many.
        """
        start = time.perf_counter()
        labels, call, code, failure = RequestLabels(), None, grpc.StatusCode.INTERNAL, ""
        self._in_flight += 1
        self._metrics.start()
        try:
            self._admit()
            with self._models.use(*wanted) as servable:
                labels = RequestLabels(servable.name, str(servable.version))
                call = prepare(servable, self._limits)
                labels = labels_of(call)
                answer = await self._batcher.submit(call, origin)
            code = grpc.StatusCode.OK
            return answer
        except ServingError as error:
            code, failure = error.code, error.message
            raise
        except asyncio.CancelledError:
            code, failure = grpc.StatusCode.CANCELLED, "the caller has gone, or its deadline has passed"
            raise
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._leave()
            seconds = time.perf_counter() - start
            self._metrics.finish(labels, code.name, seconds)
            if self._log_all or (failure and self._log_failures):
                log_request(
                    origin,
                    level=logging.WARNING if failure else logging.INFO,
                    seconds=seconds,
                    code=code.name,
                    **labels._asdict(),
                    rows=call.rows if call else None,
                    error=failure,
                )

    async def finish(self, grace: float) -> None:
        """Refuses new predictions, and waits ``grace`` seconds at most for those in flight."""
        self._stopping = True
        if self._in_flight:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), grace)

    def _admit(self) -> None:
        if self._stopping:
            raise ServingError(grpc.StatusCode.UNAVAILABLE, "the server is stopping; ask another one")
        if self._in_flight > self._max_in_flight:
            raise ServingError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._max_in_flight} requests are in flight, as many as serving.max_in_flight allows; try again "
                "later",
            )

    def _leave(self) -> None:
        self._in_flight -= 1
        if self._stopping and not self._in_flight:
            self._idle.set()
