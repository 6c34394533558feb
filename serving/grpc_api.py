"""TensorFlow Serving's gRPC services: ``PredictionService`` and ``ModelService``, with its codes and texts.

The handlers are generic: they take and give bytes, so that a response is serialised in the thread that ran it and
not in the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from dpsr.serving.batching import MicroBatcher
from dpsr.serving.errors import ServingError
from dpsr.serving.runtime import Servable
from dpsr.serving.versions import ModelVersions

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"

_SIGNATURE_FIELD = "signature_def"

_Request = TypeVar("_Request", bound=Message)
_Handler = Callable[[bytes], Awaitable[bytes]]


class GrpcApi:
    """Answers the calls of both services for one model."""

    def __init__(self, versions: ModelVersions, batcher: MicroBatcher, *, max_in_flight: int) -> None:
        """Keeps the parts.

        Args:
            versions: what is served.
            batcher: runs the predictions.
            max_in_flight: predictions beyond this many at once are refused.
        """
        self._versions = versions
        self._batcher = batcher
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._stopping = False
        self._idle = asyncio.Event()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Registers both services."""
        services: dict[str, dict[str, _Handler]] = {
            PREDICTION_SERVICE: {
                "Predict": self.predict,
                "GetModelMetadata": self.get_model_metadata,
                "Classify": _refuse("Classify: only Predict is implemented; send the signature's inputs as tensors"),
                "Regress": _refuse("Regress: only Predict is implemented; send the signature's inputs as tensors"),
                "MultiInference": _refuse("MultiInference: only Predict is implemented; send one request a signature"),
            },
            MODEL_SERVICE: {
                "GetModelStatus": self.get_model_status,
                "HandleReloadConfigRequest": _refuse(
                    "HandleReloadConfigRequest: this server serves one model; start it again to serve another, or "
                    "publish a new version, which is picked up by itself"
                ),
            },
        }
        for service, handlers in services.items():
            methods = {
                method: grpc.unary_unary_rpc_method_handler(_with_status(handler))
                for method, handler in handlers.items()
            }
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))

    async def predict(self, data: bytes) -> bytes:
        """``PredictionService.Predict``: a serialised ``PredictRequest`` to a serialised ``PredictResponse``."""
        if self._stopping:
            raise ServingError(grpc.StatusCode.UNAVAILABLE, "the server is stopping; ask another one")
        if self._in_flight >= self._max_in_flight:
            raise ServingError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._in_flight} requests are in flight, as many as serving.max_in_flight allows; try again later",
            )
        self._in_flight += 1
        try:
            request = _parse(predict_pb2.PredictRequest, data)
            with self._servable(request) as servable:
                return await self._batcher.submit(servable.prepare(request))
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

    async def get_model_metadata(self, data: bytes) -> bytes:
        """``PredictionService.GetModelMetadata``: the signatures."""
        request = _parse(get_model_metadata_pb2.GetModelMetadataRequest, data)
        _require_model_spec(request)
        if not request.metadata_field:
            raise _invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != _SIGNATURE_FIELD:
                raise _invalid(f"Metadata field %s is not supported{name}")  # the stock text, "%s" and all
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self._servable(request) as servable:
            response.model_spec.name = servable.name
            response.model_spec.version.value = servable.version
            response.metadata[_SIGNATURE_FIELD].Pack(servable.signature_map)
        return response.SerializeToString()

    async def get_model_status(self, data: bytes) -> bytes:
        """``ModelService.GetModelStatus``: the state of every version, or of the one that is asked for."""
        request = _parse(get_model_status_pb2.GetModelStatusRequest, data)
        _require_model_spec(request)
        spec = request.model_spec
        states = self._versions.states() if spec.name == self._versions.name else {}
        if spec.HasField("version"):
            if spec.version.value not in states:
                raise _not_found(f"Could not find version {spec.version.value} of model {spec.name}")
            states = {spec.version.value: states[spec.version.value]}
        if not states:
            raise _not_found(f"Could not find any versions of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, state in states.items():
            status = response.model_version_status.add(version=version, state=state.state)
            status.status.error_code = state.error.code.value[0] if state.error else 0
            status.status.error_message = state.error.message if state.error else ""
        return response.SerializeToString()

    def _servable(self, request: Any) -> AbstractContextManager[Servable]:
        """The servable that a request's ``model_spec`` names."""
        _require_model_spec(request)
        spec = request.model_spec
        if not spec.name:
            raise _invalid("ModelSpec has no name specified.")
        if spec.HasField("version_label"):
            raise _invalid(f"Unrecognized servable version label: {spec.version_label}")
        version = spec.version.value if spec.HasField("version") else None
        if spec.name != self._versions.name:
            wanted = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
            raise _not_found(f"Servable not found for request: {wanted}")
        return self._versions.use(version)


def _with_status(handler: _Handler) -> Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]:
    """A handler whose ``ServingError`` becomes the status of the call."""

    async def answer(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            return await handler(data)
        except ServingError as error:
            await context.abort(error.code, error.message)
            raise

    return answer


def _refuse(message: str) -> _Handler:
    async def refuse(_: bytes) -> NoReturn:
        raise ServingError(grpc.StatusCode.UNIMPLEMENTED, message)

    return refuse


def _parse(kind: type[_Request], data: bytes) -> _Request:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise ServingError(grpc.StatusCode.INTERNAL, f"the message is no {kind.DESCRIPTOR.full_name}") from None


def _require_model_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise _invalid("Missing ModelSpec")


def _invalid(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def _not_found(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.NOT_FOUND, message)
