"""``dpsr init``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from dpsr.errors import DpsrError


@click.command()
@click.argument("catalogue")
@click.argument("log", required=False)
@click.option("--users", metavar="PATH", help="The users' profiles.")
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="By default NAME.toml.")
@click.option("--name", help="The model's name; by default that of the catalogue's directory.")
def init(catalogue: str, log: str | None, users: str | None, out: Path | None, name: str | None) -> None:
    """Look at a shop's files and write a first configuration for them.

    CATALOGUE and LOG are Parquet, CSV or JSON Lines: files, directories or quoted patterns. Columns are recognised by
    their names and values, and the training recipe is chosen by size; everything guessed is printed and stands in the
    file. Without a LOG the model learns from the catalogue alone.

    \b
    Example: dpsr init items.csv "clicks/*.parquet" --out shop.toml
    """
    from dpsr.data.guess.configuration import propose

    proposal = propose(catalogue, log, users, name=name)
    out = out or Path(f"{proposal.config.name}.toml")
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(proposal.text)
    except FileExistsError:
        raise DpsrError(f"{out}: exists and is left as it is; remove it, or name another file with --out") from None
    for key, reasons in proposal.found.items():
        click.echo(f"{key}:")
        for reason in reasons:
            click.echo(f"  {reason}")
    if proposal.doubts:
        click.echo("to check:")
        for doubt in proposal.doubts:
            click.echo(f"  {doubt}")
    click.echo(f"configuration: {out}; next: dpsr prepare -c {shlex.quote(str(out))}")
