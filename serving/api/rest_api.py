"""TensorFlow Serving's REST interface, in the event loop of the gRPC server."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Callable
from typing import Any

import grpc
from aiohttp import web
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2

from dpsr.config import ServingConfig
from dpsr.serving.api import json_tensors
from dpsr.serving.api.decoding import Decoder
from dpsr.serving.api.descriptions import SIGNATURE_FIELD, model_status, signature_metadata
from dpsr.serving.api.http_body import read_body
from dpsr.serving.api.http_server import CLIENT_CLOSED_REQUEST, HttpError, HttpServer, error_response
from dpsr.serving.api.predictor import ModelSpec, Predictor
from dpsr.serving.errors import ServingError
from dpsr.serving.manager.model_config import MAX_VERSION
from dpsr.serving.manager.models import Models
from dpsr.serving.metrics import CONTENT_TYPE, Metrics
from dpsr.serving.request_context import REQUEST_ID_HEADER, RequestContext

_MODEL = r"(?i)/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICT = re.compile(_MODEL + r":(?P<method>predict|classify|regress)")
_DESCRIBE = re.compile(_MODEL + r"(?P<metadata>/metadata)?")
METRICS_PATH = "/monitoring/prometheus/metrics"
_READING = ("GET", "HEAD")

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
"""HTTP status of a gRPC code; 500 for all others."""

_log = logging.getLogger(__name__)


class RestApi:
    """Answers HTTP requests for all models."""

    def __init__(
        self,
        models: Models,
        predictor: Predictor,
        decoder: Decoder,
        metrics: Metrics,
        config: ServingConfig,
        *,
        before_page: Callable[[], None],
    ) -> None:
        """Takes its collaborators.

        Args:
            models: the models that are served.
            predictor: runs the predictions.
            decoder: decompresses bodies.
            metrics: counts the errors of HTTP, and makes the page of metrics.
            config: address and limits.
            before_page: brings the metrics up to date.
        """
        self._before_page = before_page
        self._models = models
        self._predictor = predictor
        self._decoder = decoder
        self._metrics = metrics
        self._config = config
        self._http = HttpServer(self._answer, metrics.http_error, max_body_bytes=config.max_message_bytes)

    async def listen(self, tls: ssl.SSLContext | None) -> int:
        """Starts to answer; returns the port.

        Raises:
            ServableError: the port is taken.
        """
        config = self._config
        return await self._http.listen(
            config.host,
            config.rest_port,
            remedy="choose another serving.rest_port (0 takes a free port, -1 none) or serving.host",
            tls=tls,
            reuse_port=config.workers > 1,
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.close()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        context = RequestContext("rest", request.headers.get(REQUEST_ID_HEADER, ""), lambda: request.remote)
        try:
            response = await self._answer_or_error(request, context)
        except (asyncio.CancelledError, ConnectionError):
            self._metrics.http_error(CLIENT_CLOSED_REQUEST)
            raise
        if response.status >= 400:
            self._metrics.http_error(response.status)
        response.headers[REQUEST_ID_HEADER] = context.request_id
        return response

    async def _answer_or_error(self, request: web.BaseRequest, context: RequestContext) -> web.Response:
        try:
            return await self._dispatch(request, context)
        except ServingError as error:
            return error_response(HTTP_STATUS.get(error.code, 500), error.message)
        except HttpError as error:
            response = error_response(error.status, error.message, error.headers)
            if error.close:
                response.force_close()
            return response
        except ConnectionError:
            raise
        except Exception as error:
            _log.exception("a REST request failed")
            return error_response(500, f"{type(error).__name__}: {error}")

    async def _dispatch(self, request: web.BaseRequest, context: RequestContext) -> web.Response:
        method, path = request.method, request.path
        predict = _PREDICT.fullmatch(path) if method == "POST" else None
        if predict:
            return await self._predict(predict, request, context)
        if path == METRICS_PATH:
            if method not in _READING:
                raise HttpError(405, f"{method} {path}: expected GET", headers={"Allow": ", ".join(_READING)})
            self._before_page()
            page = self._metrics.page(self._models.figures())
            return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE})
        describe = _DESCRIBE.fullmatch(path) if method in _READING else None
        if describe is None:
            if not path.lower().startswith("/v1/"):
                raise HttpError(404, f"Malformed request: {method} {path}")
            raise _invalid(f"Malformed request: {method} {path}")
        spec = _model_spec(describe)
        return web.json_response(self._metadata(spec) if describe["metadata"] else self._status(spec))

    async def _predict(self, match: re.Match[str], request: web.BaseRequest, context: RequestContext) -> web.Response:
        if match["method"].lower() != "predict":
            raise ServingError(
                grpc.StatusCode.UNIMPLEMENTED,
                f"{match['method']}: only predict is implemented; send the signature's inputs as tensors",
            )
        body = await read_body(request, self._config.max_message_bytes, self._decoder)
        answer = await self._predictor.predict(
            _model_spec(match),
            lambda model, limits: json_tensors.prepare(model, body, limits),
            context,
            size=len(body),
        )
        return web.Response(body=answer, content_type="application/json")

    def _status(self, spec: ModelSpec) -> Any:
        return json_format.MessageToDict(
            model_status(self._models, spec),
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )

    def _metadata(self, spec: ModelSpec) -> Any:
        with self._models.use(*spec) as model:
            response = signature_metadata(model)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata[SIGNATURE_FIELD].Unpack(signatures)
        spec_tree, definitions = (
            json_format.MessageToDict(
                message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
            for message in (response.model_spec, signatures)
        )
        return {"model_spec": spec_tree, "metadata": {SIGNATURE_FIELD: definitions}}


def _model_spec(match: re.Match[str]) -> ModelSpec:
    version = int(match["version"][:20]) if match["version"] else None
    if version is not None and version > MAX_VERSION:
        raise _invalid(f"Failed to convert version: {match['version'][:40]} to numeric.")
    return ModelSpec(match["name"], version, match["label"])


def _invalid(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)
