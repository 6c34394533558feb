"""The page over HTTP: one function from a request to its answer, on the server below the REST interface.

``dpsr.serving.api.http_server`` in place of ``aiohttp.web.Application``: malformed HTTP gets the same headers and the
same form of errors as all else, and a handler is cancelled when its client leaves.
"""

from __future__ import annotations

import logging

from aiohttp import web

from dpsr.config import PageConfig
from dpsr.errors import DpsrError
from dpsr.page.server.answers import NO_STORE, status_of
from dpsr.page.server.calls import MAX_FILE_BYTES, content_type, find_operation, read_call, shortened
from dpsr.page.server.handlers import Handlers
from dpsr.page.server.parts import Parts
from dpsr.page.server.security import SECURITY_HEADERS, Guard
from dpsr.page.server.static_files import StaticFiles
from dpsr.serving.api.decoding import Decoder
from dpsr.serving.api.http_server import HttpError, HttpServer, error_response

_log = logging.getLogger(__name__)
_REMEDY = "choose another page.port (0 takes a free port) or page.host"


class PageServer:
    """The page; belongs to one event loop."""

    def __init__(self, parts: Parts, guard: Guard) -> None:
        """Prepares a server; ``listen`` starts it.

        Args:
            parts: what answers.
            guard: who may ask.
        """
        self._guard = guard
        self._handlers = Handlers(parts)
        self._files = StaticFiles()
        self._decoder = Decoder()
        self._http = HttpServer(
            self._answer,
            lambda status: None,
            max_body_bytes=MAX_FILE_BYTES,
            error_headers={**SECURITY_HEADERS, **NO_STORE},
        )

    async def listen(self, config: PageConfig) -> int:
        """Starts to answer; returns the port.

        Raises:
            ServableError: the port is taken.
        """
        return await self._http.listen(config.host, config.port, remedy=_REMEDY)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.close()
        self._decoder.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            response = await self._routed(request)
        except HttpError as error:
            response = error_response(error.status, shortened(error.message), error.headers)
            if error.close:
                response.force_close()
        except DpsrError as error:
            response = error_response(status_of(error), shortened(str(error)))
        except Exception:
            _log.exception("%s %s failed", request.method, request.rel_url.raw_path[:200])
            response = error_response(500, "the page failed; its log, on standard error, says where")
        response.headers.update(SECURITY_HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    async def _routed(self, request: web.BaseRequest) -> web.Response:
        self._guard.check_origin(request)
        path = request.rel_url.raw_path
        if path == "/api" or path.startswith("/api/"):
            operation, segments = find_operation(request)
            self._guard.check_api(request, content_type(operation))
            call = await read_call(request, operation, segments, self._decoder)
            return await self._handlers.of(operation)(call)
        if request.method not in ("GET", "HEAD"):
            raise HttpError(405, "expected GET or HEAD", headers={"Allow": "GET, HEAD"}, close=True)
        if path == "/" and "token" in request.rel_url.query:
            return self._guard.welcome(request.rel_url.query["token"])
        name = "index.html" if path == "/" else path.removeprefix("/static/")
        found = self._files.answer(name, request) if path == "/" or path.startswith("/static/") else None
        if found is None:
            raise HttpError(404, "no file has this name; the page is at /")
        return found
