"""Routes for the proxies: from what the servers hold, the configuration and the operator's orders."""

from __future__ import annotations

from collections.abc import Mapping

from dpsr.config import FleetConfig
from dpsr.config.fleet import FleetAlias, resolve_alias
from dpsr.serving.fleet.holdings import Holdings
from dpsr.serving.fleet.state import Address, AliasRoute, Endpoint, Orders, Routes


def make_routes(
    fleet: FleetConfig, orders: Orders, holdings: Holdings, refused: Mapping[str, str], before: Routes
) -> Routes:
    """The routes; their generation is that of ``before``, or one more if anything has changed.

    An alias takes its new variants when each of them has a server, and keeps those before until then.
    """
    models: dict[str, tuple[Endpoint, ...]] = {}
    for model in sorted(fleet.models):
        states = holdings.of(model)
        models[model] = tuple(
            Endpoint(server=server, state="ready" if holding.state == "ready" else "drain")
            for server, holding in states.items()
            if holding.state in ("ready", "draining") and server in fleet.servers
        )
    routes = Routes(
        generation=before.generation,
        servers={
            name: Address(grpc=server.address, rest=server.rest_address)
            for name, server in sorted(fleet.servers.items())
        },
        models=models,
        on_demand=frozenset(name for name, model in fleet.models.items() if model.on_demand),
        refused=dict(sorted(refused.items())),
        aliases={},
    )
    aliases = {name: _alias_route(name, fleet, orders, routes, before) for name in sorted(fleet.aliases)}
    routes = routes.model_copy(update={"aliases": aliases})
    return routes if routes == before else routes.model_copy(update={"generation": before.generation + 1})


def aliases_in_force(fleet: FleetConfig, orders: Orders) -> dict[str, FleetAlias]:
    """Aliases of the configuration, with the weights that the operator has ordered since it was written."""
    return {
        name: alias.model_copy(update={"variants": orders.promoted[name]})
        if orders.promoted_from.get(name) == alias.variants and name in orders.promoted
        else alias
        for name, alias in fleet.aliases.items()
    }


def _alias_route(name: str, fleet: FleetConfig, orders: Orders, routes: Routes, before: Routes) -> AliasRoute:
    aliases = aliases_in_force(fleet, orders)
    alias = aliases[name]
    wanted = AliasRoute(
        variants=resolve_alias(aliases, name),
        sticky_header=alias.sticky_header,
        sticky_input=alias.sticky_input,
        shadow=alias.shadow,
    )
    kept = before.aliases.get(name)
    if kept is None or all(_answers(model, routes) for model in wanted.variants):
        return wanted
    still_there = all(_answers(model, routes) for model in kept.variants)
    return wanted.model_copy(update={"variants": kept.variants}) if still_there else wanted


def _answers(model: str, routes: Routes) -> bool:
    ready = any(endpoint.state == "ready" for endpoint in routes.models.get(model, ()))
    return ready or model in routes.on_demand
