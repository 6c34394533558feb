"""Requests that wait for a model to be loaded: HAProxy asks here, and goes on when the model is routed."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

from dpsr.serving.fleet.state import Routes

_KEPT_SECONDS = 5.0
"""Time for which a model stays wanted after a request that does not wait."""


class Waker:
    """A server on a unix socket, in a thread of its own: a model's name in, ``ready`` or the reason against it out."""

    def __init__(self, path: Path, wait_seconds: float) -> None:
        """Names the socket.

        Args:
            path: the socket.
            wait_seconds: time that a request waits at most.
        """
        self._path = path
        self._wait_seconds = wait_seconds
        self._routes = Routes()
        self._since: dict[str, list[float]] = {}
        """Model -> times since which its requests wait."""
        self._asked: dict[str, float] = {}
        """Model -> time of its last request, where requests do not wait."""
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Condition()
        self._thread = threading.Thread(target=self._run, name="requests that wait", daemon=True)

    def start(self) -> None:
        """Listens."""
        self._path.unlink(missing_ok=True)
        self._thread.start()

    def applied(self, routes: Routes) -> None:
        """Tells the requests that wait which routes the proxy has now."""
        asyncio.run_coroutine_threadsafe(self._apply(routes), self._loop).result()

    def wanted(self) -> dict[str, float]:
        """Models for which requests wait -> time since which the first of them does."""
        now = time.time()
        asked = {model: at for model, at in list(self._asked.items()) if now - at < _KEPT_SECONDS}
        return asked | {model: min(times) for model, times in list(self._since.items()) if times}

    def stop(self) -> None:
        """Ends the server; what waits gets no answer."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        start = asyncio.start_unix_server(self._serve, str(self._path), backlog=1024)
        server = self._loop.run_until_complete(start)
        self._path.chmod(0o600)
        self._loop.run_forever()
        server.close()

    async def _apply(self, routes: Routes) -> None:
        async with self._changed:
            self._routes = routes
            self._changed.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            model = (await reader.readline()).decode().strip()
            writer.write(f"{await self._answer(model)}\n".encode())
            await writer.drain()
        except ConnectionError:
            pass  # the client has given up
        finally:
            writer.close()

    async def _answer(self, model: str) -> str:
        if self._wait_seconds == 0 and not self._decision(model):
            self._asked[model] = time.time()
            return f"model {model} is being loaded; try again"
        times = self._since.setdefault(model, [])
        since = time.time()
        times.append(since)
        try:
            async with asyncio.timeout(self._wait_seconds), self._changed:
                while not (decision := self._decision(model)):
                    await self._changed.wait()
                return decision
        except TimeoutError:
            return f"model {model} was not loaded within {self._wait_seconds:g} s (control.wait_seconds); try again"
        finally:
            times.remove(since)

    def _decision(self, model: str) -> str:
        if any(endpoint.state == "ready" for endpoint in self._routes.models.get(model, ())):
            return "ready"
        return self._routes.refused.get(model, "")
