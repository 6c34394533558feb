"""Placement: which server holds which model.

Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998) weighted by memory,
with bounded loads (Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads", SODA 2018): a model
goes to the first server of its own ranking that has the memory, and whose load stays within ``balance`` times its share
of all requests, which is in proportion to its memory. The functions are pure and deterministic: equal arguments, in any
order, give equal placements on any machine.

Time grows with replicas x servers where nothing is placed yet, and with missing replicas x servers afterwards; memory
with replicas + servers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dpsr.serving.fleet.errors import FleetError
from dpsr.serving.fleet.packing import Packing

BALANCE = 1.25
"""Bound of a server's load over its share."""
_GIB = float(1 << 30)


@dataclass(frozen=True)
class Demand:
    """What a model asks for."""

    name: str
    bytes: int
    """Memory of one replica."""
    replicas: int
    load: float
    """Requests per second of all replicas together, which share it evenly."""


@dataclass(frozen=True)
class Capacity:
    """What a server offers."""

    name: str
    bytes: int
    """Memory for models."""


class Change(NamedTuple):
    """What happens to one model on the way from one placement to another."""

    model: str
    load: tuple[str, ...]
    """Servers that have to load it."""
    drop: tuple[str, ...]
    """Servers that may unload it, once the others have loaded it."""


@dataclass(frozen=True)
class Placement:
    """Models on servers."""

    holders: dict[str, tuple[str, ...]]
    """Model -> servers, in alphabetical order."""
    bytes: dict[str, int]
    """Server -> memory of its models."""
    load: dict[str, float]
    """Server -> requests per second of its models."""
    relative_load: dict[str, float]
    """Server -> load over its share of all requests, which is by memory; 1 is the mean."""
    hot: tuple[str, ...] = field(default=())
    """Models one replica of which is above the bound on any server. The server that holds it keeps next to nothing else
    and is above the bound still: only more replicas mend that."""

    @property
    def max_over_mean(self) -> float:
        """The highest relative load; 0 without servers."""
        return max(self.relative_load.values(), default=0.0)

    def moves_from(self, current: Mapping[str, Sequence[str]]) -> list[Change]:
        """Differences to what servers hold now, by model; models of ``current`` without a demand are dropped."""
        changes = []
        for model in sorted(self.holders.keys() | current.keys()):
            before, after = set(current.get(model, ())), set(self.holders.get(model, ()))
            if before != after:
                changes.append(Change(model, tuple(sorted(after - before)), tuple(sorted(before - after))))
        return changes


class DoesNotFitError(FleetError):
    """Models that fit nowhere."""

    def __init__(self, message: str, placement: Placement) -> None:
        """Takes the message, and the placement of all other models and replicas."""
        super().__init__(message)
        self.placement = placement
        """Replicas that fit: what a fleet can do until there is more memory."""


def place(
    demands: Sequence[Demand],
    capacities: Sequence[Capacity],
    current: Mapping[str, Sequence[str]] = {},
    *,
    balance: float = BALANCE,
    taken: Mapping[str, int] = {},
) -> Placement:
    """Decides which servers hold each model.

    1. A replica of ``current`` stays where its server is there still and has the memory. Of too many replicas of a
       model those on the most loaded servers go.
    2. Missing replicas are placed, those first that need the largest part of a server. Where memory is fragmented, so
       that a model fits nowhere, smaller ones are moved off one server (a bounded search).
    3. Servers above the bound give replicas to others, to empty ones first, then to the least loaded: the fewest bytes
       per load first. A server with less than half of its share, a new one as a rule, takes replicas from servers above
       theirs until it has 1 / ``balance`` of its own: it relieves the others without a general reshuffle.

    Memory is never exceeded. The bound is kept where these moves reach it: a replica hotter than the bound
    (``Placement.hot``), or memory that leaves no choice, may exceed it.

    Args:
        demands: the models.
        capacities: the servers.
        current: model -> servers that hold it now.
        balance: bound of a server's load over its share; above 1.
        taken: server -> bytes that models not among the demands use.

    Raises:
        DoesNotFitError: for lack of memory or of servers; names every such model. Its ``placement`` has all others.
    """
    demands = sorted(demands, key=lambda demand: demand.name)
    capacities = sorted(capacities, key=lambda capacity: capacity.name)
    packing = _packing(demands, capacities, balance, taken, {})
    _keep_current(packing, demands, capacities, current)
    lacking = _place_missing(packing, demands)
    packing.level()
    placement = _placement(packing, demands, capacities)
    if lacking:
        raise DoesNotFitError(_lacking_text(packing, demands, capacities, lacking), placement)
    return placement


def place_one(
    demand: Demand,
    capacities: Sequence[Capacity],
    used_bytes: Mapping[str, int],
    used_load: Mapping[str, float],
    exclude: Collection[str] = (),
    *,
    balance: float = BALANCE,
) -> str | None:
    """Server for one replica of an on-demand model, by the rule of ``place``.

    Args:
        demand: the model; its load counts divided by its replicas.
        capacities: the servers.
        used_bytes: server -> memory in use.
        used_load: server -> requests per second of what it holds.
        exclude: servers that hold the model already, or shall not.
        balance: bound of a server's load over its share, where a server has the memory within it.

    Returns:
        The server's name; None where no server has the memory free.
    """
    capacities = sorted((one for one in capacities if one.name not in exclude), key=lambda capacity: capacity.name)
    if all(used_bytes.get(one.name, 0) + demand.bytes > one.bytes for one in capacities):
        return None
    server = _packing([demand], capacities, balance, used_bytes, used_load).choose(0)
    return None if server is None else capacities[server].name


def _packing(
    demands: Sequence[Demand],
    capacities: Sequence[Capacity],
    balance: float,
    taken: Mapping[str, int],
    used_load: Mapping[str, float],
) -> Packing:
    used = [used_load.get(capacity.name, 0.0) for capacity in capacities]
    return Packing(
        [demand.name for demand in demands],
        [demand.bytes for demand in demands],
        [demand.load / demand.replicas for demand in demands],
        [capacity.name for capacity in capacities],
        [capacity.bytes for capacity in capacities],
        taken=[taken.get(capacity.name, 0) for capacity in capacities],
        used_load=used,
        total_load=sum(used) + sum(demand.load for demand in demands),
        balance=balance,
    )


def _keep_current(
    packing: Packing, demands: Sequence[Demand], capacities: Sequence[Capacity], current: Mapping[str, Sequence[str]]
) -> None:
    packing.joined[:] = True
    index = {capacity.name: server for server, capacity in enumerate(capacities)}
    for model, demand in enumerate(demands):
        servers = sorted({index[name] for name in current.get(demand.name, ()) if name in index})
        packing.loaded[model] = frozenset(servers)
        for server in servers:
            packing.add(model, server)
            packing.joined[server] = False
    for model, demand in enumerate(demands):
        while len(packing.holders[model]) > demand.replicas:
            packing.remove(model, max(packing.holders[model], key=lambda server: (packing.relative(server), server)))
    packing.shed_overfull()


def _place_missing(packing: Packing, demands: Sequence[Demand]) -> dict[int, int]:
    """Places replicas until every demand has its own; returns model -> replicas that fit nowhere."""
    missing = [model for model, demand in enumerate(demands) if len(packing.holders[model]) < demand.replicas]
    lacking: dict[int, int] = {}
    for model in sorted(missing, key=lambda model: (-packing.largest_part(model), model)):
        while len(packing.holders[model]) < demands[model].replicas:
            server = packing.choose(model)
            server = packing.clear_for(model) if server is None else server
            if server is None:
                lacking[model] = demands[model].replicas - len(packing.holders[model])
                break
            packing.add(model, server)
    return lacking


def _placement(packing: Packing, demands: Sequence[Demand], capacities: Sequence[Capacity]) -> Placement:
    names = [capacity.name for capacity in capacities]
    residents = packing.residents
    return Placement(
        holders={
            demand.name: tuple(names[server] for server in sorted(packing.holders[model]))
            for model, demand in enumerate(demands)
        },
        bytes={name: sum(packing.bytes[model] for model in residents[server]) for server, name in enumerate(names)},
        load={name: float(packing.load[server]) for server, name in enumerate(names)},
        relative_load={name: packing.relative(server) for server, name in enumerate(names)},
        hot=tuple(
            demand.name for model, demand in enumerate(demands) if names and packing.rate[model] > packing.bound.max()
        ),
    )


def _lacking_text(
    packing: Packing, demands: Sequence[Demand], capacities: Sequence[Capacity], lacking: Mapping[int, int]
) -> str:
    lines = []
    for model, missing in sorted(lacking.items()):
        demand = demands[model]
        line = f"models.{demand.name}: {missing} of {demand.replicas} replicas fit nowhere, {_gib(demand.bytes)} each; "
        others = [server for server in range(len(capacities)) if server not in packing.holders[model]]
        if not others:
            line += f"the fleet has {len(capacities)} servers, and a server holds one replica of a model"
        else:
            server = max(others, key=lambda server: (packing.free[server], -server))
            free = max(0, int(packing.free[server]))
            line += (
                f"servers.{capacities[server].name} has most room, {_gib(free)} of {_gib(capacities[server].bytes)}, "
                f"{_gib(demand.bytes - free)} too little"
            )
        lines.append(line)
    remedy = (
        "add memory or servers, ask for fewer replicas, or set on_demand = true for models that can wait for a load"
    )
    return "\n".join([*lines, remedy])


def _gib(count: int) -> str:
    return f"{count / _GIB:,.2f} GiB"
