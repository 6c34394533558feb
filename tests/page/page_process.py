"""A real ``dpsr page`` process, and plain HTTP to it."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from dpsr.processes import die_with_parent

CHANGING = {"content-type": "application/json", "x-dpsr-page": "1"}
CONFIGURATION = """
name = "shop"
work_dir = "{folder}/work"
[data.items]
path = "items.parquet"
[data.interactions]
path = "log.parquet"
"""
"""Enough for all that needs neither a dataset nor a model server."""


class Reply(NamedTuple):
    """An answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Page:
    """A page that runs."""

    def __init__(self, process: subprocess.Popen[str], port: int, judgements: Path) -> None:
        self.process, self.port, self.judgements = process, port, judgements

    def raw(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request on a connection of its own, with these headers alone."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        """One request as the page's own client sends it."""
        if method == "GET":
            return self.raw(method, path, None, headers)
        return self.raw(method, path, json.dumps({} if body is None else body).encode(), CHANGING | headers)

    def done(self, method: str, path: str, body: object = None) -> Any:
        """The answer to a request that has to succeed."""
        reply = self.ask(method, path, body)
        assert reply.status == 200, (method, path, reply.status, reply.body[:2000])
        return reply.json


@contextmanager
def running_page(config: Path, *words: str, environment: Mapping[str, str] | None = None) -> Iterator[Page]:
    """A page on a free port, whose log is ``page.log`` beside its configuration."""
    parent = os.getpid()
    command = [sys.executable, "-m", "dpsr.cli", "page", "-c", str(config), "--port", "0", *words]
    with config.with_name("page.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **(environment or {})},
            preexec_fn=lambda: die_with_parent(parent),
        )
    assert process.stdout is not None
    try:
        port, judgements = 0, Path()
        for line in process.stdout:
            if line.startswith("page: "):
                port = int(line.rstrip("/\n").rpartition(":")[2])
            if line.startswith("judgements: "):
                judgements = Path(line.removeprefix("judgements: ").strip())
                break
        assert port, config.with_name("page.log").read_text()[-2000:]
        yield Page(process, port, judgements)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def bare_configuration(folder: Path) -> Path:
    """A configuration file without a dataset behind it."""
    file = folder / "shop.toml"
    file.write_text(CONFIGURATION.format(folder=folder), encoding="utf-8")
    return file


NO_SERVER = ("--target", "127.0.0.1:1")
"""Names a model server that is not there."""
