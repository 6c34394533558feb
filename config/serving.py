"""Section ``serving``: the server."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from dpsr.config.section import PathName, Port, Section


class ServingConfig(Section):
    """Where the server listens, what it serves and what it refuses."""

    host: str = "127.0.0.1"
    port: Port = 8500
    """gRPC port; 0 takes a free one."""
    rest_port: Annotated[int, Field(ge=-1, le=65535)] = 8501
    """Port of the REST interface and of the metrics; 0 takes a free one, -1 turns both off."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that share the ports, each with models of its own in memory."""
    max_in_flight: Annotated[int, Field(ge=1)] = 256
    """Requests of one process beyond this many at once are refused with RESOURCE_EXHAUSTED."""
    max_message_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 4 << 20
    """Larger requests are refused before they are read."""
    max_batch_rows: Annotated[int, Field(ge=1)] = 1024
    """Rows of one request."""
    max_query_bytes: Annotated[int, Field(ge=1)] = 4096
    """Bytes of one text in a request, after decoding."""
    log_requests: Literal["none", "failed", "all"] = "failed"
    """Which requests get a line in the log."""
    reflection: bool = False
    """Lets gRPC clients list the services."""
    tls_certificate: PathName | None = None
    """PEM file; both interfaces are encrypted then."""
    tls_key: PathName | None = None
    """PEM file of the certificate's private key."""
    tls_client_ca: PathName | None = None
    """PEM file; only clients with a certificate of this authority are heard then."""
    model_config_file: PathName | None = None
    """A text ``ModelServerConfig`` of TensorFlow Serving: several models, version policies, labels."""
    model_config_poll_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """How often that file is read again; 0 never."""

    @pydantic.model_validator(mode="after")
    def _tls_is_whole(self) -> ServingConfig:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together; give both or none")
        if self.tls_client_ca and not self.tls_certificate:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        return self
