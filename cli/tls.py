"""Options of the commands that ask a model server with TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from dpsr.config import ConfigError

if TYPE_CHECKING:
    import grpc

F = TypeVar("F", bound=Callable[..., Any])


class TlsFiles(NamedTuple):
    """PEM files of a client, for a server with TLS; none of them for one without."""

    ca: str | None = None
    """Certificates of the authorities that are believed."""
    certificate: str | None = None
    """The client's own, for a server that hears known clients alone; with ``key``."""
    key: str | None = None

    def credentials(self) -> grpc.ChannelCredentials | None:
        """What a channel is opened with; None without TLS.

        Raises:
            ConfigError: a certificate without its key, or without an authority; or a file cannot be read, or is not
                what it should be.
        """
        if not any(self):
            return None
        if self.ca is None or (self.certificate is None) != (self.key is None):
            raise ConfigError("--cert and --key go together, and with --ca: the authority that signed the server's")
        try:
            authority, key, certificate = (
                file and Path(file).read_bytes() for file in (self.ca, self.key, self.certificate)
            )
        except OSError as error:
            raise ConfigError(f"{error.filename}: {error.strerror}") from None
        self._check(self.ca)
        import grpc

        return grpc.ssl_channel_credentials(authority, key, certificate)

    def _check(self, ca: str) -> None:
        """Names the fault of a file; gRPC takes any, and no call gets through then."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(ca)
        except ssl.SSLError as error:
            raise ConfigError(f"--ca {ca}: {error}; expected a PEM file of certificates") from None
        if self.certificate is None:
            return
        try:
            context.load_cert_chain(self.certificate, self.key, password="")  # of an encrypted key none is asked for
        except OSError as error:
            raise ConfigError(
                f"--cert {self.certificate} --key {self.key}: {error}; expected PEM files that belong together, the "
                "key without a password"
            ) from None


def with_tls(command: F) -> F:
    """Adds ``--ca``, ``--cert`` and ``--key``, and passes them as ``tls``, a ``TlsFiles``."""

    def collect(ctx: click.Context, _: click.Parameter, ca: str | None) -> TlsFiles:
        return TlsFiles(ca, ctx.params.pop("cert", None), ctx.params.pop("key", None))

    command = click.option(
        "--ca",
        "tls",
        metavar="FILE",
        callback=collect,
        help="PEM file of the authority that signed the server's certificate: use TLS.",
    )(command)
    for name, text in (("cert", "this client's certificate, for a server with mutual TLS"), ("key", "its key")):
        command = click.option(f"--{name}", metavar="FILE", is_eager=True, help=f"PEM file of {text}.")(command)
    return command
