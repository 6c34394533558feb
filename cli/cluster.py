"""``dpsr cluster``: the subcommands around training on parameter servers."""

from __future__ import annotations

from pathlib import Path

import click

from dpsr.config import load_config


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
    """Estimate the parameter servers, the bytes of a step, and when the network is the limit.

    Reads the configuration and the prepared dataset; starts nothing.

    \b
    Example: dpsr cluster plan -c shop.toml --workers 16 --network 25
    """
    from dpsr.cluster.plan import make_plan, measured_speed
    from dpsr.cluster.plan_text import describe
    from dpsr.data.dataset.tables import Dataset

    config = load_config(config_file, overrides)
    dataset = Dataset.load(config.dataset_dir)
    speed = examples_per_second or measured_speed(config)
    click.echo(describe(make_plan(config, dataset), ps, ps_memory, workers, network, speed))


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
