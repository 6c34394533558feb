"""Models that are loaded when a request asks for them, and leave when others need their memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dpsr.config import FleetConfig
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
    reports: Sequence[ProxyReport]
    now: float

    def used_bytes(self, server: str) -> int:
        """Memory of a server's models, those that leave included."""
        return sum(self.sizes.get(model, 0) for model in self.holdings.on(server))

    def is_on_demand(self, model: str) -> bool:
        """Whether the configuration has the model, and on demand."""
        return model in self.fleet.models and self.fleet.models[model].on_demand

    def last_use(self, model: str) -> float:
        """Time of the model's last request at any proxy; 0 before the first."""
        return max((report.used.get(model, 0.0) for report in self.reports), default=0.0)

    def wanted(self) -> dict[str, float]:
        """Models for which requests wait -> time since which the first of them does."""
        waits: dict[str, float] = {}
        for report in self.reports:
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

    def decide(self, view: View) -> None:
        """Begins loads for requests that wait, the longest wait first, and drains what has to leave for them."""
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
        """Drains on-demand models of a server, for a resident one that lacks ``needed`` bytes."""
        for victim in self._victims(server, needed, view, pinned=frozenset(), min_seconds=0.0):
            view.holdings.drain(server, victim, view.now)

    def _reason_against(self, model: str, view: View) -> str:
        if model not in view.sizes:
            return f"model {model} has no servable at {view.fleet.models[model].base_path}"
        failures = [failure for (name, _), failure in view.holdings.failures.items() if name == model]
        waiting = [failure for failure in failures if view.now < failure.retry_at]
        if waiting:
            return f"model {model} cannot be loaded: {waiting[-1].reason}"
        if all(self._resident_bytes(one.name, view) + view.sizes[model] > one.bytes for one in self._room(view)):
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
        load = {server: float(len(view.holdings.on(server))) for server in view.usable}
        mine = self._assigned.get(model)
        room = [capacity for capacity in self._room(view) if mine in (None, capacity.name)]
        demand = Demand(model, view.sizes[model], 1, view.fleet.models[model].requests_per_second)
        busy = {server for server in view.usable if view.holdings.is_loading(server)}
        server = place_one(demand, room, used, load, busy)
        if server is not None:
            self._assigned.pop(model, None)
            view.holdings.load(server, model, view.now)
            return True
        return place_one(demand, room, used, load) is not None

    def _make_room_for(self, model: str, view: View, wanted: frozenset[str]) -> None:
        """Drains the models that were used least recently, on the server where that costs least."""
        choices = []
        for capacity in self._room(view):
            leaving = sum(
                view.sizes.get(name, 0)
                for name, holding in view.holdings.on(capacity.name).items()
                if holding.state in ("draining", "unloading")
            )
            promised = sum(view.sizes[other] for other, server in self._assigned.items() if server == capacity.name)
            needed = view.used_bytes(capacity.name) - leaving + promised + view.sizes[model] - capacity.bytes
            minimum = view.fleet.control.min_resident_seconds
            victims = self._victims(capacity.name, needed, view, pinned=wanted, min_seconds=minimum)
            if victims or needed <= 0:
                choices.append((max(map(view.last_use, victims), default=0.0), capacity.name, victims))
        if choices:
            _, server, victims = min(choices)
            self._assigned[model] = server
            for victim in victims:
                view.holdings.drain(server, victim, view.now)

    def _victims(
        self, server: str, needed: int, view: View, *, pinned: frozenset[str], min_seconds: float
    ) -> list[str]:
        """Models of a server that free ``needed`` bytes, the least recently used first; none if they cannot."""
        candidates = [
            model
            for model, holding in view.holdings.on(server).items()
            if view.is_on_demand(model)
            and model not in pinned
            and holding.state == "ready"
            and view.now - holding.since >= min_seconds
        ]
        victims: list[str] = []
        for model in sorted(candidates, key=lambda name: (view.last_use(name), name)):
            if needed <= 0:
                break
            victims.append(model)
            needed -= view.sizes[model]
        return victims if needed <= 0 else []

    def _room(self, view: View) -> list[Capacity]:
        return capacities(view.fleet, view.usable)

    def _resident_bytes(self, server: str, view: View) -> int:
        return sum(view.sizes.get(model, 0) for model in view.holdings.on(server) if not view.is_on_demand(model))
