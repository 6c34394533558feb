"""What the controller tells of the fleet: servers, replicas that lack, problems."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from dpsr.serving.fleet.on_demand import View
from dpsr.serving.fleet.state import FleetStatus, Routes, ServerStatus
from dpsr.serving.fleet.targets import GIB


def make_status(
    view: View,
    alive: Collection[str],
    drained: Collection[str],
    routes: Routes,
    *,
    controller: str,
    problems: Collection[str],
) -> FleetStatus:
    """What ``dpsr fleet status`` shows.

    Args:
        view: configuration, sizes, holdings and reports of the proxies.
        alive: servers that answer.
        drained: servers that shall hold no model.
        routes: as the proxies are to have them.
        controller: host and process id of the leader.
        problems: of the configuration and of the base paths; empty ones do not count.
    """
    servers = {
        name: ServerStatus(
            alive=name in alive,
            drained=name in drained,
            memory_bytes=int(server.memory_gib * GIB),
            used_bytes=view.used_bytes(name),
            models={model: holding.state for model, holding in sorted(view.holdings.on(name).items())},
        )
        for name, server in sorted(view.fleet.servers.items())
    }
    missing = {
        name: lacks
        for name, model in view.fleet.models.items()
        if not model.on_demand and (lacks := model.replicas - len(view.holdings.in_state(name, "ready"))) > 0
    }
    return FleetStatus(
        written_at=view.now,
        controller=controller,
        generation=routes.generation,
        servers=servers,
        proxies={name: report.generation for name, report in view.reports.items()},
        missing=missing,
        aliases={name: alias.variants for name, alias in routes.aliases.items()},
        problems=(*filter(None, problems), *_problems(view, alive)),
    )


def _problems(view: View, alive: Collection[str]) -> Iterator[str]:
    for server in view.fleet.servers:
        if server not in alive:
            yield f"server {server} does not answer"
    if not view.reports:
        yield "no proxy reports: clients reach nothing; start one by: dpsr fleet proxy"
    for proxy, report in view.reports.items():
        for server in report.down:
            if server in alive:  # of the others it is said already
                yield f"proxy {proxy} sends nothing to server {server}: its health check fails there"
    for (model, server), failure in sorted(view.holdings.failures.items()):
        yield f"model {model} on server {server}: {failure.reason}"
