"""Prometheus metrics of aliases, counted from the access log: HAProxy's own know the model, not the alias."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class AliasMetrics:
    """Counters since the agent's start, on a unix socket that HAProxy's metrics port leads to."""

    def __init__(self, socket_file: Path) -> None:
        """Names the socket."""
        self._socket_file = socket_file
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "dpsr_fleet_alias_requests",
            "Requests to an alias, by the variant that got them and the status of the answer.",
            ("alias", "variant", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "dpsr_fleet_alias_request_seconds",
            "Time from the arrival of a request at the proxy to its answer.",
            ("alias", "variant"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._shadows = Counter(
            "dpsr_fleet_shadow_requests",
            "Requests of shadow traffic, by the status of their answer; DROPPED where too many were in flight.",
            ("model", "status"),
            registry=registry,
        )

    def start(self) -> None:
        """Listens, in a thread of its own."""
        self._socket_file.unlink(missing_ok=True)
        threading.Thread(target=lambda: asyncio.run(self._serve()), name="metrics", daemon=True).start()

    def note(self, line: str) -> None:
        """Counts a line of the access log."""
        if '"alias":' not in line and '"protocol":"shadow"' not in line:
            return
        try:
            request = json.loads(line)
            model, status = str(request.get("model", "")), str(request["status"])
            if request["protocol"] == "shadow":
                self._shadows.labels(model, status).inc()
                return
            alias, variant = str(request["alias"]), str(request.get("variant", ""))
            self._requests.labels(alias, variant, status).inc()
            if request["ms"] >= 0:
                self._seconds.labels(alias, variant).observe(request["ms"] / 1000)
            if "shadow" in request:
                self._shadows.labels("", "DROPPED").inc()
        except (ValueError, KeyError, TypeError):
            return  # a line that was cut at its largest length

    async def _serve(self) -> None:
        async def page(_: web.Request) -> web.Response:
            return web.Response(body=generate_latest(self._registry), headers={"content-type": _CONTENT_TYPE})

        application = web.Application()
        application.router.add_get("/aliases", page)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.UnixSite(runner, str(self._socket_file)).start()
        await asyncio.Event().wait()
