"""``dpsr page``: the web page on which people search, compare, explain, judge and report."""

from __future__ import annotations

import click

from dpsr.config import load_config


@click.command()
@click.option("-c", "--config", "config_file", metavar="FILE", required=True, help="The TOML configuration.")
@click.option(
    "--target",
    metavar="HOST:PORT",
    help="The model server or the fleet; by default the configured one, or else one of its own.",
)
@click.option("--model", metavar="NAME", help="The model or alias there; by default the configuration's name.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the page; 0 takes a free one.")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override one value; may be given again.")
def page(config_file: str, target: str | None, model: str | None, port: int | None, overrides: tuple[str, ...]) -> None:
    """Open a web page to search, compare, explain, judge and report, until interrupted.

    Without --target the page asks the server that listens at the configured address, or else starts one, which ends
    with it. docs/page.md describes the page.

    \b
    Examples: dpsr page -c shop.toml
              dpsr page -c shop.toml --target fleet.example:8500 --model shop
    """
    from dpsr.page.server.run import run

    if port is not None:
        overrides += (f"page.port={port}",)
    config = load_config(config_file, overrides)
    words = ["-c", config_file, *(word for override in overrides for word in ("--set", override))]
    run(config, target=target, model=model, serve_words=words, announce=click.echo)
