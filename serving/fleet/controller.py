"""The controller: keeps servers and routes as ``fleet.toml`` and the operator's orders want them.

It may die at any moment: all that it knows is in the servers' config files, in the routes, and in what the servers say
of themselves, and the next controller starts from there. Requests do not pass through it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import grpc

from dpsr.config import ConfigError, FleetConfig
from dpsr.config.fleet import FleetProxy
from dpsr.errors import DpsrError
from dpsr.serving.fleet.holdings import Holding, Holdings
from dpsr.serving.fleet.lease import Lease, locked
from dpsr.serving.fleet.on_demand import OnDemand, View
from dpsr.serving.fleet.routing import make_routes
from dpsr.serving.fleet.server_link import ServerLink
from dpsr.serving.fleet.state import Orders, ProxyReport, Routes, read_state, write_state
from dpsr.serving.fleet.status import make_status
from dpsr.serving.fleet.targets import GIB, Sizes, Targets

TICK_SECONDS = 0.1
HEALTH_SECONDS = 0.5
BUSY_FACTOR = 4
"""A server that accepts a connection and does not answer counts as dead after so many times ``control.dead_seconds``: a
load on few cores may keep it that long, and to load its models elsewhere would make a busy fleet busier."""
REPORT_SECONDS = 5.0
"""Age from which a proxy counts as silent."""
FORGET_SECONDS = 60.0
"""Age from which a silent proxy counts as gone, and no model stays where it is for its sake."""
STATUS_SECONDS = 1.0
_POLLED_AT_A_TICK = 4
"""Models of a server in state ready that are asked for at a tick, in turn; those on their way are asked for always."""

_log = logging.getLogger(__name__)


class Controller:
    """Leads a fleet, or waits for the leader's end."""

    def __init__(self, config_file: Path, fleet: FleetConfig, read: Callable[[], FleetConfig]) -> None:
        """Names the fleet; ``run`` leads it.

        Args:
            config_file: ``fleet.toml``, which is followed.
            fleet: what it said at the start.
            read: reads it again, with the overrides of the command line.
        """
        self._file, self._read = config_file, read
        self._fleet = fleet
        self._state = Path(fleet.state_dir)
        self._lease = Lease(self._state / "lease")
        self._links: dict[str, ServerLink] = {}
        self._places: dict[str, tuple[str, Path, FleetProxy]] = {}
        """Server -> address, config file and TLS of its link."""
        self._answered_at: dict[str, float] = {}
        self._is_busy: dict[str, bool] = {}
        """Server -> whether its last health check had no answer in time, rather than a refused connection."""
        self._checked_at = 0.0
        self._holdings = Holdings()
        self._sizes, self._bytes = Sizes(), dict[str, int]()
        self._targets, self._on_demand = Targets(), OnDemand()
        self._routes, self._orders = Routes(), Orders()
        self._reports: dict[str, ProxyReport] = {}
        self._silent: dict[str, ProxyReport] = {}
        """Last reports of proxies whose agent is silent: their HAProxy may still send requests by its last routes."""
        self._written: dict[str, dict[str, str]] = {}
        """Server -> models of its config file, as last written."""
        self._file_stamp: tuple[int, int] | None = None
        self._config_problem = self._error = ""
        self._status_at = 0.0
        self._next_poll: dict[str, int] = {}
        self._leaving: frozenset[str] = frozenset()
        """Servers that the configuration no longer has: their models move to the others."""

    async def run(self, stop: Callable[[], bool]) -> None:
        """Leads until ``stop`` says so.

        Raises:
            FleetError: a state file or a server's config file is damaged at the start.
        """
        while not self._lease.acquire():
            if stop():
                return
            await asyncio.sleep(TICK_SECONDS)
        _log.info("this controller leads the fleet of %s", self._file)
        try:
            self._take_over()
            while not stop():
                try:
                    await self._tick()
                    self._error = ""
                except (DpsrError, OSError) as error:  # a damaged order, a full disk: the next tick tries again
                    if str(error) != self._error:
                        self._error = str(error)
                        _log.error("%s", error)
                await asyncio.sleep(TICK_SECONDS)
        finally:
            for link in self._links.values():
                await link.close()
            self._lease.release()

    def _take_over(self) -> None:
        now = time.time()
        self._routes = read_state(self._state / "routes.json", Routes) or Routes()
        self._follow_config()
        for server, link in self._links.items():
            routed = frozenset(
                model
                for model, endpoints in self._routes.models.items()
                if any(endpoint.server == server and endpoint.state == "ready" for endpoint in endpoints)
            )
            configured = link.read_config(link.config_file)
            self._holdings.adopt(server, configured, routed, now)
            if link.config_file.exists():
                self._written[server] = configured

    async def _tick(self) -> None:
        now = time.time()
        self._follow_config()
        self._orders = read_state(self._state / "orders.json", Orders) or Orders()
        self._read_reports(now)
        await self._observe(now)
        if any(not self._holdings.on(server) for server in self._leaving):
            left = {name: server for name, server in self._fleet.servers.items() if name not in self._leaving}
            self._fleet = self._with_leaving(self._fleet.model_copy(update={"servers": left}))
        alive = self._alive(now)
        for server in self._links:
            if server not in alive:
                self._holdings.forget(server)
        usable = alive - self._orders.drained - self._leaving
        self._targets.update(self._fleet, self._bytes, usable, self._holdings, self._orders)
        self._drain_unwanted(now)
        view = View(self._fleet, self._bytes, frozenset(usable), self._holdings, self._reports, now)
        self._on_demand.decide(view)
        self._load_wanted(alive, view)
        self._write_config_files()
        self._write_routes()
        self._finish_moves()
        self._write_status(alive, view)

    def _follow_config(self) -> None:
        """Reads ``fleet.toml`` again if it has changed, and measures the models."""
        with contextlib.suppress(OSError):
            info = self._file.stat()
            stamp = (info.st_mtime_ns, info.st_size)
            if stamp != self._file_stamp:
                self._file_stamp = stamp
                try:
                    fleet = self._read()
                    if fleet.state_dir != self._fleet.state_dir:
                        raise ConfigError(f"{self._file}: state_dir cannot change while the fleet runs; restart it")
                    self._fleet, self._config_problem = self._with_leaving(fleet), ""
                    _log.info("%s: read; %d models on %d servers", self._file, len(fleet.models), len(fleet.servers))
                except ConfigError as error:
                    self._config_problem = f"not applied, the configuration before stays in force: {error}"
                    _log.error("%s", self._config_problem)
        self._bytes |= self._sizes.measure(self._fleet)
        for name, server in self._fleet.servers.items():
            place = (server.address, self._fleet.config_file(name), self._fleet.proxy)
            if self._places.get(name) != place:
                self._places[name] = place
                self._links[name] = ServerLink(*place[:2], self._credentials())
                self._answered_at[name] = time.time()

    def _with_leaving(self, fleet: FleetConfig) -> FleetConfig:
        """The configuration, and the servers that it no longer has until they are empty."""
        leaving = {
            name: server
            for name, server in self._fleet.servers.items()
            if name not in fleet.servers and self._holdings.on(name)
        }
        self._leaving = frozenset(leaving)
        return fleet.model_copy(update={"servers": {**fleet.servers, **leaving}})

    def _credentials(self) -> grpc.ChannelCredentials | None:
        proxy = self._fleet.proxy
        if proxy.server_ca is None:
            return None
        pair = Path(proxy.server_certificate).read_bytes() if proxy.server_certificate else None
        return grpc.ssl_channel_credentials(Path(proxy.server_ca).read_bytes(), pair, pair)

    def _read_reports(self, now: float) -> None:
        self._reports, self._silent = {}, {}
        for file in sorted((self._state / "proxies").glob("*.json")):
            with contextlib.suppress(DpsrError):  # of another release: it does not count as a proxy
                report = read_state(file, ProxyReport)
                age = now - report.written_at if report is not None else FORGET_SECONDS
                if report is not None and age < FORGET_SECONDS:
                    (self._reports if age < REPORT_SECONDS else self._silent)[file.stem] = report

    async def _observe(self, now: float) -> None:
        """Asks the servers for their health and for their models, all at once."""
        check = now - self._checked_at >= HEALTH_SECONDS
        self._checked_at = now if check else self._checked_at
        await asyncio.gather(*(self._observe_one(server, check, now) for server in self._fleet.servers))

    async def _observe_one(self, server: str, check: bool, now: float) -> None:
        link = self._links[server]
        asked = self._models_to_ask(server)
        healthy, states = await asyncio.gather(link.is_healthy() if check else _nothing(), link.states_of(asked))
        if healthy or any(state is not None for state in states.values()):
            self._answered_at[server] = time.time()
        if check:
            self._is_busy[server] = healthy is None
        self._holdings.advance(
            server,
            states,
            now,
            is_drained=self._is_drained,
            load_seconds=self._fleet.control.load_seconds,
        )

    def _models_to_ask(self, server: str) -> list[str]:
        held = self._holdings.on(server)
        moving = [model for model, holding in held.items() if holding.state in ("loading", "unloading")]
        ready = sorted(model for model, holding in held.items() if holding.state == "ready")
        start = self._next_poll.get(server, 0) % max(len(ready), 1)
        self._next_poll[server] = start + _POLLED_AT_A_TICK
        return moving + (ready + ready)[start : start + min(_POLLED_AT_A_TICK, len(ready))]

    def _is_drained(self, model: str, server: str, holding: Holding) -> bool:
        """Whether every proxy has taken the model's endpoint out, and its requests have ended or had their time."""
        if holding.generation is None:
            return False
        is_late = time.time() - holding.since > self._fleet.control.drain_seconds
        return all(
            report.generation >= holding.generation and (is_late or not report.in_flight.get(model, {}).get(server))
            for report in (*self._reports.values(), *self._silent.values())
        )

    def _alive(self, now: float) -> set[str]:
        return {name for name in self._fleet.servers if self._is_alive(name, now)}

    def _is_alive(self, server: str, now: float) -> bool:
        limit = self._fleet.control.dead_seconds * (BUSY_FACTOR if self._is_busy.get(server) else 1)
        return now - self._answered_at[server] <= limit

    def _drain_unwanted(self, now: float) -> None:
        """Takes models off the servers that shall not hold them, once those that shall hold them do."""
        for server, model, holding in list(self._holdings):
            wanted = self._is_wanted(server, model)
            if holding.state == "draining" and wanted and not self._is_on_demand(model):
                self._holdings.restore(server, model, now)
            elif holding.state in ("ready", "loading") and not wanted and self._others_hold(model):
                self._holdings.drain(server, model, now)

    def _is_on_demand(self, model: str) -> bool:
        return model in self._fleet.models and self._fleet.models[model].on_demand

    def _is_wanted(self, server: str, model: str) -> bool:
        if server in self._orders.drained | self._leaving or server not in self._fleet.servers:
            return False
        return self._is_on_demand(model) or server in self._targets.holders.get(model, ())

    def _others_hold(self, model: str) -> bool:
        if model not in self._fleet.models or self._is_on_demand(model):
            return True
        ready = self._holdings.in_state(model, "ready")
        holders = self._targets.holders.get(model, ())
        return bool(holders) and all(server in ready for server in holders)

    def _load_wanted(self, alive: set[str], view: View) -> None:
        """Begins the next load of every server that has none in progress: what answers nowhere comes first."""
        missing: dict[str, list[tuple[bool, float, str]]] = {}
        for model, servers in self._targets.holders.items():
            answers = bool(self._holdings.in_state(model, "ready"))
            for server in servers:
                if server in alive and model not in self._holdings.on(server):
                    priority = (answers, -self._fleet.models[model].requests_per_second, model)
                    missing.setdefault(server, []).append(priority)
        for server, models in missing.items():
            free = int(self._fleet.servers[server].memory_gib * GIB) - view.used_bytes(server)
            for _, _, model in sorted(models):
                if self._holdings.is_loading(server):
                    break
                if not self._holdings.may_retry(server, model, view.now):
                    continue
                if self._bytes[model] <= free:
                    self._holdings.load(server, model, view.now)
                else:
                    self._on_demand.make_room(server, self._bytes[model], view)
                break  # what comes first waits for its memory: a smaller one that passed it might keep it out for ever

    def _write_config_files(self) -> None:
        for server in self._fleet.servers:
            models = {
                model: self._fleet.models[model].base_path
                for model, holding in self._holdings.on(server).items()
                if holding.state != "unloading" and model in self._fleet.models
            }
            leaving = {
                model: path
                for model, path in self._written.get(server, {}).items()
                if model not in self._fleet.models
                and model in self._holdings.on(server)
                and self._holdings.on(server)[model].state != "unloading"
            }
            if (wanted := models | leaving) != self._written.get(server):
                link = self._links[server]
                link.write_config(link.config_file, wanted)
                self._written[server] = wanted

    def _write_routes(self) -> None:
        routes = make_routes(self._fleet, self._orders, self._holdings, self._on_demand.refused, self._routes)
        if routes != self._routes or not (self._state / "routes.json").exists():
            self._routes = routes
            write_state(self._state / "routes.json", routes)
        for _, _, holding in self._holdings:
            if holding.state == "draining" and holding.generation is None:
                holding.generation = self._routes.generation

    def _finish_moves(self) -> None:
        """Takes orders of moves that are done, or of models that are gone, out of the orders."""

        def is_open(model: str, source: str, target: str) -> bool:
            on_target = self._holdings.on(target).get(model)
            arrived = on_target is not None and on_target.state == "ready"
            return model in self._fleet.models and not (arrived and model not in self._holdings.on(source))

        if all(is_open(move.model, move.source, move.target) for move in self._orders.moves):
            return
        with locked(self._state / "orders.lock"):
            orders = read_state(self._state / "orders.json", Orders) or Orders()
            left = tuple(move for move in orders.moves if is_open(move.model, move.source, move.target))
            write_state(self._state / "orders.json", orders.model_copy(update={"moves": left}))

    def _write_status(self, alive: set[str], view: View) -> None:
        if view.now - self._status_at < STATUS_SECONDS:
            return
        self._status_at = view.now
        status = make_status(
            view,
            alive,
            self._orders.drained | self._leaving,
            self._routes,
            controller=self._lease.holder(),
            problems=(self._config_problem, self._targets.problem, *self._sizes.problems.values()),
        )
        write_state(self._state / "status.json", status)


async def _nothing() -> bool | None:
    return False


def control(config_file: Path, fleet: FleetConfig, read: Callable[[], FleetConfig], stop: Callable[[], bool]) -> None:
    """Runs a controller in this thread until ``stop`` says so.

    Raises:
        FleetError: as ``Controller.run``.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # every server that is down would be a line a second
    asyncio.run(Controller(config_file, fleet, read).run(stop))
