"""The agent beside a HAProxy: keeps it running and in line with the routes, and reports what its requests need."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

from dpsr.config import FleetConfig
from dpsr.errors import DpsrError
from dpsr.serving.fleet.errors import FleetError
from dpsr.serving.fleet.proxy.access_log import AccessLog
from dpsr.serving.fleet.proxy.addresses import resolved
from dpsr.serving.fleet.proxy.alias_metrics import AliasMetrics
from dpsr.serving.fleet.proxy.changes import runtime_changes
from dpsr.serving.fleet.proxy.error_files import error_files
from dpsr.serving.fleet.proxy.haproxy_config import (
    alias_texts,
    map_text,
    model_states,
    needs_reload,
    render,
)
from dpsr.serving.fleet.proxy.process import LONGEST_RUN_DIR, HaProxy
from dpsr.serving.fleet.proxy.usage import down, in_flight, usage
from dpsr.serving.fleet.proxy.waker import Waker
from dpsr.serving.fleet.state import ProxyReport, Routes, read_state, replace_text, write_state

LOOK_SECONDS = 0.05
REPORT_SECONDS = 0.5
RETRY_SECONDS = 0.5
"""Between two readings of routes that are damaged, or that HAProxy refuses."""
REPEAT_SECONDS = 10.0
"""Between two lines in the log of one error that stays."""
USAGE_SECONDS = 1.0
SETTLE_SECONDS = 0.05
"""Time for a request that was routed by the maps before to reach its server, before that server is taken away."""

_log = logging.getLogger(__name__)


class ProxyAgent:
    """Runs HAProxy for a fleet. HAProxy goes on without the agent, and the next agent takes it over."""

    def __init__(self, fleet: FleetConfig, name: str, run_dir: Path) -> None:
        """Prepares an agent; ``run`` starts it.

        Args:
            fleet: addresses, times and TLS; a change of them needs a new agent.
            name: of the proxy, in the fleet's state.
            run_dir: directory of HAProxy's files and sockets, of this agent alone.

        Raises:
            FleetError: HAProxy is missing, too old, or built without what a fleet needs.
        """
        if len(os.fsencode(run_dir)) > LONGEST_RUN_DIR:
            raise FleetError(
                f"{run_dir}: too long for unix sockets in it ({LONGEST_RUN_DIR} bytes); choose a shorter state_dir"
            )
        run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        state = Path(fleet.state_dir)
        self._fleet = fleet
        self._run_dir = run_dir
        self._routes_file = state / "routes.json"
        self._report_file = state / "proxies" / f"{name}.json"
        self._haproxy = HaProxy(run_dir)
        self._metrics = AliasMetrics(run_dir / "metrics.sock")
        self._waker = Waker(run_dir / "wake.sock", fleet.control.wait_seconds)
        self._access_log = AccessLog(run_dir / "log.sock", state / "logs" / f"access_{name}.jsonl", self._metrics.note)
        self._routes = Routes()
        self._description = ""
        """Of the configuration file that was written last, by which a worker with it is known."""
        self._stamp: tuple[int, int, int] | None = None
        self._error = ""
        """The one that was logged last."""
        self._error_at = self._retry_at = 0.0
        self._known: set[tuple[str, str]] = set()
        """Models and servers that the present worker has, in whatever state."""
        self._reported_at = self._used_at = 0.0
        self._used: dict[str, float] = {}
        self._requests: dict[str, int] = {}

    def run(self, stop: threading.Event) -> None:
        """Runs until ``stop``; then HAProxy ends after its requests in flight.

        Raises:
            FleetError: HAProxy does not start, as when a port is taken.
        """
        for name, text in error_files().items():
            replace_text(self._run_dir / name, text)
        self._access_log.start()
        self._metrics.start()
        self._waker.start()
        self._read_routes()
        self._write_files()
        if self._haproxy.is_running():
            self._reload()
            _log.info("took over the HAProxy that was running")
        else:
            self._start()
        try:
            while not stop.wait(LOOK_SECONDS):
                self._look()
        finally:
            self._haproxy.stop()
            self._waker.stop()
            self._report_file.unlink(missing_ok=True)

    def _look(self) -> None:
        try:
            if not self._haproxy.is_running():
                _log.error("HAProxy ended; starting it again")
                self._start()
            self._follow_routes()
            if time.time() - self._reported_at >= REPORT_SECONDS:
                self._report()
        except (DpsrError, OSError) as error:
            self._note_error(error)

    def _follow_routes(self) -> None:
        """Applies routes that have changed; where that fails, those before stay, and a later look tries again."""
        if time.monotonic() < self._retry_at:
            return
        before = self._routes
        try:
            if self._read_routes():
                self._apply(before)
                self._reported_at = 0.0  # the controller waits for it
        except (DpsrError, OSError) as error:
            self._routes = before
            self._stamp = None
            self._retry_at = time.monotonic() + RETRY_SECONDS
            self._note_error(error)

    def _note_error(self, error: Exception) -> None:
        """Logs an error, but the same one not at every look."""
        now = time.monotonic()
        if str(error) != self._error or now - self._error_at >= REPEAT_SECONDS:
            self._error, self._error_at = str(error), now
            _log.error("%s", error)

    def _read_routes(self) -> bool:
        """Reads the routes if their file has changed; True if they have."""
        try:
            info = self._routes_file.stat()
        except FileNotFoundError:
            return False
        stamp = (info.st_ino, info.st_mtime_ns, info.st_size)
        if stamp == self._stamp:
            return False
        routes, unknown = resolved(read_state(self._routes_file, Routes) or Routes())
        self._stamp = stamp
        if unknown:  # a later look asks the DNS again
            self._stamp, self._retry_at = None, time.monotonic() + RETRY_SECONDS
            self._note_error(FleetError("\n".join(unknown.values())))
        changed, self._routes = routes != self._routes, routes
        return changed

    def _apply(self, before: Routes) -> None:
        self._write_files()
        try:
            if needs_reload(before, self._routes):
                self._reload()
                return
            gains, losses = runtime_changes(self._fleet.proxy, self._run_dir, before, self._routes, self._known)
            self._haproxy.api.change(gains)
            if losses:
                time.sleep(SETTLE_SECONDS)
                self._haproxy.api.change(losses)
        except (DpsrError, OSError) as error:
            _log.error("a change by the runtime API failed, HAProxy reads the whole file again: %s", error)
            self._reload()
            return
        self._note_applied()

    def _reload(self) -> None:
        self._haproxy.reload(self._description)
        self._known = set()
        self._note_applied()
        _log.info("HAProxy reloaded with %d models", len(self._routes.models))

    def _start(self) -> None:
        self._haproxy.start(self._description, self._fleet.proxy)
        self._known = set()
        self._note_applied()
        _log.info("HAProxy started with %d models", len(self._routes.models))

    def _note_applied(self) -> None:
        for model, endpoints in self._routes.models.items():
            self._known |= {(model, endpoint.server) for endpoint in endpoints}
        self._waker.applied(self._routes)

    def _write_files(self) -> None:
        """Writes configuration and maps as the routes are now: what a start or a reload reads."""
        self._description = f"routes-{self._routes.generation}-{time.time_ns()}"
        replace_text(self._run_dir / "models.map", map_text(model_states(self._routes)))
        replace_text(self._run_dir / "aliases.map", map_text(alias_texts(self._routes.aliases)))
        text = render(
            self._fleet.proxy,
            self._routes,
            self._run_dir,
            wait_seconds=self._fleet.control.wait_seconds,
            description=self._description,
        )
        replace_text(self._run_dir / "haproxy.cfg", text)

    def _report(self) -> None:
        now = time.time()
        if now - self._used_at >= USAGE_SECONDS:
            self._used_at = now
            self._used, self._requests = usage(self._haproxy.api, now, self._used)
        report = ProxyReport(
            written_at=now,
            generation=self._routes.generation,
            in_flight=in_flight(self._haproxy, self._routes),
            wanted=self._waker.wanted(),
            used=self._used,
            requests=self._requests,
            down=down(self._haproxy.api),
        )
        write_state(self._report_file, report)
        self._reported_at = now
