"""Orders of the operator, and the view of the running fleet."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from dpsr.config import FleetConfig
from dpsr.config.fleet import resolve_alias
from dpsr.serving.fleet.errors import FleetError
from dpsr.serving.fleet.lease import locked
from dpsr.serving.fleet.routing import aliases_in_force
from dpsr.serving.fleet.state import FleetStatus, Move, Orders, read_state, write_state

T = TypeVar("T")

STALE_SECONDS = 10.0


def read_status(fleet: FleetConfig) -> FleetStatus:
    """What the leading controller wrote last.

    Raises:
        FleetError: there is no controller, or it has stopped.
    """
    file = Path(fleet.state_dir) / "status.json"
    status = read_state(file, FleetStatus)
    if status is None:
        raise FleetError(f"{file}: no such file: the fleet has never been up; start it by: dpsr fleet up -c fleet.toml")
    age = time.time() - status.written_at
    if age > STALE_SECONDS:
        raise FleetError(
            f"{file} is {age:.0f} s old: no controller runs (the last was {status.controller}). Proxies and servers go "
            "on as they are; start a controller by: dpsr fleet up, or dpsr fleet controller"
        )
    return status


def parse_variants(words: Sequence[str]) -> dict[str, float]:
    """``MODEL`` or ``MODEL=WEIGHT`` words -> weights.

    Raises:
        FleetError: a weight is no number above 0, or a model is named twice.
    """
    variants: dict[str, float] = {}
    for word in words:
        name, _, weight = word.partition("=")
        try:
            value = float(weight or 1.0)
        except ValueError:
            value = 0.0
        if not 0.0 < value < float("inf"):
            raise FleetError(f"{word}: expected MODEL or MODEL=WEIGHT with a weight above 0, as shop_v42=10")
        if name in variants:
            raise FleetError(f"{name} is named twice; give each variant one weight")
        variants[name] = value
    return variants


def order_promotion(fleet: FleetConfig, alias: str, variants: dict[str, float]) -> str:
    """Points an alias at other models; returns what happens now, in a sentence.

    Raises:
        FleetError: no such alias or model, or a circle of aliases.
    """
    entry = _known("alias", alias, fleet.aliases)
    for name in variants:
        _known("model or alias", name, {**fleet.models, **fleet.aliases})
    try:
        shares = resolve_alias({**fleet.aliases, alias: entry.model_copy(update={"variants": variants})}, alias)
    except ValueError as error:
        raise FleetError(f"{alias}: {error}") from None

    def change(orders: Orders) -> Orders:
        return orders.model_copy(
            update={
                "promoted": {**orders.promoted, alias: variants},
                "promoted_from": {**orders.promoted_from, alias: entry.variants},
            }
        )

    _change_orders(fleet, change)
    text = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    return (
        f"{alias} -> {text}, as soon as each of them answers. The order holds until aliases.{alias}.variants changes "
        "in fleet.toml; write it there too"
    )


def shares_of(fleet: FleetConfig, alias: str) -> dict[str, float]:
    """Models of an alias and their shares, by the operator's orders.

    Raises:
        FleetError: no such alias.
    """
    _known("alias", alias, fleet.aliases)
    orders = read_state(Path(fleet.state_dir) / "orders.json", Orders) or Orders()
    return resolve_alias(aliases_in_force(fleet, orders), alias)


def order_drain(fleet: FleetConfig, server: str, *, undo: bool) -> str:
    """Takes all models off a server, or lets it hold models again; returns what happens now.

    Raises:
        FleetError: no such server, or no controller.
    """
    _known("server", server, read_status(fleet).servers, "the fleet")

    def change(orders: Orders) -> Orders:
        drained = orders.drained - {server} if undo else orders.drained | {server}
        return orders.model_copy(update={"drained": drained})

    _change_orders(fleet, change)
    return (
        f"server {server} takes models again"
        if undo
        else f"the models of server {server} move to the others; dpsr fleet status shows when it holds none"
    )


def order_move(fleet: FleetConfig, model: str, source: str, target: str) -> str:
    """Holds a model on another server; returns what happens now.

    Raises:
        FleetError: no such model or server, the model is not on the source, or is on the target already.
    """
    _known("model", model, fleet.models)
    if fleet.models[model].on_demand:
        raise FleetError(
            f"model {model} is loaded on demand: it goes where there is room; a resident model can be moved"
        )
    status = read_status(fleet)
    for server in (source, target):
        _known("server", server, status.servers, "the fleet")
    if model not in status.servers[source].models:
        held = ", ".join(name for name, server in status.servers.items() if model in server.models) or "no server"
        raise FleetError(f"model {model} is not on server {source} (it is on: {held})")
    if model in status.servers[target].models:
        raise FleetError(f"model {model} is on server {target} already; choose a server that does not hold it")

    def change(orders: Orders) -> Orders:
        others = tuple(move for move in orders.moves if move.model != model or move.source != source)
        return orders.model_copy(update={"moves": (*others, Move(model=model, source=source, target=target))})

    _change_orders(fleet, change)
    return f"model {model} moves from {source} to {target}"


def _change_orders(fleet: FleetConfig, change: Callable[[Orders], Orders]) -> None:
    state = Path(fleet.state_dir)
    with locked(state / "orders.lock"):
        orders = read_state(state / "orders.json", Orders) or Orders()
        write_state(state / "orders.json", change(orders))


def _known(kind: str, name: str, table: Mapping[str, T], place: str = "fleet.toml") -> T:
    if name not in table:
        raise FleetError(f"no {kind} {name!r} in {place} (there: {', '.join(sorted(table)) or 'none'})")
    return table[name]
