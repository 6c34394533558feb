"""Commands of the runtime API that lead from one set of routes to the next, without a reload."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from dpsr.config.fleet import FleetProxy
from dpsr.serving.fleet.proxy.haproxy_config import alias_texts, model_states, server_options
from dpsr.serving.fleet.state import Routes


def runtime_changes(
    proxy: FleetProxy, run_dir: Path, before: Routes, after: Routes, known: Collection[tuple[str, str]]
) -> tuple[list[str], list[str]]:
    """The commands: what gives requests more servers and sends them there; and what takes servers away after that.

    Args:
        proxy: TLS to the servers, and whether there is REST.
        run_dir: directory of the maps.
        before: routes in force, with the same models and servers as ``after``.
        after: the routes to reach.
        known: models and servers that HAProxy has a server line of, in whatever state.
    """
    gains: list[str] = []
    losses: list[str] = []
    for model, endpoints in after.models.items():
        old = {endpoint.server: endpoint.state for endpoint in before.models[model]}
        new = {endpoint.server: endpoint.state for endpoint in endpoints}
        if old == new:
            continue
        for server, state in new.items():
            if old.get(server) != state:
                commands = _place(proxy, after, model, server, state, is_known=(model, server) in known)
                (gains if state == "ready" else losses).extend(commands)
        for server in old.keys() - new.keys():
            losses += [f"disable server {backend}/{server}" for backend in _backends(proxy, after, model, server)]
    maps = _map_changes(run_dir / "models.map", model_states(before), model_states(after))
    maps += _map_changes(run_dir / "aliases.map", alias_texts(before.aliases), alias_texts(after.aliases))
    return gains + maps, losses


def _backends(proxy: FleetProxy, routes: Routes, model: str, server: str) -> list[str]:
    has_rest = proxy.rest_port >= 0 and routes.servers[server].rest
    return [f"grpc:{model}", *([f"rest:{model}"] if has_rest else [])]


def _place(proxy: FleetProxy, routes: Routes, model: str, server: str, state: str, *, is_known: bool) -> list[str]:
    commands = []
    address = routes.servers[server]
    for backend in _backends(proxy, routes, model, server):
        is_grpc = backend.startswith("grpc:")
        place = f"{backend}/{server}"
        if not is_known:
            where = address.grpc if is_grpc else address.rest
            commands.append(f"add server {place} {where} {server_options(proxy, server, grpc=is_grpc)}")
        commands.append(f"set server {place} weight {int(state == 'ready')}")
        if state == "ready":
            commands.append(f"enable server {place}")
    return commands


def _map_changes(file: Path, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    changes = [f"add map {file} {key} {after[key]}" for key in after.keys() - before.keys()]
    changes += [f"del map {file} {key}" for key in before.keys() - after.keys()]
    changes += [
        f"set map {file} {key} {after[key]}" for key in after.keys() & before.keys() if before[key] != after[key]
    ]
    return changes
