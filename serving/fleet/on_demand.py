"""Models that are loaded when a request asks for them, and leave when others need their memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dpsr.config import FleetConfig
from dpsr.serving.fleet.eviction import RequestCounts, Resident, evict_for, room_for
from dpsr.serving.fleet.holdings import Holdings
from dpsr.serving.fleet.placement import Capacity, Demand, place_one
from dpsr.serving.fleet.state import ProxyReport
from dpsr.serving.fleet.targets import capacities


@dataclass(frozen=True)
class View:
    """What a decision looks at."""

    fleet: FleetConfig
    sizes: Mapping[str, int]
    """Model -> bytes, of models that have left the configuration too."""
    usable: frozenset[str]
    """Servers that live and are not drained."""
    holdings: Holdings
    reports: Mapping[str, ProxyReport]
    """By proxy."""
    now: float

    def used_bytes(self, server: str) -> int:
        """Memory of a server's models, those that leave included."""
        return sum(self.sizes.get(model, 0) for model in self.holdings.on(server))

    def is_on_demand(self, model: str) -> bool:
        """Whether the configuration has the model, and on demand."""
        return model in self.fleet.models and self.fleet.models[model].on_demand

    def last_use(self, model: str) -> float:
        """Time of the model's last request at any proxy; 0 before the first."""
        return max((report.used.get(model, 0.0) for report in self.reports.values()), default=0.0)

    def wanted(self) -> dict[str, float]:
        """Models for which requests wait -> time since which the first of them does."""
        waits: dict[str, float] = {}
        for report in self.reports.values():
            for model, since in report.wanted.items():
                waits[model] = min(since, waits.get(model, since))
        return {model: since for model, since in waits.items() if self.is_on_demand(model)}


class OnDemand:
    """Decides which wanted model goes where, and which loaded ones make room."""

    def __init__(self) -> None:
        """Starts with no request waiting."""
        self._assigned: dict[str, str] = {}
        """Model -> server on which memory is being freed for it."""
        self.refused: dict[str, str] = {}
        """Model -> why it cannot be loaded now."""
        self._counts = RequestCounts()
        self._counted: dict[tuple[str, str], int] = {}
        """Proxy and model -> requests that are counted already."""

    def decide(self, view: View) -> None:
        """Begins loads for requests that wait, the longest wait first, and drains what has to leave for them."""
        self._count_requests(view)
        wanted = view.wanted()
        self._assigned = {
            model: server for model, server in self._assigned.items() if model in wanted and server in view.usable
        }
        self.refused = {}
        for model in sorted(wanted, key=lambda name: (wanted[name], name)):
            if not view.holdings.in_state(model, "loading", "ready"):
                reason = self._reason_against(model, view)
                if reason:
                    self.refused[model] = reason
                elif not self._begin_load(model, view) and model not in self._assigned:
                    self._make_room_for(model, view, frozenset(wanted))

    def make_room(self, server: str, needed: int, view: View) -> None:
        """Drains on-demand models of a server, for a resident one of ``needed`` bytes."""
        capacity = next(one for one in self._room(view) if one.name == server)
        residents = self._residents(server, view, pinned=(), min_seconds=0.0)
        for victim in evict_for(needed, capacity, residents) or ():
            view.holdings.drain(server, victim, view.now)

    def _count_requests(self, view: View) -> None:
        fresh: dict[str, int] = {}
        for proxy, report in view.reports.items():
            for model, total in report.requests.items():
                if view.is_on_demand(model):
                    before = self._counted.get((proxy, model), 0)
                    fresh[model] = fresh.get(model, 0) + (total - before if total >= before else total)
                    self._counted[proxy, model] = total
        self._counts.add({model: number for model, number in fresh.items() if number})
        self._counts.forget(view.fleet.models)

    def _reason_against(self, model: str, view: View) -> str:
        if model not in view.sizes:
            return f"model {model} has no servable at {view.fleet.models[model].base_path}"
        failures = [failure for (name, _), failure in view.holdings.failures.items() if name == model]
        waiting = [failure for failure in failures if view.now < failure.retry_at]
        if waiting:
            return f"model {model} cannot be loaded: {waiting[-1].reason}"
        room = self._room(view)
        if room and all(self._resident_bytes(one.name, view) + view.sizes[model] > one.bytes for one in room):
            return (
                f"model {model} needs {view.sizes[model] / 2**30:.2f} GiB, and no server has that beside its resident "
                "models; add memory or a server"
            )
        return ""

    def _begin_load(self, model: str, view: View) -> bool:
        """Loads a model where it has room; True if it loads, or shall as soon as a busy server is free."""
        drained = [server for server in view.holdings.in_state(model, "draining") if server in view.usable]
        if drained:  # its requests came back before it left
            view.holdings.restore(drained[0], model, view.now)
            return True
        used = {server: view.used_bytes(server) for server in view.usable}
        for other, holder in self._assigned.items():
            if other != model:
                used[holder] += view.sizes[other]
        mine = self._assigned.get(model)
        room = [capacity for capacity in self._room(view) if mine in (None, capacity.name)]
        busy = {server for server in view.usable if view.holdings.is_loading(server)}
        demand, load = self._demand(model, view), self._load(view)
        server = place_one(demand, room, used, load, busy)
        if server is not None:
            self._assigned.pop(model, None)
            view.holdings.load(server, model, view.now)
            return True
        return place_one(demand, room, used, load) is not None

    def _make_room_for(self, model: str, view: View, wanted: Collection[str]) -> None:
        """Drains the models with the fewest recent requests, on the server where that costs least."""
        minimum = view.fleet.control.min_resident_seconds
        residents = {
            server: self._residents(server, view, pinned=wanted, min_seconds=minimum) for server in view.usable
        }
        for other, server in self._assigned.items():
            residents[server].append(Resident(other, view.sizes[other], pinned=True))
        choice = room_for(self._demand(model, view), self._room(view), residents, self._load(view))
        if choice is not None:
            self._assigned[model], victims = choice
            for victim in victims:
                view.holdings.drain(self._assigned[model], victim, view.now)

    def _residents(self, server: str, view: View, *, pinned: Collection[str], min_seconds: float) -> list[Resident]:
        """What takes memory on a server and is not on its way off it."""
        return [
            Resident(
                model,
                view.sizes.get(model, 0),
                self._counts.count(model),
                view.last_use(model),
                pinned=not view.is_on_demand(model)
                or model in pinned
                or holding.state != "ready"
                or view.now - holding.since < min_seconds,
            )
            for model, holding in view.holdings.on(server).items()
            if holding.state in ("loading", "ready")
        ]

    def _demand(self, model: str, view: View) -> Demand:
        return Demand(model, view.sizes[model], 1, view.fleet.models[model].requests_per_second)

    def _load(self, view: View) -> dict[str, float]:
        return {server: float(len(view.holdings.on(server))) for server in view.usable}

    def _room(self, view: View) -> list[Capacity]:
        return capacities(view.fleet, view.usable)

    def _resident_bytes(self, server: str, view: View) -> int:
        return sum(view.sizes.get(model, 0) for model in view.holdings.on(server) if not view.is_on_demand(model))
