"""The server and the command that asks it: ``serve`` and ``search``."""

from __future__ import annotations

import sys

import click

from dpsr.cli.options import with_config
from dpsr.cli.search import COMPARE, TlsFiles
from dpsr.cli.search import search as run_search
from dpsr.config import Config, load_config, load_serving_config
from dpsr.indexing.signature import MEMORY_MODE, MODES


@click.command()
@click.option("-c", "--config", "config_file", metavar="FILE", help="The TOML configuration: serves its model.")
@click.option("--model-config-file", metavar="FILE", help="A ModelServerConfig of TensorFlow Serving: several models.")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes that share the ports; by default one.")
@click.option("--check", is_flag=True, help="Load and warm what would be served, say what works, and exit (0 or 1).")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override one value; may be given again.")
def serve(
    config_file: str | None, model_config_file: str | None, workers: int | None, check: bool, overrides: tuple[str, ...]
) -> None:
    """Serve published versions over gRPC and REST until interrupted.

    Follows the model directories: a newer version is loaded, warmed up and swapped in.

    \b
    Examples: dpsr serve -c shop.toml --set serving.port=8500
              dpsr serve --model-config-file models.config
              dpsr serve -c shop.toml --check
    """
    from dpsr.serving.manager.model_config import ServedModel, served_models

    if model_config_file:
        overrides += (f"serving.model_config_file={model_config_file}",)
    if workers:
        overrides += (f"serving.workers={workers}",)
    config = load_config(config_file, overrides) if config_file else None
    settings = config.serving if config else load_serving_config(overrides)
    models = served_models(settings, ServedModel(config.name, config.model_base_path) if config else None)
    if check:
        from dpsr.serving.manager.check import check as run_check

        works = True
        for finding in run_check(models):
            click.echo(finding.text)
            works = works and finding.works
        sys.exit(0 if works else 1)
    if settings.workers > 1:
        from dpsr.serving.workers import serve_with_workers as run
    else:
        from dpsr.serving.server import serve as run
    run(models, settings)


@click.command()
@with_config
@click.argument("queries", nargs=-1, required=True, metavar="QUERY...")
@click.option("--target", metavar="HOST:PORT", help="The server; by default the configured one.")
@click.option("-k", "count", type=click.IntRange(1, 1000), default=10, show_default=True, help="Items to show.")
@click.option("--profile", multiple=True, metavar="COLUMN=VALUE", help="A profile value of the user; may be repeated.")
@click.option("--history", multiple=True, metavar="ITEM_ID", help="An item of the user's history, oldest first.")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Only such items: brand=Acme, price=10..20, price=..20; may be repeated.",
)
@click.option(
    "--mode",
    type=click.Choice([*MODES, MEMORY_MODE, COMPARE]),
    help="Which searchers answer; compare: side by side. By default as the servable is configured.",
)
@click.option("--ca", metavar="FILE", help="PEM file of the authority that signed the server's certificate: use TLS.")
@click.option("--cert", metavar="FILE", help="PEM file of this client's certificate, for a server with mutual TLS.")
@click.option("--key", metavar="FILE", help="PEM file of its key.")
def search(
    config: Config,
    queries: tuple[str, ...],
    target: str | None,
    count: int,
    profile: tuple[str, ...],
    history: tuple[str, ...],
    filters: tuple[str, ...],
    mode: str | None,
    ca: str | None,
    cert: str | None,
    key: str | None,
) -> None:
    """Ask a running server and print the best items of every query.

    \b
    Examples: dpsr search -c shop.toml "senior phone" "kids milk" -k 5
              dpsr search -c shop.toml phone --filter brand=Acme --filter price=10..20
              dpsr search -c shop.toml phone --mode compare -k 5
    """
    tls = TlsFiles(ca, cert, key)
    click.echo(
        run_search(
            config,
            queries,
            target=target,
            count=count,
            profile=profile,
            history=history,
            filters=filters,
            mode=mode,
            tls=tls,
        )
    )
