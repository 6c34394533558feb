"""Which server shall hold which resident model: placement, kept until something that it depends on changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from dpsr.config import FleetConfig
from dpsr.errors import DpsrError
from dpsr.serving.fleet.holdings import Holdings
from dpsr.serving.fleet.placement import Capacity, Demand, DoesNotFitError, place
from dpsr.serving.fleet.sizes import model_bytes
from dpsr.serving.fleet.state import Orders

GIB = 1 << 30


class Sizes:
    """Memory of every model, in bytes; measured again when its directory changes."""

    def __init__(self) -> None:
        """Starts with no model measured."""
        self._measured: dict[str, tuple[str, int, int]] = {}
        self.problems: dict[str, str] = {}
        """Model -> why it cannot be served: its base path holds no servable."""

    def measure(self, fleet: FleetConfig) -> dict[str, int]:
        """Model -> bytes; models that cannot be served are missing, and stand in ``problems``."""
        sizes: dict[str, int] = {}
        self.problems = {}
        for name in fleet.models:
            try:
                sizes[name] = self._measure(name, fleet)
            except (DpsrError, OSError) as error:
                self.problems[name] = f"models.{name}: {error}"
        return sizes

    def _measure(self, name: str, fleet: FleetConfig) -> int:
        model = fleet.models[name]
        path = Path(model.base_path)
        changed_at = path.stat().st_mtime_ns if path.exists() else -1
        kept = self._measured.get(name)
        if kept is None or kept[:2] != (model.base_path, changed_at):
            kept = self._measured[name] = (model.base_path, changed_at, model_bytes(path))
        return kept[2] if model.memory_gib is None else int(model.memory_gib * GIB)


def resident_demands(fleet: FleetConfig, sizes: Mapping[str, int]) -> list[Demand]:
    """Demands of the models that are always loaded."""
    return [
        Demand(name, sizes[name], model.replicas, model.requests_per_second)
        for name, model in sorted(fleet.models.items())
        if not model.on_demand and name in sizes
    ]


def capacities(fleet: FleetConfig, servers: Iterable[str]) -> list[Capacity]:
    """Memory of the named servers."""
    return [Capacity(name, int(fleet.servers[name].memory_gib * GIB)) for name in sorted(servers)]


class Targets:
    """Server -> models that it shall hold."""

    def __init__(self) -> None:
        """Starts with nothing placed."""
        self._key: object = None
        self.holders: dict[str, tuple[str, ...]] = {}
        """Resident model -> servers."""
        self.problem = ""
        """Why not every model has all its replicas; empty if they have."""

    def update(
        self,
        fleet: FleetConfig,
        sizes: Mapping[str, int],
        usable: Iterable[str],
        holdings: Holdings,
        orders: Orders,
    ) -> None:
        """Places the models anew if models, sizes, servers or orders have changed.

        Args:
            fleet: the configuration.
            sizes: model -> bytes.
            usable: servers that live and are not drained.
            holdings: what the servers hold, which stays where it is as far as it can.
            orders: the operator's moves.
        """
        demands, room = resident_demands(fleet, sizes), capacities(fleet, usable)
        key = (tuple(demands), tuple(room), orders.moves)
        if key == self._key:
            return
        current = {demand.name: holdings.in_state(demand.name, "loading", "ready") for demand in demands}
        try:
            placement, self.problem = place(demands, room, current), ""
        except DoesNotFitError as error:
            placement, self.problem = error.placement, str(error)
        self.holders = dict(placement.holders)
        for move in orders.moves:
            held = self.holders.get(move.model, ())
            if move.source in held and move.target not in held and move.target in {server.name for server in room}:
                self.holders[move.model] = tuple(move.target if name == move.source else name for name in held)
        self._key = key
