"""``dpsr serve --page``: the page in a process of its own, which ends with the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from page_process import Page, bare_configuration

from dpsr.cli import main
from dpsr.processes import die_with_parent
from dpsr.serving import READY_PREFIX


@contextmanager
def served(config: Path, folder: Path, *words: str) -> Iterator[tuple[Page, str]]:
    """A server and its page; and the server's address."""
    parent = os.getpid()
    command = [sys.executable, "-m", "dpsr.cli", "serve", "-c", str(config), "--page", *words]
    command += ["--set", f"page.judgements={folder / 'judgements.sqlite'}"]
    log = folder / "serve.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            preexec_fn=lambda: die_with_parent(parent),
        )
    assert process.stdout is not None
    try:
        target = ""
        for line in process.stdout:
            if line.startswith(READY_PREFIX):
                target = line.split()[-1]
            if line.startswith("page: http://127.0.0.1:"):
                yield Page(process, int(line.rstrip("/\n").rpartition(":")[2]), folder / "judgements.sqlite"), target
                break
        else:
            pytest.fail(log.read_text()[-2000:])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _ends(process: int) -> bool:
    deadline = time.monotonic() + 30
    while Path(f"/proc/{process}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not Path(f"/proc/{process}").exists()


def _page_of(process: int) -> int:
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    (page,) = [int(each) for each in children if b"\0page\0" in Path(f"/proc/{each}/cmdline").read_bytes()]
    return page


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGTERM, ("127.0.0.1:0",)),
        (signal.SIGINT, ("--set", "page.port=0")),
        (signal.SIGKILL, ("127.0.0.1:0", "--workers", "2")),
    ],
)
def test_the_page_asks_the_server_and_ends_with_it(
    page_shop: Path, tmp_path: Path, number: signal.Signals, words: tuple[str, ...]
) -> None:
    with served(page_shop, tmp_path, *words) as (page, target):
        assert page.done("GET", "/api/shop")["target"] == target
        (result,) = page.done("POST", "/api/search", {"query": "phone"})["results"]
        assert result["items"]
        page.done("POST", "/api/books", {"name": "book", "queries": ["q"]})
        child = _page_of(page.process.pid)
        os.kill(page.process.pid, number)
        assert page.process.wait(60) == (-number if number == signal.SIGKILL else 0)
        assert _ends(child)
    assert "Traceback" not in (tmp_path / "serve.log").read_text()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--page", "8700"), "--page 8700: expected HOST:PORT"),
        (("--page", "127.0.0.1:99999"), "page.port = 99999"),
        (("--page", "0.0.0.0:0"), "token_variable is missing"),
        (
            ("--page", "--set", "serving.tls_certificate=a.pem", "--set", "serving.tls_key=a.key"),
            "open the page by `dpsr page -c",
        ),
    ],
)
def test_what_cannot_be_shown_is_told_before_anything_listens(
    tmp_path: Path, words: tuple[str, ...], text: str
) -> None:
    done = CliRunner().invoke(main, ["serve", "-c", str(bare_configuration(tmp_path)), *words])
    assert (done.exit_code, text in done.output) == (2, True), done.output


def test_a_page_needs_a_configuration() -> None:
    done = CliRunner().invoke(main, ["serve", "--model-config-file", "models.config", "--page"])
    assert (done.exit_code, "name it by -c" in done.output) == (2, True)
