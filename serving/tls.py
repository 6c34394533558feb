"""TLS of both interfaces, mutual with ``tls_client_ca``: then clients need a certificate of that authority."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

import grpc

from dpsr.config import ServingConfig
from dpsr.serving.errors import ServableError


class PemTexts(NamedTuple):
    """Contents of the files of TLS."""

    key: bytes
    certificate: bytes
    client_ca: bytes | None
    """Authority of the clients' certificates; None where clients need none."""


def grpc_credentials(config: ServingConfig) -> grpc.ServerCredentials | None:
    """Credentials of the gRPC port; None without TLS.

    Raises:
        ServableError: a file cannot be read, or is not the certificate or key that it should be.
    """
    files = pem_texts(config)
    if files is None:
        return None
    pair = (files.key, files.certificate)
    if files.client_ca is None:
        return grpc.ssl_server_credentials([pair])
    return grpc.ssl_server_credentials([pair], files.client_ca, require_client_auth=True)


def pem_texts(config: ServingConfig) -> PemTexts | None:
    """Contents of the files; None without TLS.

    Raises:
        ServableError: as ``grpc_credentials``.
    """
    if http_context(config) is None:  # names the fault of a file, which gRPC does not
        return None
    client_ca = None if config.tls_client_ca is None else _read(config.tls_client_ca)
    return PemTexts(_read(config.tls_key), _read(config.tls_certificate), client_ca)


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
