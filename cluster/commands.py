"""``dpsr cluster``: the subcommands around training on parameter servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dpsr.config import Config, load_config

if TYPE_CHECKING:
    from dpsr.cluster.plan import Plan

GIB = 1 << 30


@click.group()
def cluster() -> None:
    """Train on a cluster of workers and parameter servers.

    \b
    Example: dpsr cluster up -c examples/demo_shop.toml --workers 2 --ps 2
    """


@cluster.command()
@click.option("-c", "--config", "config_file", metavar="FILE", required=True, help="The TOML configuration.")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override one value; may be given again.")
@click.option("--ps", type=click.IntRange(1), help="Parameter servers; by default as many as the tables need.")
@click.option("--ps-memory", type=click.FloatRange(0.001), default=16.0, show_default=True, help="GiB of one of them.")
@click.option("--workers", type=click.IntRange(1), default=8, show_default=True, help="Workers.")
@click.option(
    "--network", type=click.FloatRange(0.001), default=10.0, show_default=True, help="Gbit/s of one task's link."
)
@click.option(
    "--examples-per-second",
    type=click.FloatRange(0.1),
    help="Of one worker; by default what `dpsr train` last reached.",
)
def plan(
    config_file: str,
    overrides: tuple[str, ...],
    ps: int | None,
    ps_memory: float,
    workers: int,
    network: float,
    examples_per_second: float | None,
) -> None:
    """Tell how many parameter servers the tables need, what a step sends, and when the network is the limit.

    Reads the configuration and the prepared dataset; starts nothing.

    \b
    Example: dpsr cluster plan -c shop.toml --workers 16 --network 25
    """
    from dpsr.cluster.plan import make_plan
    from dpsr.data.dataset.tables import Dataset

    config = load_config(config_file, overrides)
    dataset = Dataset.load(config.dataset_dir)
    found = make_plan(
        config,
        dataset,
        wire=config.cluster.wire,
        dense_sync_steps=config.cluster.dense_sync_steps_at(config.training.batch_size),
    )
    speed = examples_per_second or _measured_speed(config)
    click.echo(describe(found, ps, ps_memory, workers, network, speed))


@cluster.command()
@click.option("-c", "--config", "config_file", metavar="FILE", required=True, help="The TOML configuration.")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override one value; may be given again.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Workers.")
@click.option("--ps", type=click.IntRange(1), default=2, show_default=True, help="Parameter servers.")
@click.option("--evaluator", is_flag=True, help="A process besides that scores every checkpoint.")
@click.option("--no-resume", is_flag=True, help="Start anew instead of continuing from the last checkpoint.")
@click.option("--logs", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Output of every task.")
def up(
    config_file: str,
    overrides: tuple[str, ...],
    workers: int,
    ps: int,
    evaluator: bool,
    no_resume: bool,
    logs: Path | None,
) -> None:
    """Train on a cluster of processes of this machine, on loopback ports, to try it out.

    Shows what becomes of every task, starts again what dies, and stops everything on Ctrl-C.

    \b
    Example: dpsr cluster up -c shop.toml --workers 2 --ps 2
    """
    from dpsr.cluster.up import up as run

    config = load_config(config_file, overrides)
    logs = logs or Path(config.work_dir) / "cluster" / "logs"
    run(
        config_file,
        overrides,
        workers=workers,
        ps=ps,
        evaluator=evaluator,
        resume=not no_resume,
        logs=logs,
        max_restarts=config.cluster.max_restarts,
    )
    click.echo(f"checkpoints: {config.checkpoint_dir}")


def _measured_speed(config: Config) -> float | None:
    """Examples a second of the last epoch on one machine; None where nothing was trained."""
    path = Path(config.checkpoint_dir) / "metrics.json"
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["epochs"][-1]["examples_per_second"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def describe(plan: Plan, ps: int | None, ps_memory: float, workers: int, network: float, speed: float | None) -> str:
    """The text of ``dpsr cluster plan``."""
    needed = plan.parameter_servers(ps_memory * GIB)
    ps = ps or needed
    parts = [_table_of_tables(plan), _memory(plan, ps, needed, ps_memory), _table_of_traffic(plan)]
    parts += [_peer(plan), _network(plan, ps, workers, network, speed)]
    return "\n\n".join(parts)


def _table_of_tables(plan: Plan) -> str:
    from tabulate import tabulate

    rows = []
    for table in plan.tables:
        counts = (f"{count:,.0f}" for count in (table.bags, table.ids, table.distinct))
        rows.append([table.name, f"{table.rows:,}", _size(table.stored_bytes), *counts])
    rows.append(["dense layers", "", _size(8 * plan.dense_parameters), "", "", ""])
    headers = ["table", "rows", "with accumulators", "bags a step", "ids", "distinct ids"]
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=("left", *["right"] * 5))


def _memory(plan: Plan, ps: int, needed: int, ps_memory: float) -> str:
    from dpsr.cluster.plan import USABLE_MEMORY

    text = (
        f"memory: {_size(plan.stored_bytes)} in all, {_size(plan.stored_bytes / ps)} on each of {ps} parameter "
        f"server{'s' * (ps > 1)} where it is spread evenly"
    )
    if ps < needed:
        return (
            f"{text}\n        TOO LITTLE: with {ps_memory:g} GiB each, {USABLE_MEMORY:.0%} of it for tables, it takes "
            f"{needed}; raise --ps or --ps-memory"
        )
    return f"{text}; {needed} would do ({ps_memory:g} GiB each, {USABLE_MEMORY:.0%} of it for tables)"


def _table_of_traffic(plan: Plan) -> str:
    from tabulate import tabulate

    names = ["ids", "sums", "gradients", "dense", "overhead", "total"]
    ours, peer = plan.traffic(), plan.peer_traffic()
    rows = [[name, *(f"{getattr(each, name):,.0f}" for each in (ours, peer))] for name in names]
    headers = [f"bytes of a step ({plan.batch_size} examples)", "bags summed on ps", "rows sent to the worker"]
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=("left", "right", "right"))


def _peer(plan: Plan) -> str:
    ours = plan.traffic().total
    ratio = plan.peer_traffic().total / ours
    of_example = ours / plan.batch_size
    return f"wire: {ratio:.1f} times less than with rows sent to the worker; {of_example:,.0f} bytes an example"


def _network(plan: Plan, ps: int, workers: int, network: float, speed: float | None) -> str:
    limit = plan.network_limit(network)
    lines = [
        f"network: a link of {network:g} Gbit/s carries {limit:,.0f} examples/s; {ps} parameter server"
        f"{'s' * (ps > 1)} with one each {limit * ps:,.0f} where the traffic is spread evenly"
    ]
    if speed is None:
        lines.append(
            "         give --examples-per-second of one worker (or train once) to see how many workers that is"
        )
        return "\n".join(lines)
    most = ps * limit / speed
    total = min(workers * min(speed, limit), ps * limit)
    lines.append(f"         one worker at {speed:,.0f} examples/s uses {speed / limit:.1%} of its link")
    if workers <= most:
        share = workers / most
        lines.append(
            f"         {workers} workers: {total:,.0f} examples/s, {share:.1%} of the parameter servers' links; "
            f"these are full at {most:,.0f} workers"
        )
    else:
        wanted = -(-workers * speed // limit)
        lines.append(
            f"         {workers} workers: THE NETWORK IS THE LIMIT, {total:,.0f} of {workers * speed:,.0f} examples/s; "
            f"the links of {ps} are full at {most:,.1f} workers\n"
            f"         it takes {wanted:,.0f} parameter servers, or a faster network"
        )
    return "\n".join(lines)


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"
