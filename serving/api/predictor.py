"""A prediction from the decoded message to the rendered answer, for every protocol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import grpc

from dpsr.config import ServingConfig
from dpsr.serving import refusals
from dpsr.serving.api.decoding import INLINE_BYTES, Decoder
from dpsr.serving.engine.batching import MicroBatcher
from dpsr.serving.engine.loaded_model import Call, LoadedModel
from dpsr.serving.engine.validation import Limits
from dpsr.serving.errors import ServingError
from dpsr.serving.logs import RequestLine, log_request
from dpsr.serving.manager.models import Models
from dpsr.serving.metrics import Metrics, RequestLabels
from dpsr.serving.request_context import RequestContext

if TYPE_CHECKING:
    from dpsr.serving.engine import _session

_POLL_SECONDS = 0.01
"""Pause between two looks at the predictions in flight, which end in threads of other data planes too."""


class ModelSpec(NamedTuple):
    """Model that a request names, by version, by label, or by neither for the highest version."""

    name: str
    version: int | None = None
    label: str | None = None


Prepare = Callable[[LoadedModel, Limits], Call]
"""Decodes and validates a request against a model; raises ``ServingError``."""


class Predictor:
    """Finds the model, validates, runs, counts and logs; belongs to one event loop."""

    def __init__(
        self,
        models: Models,
        batcher: MicroBatcher,
        decoder: Decoder,
        metrics: Metrics,
        config: ServingConfig,
        in_flight: _session.InFlight,
    ) -> None:
        """Takes its collaborators.

        Args:
            models: the models that are served.
            batcher: runs the predictions.
            decoder: decodes large requests.
            metrics: counts the predictions.
            config: limits, and which requests are logged.
            in_flight: counts the predictions of all data planes.
        """
        self._models = models
        self._batcher = batcher
        self._decoder = decoder
        self._metrics = metrics
        self._max_in_flight = config.max_in_flight
        self._limits = Limits(config.max_batch_rows, config.max_query_bytes)
        self._log_failures = config.log_requests != "none"
        self._log_all = config.log_requests == "all"
        self._in_flight = in_flight
        self._stopping = False

    async def predict(self, spec: ModelSpec, prepare: Prepare, context: RequestContext, *, size: int) -> bytes:
        """Answers one request.

        Args:
            spec: the model.
            prepare: decodes and validates the request.
            context: caller and deadline.
            size: bytes of the request; a large one is decoded in a thread.

        Returns:
            The rendered answer.

        Raises:
            ServingError: the request does not fit the model, fails, or exceeds ``max_in_flight``.
        """
        start = time.perf_counter()
        labels, call, code, failure = RequestLabels(), None, grpc.StatusCode.INTERNAL, ""
        admitted = self._in_flight.enter()
        try:
            if self._stopping:
                raise refusals.stopping()
            if not admitted:
                raise refusals.too_many(self._max_in_flight)
            with self._models.use(*spec) as model:
                labels = RequestLabels(model.name, str(model.version))
                if size <= INLINE_BYTES:
                    call = prepare(model, self._limits)
                else:
                    call = await self._decoder.run(lambda: prepare(model, self._limits))
                labels = call.labels
                answer = await self._batcher.submit(call, context)
            code = grpc.StatusCode.OK
            return answer
        except ServingError as error:
            code, failure = error.code, error.message
            raise
        except asyncio.CancelledError:
            gone = refusals.left()
            code, failure = gone.code, gone.message
            raise
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._in_flight.leave()
            seconds = time.perf_counter() - start
            self._metrics.finish(labels, code.name, seconds)
            if self._log_all or (failure and self._log_failures):
                log_request(
                    RequestLine(
                        time.time(),
                        context.request_id,
                        context.protocol,
                        context.peer(),
                        seconds,
                        code,
                        labels,
                        call.rows if call else None,
                        failure,
                    )
                )

    async def finish(self, grace: float) -> None:
        """Refuses new predictions, and waits at most ``grace`` seconds for those in flight."""
        self._stopping = True
        end = time.monotonic() + grace
        while self._in_flight.count and time.monotonic() < end:
            await asyncio.sleep(_POLL_SECONDS)
