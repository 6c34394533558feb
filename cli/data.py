"""The commands that make, show and check a dataset: ``prepare``, ``explain``, ``demo-shop``, ``data ...``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import click

from dpsr.cli.demo import SIZES
from dpsr.cli.options import with_config
from dpsr.cli.tls import TlsFiles, with_tls
from dpsr.config import Config
from dpsr.errors import DpsrError

_DIRECTORY = click.argument("directory", type=click.Path(file_okay=False, path_type=Path))

_UBI_EVENTS = ("click", "purchase", "skip", "shown")


@click.command()
@with_config
@click.option("--append", is_flag=True, help="Add a later log, new items and new users to the dataset that is there.")
@click.option(
    "--grow-vocabulary", is_flag=True, help="With --append: take new tokens and categories in; train anew then."
)
@click.option(
    "--runner",
    type=click.Choice(["local", "spark"]),
    default="local",
    show_default=True,
    help="Engine that reads and sorts the log; the dataset is the same.",
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


@click.command()
@with_config
@click.argument("text")
@click.option("--item", "item_id", metavar="ID", help="Explain why a running server finds this item for the text.")
@click.option("--target", metavar="HOST:PORT", help="With --item: the server; by default the configured one.")
@with_tls
def explain(config: Config, text: str, item_id: str | None, target: str | None, tls: TlsFiles) -> None:
    """Show the tokens of a text as the model sees them: kind, id and document frequency; and its subwords.

    Subwords and their ids come second, where the dataset has some. With --item: what each token and term adds to the
    scores of an item, its rank in every list, the items near it, and what the log has of it for this query.

    \b
    Examples: dpsr explain -c shop.toml "xbox 360 controler"
              dpsr explain -c shop.toml "xbox 360 controler" --item 2785361
    """
    from tabulate import tabulate

    if item_id is not None:
        from dpsr.cli.explanation import explain_item

        click.echo(explain_item(config, text, item_id, target=target, tls=tls))
        return
    if target is not None or any(tls):
        raise click.UsageError("--target, --ca, --cert and --key go with --item")
    from dpsr.tokenizer_cc import Tokenizer
    from dpsr.tokenizer_cc.subwords import SubwordTokenizer

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
    if (path := config.dataset_dir / "subwords.model").exists():
        click.echo()
        subwords = SubwordTokenizer.load(path).tokens(text)
        click.echo(tabulate(subwords, headers=["subword", "id"], disable_numparse=True))


@click.command(name="demo-shop")
@click.option("--out", required=True, metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--items", type=click.IntRange(100), default=SIZES["default"][0], show_default=True)
@click.option("--users", type=click.IntRange(1), default=SIZES["default"][1], show_default=True)
@click.option("--clicks", type=click.IntRange(1), default=SIZES["default"][2], show_default=True)
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


@click.group()
def data() -> None:
    """Look at a dataset directory, or check it.

    \b
    Example: dpsr data inspect build/demo/dataset
    """


@data.command()
@_DIRECTORY
def inspect(directory: Path) -> None:
    """Show sizes, splits, vocabulary coverage, head and tail, examples and rejected rows.

    \b
    Example: dpsr data inspect build/demo/dataset
    """
    from dpsr.data.dataset.inspect import inspect as run

    click.echo(run(directory))


@data.command()
@_DIRECTORY
def verify(directory: Path) -> None:
    """Check every checksum and invariant of a dataset; exit code 1 where one is broken.

    \b
    Example: dpsr data verify build/demo/dataset
    """
    from dpsr.data.dataset.verify import verify as run

    problems = run(directory, advance=lambda name: click.echo(f"checking {name}", err=True))
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise DpsrError(f"{directory}: {len(problems)} problems:\n{listed}\nrun `dpsr prepare` again")
    click.echo(f"{directory}: no problem found")


@data.command(name="import-ubi")
@click.option("--queries", required=True, metavar="GLOB", help="JSON Lines of ubi_queries; .gz and .zst too.")
@click.option("--events", required=True, metavar="GLOB", help="JSON Lines of ubi_events.")
@click.option("--out", required=True, metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--action", "actions", multiple=True, metavar="NAME=EVENT", help="Another action, as add_to_cart=click; repeatable."
)
@click.option("--max-rejected-share", type=click.FloatRange(0, 1), default=0.01, show_default=True)
def import_ubi(queries: str, events: str, out: Path, actions: tuple[str, ...], max_rejected_share: float) -> None:
    """Turn User Behavior Insights 1.3 logs into an interaction log for `dpsr prepare`.

    \b
    Example: dpsr data import-ubi --queries "ubi_queries*.jsonl" --events "ubi_events*.jsonl" --out log.parquet
    """
    from dpsr.data.raw.ubi import import_ubi as run

    meaning = dict(action.partition("=")[::2] for action in actions)
    if wrong := [f"{name}={event}" for name, event in meaning.items() if event not in _UBI_EVENTS]:
        raise click.BadParameter(f"{', '.join(wrong)}: the event must be one of {', '.join(_UBI_EVENTS)}")
    counts = run(queries, events, out, actions=meaning, max_rejected_share=max_rejected_share)
    found = ", ".join(f"{number:,} {name}s" for name, number in counts.events.items())
    click.echo(f"{out}: {found}")
    if counts.ignored:
        click.echo("left out: " + ", ".join(f"{name} ({number:,})" for name, number in sorted(counts.ignored.items())))
