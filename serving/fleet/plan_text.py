"""The text of ``dpsr fleet plan`` and ``dpsr fleet simulate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tabulate import tabulate

from dpsr.serving.fleet.placement import Capacity, Change, Demand, Placement
from dpsr.serving.fleet.simulation import Event, OnDemand, Simulation

_GIB = float(1 << 30)
_WRAP = 70
"""Columns of a list of names."""


def describe_plan(
    placement: Placement,
    demands: Sequence[Demand],
    capacities: Sequence[Capacity],
    current: Mapping[str, Sequence[str]],
) -> str:
    """A table of the servers, and what has to be loaded and may be dropped.

    Args:
        placement: of ``demands`` on ``capacities``.
        demands: the models.
        capacities: the servers.
        current: model -> servers that hold it now.
    """
    parts = [_servers(placement, capacities), _changes(placement.moves_from(current), demands)]
    if placement.hot:
        parts.append(
            f"one replica has more requests than the bound of any server: {', '.join(placement.hot)}; its server stays "
            "above the bound: give it more replicas"
        )
    return "\n\n".join(parts)


def describe_simulation(result: Simulation) -> str:
    """The fleet, a table of the events, and the hits of on-demand models."""
    used = result.bytes_used / result.bytes_available
    fleet = (
        f"{result.servers:,} servers, {result.models:,} models, {result.replicas:,} replicas, "
        f"{result.bytes_used / _GIB:,.0f} GiB, {used:.0%} of the memory; loads at "
        f"{result.load_gib_per_second:g} GiB/s, one at a time on a server; seed {result.seed}"
    )
    headers = [
        "event",
        "replicas loaded",
        "GiB",
        "GiB needed",
        "ratio",
        "max load / mean",
        "min",
        "repair s",
        "decision CPU s",
    ]
    aligned = ("left", *["right"] * 8)
    table = tabulate(map(_event_row, result.events), headers, disable_numparse=True, colalign=aligned)
    return "\n\n".join([fleet, table, _on_demand(result.on_demand)])


def _servers(placement: Placement, capacities: Sequence[Capacity]) -> str:
    held: dict[str, list[str]] = {capacity.name: [] for capacity in capacities}
    for model, servers in sorted(placement.holders.items()):
        for server in servers:
            held[server].append(model)
    rows = [
        [
            name,
            f"{placement.bytes[name] / _GIB:,.2f}",
            f"{size / _GIB:,.2f}",
            f"{placement.load[name]:,.1f}",
            f"{placement.relative_load[name]:.2f}",
            str(len(held[name])),
            ", ".join(held[name]),
        ]
        for name, size in sorted((capacity.name, capacity.bytes) for capacity in capacities)
    ]
    headers = ["server", "GiB used", "of GiB", "requests/s", "of its share", "models", "names"]
    aligned = ("left", "right", "right", "right", "right", "right", "left")
    if not rows:
        return "no servers"
    widths = [None] * 6 + [_WRAP]
    return tabulate(rows, headers, disable_numparse=True, colalign=aligned, maxcolwidths=widths)


def _changes(changes: Sequence[Change], demands: Sequence[Demand]) -> str:
    if not changes:
        return "nothing moves"
    size = {demand.name: demand.bytes for demand in demands}
    rows = [
        [
            change.model,
            f"{size[change.model] / _GIB:,.2f}" if change.model in size else "",
            ", ".join(change.load),
            ", ".join(change.drop),
        ]
        for change in changes
    ]
    loads = sum(len(change.load) for change in changes)
    loaded = sum(size.get(change.model, 0) * len(change.load) for change in changes)
    drops = sum(len(change.drop) for change in changes)
    widths = [None, None, _WRAP // 2, _WRAP // 2]
    headers = ["model", "GiB", "load on", "then drop from"]
    table = tabulate(
        rows, headers, disable_numparse=True, colalign=("left", "right", "left", "left"), maxcolwidths=widths
    )
    return f"{loads} replicas to load, {loaded / _GIB:,.2f} GiB; {drops} to drop\n\n{table}"


def _event_row(event: Event) -> list[str]:
    ratio = event.loaded_over_needed
    return [
        event.name,
        f"{event.replicas_loaded:,}",
        f"{event.bytes_loaded / _GIB:,.1f}",
        "" if event.bytes_needed is None else f"{event.bytes_needed / _GIB:,.1f}",
        "" if ratio is None else f"{ratio:.2f}",
        f"{event.max_over_mean:.2f}",
        f"{event.min_over_mean:.2f}",
        f"{event.repair_seconds:,.0f}",
        f"{event.placement_seconds:.2f}",
    ]


def _on_demand(result: OnDemand) -> str:
    optimal = result.optimal_hit_ratio
    return (
        f"on demand: {result.models} models, room for {result.room} on {result.servers} servers, {result.requests:,} "
        f"requests: hit ratio {result.hit_ratio:.3f}, {result.over_optimal:.2f} of Belady's optimum ({optimal:.3f}); "
        f"least recently used {result.lru_hit_ratio:.3f}, {result.lru_hit_ratio / optimal:.2f} of it"
    )
