"""TensorFlow Serving's gRPC services: ``PredictionService`` and ``ModelService``, with its codes and texts.

The handlers are generic: they take and give bytes, so that a response is serialised in the thread that ran it and
not in the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_management_pb2, predict_pb2

from dpsr.serving.api.predictor import ModelSpec, Predictor
from dpsr.serving.engine.runtime import Servable
from dpsr.serving.errors import ServingError
from dpsr.serving.logs import REQUEST_ID_HEADER, RequestContext
from dpsr.serving.manager.model_config import parse_model_config
from dpsr.serving.manager.models import Models

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"

_SIGNATURE_FIELD = "signature_def"

_Request = TypeVar("_Request", bound=Message)
_Handler = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]


class GrpcApi:
    """Answers the calls of both services for all models."""

    def __init__(self, models: Models, predictor: Predictor, *, reloads: bool) -> None:
        """Keeps the parts.

        Args:
            models: what is served.
            predictor: runs the predictions.
            reloads: whether clients may replace the configuration.
        """
        self._reloads = reloads
        self._models = models
        self._predictor = predictor

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

    async def predict(self, data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """``PredictionService.Predict``: a serialised ``PredictRequest`` to a serialised ``PredictResponse``."""
        request = _parse(predict_pb2.PredictRequest, data)
        origin = _origin(context)
        context.set_trailing_metadata(((REQUEST_ID_HEADER, origin.request_id),))
        return await self._predictor.predict(
            _wanted(request), lambda servable, limits: servable.prepare(request, limits=limits), origin
        )

    async def get_model_metadata(self, data: bytes, _: grpc.aio.ServicerContext) -> bytes:
        """``PredictionService.GetModelMetadata``: the signatures."""
        request = _parse(get_model_metadata_pb2.GetModelMetadataRequest, data)
        wanted = _wanted(request)
        if not request.metadata_field:
            raise _invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != _SIGNATURE_FIELD:
                raise _invalid(f"Metadata field %s is not supported{name}")  # the stock text, "%s" and all
        with self._models.use(*wanted) as servable:
            return signature_metadata(servable).SerializeToString()

    async def get_model_status(self, data: bytes, _: grpc.aio.ServicerContext) -> bytes:
        """``ModelService.GetModelStatus``: the state of every version, or of the one that is asked for."""
        request = _parse(get_model_status_pb2.GetModelStatusRequest, data)
        return model_status(self._models, _wanted(request)).SerializeToString()

    async def handle_reload_config(self, data: bytes, _: grpc.aio.ServicerContext) -> bytes:
        """``ModelService.HandleReloadConfigRequest``: the new configuration replaces the old one."""
        request = _parse(model_management_pb2.ReloadConfigRequest, data)
        if request.config.WhichOneof("config") != "model_config_list":
            raise _invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported"
            )
        if not self._reloads:
            raise ServingError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "one worker of several cannot be reloaded alone; change the model config file, which all of them "
                "follow with serving.model_config_poll_seconds",
            )
        models = parse_model_config(request.config)
        await asyncio.get_running_loop().run_in_executor(None, self._models.reload, models)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response.SerializeToString()


def signature_metadata(servable: Servable) -> Any:
    """A ``GetModelMetadataResponse``."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    response.metadata[_SIGNATURE_FIELD].Pack(servable.signature_map)
    return response


def model_status(models: Models, wanted: ModelSpec) -> Any:
    """A ``GetModelStatusResponse``.

    Raises:
        ServingError: the model, the version or the label is unknown.
    """
    name, version, label = wanted
    response = get_model_status_pb2.GetModelStatusResponse()
    for number, state in models.states(name, version if label is None else models.version_of(name, label)).items():
        status = response.model_version_status.add(version=number, state=state.state)
        status.status.error_code = state.error.code.value[0] if state.error else 0
        status.status.error_message = state.error.message if state.error else ""
    return response


def _with_status(handler: _Handler) -> _Handler:
    """A handler whose ``ServingError`` becomes the status of the call."""

    async def answer(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            return await handler(data, context)
        except ServingError as error:
            await context.abort(error.code, error.message)
            raise

    return answer


def _refuse(message: str) -> _Handler:
    async def refuse(_: bytes, __: grpc.aio.ServicerContext) -> NoReturn:
        raise ServingError(grpc.StatusCode.UNIMPLEMENTED, message)

    return refuse


def _origin(context: grpc.aio.ServicerContext) -> RequestContext:
    given = next((value for key, value in context.invocation_metadata() or () if key == REQUEST_ID_HEADER), "")
    left = context.time_remaining()
    return RequestContext(
        "grpc",
        given if isinstance(given, str) else "",
        context.peer,
        None if left is None else time.monotonic() + left,
    )


def _parse(kind: type[_Request], data: bytes) -> _Request:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise ServingError(grpc.StatusCode.INTERNAL, f"the message is no {kind.DESCRIPTOR.full_name}") from None


def _wanted(request: Any) -> ModelSpec:
    """What the ``model_spec`` of a request names."""
    if not request.HasField("model_spec"):
        raise _invalid("Missing ModelSpec")
    spec = request.model_spec
    version = spec.version.value if spec.HasField("version") else None
    label = spec.version_label if spec.HasField("version_label") else None
    return ModelSpec(spec.name, version, label)


def _invalid(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)
