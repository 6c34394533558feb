"""A model server as the controller sees it: its model config file, ``GetModelStatus``, and gRPC health."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import grpc
from google.protobuf import text_format
from grpc_health.v1 import health_pb2

from dpsr.serving.fleet.errors import FleetError
from dpsr.serving.fleet.state import replace_text
from dpsr.serving.fleet.wire import (
    GET_MODEL_STATUS,
    STATES,
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelServerConfig,
)

CALL_SECONDS = 1.0
_HEALTH_CHECK = "/grpc.health.v1.Health/Check"


class ModelState(NamedTuple):
    """What a server says of one model."""

    available: bool
    """Whether a version serves."""
    loaded: bool
    """Whether any version is in memory: loading, serving or leaving."""
    error: str
    """Why its newest version cannot be loaded; empty without an error."""


_ABSENT = ModelState(available=False, loaded=False, error="")


class ServerLink:
    """Speaks to one server; all methods belong to one event loop."""

    def __init__(self, address: str, config_file: Path, credentials: grpc.ChannelCredentials | None = None) -> None:
        """Creates the channel, which connects at the first call.

        Args:
            address: ``HOST:PORT`` of the gRPC port.
            config_file: the text ``ModelServerConfig`` that the server polls.
            credentials: for a server with TLS.
        """
        options = (("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 1000))
        self._channel = (
            grpc.aio.secure_channel(address, credentials, options)
            if credentials
            else grpc.aio.insecure_channel(address, options)
        )
        self.config_file = config_file
        self._get_status = self._channel.unary_unary(
            GET_MODEL_STATUS, GetModelStatusRequest.SerializeToString, GetModelStatusResponse.FromString
        )
        self._check = self._channel.unary_unary(
            _HEALTH_CHECK, health_pb2.HealthCheckRequest.SerializeToString, health_pb2.HealthCheckResponse.FromString
        )

    async def is_healthy(self) -> bool | None:
        """Whether the server says SERVING, or has no health service; None if it does not answer in time: it is busy."""
        try:
            answer = await self._check(health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS)
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                return None
            return error.code() == grpc.StatusCode.UNIMPLEMENTED

    async def state_of(self, model: str) -> ModelState | None:
        """What the server says of a model; None if it does not answer."""
        request = GetModelStatusRequest()
        request.model_spec.name = model
        try:
            answer = await self._get_status(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            return _ABSENT if error.code() == grpc.StatusCode.NOT_FOUND else None
        versions = [(entry.version, STATES.get(entry.state, ""), entry.status) for entry in answer.model_version_status]
        states = {state for _, state, _ in versions}
        _, _, newest = max(versions, key=lambda entry: entry[0], default=(0, "", None))
        error_text = newest.error_message if newest is not None and newest.error_code else ""
        return ModelState("AVAILABLE" in states, bool(states - {"END", ""}), error_text)

    async def states_of(self, models: list[str]) -> dict[str, ModelState | None]:
        """``state_of`` of several models at once."""
        return dict(zip(models, await asyncio.gather(*map(self.state_of, models)), strict=True))

    @staticmethod
    def read_config(file: Path) -> dict[str, str]:
        """Models of a config file -> base paths; none where there is no file.

        Raises:
            FleetError: the file is no text ``ModelServerConfig``.
        """
        try:
            config = text_format.Parse(file.read_text(encoding="utf-8"), ModelServerConfig())
        except FileNotFoundError:
            return {}
        except (text_format.ParseError, UnicodeDecodeError) as error:
            raise FleetError(
                f"{file}: not a text ModelServerConfig of this fleet: {error}; a server of a fleet has a "
                "model config file that only the controller writes: name another file, or remove this one"
            ) from None
        return {entry.name: entry.base_path for entry in config.model_config_list.config}

    @staticmethod
    def write_config(file: Path, models: Mapping[str, str]) -> None:
        """Replaces a config file.

        Args:
            file: the file.
            models: name -> base path.
        """
        config = ModelServerConfig()
        config.model_config_list.SetInParent()
        for name, base_path in sorted(models.items()):
            config.model_config_list.config.add(name=name, base_path=base_path, model_platform="tensorflow")
        replace_text(file, text_format.MessageToString(config))

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()
