"""Client of TensorFlow Serving's gRPC services: NumPy arrays in and out.

The module imports quickly; the stock stubs, which import TensorFlow, are loaded with the first client.

Example:
    >>> with PredictClient("localhost:8500") as client:
    ...     client.predict("shop", {"query": ["red shoes"]})["item_id"]
    array([[b'1042', b'77', b'8']], dtype=object)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import grpc
import numpy as np

from dpsr.serving.errors import ServingError
from dpsr.serving.tensors import decode, encode, type_name

_UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
_RETRY_SECONDS = 0.1

Headers = Sequence[tuple[str, str]]
"""gRPC metadata of a request: names in lower case, and values."""


class TensorSpec(NamedTuple):
    """Type and shape of an input or output; None as a size or as the shape leaves that size or the rank free."""

    dtype: str
    shape: tuple[int | None, ...] | None


class SignatureSpec(NamedTuple):
    """Inputs and outputs of a signature, by alias."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]


class Metadata(NamedTuple):
    """The version that answered, and its signatures by name."""

    version: int
    signatures: dict[str, SignatureSpec]


class VersionStatus(NamedTuple):
    """State of a version (``AVAILABLE``, ``LOADING``, ...); with the error if it could not be loaded."""

    state: str
    error_code: int
    error_message: str


class Answer(NamedTuple):
    """What a signature answered, and the version that did."""

    version: int
    outputs: dict[str, np.ndarray]
    """As of ``PredictClient.predict``."""


class PredictClient:
    """Calls a model server; thread-safe, and a context manager."""

    def __init__(
        self, target: str, *, timeout: float = 10.0, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        """Creates the channel, which connects at the first call.

        Args:
            target: ``host:port``.
            timeout: default deadline of a call in seconds.
            credentials: of ``grpc.ssl_channel_credentials``, for a server with TLS.
        """
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        self._target = target
        self._timeout = timeout
        self._channel = (
            grpc.secure_channel(target, credentials, options=_UNLIMITED)
            if credentials
            else grpc.insecure_channel(target, options=_UNLIMITED)
        )
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        signature: str = "serving_default",
        version: int | None = None,
        label: str | None = None,
        outputs: Sequence[str] = (),
        timeout: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
            model: the model's name.
            inputs: alias -> array, or nested lists. Arrays keep their type; Python floats become float32, Python ints
                int64, ``str`` and ``bytes`` strings.
            signature: the signature's name.
            version: None for the latest.
            label: the label of a version, instead of its number.
            outputs: aliases to compute; none for all.
            timeout: the deadline in seconds.

        Returns:
            alias -> array; strings are object arrays of ``bytes``.

        Raises:
            ServingError: the server refused the request or failed, or the deadline passed.
            ValueError: an input cannot be sent as a tensor.
        """
        return self.answer(
            model, inputs, signature=signature, version=version, label=label, outputs=outputs, timeout=timeout
        ).outputs

    def answer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        signature: str = "serving_default",
        version: int | None = None,
        label: str | None = None,
        outputs: Sequence[str] = (),
        headers: Headers = (),
        timeout: float | None = None,
    ) -> Answer:
        """Runs a signature as ``predict`` does, and tells the version that answered.

        Args:
            model, inputs, signature, version, label, outputs, timeout: as of ``predict``.
            headers: the request's gRPC metadata, names in lower case.

        Raises:
            ServingError, ValueError: as ``predict``.
        """
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest(output_filter=outputs)
        _fill_spec(request.model_spec, model, version, label)
        request.model_spec.signature_name = signature
        for alias, value in inputs.items():
            try:
                encode(_as_array(value), request.inputs[alias])
            except ValueError as error:
                raise ValueError(f"input {alias}: {error}") from None
        response = self._call(self._predictions.Predict, request, timeout, headers)
        found = {alias: decode(proto) for alias, proto in response.outputs.items()}
        return Answer(response.model_spec.version.value, found)

    def metadata(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        headers: Headers = (),
        timeout: float | None = None,
    ) -> Metadata:
        """The signatures of a model; the arguments are those of ``answer``.

        Raises:
            ServingError: as ``predict``.
        """
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        _fill_spec(request.model_spec, model, version, label)
        response = self._call(self._predictions.GetModelMetadata, request, timeout, headers)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return Metadata(
            response.model_spec.version.value,
            {
                name: SignatureSpec(_tensor_specs(definition.inputs), _tensor_specs(definition.outputs))
                for name, definition in sorted(signatures.signature_def.items())
                if definition.inputs
            },
        )

    def status(
        self, model: str, *, version: int | None = None, headers: Headers = (), timeout: float | None = None
    ) -> dict[int, VersionStatus]:
        """State of every version that the server has seen since its start, newest first; arguments as of ``answer``.

        Raises:
            ServingError: as ``predict``.
        """
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        _fill_spec(request.model_spec, model, version)
        response = self._call(self._models.GetModelStatus, request, timeout, headers)
        states = get_model_status_pb2.ModelVersionStatus.State
        return {
            entry.version: VersionStatus(states.Name(entry.state), entry.status.error_code, entry.status.error_message)
            for entry in response.model_version_status
        }

    def wait_until_ready(self, model: str, timeout: float = 60.0) -> int:
        """Waits until a version is available.

        Returns:
            The version.

        Raises:
            ServingError: DEADLINE_EXCEEDED, with the server's last answer.
        """
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            try:
                states = self.status(model, timeout=max(min(left, self._timeout), 0.01))
                for version, status in states.items():
                    if status.state == "AVAILABLE":
                        return version
                last = ", ".join(f"version {version} is {status.state}" for version, status in states.items())
            except ServingError as error:
                last = str(error)
            if left < _RETRY_SECONDS:
                raise ServingError(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    f"model {model} at {self._target} was not ready within {timeout:g} s; last answer: {last}",
                )
            time.sleep(_RETRY_SECONDS)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the connection."""
        self.close()

    def _call(self, method: Callable[..., Any], request: Any, timeout: float | None, headers: Headers) -> Any:
        try:
            return method(request, timeout=self._timeout if timeout is None else timeout, metadata=tuple(headers))
        except grpc.RpcError as error:
            raise ServingError(error.code(), error.details() or "") from None


def _fill_spec(spec: Any, model: str, version: int | None, label: str | None = None) -> None:
    spec.name = model
    if label is not None:
        spec.version_label = label
    if version is not None:
        spec.version.value = version


def _tensor_specs(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {
        alias: TensorSpec(
            type_name(info.dtype),
            None
            if info.tensor_shape.unknown_rank
            else tuple(dim.size if dim.size >= 0 else None for dim in info.tensor_shape.dim),
        )
        for alias, info in sorted(infos.items())
    }


def _as_array(value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    objects = np.asarray(value, object)
    if any(isinstance(element, str | bytes) for element in objects.flat):
        return objects  # NumPy's own string types drop trailing NUL bytes
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype == np.float64 else array
