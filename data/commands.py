"""The ``dpsr data`` commands."""

from __future__ import annotations

from pathlib import Path

import click

from dpsr.errors import DpsrError

_DIRECTORY = click.argument("directory", type=click.Path(file_okay=False, path_type=Path))

_UBI_EVENTS = ("click", "purchase", "skip", "shown")


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
