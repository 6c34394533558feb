"""``dpsr fleet``: many models on many servers behind one address."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from dpsr.config import FleetConfig, load_fleet_config

if TYPE_CHECKING:
    from dpsr.serving.fleet.up import Part

F = TypeVar("F", bound=Callable[..., Any])


class FleetFile(NamedTuple):
    """``fleet.toml``, as the command line names it."""

    path: Path
    overrides: tuple[str, ...]
    fleet: FleetConfig


def _with_fleet(command: F) -> F:
    """Adds ``--config`` and ``--set``, and passes the checked ``FleetFile`` as ``file``."""

    @click.option("-c", "--config", "path", metavar="FILE", required=True, help="fleet.toml.")
    @click.option(
        "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override one value; may be given again."
    )
    @wraps(command)
    def run(path: str, overrides: tuple[str, ...], **options: Any) -> Any:
        return command(file=FleetFile(Path(path), overrides, load_fleet_config(path, overrides)), **options)

    return run  # type: ignore[return-value]


@click.group()
def fleet() -> None:
    """Serve hundreds of models on many servers behind one address.

    \b
    Example: dpsr fleet up -c examples/fleet.toml --local 2
    """


@fleet.command()
@_with_fleet
def plan(file: FleetFile) -> None:
    """Show which server would hold what, and what would move; changes nothing.

    \b
    Example: dpsr fleet plan -c fleet.toml
    """
    from dpsr.serving.fleet.planning import describe_plan_of

    click.echo(describe_plan_of(file.fleet))


@fleet.command()
@_with_fleet
@click.option("--local", type=click.IntRange(1, 64), help="Start so many servers on this machine, to try it out.")
@click.option("--local-memory", type=click.FloatRange(0.001), help="GiB of each; by default what the machine has.")
def up(file: FleetFile, local: int | None, local_memory: float | None) -> None:
    """Start controller and proxy, place the models, and keep it so until interrupted.

    Starts again what dies. The servers of the configuration run elsewhere: `dpsr serve` or TensorFlow Serving, each
    with its model config file; with --local they are processes of this machine, in place of those of the configuration.

    \b
    Examples: dpsr fleet up -c fleet.toml
              dpsr fleet up -c fleet.toml --local 4
    """
    from dpsr.serving.fleet.planning import check_startable
    from dpsr.serving.fleet.server_link import ServerLink
    from dpsr.serving.fleet.up import local_servers, make_parts
    from dpsr.serving.fleet.up import up as run

    config, overrides, state = file.fleet, file.overrides, Path(file.fleet.state_dir)
    servers: list[Part] = []
    if local:
        override, servers = local_servers(local, state, local_memory)
        overrides = (*overrides, override)
        config = load_fleet_config(file.path, overrides)
    check_startable(config, servers_must_answer=not local)
    for name in config.servers if local else ():
        ServerLink.write_config(config.config_file(name), {})
    click.echo(
        f"gRPC on {config.proxy.host}:{config.proxy.port}"
        + (f", REST on {config.proxy.host}:{config.proxy.rest_port}" if config.proxy.rest_port >= 0 else "")
        + f"; state in {state}; watch it by: dpsr fleet status -c {file.path}"
    )
    run([*make_parts(file.path, overrides, state), *servers], click.echo)


@fleet.command()
@_with_fleet
def controller(file: FleetFile) -> None:
    """Run a controller alone; of several, one leads and the others wait for its end."""
    from dpsr.serving.fleet.controller import control
    from dpsr.serving.logs import log_to_stderr

    log_to_stderr()
    stop = _stop_on_signal()
    control(file.path, file.fleet, lambda: load_fleet_config(file.path, file.overrides), stop.is_set)


@fleet.command()
@_with_fleet
@click.option("--name", default="local", show_default=True, help="Of this proxy, in the fleet's state.")
def proxy(file: FleetFile, name: str) -> None:
    """Run a proxy alone: HAProxy, and the agent that keeps its routes."""
    from dpsr.serving.fleet.proxy.agent import ProxyAgent
    from dpsr.serving.logs import log_to_stderr

    log_to_stderr()
    ProxyAgent(file.fleet, name, Path(file.fleet.state_dir) / "run" / name).run(_stop_on_signal())


@fleet.command()
@_with_fleet
@click.option("--wait", type=click.FloatRange(0.0), help="Seconds to wait at most for the exit code 0.")
def status(file: FleetFile, wait: float | None) -> None:
    """Show servers, models, aliases and problems of the running fleet.

    The exit code is 1 while a model lacks replicas, a proxy lacks the newest routes, or there is a problem.
    """
    from dpsr.serving.fleet.errors import FleetError
    from dpsr.serving.fleet.operations import read_status
    from dpsr.serving.fleet.status_text import describe_status

    deadline = time.monotonic() + (wait or 0.0)
    while True:
        is_last = time.monotonic() >= deadline
        try:
            found = read_status(file.fleet)
            if is_last or found.is_settled():
                break
        except FleetError:
            if is_last:
                raise
        time.sleep(0.2)
    click.echo(describe_status(found))
    if not found.is_settled():
        click.get_current_context().exit(1)


@fleet.command()
@_with_fleet
@click.argument("server")
@click.option("--undo", is_flag=True, help="Let the server hold models again.")
def drain(file: FleetFile, server: str, undo: bool) -> None:
    """Move all models off a server, without a failed request; then it can be stopped."""
    from dpsr.serving.fleet.operations import order_drain

    click.echo(order_drain(file.fleet, server, undo=undo))


@fleet.command()
@_with_fleet
@click.argument("model")
@click.argument("source")
@click.argument("target")
def move(file: FleetFile, model: str, source: str, target: str) -> None:
    """Move MODEL from server SOURCE to server TARGET, without a failed request."""
    from dpsr.serving.fleet.operations import order_move

    click.echo(order_move(file.fleet, model, source, target))


@fleet.command()
@_with_fleet
@click.argument("alias")
@click.argument("variants", nargs=-1, required=True, metavar="MODEL[=WEIGHT]...")
def promote(file: FleetFile, alias: str, variants: tuple[str, ...]) -> None:
    """Point ALIAS at a model, or at several by weight, as soon as they answer.

    Holds until aliases.ALIAS.variants changes in fleet.toml.

    \b
    Examples: dpsr fleet promote -c fleet.toml shop shop_v42
              dpsr fleet promote -c fleet.toml shop shop_v41=90 shop_v42=10
    """
    from dpsr.serving.fleet.operations import order_promotion, parse_variants

    click.echo(order_promotion(file.fleet, alias, parse_variants(variants)))


@fleet.command()
@_with_fleet
@click.argument("alias")
@click.option("--outcomes", metavar="FILE", multiple=True, required=True, help="UBI events; may be given again.")
@click.option("--action", default="click", show_default=True, help="The event that counts as a conversion.")
@click.option("--control", metavar="MODEL", help="The variant that the others are compared with; by default the first.")
@click.option("--log", "logs", metavar="FILE", multiple=True, help="Access logs; by default those of the fleet.")
@click.option("--json", "as_json", is_flag=True, help="All figures as JSON.")
def report(
    file: FleetFile,
    alias: str,
    outcomes: tuple[str, ...],
    action: str,
    control: str | None,
    logs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare the variants of ALIAS by what users did: conversion, intervals, a decision.

    \b
    Example: dpsr fleet report -c fleet.toml shop --outcomes ubi_events.jsonl --action purchase
    """
    from dpsr.evaluation.experiments.report import build_report
    from dpsr.evaluation.experiments.text import describe
    from dpsr.serving.fleet.operations import shares_of

    paths = [Path(log) for log in logs] or sorted((Path(file.fleet.state_dir) / "logs").glob("access_*.jsonl*"))
    found = build_report(
        paths, [Path(name) for name in outcomes], alias, action, shares=shares_of(file.fleet, alias), control=control
    )
    click.echo(json.dumps(found.to_dict(), allow_nan=False) if as_json else describe(found))


@fleet.command()
@click.option("--servers", type=click.IntRange(2), default=1000, show_default=True)
@click.option("--models", type=click.IntRange(1), default=10000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def simulate(servers: int, models: int, seed: int) -> None:
    """Simulate the placement of a large fleet: what moves when servers come and go, balance, time to repair."""
    from dpsr.serving.fleet.plan_text import describe_simulation
    from dpsr.serving.fleet.simulation import simulate as run

    click.echo(describe_simulation(run(servers=servers, models=models, seed=seed)))


def _stop_on_signal() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
