"""Models that are loaded when a request asks for them, and leave when others need their memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dpsr.config import FleetConfig
from dpsr.serving.fleet.holdings import Holdings
from dpsr.serving.fleet.placement import Demand, Resident, evict_for, place_one
from dpsr.serving.fleet.state import ProxyReport
from dpsr.serving.fleet.targets import capacities


class OnDemand:
    """Decides which wanted model goes where, and which loaded ones make room."""

    def __init__(self) -> None:
        """Starts with no request waiting."""
        self._assigned: dict[str, str] = {}
        """Model -> server whose memory is being freed for it."""
        self.refused: dict[str, str] = {}
        """Model -> why it cannot be loaded now."""

    def decide(
        self,
        fleet: FleetConfig,
        sizes: Mapping[str, int],
        usable: Iterable[str],
        holdings: Holdings,
        reports: Sequence[ProxyReport],
        now: float,
    ) -> None:
        """Begins loads for requests that wait, the longest wait first, and drains what has to leave for them."""
        wanted: dict[str, float] = {}
        for report in reports:
            for model, since in report.wanted.items():
                wanted[model] = min(since, wanted.get(model, since))
        usable = set(usable)
        self._assigned = {
            model: server for model, server in self._assigned.items() if model in wanted and server in usable
        }
        self.refused = {}
        for model in sorted(wanted, key=lambda name: (wanted[name], name)):
            if model in fleet.models and not holdings.in_state(model, "loading", "ready"):
                self._make_way(model, fleet, sizes, usable, holdings, reports, set(wanted), now)

    def _make_way(
        self,
        model: str,
        fleet: FleetConfig,
        sizes: Mapping[str, int],
        usable: set[str],
        holdings: Holdings,
        reports: Sequence[ProxyReport],
        wanted: set[str],
        now: float,
    ) -> None:
        if model not in sizes:
            self.refused[model] = f"model {model} has no servable at {fleet.models[model].base_path}"
            return
        if draining := [name for name in holdings.in_state(model, "draining") if name in usable]:
            holdings.restore(draining[0], model, now)
            return
        failure = next((holdings.failures[key] for key in holdings.failures if key[0] == model), None)
        if failure is not None and now < failure.retry_at:
            self.refused[model] = f"model {model} cannot be loaded: {failure.reason}"
            return
        room = capacities(fleet, usable)
        used = {server: used_bytes(server, holdings, sizes) for server in usable}
        for other, server in self._assigned.items():
            if other != model:
                used[server] += sizes.get(other, 0)
        demand = Demand(model, sizes[model], 1, fleet.models[model].requests_per_second)
        load = {server: float(len(holdings.on(server))) for server in usable}
        busy = {server for server in usable if holdings.is_loading(server)}
        mine = self._assigned.get(model)
        choice = place_one(demand, [c for c in room if mine in (None, c.name)], used, load, exclude=busy)
        if choice is not None:
            self._assigned.pop(model, None)
            holdings.load(choice, model, now)
            return
        if mine is not None or place_one(demand, room, used, load, exclude=set()) is not None:
            return  # its memory is being freed, or its server loads another model
        last_use = {name: max(report.used.get(name, 0.0) for report in reports) for name in fleet.models}
        best: tuple[float, str, list[str]] | None = None
        for capacity in room:
            residents = [
                Resident(
                    name,
                    sizes.get(name, 0),
                    last_use.get(name, 0.0),
                    pinned=not fleet.models[name].on_demand
                    or holding.state != "ready"
                    or name in wanted
                    or now - holding.since < fleet.control.min_resident_seconds,
                )
                for name, holding in holdings.on(capacity.name).items()
                if name in fleet.models
            ]
            needed = used[capacity.name] + sizes[model] - capacity.bytes
            victims = evict_for(needed, residents)
            if victims:
                rank = max(last_use.get(name, 0.0) for name in victims)
                if best is None or rank < best[0]:
                    best = (rank, capacity.name, list(victims))
        if best is not None:
            _, server, victims = best
            self._assigned[model] = server
            for name in victims:
                holdings.drain(server, name, now)
        elif all(_resident_bytes(c.name, fleet, holdings, sizes) + sizes[model] > c.bytes for c in room):
            self.refused[model] = (
                f"model {model} needs {sizes[model] / 2**30:.2f} GiB, and no server has that much beside its resident "
                "models; add memory or a server"
            )


def used_bytes(server: str, holdings: Holdings, sizes: Mapping[str, int]) -> int:
    """Memory that a server's models take, those that leave included."""
    return sum(sizes.get(model, 0) for model in holdings.on(server))


def _resident_bytes(server: str, fleet: FleetConfig, holdings: Holdings, sizes: Mapping[str, int]) -> int:
    on_demand = {name for name, model in fleet.models.items() if model.on_demand}
    return sum(sizes.get(model, 0) for model in holdings.on(server) if model not in on_demand)
