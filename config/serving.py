"""Section ``serving``: the server."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from dpsr.config.section import PathName, Port, Section


class ServingConfig(Section):
    """Addresses, limits, TLS and model configuration of the server."""

    host: str = "127.0.0.1"
    port: Port = 8500
    """gRPC port; 0 takes a free port."""
    rest_port: Annotated[int, Field(ge=-1, le=65535)] = 8501
    """Port of the REST interface and of the metrics; 0 takes a free port, -1 turns both off."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that share the ports; each holds the models in its own memory."""
    data_plane: Literal["auto", "native", "python"] = "auto"
    """What answers gRPC predictions: C++ from the socket to the session (``native``), where it is built, or Python."""
    max_in_flight: Annotated[int, Field(ge=1)] = 256
    """Predictions in flight per process; further ones are refused with RESOURCE_EXHAUSTED."""
    drain_seconds: Annotated[float, Field(gt=0.0, le=86400.0)] = 30.0
    """Seconds that calls have to end when their version is retired or the server stops; the rest is cancelled."""
    max_message_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 4 << 20
    """Bytes of one request; of a compressed HTTP body also after decompression."""
    max_batch_rows: Annotated[int, Field(ge=1)] = 1024
    """Rows of one request."""
    max_query_bytes: Annotated[int, Field(ge=1)] = 4096
    """Bytes of one text in a request, after decoding."""
    log_requests: Literal["none", "failed", "all"] = "failed"
    """Requests that get a line in the log."""
    reflection: bool = False
    """Whether gRPC clients may list the services."""
    tls_certificate: PathName | None = None
    """PEM file of the server's certificate; turns TLS on for both interfaces."""
    tls_key: PathName | None = None
    """PEM file of the certificate's private key."""
    tls_client_ca: PathName | None = None
    """PEM file of an authority; turns mutual TLS on: only clients with a certificate of it are accepted."""
    model_config_file: PathName | None = None
    """Text ``ModelServerConfig`` of TensorFlow Serving: several models, version policies, labels."""
    model_config_poll_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """Interval in seconds at which the model config file is read again; 0 never."""
    allow_reload: bool = False
    """Whether any client may replace the models by ``HandleReloadConfigRequest``."""

    @pydantic.model_validator(mode="after")
    def _tls_is_whole(self) -> ServingConfig:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together; give both or none")
        if self.tls_client_ca and not self.tls_certificate:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        return self
