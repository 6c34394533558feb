"""TLS of both interfaces, mutual with ``tls_client_ca``: then clients need a certificate of that authority."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from dpsr.config import ServingConfig
from dpsr.serving.errors import ServableError


def grpc_credentials(config: ServingConfig) -> grpc.ServerCredentials | None:
    """Credentials of the gRPC port; None without TLS.

    Raises:
        ServableError: a file cannot be read, or is not the certificate or key that it should be.
    """
    context = http_context(config)  # names the fault of a file, which gRPC does not
    if context is None:
        return None
    pair = (_read(config.tls_key), _read(config.tls_certificate))
    if config.tls_client_ca is None:
        return grpc.ssl_server_credentials([pair])
    return grpc.ssl_server_credentials([pair], _read(config.tls_client_ca), require_client_auth=True)


def http_context(config: ServingConfig) -> ssl.SSLContext | None:
    """TLS context of the REST port; None without TLS.

    Raises:
        ServableError: as ``grpc_credentials``.
    """
    if config.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key)
        if config.tls_client_ca is not None:
            context.load_verify_locations(config.tls_client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        files = [file for file in (config.tls_certificate, config.tls_key, config.tls_client_ca) if file]
        raise ServableError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"TLS cannot be set up from {', '.join(files)}: {error}; expected PEM files that belong together",
        ) from None
    return context


def _read(file: str | None) -> bytes:
    assert file is not None
    return Path(file).read_bytes()
