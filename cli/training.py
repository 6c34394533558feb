"""``dpsr train``."""

from __future__ import annotations

import click

from dpsr.cli.options import with_config
from dpsr.config import Config


@click.command()
@with_config
@click.option("--no-resume", is_flag=True, help="Start anew instead of continuing from the last checkpoint.")
def train(config: Config, no_resume: bool) -> None:
    """Train the two towers on a prepared dataset: on this machine, or as a task of the cluster in TF_CONFIG.

    \b
    Example: dpsr train -c shop.toml --set training.epochs=10
    """
    from dpsr.cluster.run import train as run

    run(config, resume=not no_resume)
    click.echo(f"checkpoints: {config.checkpoint_dir}")
