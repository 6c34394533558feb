"""TensorFlow Serving's REST interface, in the event loop of the gRPC server."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from typing import Any

import grpc
from aiohttp import web
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2

from dpsr.config import ServingConfig
from dpsr.serving.api import json_tensors
from dpsr.serving.api.grpc_api import model_status, signature_metadata
from dpsr.serving.api.predictor import ModelSpec, Predictor
from dpsr.serving.errors import ServableError, ServingError
from dpsr.serving.logs import REQUEST_ID_HEADER, RequestContext
from dpsr.serving.manager.models import Models
from dpsr.serving.metrics import CONTENT_TYPE, Metrics

_MODEL = r"(?i)/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICT = re.compile(_MODEL + r":(?P<method>predict|classify|regress)")
_DESCRIBE = re.compile(_MODEL + r"(?P<metadata>/metadata)?")
METRICS_PATH = "/monitoring/prometheus/metrics"
_MAX_VERSION = 2**63 - 1
_BODY_SECONDS = 30.0
"""A body has to arrive within this time."""

_CLOSE_SECONDS = 2.0
"""For what is still on its way to a client when the predictions have ended."""

HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""Every other code is 500."""

_log = logging.getLogger(__name__)


class RestApi:
    """Answers HTTP requests for all models."""

    def __init__(self, models: Models, predictor: Predictor, metrics: Metrics) -> None:
        """Keeps the parts.

        Args:
            models: what is served.
            predictor: runs the predictions.
            metrics: what to show of them.
        """
        self._metrics = metrics
        self._models = models
        self._predictor = predictor
        self._runner: web.AppRunner | None = None

    async def listen(self, config: ServingConfig, tls: ssl.SSLContext | None) -> int:
        """Starts to answer.

        Returns:
            The port.

        Raises:
            ServableError: the port is taken.
        """
        application = web.Application(client_max_size=config.max_message_bytes)
        application.router.add_route("*", "/{path:.*}", self._answer)
        # A handler whose client has gone is cancelled, and with it the prediction that nobody waits for.
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=_CLOSE_SECONDS,
        )
        await self._runner.setup()
        try:
            site = web.TCPSite(
                self._runner, config.host, config.rest_port, ssl_context=tls, reuse_port=config.workers > 1
            )
            await site.start()
        except OSError as error:
            raise ServableError(
                grpc.StatusCode.UNAVAILABLE,
                f"cannot listen on {config.host}:{config.rest_port}: {error.strerror}; choose another "
                "serving.rest_port (0 takes a free one, -1 none) or serving.host",
            ) from None
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Closes the connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        origin = RequestContext("rest", request.headers.get(REQUEST_ID_HEADER, ""), lambda: request.remote)
        response = await self._answer_or_error(request, origin)
        response.headers[REQUEST_ID_HEADER] = origin.request_id
        return response

    async def _answer_or_error(self, request: web.Request, origin: RequestContext) -> web.Response:
        try:
            return await self._dispatch(request, origin)
        except ServingError as error:
            return _error(HTTP_STATUS.get(error.code, 500), error.message)
        except web.HTTPRequestEntityTooLarge as error:
            return _error(413, f"{error.text}; serving.max_message_bytes limits the body")
        except Exception as error:
            _log.exception("a REST request failed")
            return _error(500, f"{type(error).__name__}: {error}")

    async def _dispatch(self, request: web.Request, origin: RequestContext) -> web.Response:
        path = request.path
        predict = _PREDICT.fullmatch(path) if request.method == "POST" else None
        if predict:
            return await self._predict(predict, request, origin)
        if path == METRICS_PATH and request.method == "GET":
            page = self._metrics.page(self._models)
            return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE})
        describe = _DESCRIBE.fullmatch(path) if request.method in ("GET", "HEAD") else None
        if describe is None:
            if not path.lower().startswith("/v1/"):
                return _error(404, f"Malformed request: {request.method} {path}")
            raise _invalid(f"Malformed request: {request.method} {path}")
        wanted = _wanted(describe)
        return _json(self._metadata(wanted) if describe["metadata"] else self._status(wanted))

    async def _predict(self, match: re.Match[str], request: web.Request, origin: RequestContext) -> web.Response:
        if match["method"].lower() != "predict":
            raise ServingError(
                grpc.StatusCode.UNIMPLEMENTED,
                f"{match['method']}: only predict is implemented; send the signature's inputs as tensors",
            )
        try:
            body = await asyncio.wait_for(request.read(), _BODY_SECONDS)
        except TimeoutError:
            return _error(408, f"the body did not arrive within {_BODY_SECONDS:g} s")
        answer = await self._predictor.predict(
            _wanted(match), lambda servable, limits: json_tensors.prepare(servable, body, limits), origin
        )
        return web.Response(body=answer, content_type="application/json")

    def _status(self, wanted: ModelSpec) -> Any:
        return json_format.MessageToDict(
            model_status(self._models, wanted),
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )

    def _metadata(self, wanted: ModelSpec) -> Any:
        with self._models.use(*wanted) as servable:
            response = signature_metadata(servable)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        spec, definitions = (
            json_format.MessageToDict(
                message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
            for message in (response.model_spec, signatures)
        )
        return {"model_spec": spec, "metadata": {"signature_def": definitions}}


def _wanted(match: re.Match[str]) -> ModelSpec:
    version = int(match["version"][:20]) if match["version"] else None
    if version is not None and version > _MAX_VERSION:
        raise _invalid(f"Failed to convert version: {match['version'][:40]} to numeric.")
    return ModelSpec(match["name"], version, match["label"])


def _json(tree: Any) -> web.Response:
    return web.json_response(tree)


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


def _invalid(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)
