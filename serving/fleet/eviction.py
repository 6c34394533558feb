"""On-demand models: which server takes one that is asked for, and which others leave it.

The policy is LRFU (Lee et al., "LRFU: a spectrum of policies that subsumes the least recently used and least frequently
used policies", IEEE Transactions on Computers 50(12), 2001): the model with the lowest exponentially decayed count of
requests goes first, ties by last use. Counts outlive an eviction. With 300 models, room for 40 and Zipf traffic of
exponent 1, least recently used has 0.74 of the hits of Belady's optimum, LRU-2 0.83, this policy 0.90. The bytes of a
model are no part of its rank: what a later load costs grows with them as what an eviction frees does, so that
GreedyDual-Size-Frequency (count x cost / bytes) is this order too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dpsr.serving.fleet.placement import Capacity, Demand, place_one

HALF_LIFE = 8.0
"""Requests per model after which an earlier request counts half: a shift of traffic is followed after a few."""


class RequestCounts:
    """Exponentially decayed counts of requests; time is measured in requests of all models together."""

    def __init__(self) -> None:
        """Starts without a request."""
        self._counts: dict[str, tuple[float, float]] = {}
        """Model -> count, and the time at which it was that."""
        self._half_lives = 0.0
        """The time now."""

    def add(self, requests: Mapping[str, int]) -> None:
        """Counts requests since the last call.

        Args:
            requests: model -> number of requests.
        """
        for model in requests:
            self._counts.setdefault(model, (0.0, self._half_lives))
        if total := sum(requests.values()):
            self._half_lives += total / (HALF_LIFE * len(self._counts))
            for model, number in requests.items():
                self._counts[model] = self.count(model) + number, self._half_lives

    def count(self, model: str) -> float:
        """The decayed count of a model; 0 for one that was never asked for."""
        count, time = self._counts.get(model, (0.0, 0.0))
        return count * 0.5 ** (self._half_lives - time)

    def forget(self, known: Collection[str]) -> None:
        """Drops the counts of all models but those known."""
        self._counts = {model: entry for model, entry in self._counts.items() if model in known}


@dataclass(frozen=True)
class Resident:
    """A model that a server holds."""

    name: str
    bytes: int
    requests: float = 0.0
    """Decayed count; equal counts make the order least recently used."""
    last_use: float = 0.0
    """Time of its last request."""
    pinned: bool = False
    """Whether it has to stay: not on demand, in use, or loaded a short while ago."""


def evict_for(bytes_needed: int, capacity: Capacity, residents: Sequence[Resident]) -> list[str] | None:
    """Models whose eviction makes room on a server, least wanted first.

    Args:
        bytes_needed: memory that has to be free.
        capacity: the server.
        residents: everything that takes memory on it.

    Returns:
        Names, none where the memory is free already; None where the models that may leave are too small.
    """
    lacking = bytes_needed + sum(resident.bytes for resident in residents) - capacity.bytes
    evicted = []
    for resident in sorted(residents, key=_rank):
        if lacking <= 0:
            break
        if not resident.pinned:
            evicted.append(resident)
            lacking -= resident.bytes
    if lacking > 0:
        return None
    for resident in reversed(evicted[:-1]):  # a later, larger one may have made earlier ones needless
        if lacking + resident.bytes <= 0:
            evicted.remove(resident)
            lacking += resident.bytes
    return [resident.name for resident in evicted]


def room_for(
    demand: Demand,
    capacities: Sequence[Capacity],
    residents: Mapping[str, Sequence[Resident]],
    used_load: Mapping[str, float],
    exclude: Collection[str] = (),
) -> tuple[str, list[str]] | None:
    """Server that takes an on-demand model, and the models that it has to evict first.

    A server with free memory by ``place_one``; without one, that which loses the fewest counted requests.

    Args:
        demand: the model.
        capacities: the servers.
        residents: server -> everything that takes memory on it.
        used_load: server -> requests per second of what it holds.
        exclude: servers that hold the model already, or shall not.

    Returns:
        The server, and names in the order of eviction; None where no server can make room now.
    """
    used = {name: sum(resident.bytes for resident in of_server) for name, of_server in residents.items()}
    free = place_one(demand, capacities, used, used_load, exclude)
    if free is not None:
        return free, []
    found: list[tuple[float, float, str, list[str]]] = []
    for capacity in capacities:
        of_server = {resident.name: resident for resident in residents.get(capacity.name, ())}
        evicted = None if capacity.name in exclude else evict_for(demand.bytes, capacity, list(of_server.values()))
        if evicted is not None:
            lost = sum(of_server[name].requests for name in evicted)
            last_use = max(of_server[name].last_use for name in evicted)
            found.append((lost, last_use, capacity.name, evicted))
    if not found:
        return None
    _, _, server, evicted = min(found)
    return server, evicted


def _rank(resident: Resident) -> tuple[float, float, str]:
    return resident.requests, resident.last_use, resident.name
