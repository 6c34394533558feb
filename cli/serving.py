"""The server and the command that asks it: ``serve`` and ``search``."""

from __future__ import annotations

import sys

import click

from dpsr.cli.options import with_config
from dpsr.cli.page import page_beside, page_overrides
from dpsr.cli.search import COMPARE
from dpsr.cli.search import search as run_search
from dpsr.cli.tls import TlsFiles, with_tls
from dpsr.config import Config, load_config, load_serving_config
from dpsr.indexing.signature import MEMORY_MODE, MODES


@click.command()
@click.option("-c", "--config", "config_file", metavar="FILE", help="The TOML configuration: serves its model.")
@click.option("--model-config-file", metavar="FILE", help="A ModelServerConfig of TensorFlow Serving: several models.")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes that share the ports; by default one.")
@click.option(
    "--page",
    "page_address",
    metavar="[HOST:PORT]",
    is_flag=False,
    flag_value="",
    help="Open the web page of `dpsr page` too, which ends with the server; by default at [page] host and port.",
)
@click.option("--check", is_flag=True, help="Load and warm what would be served, say what works, and exit (0 or 1).")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override one value; may be given again.")
def serve(
    config_file: str | None,
    model_config_file: str | None,
    workers: int | None,
    page_address: str | None,
    check: bool,
    overrides: tuple[str, ...],
) -> None:
    """Serve published versions over gRPC and REST until interrupted.

    Follows the model directories: a newer version is loaded, warmed up and swapped in.

    \b
    Examples: dpsr serve -c shop.toml --set serving.port=8500
              dpsr serve -c shop.toml --page
              dpsr serve --model-config-file models.config
              dpsr serve -c shop.toml --check
    """
    from dpsr.serving.manager.model_config import ServedModel, served_models

    if model_config_file:
        overrides += (f"serving.model_config_file={model_config_file}",)
    if workers:
        overrides += (f"serving.workers={workers}",)
    if page_address is not None and config_file is None:
        raise click.UsageError("--page shows the shop of a configuration; name it by -c")
    if page_address:
        overrides += page_overrides(page_address)
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
    if page_address is None or config_file is None:
        run(models, settings)
        return
    with page_beside(settings, config_file, overrides) as announce:
        run(models, settings, announce=announce)


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
@with_tls
def search(
    config: Config,
    queries: tuple[str, ...],
    target: str | None,
    count: int,
    profile: tuple[str, ...],
    history: tuple[str, ...],
    filters: tuple[str, ...],
    mode: str | None,
    tls: TlsFiles,
) -> None:
    """Ask a running server and print the best items of every query.

    \b
    Examples: dpsr search -c shop.toml "senior phone" "kids milk" -k 5
              dpsr search -c shop.toml phone --filter brand=Acme --filter price=10..20
              dpsr search -c shop.toml phone --mode compare -k 5
    """
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
