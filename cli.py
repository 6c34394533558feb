"""The ``dpsr`` command: one subcommand a step, from the log to the answered query.

TensorFlow is imported by the steps that need it, so that ``dpsr --help`` answers at once. Exit codes: 0 done, 1 failed,
2 wrong usage (a bad option or configuration).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dpsr import __version__
from dpsr.cluster.commands import cluster as cluster_commands
from dpsr.commands.demo import SIZES as DEMO_SIZES
from dpsr.commands.demo import demo as run_demo
from dpsr.commands.search import TlsFiles
from dpsr.commands.search import search as run_search
from dpsr.config import Config, ConfigError, load_config, load_serving_config
from dpsr.data.commands import data as data_commands
from dpsr.errors import DpsrError

if TYPE_CHECKING:
    pass

F = TypeVar("F", bound=Callable[..., Any])


class _Commands(click.Group):
    """Prints the errors a reader can mend as one message; anything else is a bug and keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (DpsrError, OSError) as error:
            click.echo(f"dpsr: {error}", err=True)
            ctx.exit(2 if isinstance(error, ConfigError) else 1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dpsr")
def main() -> None:
    """Deep personalized and semantic retrieval: from a click log to one servable.

    \b
    The steps, each reading what the one before wrote:
      dpsr prepare  -c shop.toml      raw items, users and log -> dataset directory
      dpsr train    -c shop.toml      dataset -> checkpoint
      dpsr evaluate -c shop.toml      checkpoint -> table of results beside BM25
      dpsr export   -c shop.toml      checkpoint -> servable
      dpsr serve    -c shop.toml      servable -> gRPC server
      dpsr search   -c shop.toml "q"  query -> items
    """
    # TensorFlow logs an error where there is no GPU; what goes wrong in a step is raised, not only logged.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _with_config(command: F) -> F:
    """Adds --config and --set, and passes the checked ``Config`` as ``config``."""

    def load(ctx: click.Context, _: click.Parameter, path: str) -> Config:
        return load_config(path, ctx.params.pop("overrides", ()))

    command = click.option(
        "-c", "--config", "config", metavar="FILE", required=True, callback=load, help="The TOML configuration."
    )(command)
    return click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        is_eager=True,
        help="Override one value, as training.epochs=3; may be given again.",
    )(command)


@main.command()
@_with_config
@click.option("--append", is_flag=True, help="Add a later log, new items and new users to the dataset that is there.")
@click.option(
    "--grow-vocabulary", is_flag=True, help="With --append: take new tokens and categories in; train anew then."
)
@click.option(
    "--runner",
    type=click.Choice(["local", "spark"]),
    default="local",
    show_default=True,
    help="What reads and sorts the log; the dataset is the same.",
)
@click.option(
    "--spark-master", metavar="URL", help="With --runner spark: where, as local[2]; by default as Spark is configured."
)
def prepare(config: Config, append: bool, grow_vocabulary: bool, runner: str, spark_master: str | None) -> None:
    """Turn raw items, users and interactions into a dataset directory.

    \b
    Examples: dpsr prepare -c examples/bestbuy_xbox.toml
              dpsr prepare -c shop.toml --runner spark --spark-master "local[8]"
    """
    from dpsr.data.prepare.job import prepare as run
    from dpsr.data.prepare.spark import spark_session

    if grow_vocabulary and not append:
        raise click.UsageError("--grow-vocabulary goes with --append")
    if spark_master and runner != "spark":
        raise click.UsageError("--spark-master goes with --runner spark")
    if append and runner == "spark":
        raise click.UsageError("--append goes with --runner local")
    with spark_session(spark_master) if runner == "spark" else nullcontext() as spark:
        click.echo(f"dataset: {run(config, append=append, grow_vocabulary=grow_vocabulary, spark=spark)}")


@main.command()
@_with_config
@click.option("--no-resume", is_flag=True, help="Start anew instead of continuing from the last checkpoint.")
def train(config: Config, no_resume: bool) -> None:
    """Train the two towers on a prepared dataset, here or, where TF_CONFIG tells of one, on a cluster.

    \b
    Example: dpsr train -c shop.toml --set training.epochs=10
    """
    from dpsr.cluster.run import train as run

    run(config, resume=not no_resume)
    click.echo(f"checkpoints: {config.checkpoint_dir}")


@main.command()
@_with_config
@click.option("--split", type=click.Choice(["valid", "test"]), default="test", show_default=True)
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
@click.option(
    "--report", "page", metavar="FILE.html", type=click.Path(dir_okay=False, path_type=Path), help="A web page."
)
@click.option(
    "--compare",
    "other_runs",
    metavar="METRICS.json",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Another run's results, for the page's popularity by mixing ratio; may be given again.",
)
@click.option("--trec", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="TREC runs and qrels.")
def evaluate(
    config: Config, split: str, markdown: bool, page: Path | None, other_runs: tuple[Path, ...], trec: Path | None
) -> None:
    """Compare the trained model with popularity, BM25, LSA, the memory of clicks seen before, and hybrids.

    With --set evaluation.dssm=true it trains DSSM on the same log, once, and compares with that too.

    \b
    Example: dpsr evaluate -c shop.toml --split valid --report report.html
    """
    if other_runs and page is None:
        raise click.UsageError("--compare adds to the page of --report; name that too")
    from dpsr.data.dataset.tables import Dataset
    from dpsr.evaluation.compare.evaluate import evaluate as run
    from dpsr.training.trained import load_trained

    dataset = Dataset.load(config.dataset_dir)
    model = load_trained(config.checkpoint_dir, dataset)
    report = run(config, dataset, model, split=split, page=page, other_runs=other_runs, trec=trec)
    click.echo(report.to_markdown() if markdown else report.to_text())


@main.command()
@_with_config
@click.option("--items", metavar="FILE", help="Serve these items (file or glob) instead of the dataset's.")
def export(config: Config, items: str | None) -> None:
    """Publish tokenizer, query tower and item index as the next version of one servable.

    With --items the trained model indexes another catalogue, which may hold items that it has never seen.

    \b
    Example: dpsr export -c shop.toml --items today.parquet
    """
    from dpsr.data.dataset.tables import Dataset
    from dpsr.indexing.publish import export as run
    from dpsr.indexing.publish import index_table
    from dpsr.training.trained import load_trained

    dataset = Dataset.load(config.dataset_dir)
    version = run(config, dataset, load_trained(config.checkpoint_dir, dataset), items=items)
    click.echo(index_table(version))
    click.echo(f"servable: {version}")


@main.command()
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


@main.command()
@_with_config
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
    ca: str | None,
    cert: str | None,
    key: str | None,
) -> None:
    """Ask a running server and print the best items of every query.

    \b
    Examples: dpsr search -c shop.toml "senior phone" "kids milk" -k 5
              dpsr search -c shop.toml phone --filter brand=Acme --filter price=10..20
    """
    tls = TlsFiles(ca, cert, key)
    click.echo(
        run_search(
            config, queries, target=target, count=count, profile=profile, history=history, filters=filters, tls=tls
        )
    )


@main.command()
@_with_config
@click.argument("text")
def explain(config: Config, text: str) -> None:
    """Show the tokens of a text as the model sees them: kind, id and document frequency.

    \b
    Example: dpsr explain -c shop.toml "xbox 360 controler"
    """
    from tabulate import tabulate

    from dpsr.tokenizer_cc import Tokenizer

    tokenizer = Tokenizer.load(config.dataset_dir / "tokenizer.model")
    rows = [
        (
            token.text,
            token.kind,
            token.id,
            token.document_frequency if token.id <= tokenizer.vocabulary_size else "unseen",
        )
        for token in tokenizer.tokens(text)
    ]
    click.echo(tabulate(rows, headers=["token", "kind", "id", "documents"], disable_numparse=True))


@main.command(name="demo-shop")
@click.option("--out", required=True, metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--items", type=click.IntRange(100), default=DEMO_SIZES["default"][0], show_default=True)
@click.option("--users", type=click.IntRange(1), default=DEMO_SIZES["default"][1], show_default=True)
@click.option("--clicks", type=click.IntRange(1), default=DEMO_SIZES["default"][2], show_default=True)
@click.option("--sessions", type=click.IntRange(1), help="Result pages that are seen, instead of --clicks.")
@click.option("--seed", type=int, default=1, show_default=True)
def demo_shop(out: Path, items: int, users: int, clicks: int, sessions: int | None, seed: int) -> None:
    """Generate a shop: catalogue, users and click log as Parquet.

    \b
    Example: dpsr demo-shop --out shop --items 5000
    """
    from dpsr.data.demo_shop.shop import generate

    generate(out, items=items, users=users, interactions=None if sessions else clicks, sessions=sessions, seed=seed)
    click.echo(f"shop: {out}")


@main.command()
@click.option("--size", type=click.Choice(sorted(DEMO_SIZES)), default="default", show_default=True)
@click.option(
    "--work-dir", type=click.Path(file_okay=False, path_type=Path), default=Path("build/demo"), show_default=True
)
def demo(size: str, work_dir: Path) -> None:
    """Run the whole path on a generated shop and show what the server answers.

    \b
    Example: dpsr demo --size small
    """
    run_demo(size, work_dir)


main.add_command(data_commands)
main.add_command(cluster_commands)


if __name__ == "__main__":
    main()
