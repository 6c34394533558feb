"""The ``dpsr`` command: one file a command group, each a thin layer over the package that does the work.

TensorFlow is imported by the commands that need it, so that ``dpsr --help`` answers at once. Exit codes: 0 done,
1 failed, 2 wrong usage (a bad option or configuration).
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import click

from dpsr import __version__
from dpsr.cli import (
    bad_cases,
    cluster,
    comparison,
    data,
    demo,
    evaluation,
    fleet,
    indexing,
    init,
    page,
    serving,
    training,
)
from dpsr.config import ConfigError
from dpsr.errors import DpsrError


class _Commands(click.Group):
    """Prints the errors a reader can mend as one message; anything else is a bug and keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of a pipe has enough, as ``head``; click ends the process
            raise
        except (DpsrError, OSError) as error:
            click.echo(f"dpsr: {error}", err=True)
            ctx.exit(2 if isinstance(error, ConfigError) else 1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dpsr")
def main() -> None:
    """Deep personalized and semantic retrieval: from a click log to one servable.

    \b
    The steps, each reading what the one before wrote:
      dpsr init ITEMS [LOG]           raw items, log -> a first shop.toml
      dpsr prepare  -c shop.toml      raw items, users and log -> dataset directory
      dpsr train    -c shop.toml      dataset -> checkpoint
      dpsr evaluate -c shop.toml      checkpoint -> table of results beside BM25
      dpsr compare  -c shop.toml --models all   dataset -> table and page of many models
      dpsr export   -c shop.toml      checkpoint -> servable
      dpsr serve    -c shop.toml      servable -> gRPC server
      dpsr search   -c shop.toml "q"  query -> items
      dpsr page     -c shop.toml      servable -> web page to search and judge
    """
    # TensorFlow logs an error on a machine without a GPU; an error of a step is raised, not only logged.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow imports a Keras with itself; Keras 3, which nothing here uses, takes a second more than Keras 2.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    # Into a pipe or a file Python writes blocks of 8 KiB; a reader shall see each line of a running command at once.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


for _command in (
    init.init,
    data.prepare,
    training.train,
    evaluation.evaluate,
    comparison.compare,
    evaluation.score,
    indexing.export,
    serving.serve,
    serving.search,
    page.page,
    bad_cases.badcases,
    data.explain,
    data.demo_shop,
    demo.demo,
    data.data,
    cluster.cluster,
    fleet.fleet,
):
    main.add_command(_command)
