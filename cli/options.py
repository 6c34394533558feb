"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dpsr.config import Config, load_config

F = TypeVar("F", bound=Callable[..., Any])

OVERRIDES_HELP = "Override one value, as training.epochs=3; may be given again."


def with_config(command: F) -> F:
    """Adds ``--config`` and ``--set``, and passes the checked ``Config`` as ``config``."""

    def load(ctx: click.Context, _: click.Parameter, path: str) -> Config:
        return load_config(path, ctx.params.pop("overrides", ()))

    command = click.option(
        "-c", "--config", "config", metavar="FILE", required=True, callback=load, help="The TOML configuration."
    )(command)
    return click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, is_eager=True, help=OVERRIDES_HELP)(
        command
    )
