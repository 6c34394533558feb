"""TensorFlow Serving's gRPC services: ``PredictionService`` and ``ModelService``, with its codes and texts.

The handlers are generic, bytes to bytes, so that an answer is serialised in the thread of its run and not in the event
loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_management_pb2, predict_pb2

from dpsr.config import ServingConfig
from dpsr.serving.api.descriptions import SIGNATURE_FIELD, model_status, signature_metadata
from dpsr.serving.api.predictor import ModelSpec, Predictor
from dpsr.serving.errors import ServingError
from dpsr.serving.manager.model_config import parse_model_config
from dpsr.serving.manager.models import Models
from dpsr.serving.request_context import REQUEST_ID_HEADER, RequestContext

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
CLIENT_HEADER = "x-dpsr-peer"
"""Header in which the native plane names the address of the client; it lets no client set it."""

_Request = TypeVar("_Request", bound=Message)
_Handler = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]


class GrpcApi:
    """Answers the calls of both services for all models."""

    def __init__(
        self, models: Models, predictor: Predictor, config: ServingConfig, *, behind_native_plane: bool
    ) -> None:
        """Takes its collaborators.

        Args:
            models: the models that are served.
            predictor: runs the predictions.
            config: whether clients may replace the configuration of models.
            behind_native_plane: whether requests come through the native plane, which names the client in a header.
        """
        self._behind_native_plane = behind_native_plane
        self._models = models
        self._predictor = predictor
        self._config = config

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
                "HandleReloadConfigRequest": self.handle_reload_config,
            },
        }
        for service, handlers in services.items():
            methods = {
                method: grpc.unary_unary_rpc_method_handler(_with_status(handler))
                for method, handler in handlers.items()
            }
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))

    async def predict(self, data: bytes, rpc: grpc.aio.ServicerContext) -> bytes:
        """``PredictionService.Predict``: a serialised ``PredictRequest`` to a serialised ``PredictResponse``."""
        request = _parse(predict_pb2.PredictRequest, data)
        context = self._request_context(rpc)
        rpc.set_trailing_metadata(((REQUEST_ID_HEADER, context.request_id),))
        return await self._predictor.predict(
            _model_spec(request), lambda model, limits: model.prepare(request, limits=limits), context, size=len(data)
        )

    def _request_context(self, rpc: grpc.aio.ServicerContext) -> RequestContext:
        headers = dict(reversed(tuple(rpc.invocation_metadata() or ())))  # of several values, the first counts
        given, client = headers.get(REQUEST_ID_HEADER, ""), headers.get(CLIENT_HEADER, "")
        seconds = rpc.time_remaining()
        return RequestContext(
            "grpc",
            given if isinstance(given, str) else "",
            (lambda: str(client)) if self._behind_native_plane else rpc.peer,
            None if seconds is None else time.monotonic() + seconds,
        )

    async def get_model_metadata(self, data: bytes, _: grpc.aio.ServicerContext) -> bytes:
        """``PredictionService.GetModelMetadata``: the signatures."""
        request = _parse(get_model_metadata_pb2.GetModelMetadataRequest, data)
        spec = _model_spec(request)
        if not request.metadata_field:
            raise _invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != SIGNATURE_FIELD:
                raise _invalid(f"Metadata field %s is not supported{name}")  # the stock text, "%s" and all
        with self._models.use(*spec) as model:
            return signature_metadata(model).SerializeToString()

    async def get_model_status(self, data: bytes, _: grpc.aio.ServicerContext) -> bytes:
        """``ModelService.GetModelStatus``: the state of every version, or of the named one."""
        request = _parse(get_model_status_pb2.GetModelStatusRequest, data)
        return model_status(self._models, _model_spec(request)).SerializeToString()

    async def handle_reload_config(self, data: bytes, _: grpc.aio.ServicerContext) -> bytes:
        """``ModelService.HandleReloadConfigRequest``: the new configuration replaces the old one as a whole."""
        if not self._config.allow_reload:
            raise ServingError(
                grpc.StatusCode.PERMISSION_DENIED,
                "HandleReloadConfigRequest is switched off; serving.allow_reload = true lets every client replace the "
                "models. A model config file is followed without it (serving.model_config_poll_seconds)",
            )
        request = _parse(model_management_pb2.ReloadConfigRequest, data)
        if request.config.WhichOneof("config") != "model_config_list":
            raise _invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported"
            )
        if self._config.workers > 1:
            raise ServingError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "a reload would reach one worker of several; change the model config file, which all workers follow "
                "(serving.model_config_poll_seconds)",
            )
        models = parse_model_config(request.config)
        await asyncio.get_running_loop().run_in_executor(None, self._models.reload_for_client, models)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response.SerializeToString()


def _with_status(handler: _Handler) -> _Handler:
    """Handler that turns a ``ServingError`` into the status of the call."""

    async def answer(data: bytes, rpc: grpc.aio.ServicerContext) -> bytes:
        try:
            return await handler(data, rpc)
        except ServingError as error:
            await rpc.abort(error.code, error.message)
            raise

    return answer


def _refuse(message: str) -> _Handler:
    async def refuse(_: bytes, __: grpc.aio.ServicerContext) -> NoReturn:
        raise ServingError(grpc.StatusCode.UNIMPLEMENTED, message)

    return refuse


def _parse(kind: type[_Request], data: bytes) -> _Request:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise ServingError(grpc.StatusCode.INTERNAL, f"the message is not a {kind.DESCRIPTOR.full_name}") from None


def _model_spec(request: Any) -> ModelSpec:
    """``model_spec`` of a request."""
    if not request.HasField("model_spec"):
        raise _invalid("Missing ModelSpec")
    spec = request.model_spec
    version = spec.version.value if spec.HasField("version") else None
    label = spec.version_label if spec.HasField("version_label") else None
    return ModelSpec(spec.name, version, label)


def _invalid(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)
