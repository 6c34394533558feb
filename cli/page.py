"""``dpsr page``: the web page on which people search, compare, explain, judge and report."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click

from dpsr.cli.tls import TlsFiles, with_tls
from dpsr.config import ConfigError, ServingConfig, load_config
from dpsr.processes import end, start_command

_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]\s]+)):(?P<port>[0-9]{1,5})")
_STOP_SECONDS = 10.0


@click.command()
@click.option("-c", "--config", "config_file", metavar="FILE", required=True, help="The TOML configuration.")
@click.option(
    "--target",
    metavar="HOST:PORT",
    help="The model server or the fleet; by default the configured one, or else one of its own.",
)
@click.option("--model", metavar="NAME", help="The model or alias there; by default the configuration's name.")
@with_tls
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the page; 0 takes a free one.")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override one value; may be given again.")
def page(
    config_file: str,
    target: str | None,
    model: str | None,
    tls: TlsFiles,
    port: int | None,
    overrides: tuple[str, ...],
) -> None:
    """Open a web page to search, compare, explain, judge and report, until interrupted.

    Without --target the page asks the server that listens at the configured address, or else starts one, which ends
    with it. docs/page.md describes the page.

    \b
    Examples: dpsr page -c shop.toml
              dpsr page -c shop.toml --target fleet.example:8500 --model shop
              dpsr page -c shop.toml --target shop.example:8500 --ca ca.pem
    """
    from dpsr.page.server.run import run

    if port is not None:
        overrides += (f"page.port={port}",)
    config = load_config(config_file, overrides)
    credentials = tls.credentials()
    words = _words(config_file, overrides)
    run(config, target=target, model=model, serve_words=words, credentials=credentials, announce=click.echo)


def page_overrides(address: str) -> tuple[str, ...]:
    """The address of ``dpsr serve --page``, ``HOST:PORT``, as values of the configuration.

    Raises:
        ConfigError: it is none.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ConfigError(f"--page {address}: expected HOST:PORT, as 127.0.0.1:8700")
    return f"page.host={found['v6'] or found['host']}", f"page.port={found['port']}"


@contextmanager
def page_beside(
    settings: ServingConfig, config_file: str, overrides: Sequence[str]
) -> Iterator[Callable[[str], object]]:
    """The page in a process of its own beside a model server of this one, with which it ends.

    Args:
        settings: of the server.
        config_file, overrides: of the shop.

    Yields:
        What the server announces its address by, in the main thread: prints that, and starts the page.

    Raises:
        ConfigError: the server has TLS.
    """
    if settings.tls_certificate is not None:
        raise ConfigError(
            "--page asks the server as a client without files of TLS, and serving.tls_certificate is set; open the "
            f"page by `dpsr page -c {config_file} --ca FILE` once the server runs"
        )
    processes: list[subprocess.Popen[str]] = []

    def announce(lines: str) -> None:
        print(lines, flush=True)
        port = lines.rpartition(":")[2]
        # The page asks the server that listens at the configured address.
        processes.append(start_command(["page", *_words(config_file, (*overrides, f"serving.port={port}"))]))

    try:
        yield announce
    finally:
        for process in processes:
            end(process, _STOP_SECONDS)


def _words(config_file: str, overrides: Sequence[str]) -> list[str]:
    return ["-c", config_file, *(word for override in overrides for word in ("--set", override))]
