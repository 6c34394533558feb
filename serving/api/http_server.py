"""HTTP below the REST interface: every error, malformed HTTP included, has the JSON form and is counted."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
from aiohttp import web

from dpsr.serving.errors import ServableError

CLIENT_CLOSED_REQUEST = 499
"""Status that is counted, and never sent, for a client that disconnected before the answer."""

_CLOSE_SECONDS = 2.0
"""Time for answers on their way to a client when the server closes its connections."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class HttpError(Exception):
    """A request that HTTP itself refuses."""

    def __init__(
        self, status: int, message: str, *, headers: Mapping[str, str] | None = None, close: bool = False
    ) -> None:
        """Keeps the answer.

        Args:
            status: the HTTP status.
            message: the text of the error.
            headers: further headers of the answer.
            close: whether the connection closes, as it has to if a body was not read to its end.
        """
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers
        self.close = close


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """``{"error": message}``."""
    return web.json_response({"error": message}, status=status, headers=headers)


class HttpServer:
    """Listens, and hands requests to a handler; belongs to one event loop."""

    def __init__(
        self,
        handler: Handler,
        count_error: Callable[[int], None],
        *,
        max_body_bytes: int,
        error_headers: Mapping[str, str] | None = None,
    ) -> None:
        """Prepares a server; ``listen`` starts it.

        Args:
            handler: answers a request; it is cancelled when its client disconnects.
            count_error: called with the status of a request that no handler saw, since it was malformed.
            max_body_bytes: size of the largest body that ``web.BaseRequest.read`` returns.
            error_headers: headers of the answers to malformed requests.
        """
        self._handler = handler
        self._count_error = count_error
        self._error_headers = error_headers
        self._max_body_bytes = max_body_bytes
        self._runner: web.ServerRunner | None = None

    async def listen(
        self, host: str, port: int, *, remedy: str, tls: ssl.SSLContext | None = None, reuse_port: bool = False
    ) -> int:
        """Starts to answer.

        Args:
            host: address to listen on.
            port: 0 takes a free port.
            remedy: what the error of an address that cannot be had tells to do.
            tls: None for plain HTTP.
            reuse_port: whether other processes may listen on the port too.

        Returns:
            The port.

        Raises:
            ServableError: the port is taken, or the address is none of this machine.
        """
        connections = _Connections(
            self._handler,
            self._count_error,
            self._error_headers,
            request_factory=self._make_request,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,  # api.http_body decompresses within limits, and names what is wrong
        )
        self._runner = web.ServerRunner(connections, handle_signals=False, shutdown_timeout=_CLOSE_SECONDS)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, ssl_context=tls, reuse_port=reuse_port).start()
        except OSError as error:
            raise ServableError(
                grpc.StatusCode.UNAVAILABLE,
                f"cannot listen on {host}:{port}: {error.strerror}; {remedy}",
            ) from None
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Closes the connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    def _make_request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=self._max_body_bytes)


class _Connections(web.Server):
    """Makes the connections of the server."""

    def __init__(
        self,
        handler: Any,
        count_error: Callable[[int], None],
        error_headers: Mapping[str, str] | None,
        **options: Any,
    ) -> None:
        own = {name: options.pop(name) for name in ("request_factory", "handler_cancellation")}
        super().__init__(handler, **own)
        self._count_error = count_error
        self._error_headers = error_headers
        self._options = options

    def __call__(self) -> web.RequestHandler:
        return _Connection(
            self, self._count_error, self._error_headers, loop=asyncio.get_running_loop(), **self._options
        )


class _Connection(web.RequestHandler):
    """A connection whose malformed requests get an answer in JSON."""

    __slots__ = ("_count_error", "_error_headers")

    def __init__(
        self,
        server: web.Server,
        count_error: Callable[[int], None],
        error_headers: Mapping[str, str] | None,
        **options: Any,
    ) -> None:
        super().__init__(server, **options)
        self._count_error = count_error
        self._error_headers = error_headers

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to a request that could not be parsed, or whose handler failed; the connection closes."""
        if request.writer.output_size > 0:
            raise ConnectionError("the start of another answer was sent already")
        self._count_error(status)
        text = " ".join((message or str(exc)).split()) or "unknown"
        response = error_response(
            status, f"malformed HTTP request: {text}" if status < 500 else text, self._error_headers
        )
        response.force_close()
        return response
