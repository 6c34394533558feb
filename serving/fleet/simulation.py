"""Simulation of a fleet: what placement moves, how even it is, and how long repairs take, at any size and seed."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dpsr.serving.fleet.errors import FleetError
from dpsr.serving.fleet.eviction import RequestCounts, Resident, room_for
from dpsr.serving.fleet.placement import Capacity, Demand, Placement, place

MIN_SERVERS = 10
MEMORY_IN_USE = 0.7
"""Part of the fleet's memory that the models take at the start: the rest takes in a lost server's models."""
_MEDIAN_BYTES, _SIGMA = 1 << 30, 0.8
"""Of the log-normal sizes of models."""
_REQUESTS_PER_SECOND = 100_000.0
_ZIPF = 1.0
"""Exponent: the model of rank r has traffic in proportion to r ** -1."""
_REPLICA_LOAD = 0.5
"""Load that a replica has at most, in mean loads of a server: hotter models have more replicas, as no placement can
divide a replica."""
_GIB = float(1 << 30)


@dataclass(frozen=True)
class Event:
    """What an event made of the fleet."""

    name: str
    replicas_loaded: int
    bytes_loaded: int
    bytes_needed: int | None
    """What had to be loaded in any case: replicas of lost servers, of new models. None where nothing had to."""
    max_over_mean: float
    """Highest load of a server over its share, afterwards."""
    min_over_mean: float
    repair_seconds: float
    """Until the last server has loaded its replicas, one at a time each."""
    placement_seconds: float = field(compare=False)
    """Processor time of the decision."""

    @property
    def loaded_over_needed(self) -> float | None:
        """Bytes loaded over what had to be loaded in any case."""
        return self.bytes_loaded / self.bytes_needed if self.bytes_needed else None


@dataclass(frozen=True)
class OnDemand:
    """Hits of on-demand models: requests that find their model loaded."""

    models: int
    room: int
    """Models that fit at a time, all of one size: Belady's optimum is exact then."""
    servers: int
    requests: int
    hit_ratio: float
    lru_hit_ratio: float
    """Of the least recently used policy in the same fleet."""
    optimal_hit_ratio: float
    """Of Belady's optimum, which knows the future, and has one server of all the memory."""

    @property
    def over_optimal(self) -> float:
        """Hit ratio over the optimum's."""
        return self.hit_ratio / self.optimal_hit_ratio


@dataclass(frozen=True)
class Simulation:
    """A simulated fleet and its events, one after the other."""

    servers: int
    models: int
    replicas: int
    seed: int
    bytes_used: int
    bytes_available: int
    load_gib_per_second: float
    events: tuple[Event, ...]
    on_demand: OnDemand


def simulate(
    *, servers: int = 1_000, models: int = 10_000, load_gib_per_second: float = 0.5, seed: int = 0
) -> Simulation:
    """Places models on servers, and lets servers be lost and join, models be added, and traffic shift.

    Sizes are log-normal (median 1 GiB), traffic is Zipf. Every other model has two replicas, and a hot one as many more
    as bring the load of each to half of a server's mean. Equal arguments give equal results but for the times of the
    decisions.

    Args:
        servers: number of servers, all of one size.
        models: number of models.
        load_gib_per_second: speed at which a server loads a model.
        seed: of the random numbers.

    Raises:
        FleetError: fewer than 10 servers or models, or models that fit nowhere after servers were lost.
    """
    if servers < MIN_SERVERS or models < MIN_SERVERS:
        raise FleetError(
            f"simulation: {servers} servers and {models} models; its events need {MIN_SERVERS} of each at least"
        )
    random = np.random.default_rng(seed)
    fleet = _Fleet(servers, models, load_gib_per_second, random)
    used = sum(demand.bytes * demand.replicas for demand in fleet.demands)
    replicas = sum(demand.replicas for demand in fleet.demands)
    available = sum(capacity.bytes for capacity in fleet.capacities)
    several = max(2, servers // 100)
    events = (
        fleet.decide("all models placed", needed=used),
        fleet.lose(1),
        fleet.join(1),
        fleet.lose(several),
        fleet.join(several),
        fleet.add_models(max(1, models // 100)),
        fleet.shift_traffic(),
    )
    on_demand = simulate_on_demand(seed=seed)
    return Simulation(servers, models, replicas, seed, used, available, load_gib_per_second, events, on_demand)


class _Fleet:
    """The state that the events change."""

    def __init__(self, servers: int, models: int, load_gib_per_second: float, random: np.random.Generator) -> None:
        self._speed = load_gib_per_second * _GIB
        self._random = random
        self._mean = _REQUESTS_PER_SECOND / servers
        self._servers = servers
        traffic = _zipf(models)[random.permutation(models)] * _REQUESTS_PER_SECOND
        self._fewest: dict[str, int] = {}
        self.demands = self._new_demands(0, traffic)
        used = sum(demand.bytes * demand.replicas for demand in self.demands)
        size = max(int(used / MEMORY_IN_USE / servers), max(demand.bytes for demand in self.demands))
        self.capacities = [Capacity(f"server{server:05d}", size) for server in range(servers)]
        self.holders: Mapping[str, Sequence[str]] = {}

    def _new_demands(self, start: int, traffic: np.ndarray) -> list[Demand]:
        sizes = self._random.lognormal(math.log(_MEDIAN_BYTES), _SIGMA, len(traffic)).astype(np.int64)
        names = [f"model{start + index:06d}" for index in range(len(traffic))]
        self._fewest |= dict(zip(names, (1 + self._random.integers(2, size=len(traffic))).tolist(), strict=True))
        return [
            self._with_load(Demand(name, int(size), 1, 0.0), float(load))
            for name, size, load in zip(names, sizes, traffic, strict=True)
        ]

    def _with_load(self, demand: Demand, load: float) -> Demand:
        """The model with another traffic, and the replicas that an operator would give it for that."""
        replicas = max(self._fewest[demand.name], math.ceil(load / (_REPLICA_LOAD * self._mean)))
        return replace(demand, load=load, replicas=min(replicas, self._servers // 2))

    def decide(self, name: str, *, needed: int | None) -> Event:
        """Places what there is now, and measures the way there."""
        start = time.thread_time()
        placement = place(self.demands, self.capacities, self.holders)
        seconds = time.thread_time() - start
        event = self._event(name, placement, needed, seconds)
        self.holders = placement.holders
        return event

    def _event(self, name: str, placement: Placement, needed: int | None, seconds: float) -> Event:
        size = {demand.name: demand.bytes for demand in self.demands}
        loaded = [(change.model, server) for change in placement.moves_from(self.holders) for server in change.load]
        by_server: dict[str, int] = {}
        for model, server in loaded:
            by_server[server] = by_server.get(server, 0) + size[model]
        return Event(
            name,
            replicas_loaded=len(loaded),
            bytes_loaded=sum(by_server.values()),
            bytes_needed=needed,
            max_over_mean=placement.max_over_mean,
            min_over_mean=min(placement.relative_load.values()),
            repair_seconds=max(by_server.values(), default=0) / self._speed,
            placement_seconds=seconds,
        )

    def lose(self, number: int) -> Event:
        """Loses random servers at once."""
        chosen = set(self._random.choice(len(self.capacities), number, replace=False).tolist())
        lost = {capacity.name for index, capacity in enumerate(self.capacities) if index in chosen}
        self.capacities = [capacity for capacity in self.capacities if capacity.name not in lost]
        held = sum(demand.bytes * len(lost & set(self.holders[demand.name])) for demand in self.demands)
        return self.decide(f"{number} server{'s' * (number > 1)} lost", needed=held)

    def join(self, number: int) -> Event:
        """Adds empty servers."""
        size, start = self.capacities[0].bytes, int(self.capacities[-1].name.removeprefix("server")) + 1
        self.capacities += [Capacity(f"server{start + index:05d}", size) for index in range(number)]
        return self.decide(f"{number} server{'s' * (number > 1)} joined", needed=None)

    def add_models(self, number: int) -> Event:
        """Adds models with the traffic of random others."""
        loads = np.array([demand.load for demand in self.demands])
        new = self._new_demands(len(self.demands), self._random.choice(loads, number))
        self.demands += new
        needed = sum(demand.bytes * demand.replicas for demand in new)
        return self.decide(f"{number} model{'s' * (number > 1)} added", needed=needed)

    def shift_traffic(self) -> Event:
        """Multiplies every load by a log-normal factor, and lets the ten hottest models change places with others."""
        loads = np.array([demand.load for demand in self.demands])
        loads *= self._random.lognormal(0.0, 0.5, len(loads))
        swapped = min(10, len(loads) // 2)
        hot = np.argsort(-loads)[:swapped]
        others = self._random.choice(np.argsort(-loads)[swapped:], swapped, replace=False)
        loads[hot], loads[others] = loads[others], loads[hot]
        before = {demand.name: demand.replicas for demand in self.demands}
        self.demands = [self._with_load(demand, float(load)) for demand, load in zip(self.demands, loads, strict=True)]
        needed = sum(demand.bytes * max(0, demand.replicas - before[demand.name]) for demand in self.demands)
        return self.decide("traffic shifted", needed=needed)


def simulate_on_demand(
    *, models: int = 300, room: int = 40, servers: int = 4, requests: int = 20_000, seed: int = 0
) -> OnDemand:
    """Zipf traffic for on-demand models of one size, whose ranks of popularity change once, half-way, for a tenth.

    Args:
        models: number of models.
        room: models that all servers together hold at a time, a multiple of ``servers``.
        servers: number of servers.
        requests: number of requests.
        seed: of the random numbers.
    """
    random = np.random.default_rng(seed)
    ranks, first = random.permutation(models), requests // 2
    asked = [ranks[random.choice(models, first, p=_zipf(models))]]
    moved = random.choice(models, max(2, models // 10), replace=False)
    ranks[moved] = ranks[random.permutation(moved)]
    asked.append(ranks[random.choice(models, requests - first, p=_zipf(models))])
    trace = np.concatenate(asked).tolist()
    return OnDemand(
        models,
        room,
        servers,
        requests,
        hit_ratio=_fleet_hits(trace, room, servers, counted=True) / requests,
        lru_hit_ratio=_fleet_hits(trace, room, servers, counted=False) / requests,
        optimal_hit_ratio=belady_hits(trace, room) / requests,
    )


def belady_hits(trace: Sequence[int], room: int) -> int:
    """Hits of Belady's optimum ("A study of replacement algorithms for a virtual-storage computer", 1966).

    The model that is asked for again the latest goes first; all models have one size.

    Args:
        trace: models in the order of the requests.
        room: models that fit at a time.
    """
    never, following = len(trace), [0] * len(trace)
    last: dict[int, int] = {}
    for index in range(len(trace) - 1, -1, -1):
        following[index] = last.get(trace[index], never)
        last[trace[index]] = index
    held: dict[int, int] = {}
    hits = 0
    for index, model in enumerate(trace):
        if model in held:
            hits += 1
        elif len(held) >= room:
            del held[max(held, key=held.__getitem__)]
        held[model] = following[index]
    return hits


def _fleet_hits(trace: Sequence[int], room: int, servers: int, *, counted: bool) -> int:
    """Hits of a fleet that loads, places and evicts as its controller does; least recently used if not ``counted``."""
    capacities = [Capacity(f"server{server}", room // servers) for server in range(servers)]
    held: dict[str, set[str]] = {capacity.name: set() for capacity in capacities}
    counts, last_use, hits = RequestCounts(), {}, 0
    for index, number in enumerate(trace):
        model = f"model{number}"
        counts.add({model: 1})
        last_use[model] = float(index)
        if any(model in of_server for of_server in held.values()):
            hits += 1
            continue
        residents = {
            server: [Resident(name, 1, counts.count(name) if counted else 0.0, last_use[name]) for name in names]
            for server, names in held.items()
        }
        found = room_for(Demand(model, 1, 1, 0.0), capacities, residents, {})
        if found is not None:
            server, evicted = found
            held[server].difference_update(evicted)
            held[server].add(model)
    return hits


def _zipf(models: int) -> np.ndarray:
    """Shares of the traffic by rank, float64 [models]."""
    weights = np.arange(1, models + 1, dtype=np.float64) ** -_ZIPF
    return weights / weights.sum()
