"""The ``dpsr data`` commands."""

from __future__ import annotations

from pathlib import Path

import click

from dpsr.config import DpsrError

_DIRECTORY = click.argument("directory", type=click.Path(file_okay=False, path_type=Path))


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
    from dpsr.data.inspect import inspect as run

    click.echo(run(directory))


@data.command()
@_DIRECTORY
def verify(directory: Path) -> None:
    """Check every checksum and invariant of a dataset; exit code 1 where one is broken.

    \b
    Example: dpsr data verify build/demo/dataset
    """
    from dpsr.data.verify import verify as run

    problems = run(directory, advance=lambda name: click.echo(f"checking {name}", err=True))
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise DpsrError(f"{directory}: {len(problems)} problems:\n{listed}\nrun `dpsr prepare` again")
    click.echo(f"{directory}: no problem found")
