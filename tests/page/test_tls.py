"""The page, and commands, that ask a model server with TLS: real certificates, real processes."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from page_process import NO_SERVER, Page, bare_configuration, running_page
from page_shop import serving

from dpsr.cli import main
from dpsr.data.judgements.records import BadCase
from dpsr.data.judgements.store import JudgementStore

QUERY = "phone for grandpa"


@pytest.fixture(scope="module")
def shop(page_shop: Path, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small shop, whose server has mutual TLS and listens at all addresses."""
    text = page_shop.read_text(encoding="utf-8")
    folder = tmp_path_factory.mktemp("tls")
    files = {"tls_certificate": "server.pem", "tls_key": "server.key", "tls_client_ca": "ca.pem"}
    tls = "".join(f'{key} = "{keys / name}"\n' for key, name in files.items())
    judgements = f'judgements = "{folder / "judgements.sqlite"}"\n'
    text = text.replace("[page]\n", f"[page]\n{judgements}") + 'host = "0.0.0.0"\n' + tls
    (folder / "shop.toml").write_text(f"{text}\n[data.judgements]\n", encoding="utf-8")
    return folder / "shop.toml"


@pytest.fixture(scope="module")
def port(shop: Path) -> Iterator[str]:
    """Of the server."""
    with serving(shop) as address:
        yield address.rpartition(":")[2]


@pytest.fixture(scope="module")
def files(keys: Path) -> tuple[str, ...]:
    """What the server wants."""
    return ("--ca", str(keys / "ca.pem"), "--cert", str(keys / "client.pem"), "--key", str(keys / "client.key"))


def found(page: Page) -> list[str]:
    (result,) = page.done("POST", "/api/search", {"query": QUERY})["results"]
    assert result["error"] is None
    return [each["item_id"] for each in result["items"]]


def test_the_page_asks_a_named_server_with_mutual_tls(shop: Path, port: str, files: tuple[str, ...]) -> None:
    with running_page(shop, "--target", f"127.0.0.1:{port}", *files) as page:
        item, *_ = found(page)
        columns = [{"mode": "hybrid"}]
        explained = page.done("POST", "/api/explain", {"query": QUERY, "item_id": item, "columns": columns})
        assert explained["ranks"] == [1]


def test_the_page_asks_the_configured_server_with_tls(shop: Path, port: str, files: tuple[str, ...]) -> None:
    with running_page(shop, "--set", f"serving.port={port}", *files) as page:
        assert found(page)
        assert page.done("GET", "/api/shop")["target"] == f"127.0.0.1:{port}"


def test_the_page_starts_a_server_with_tls(shop: Path, files: tuple[str, ...]) -> None:
    with running_page(shop, *files) as page:
        deadline = time.monotonic() + 240
        while (reply := page.ask("GET", "/api/shop")).status != 200:
            assert "starting" in reply.json["error"]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert found(page)


@pytest.mark.parametrize(
    ("host", "ca", "text"),
    [
        ("127.0.0.1", "stranger.pem", r"the certificate of the server is not accepted \(.*by --ca"),
        ("127.0.0.2", "ca.pem", r"the certificate of the server is for another name \(.*name that its certificate has"),
        ("127.0.0.1", "ca.pem", r"no server answers \(.*mutual TLS also by --cert and --key"),
        ("127.0.0.1", None, r"no server answers \(.*one with TLS is asked by --ca"),
    ],
)
def test_the_page_says_why_a_server_is_not_reached(
    shop: Path, port: str, keys: Path, host: str, ca: str | None, text: str
) -> None:
    words = () if ca is None else ("--ca", str(keys / ca))
    with running_page(shop, "--target", f"{host}:{port}", *words) as page:
        reply = page.ask("GET", "/api/shop")
        assert reply.status == 503
        assert re.search(text, reply.json["error"]), reply.json["error"]
        (result,) = page.done("POST", "/api/search", {"query": QUERY})["results"]
        assert f"{host}:{port}: " in result["error"]


def test_a_server_without_tls_is_named(page_shop: Path, tmp_path: Path, files: tuple[str, ...]) -> None:
    with (
        serving(page_shop) as target,
        running_page(page_shop, "--target", target, *files, "--set", f"page.judgements={tmp_path / 'other'}") as page,
    ):
        assert "the server has no TLS" in page.ask("GET", "/api/shop").json["error"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--ca {keys}/none.pem", "none.pem: No such file"),
        ("--ca {keys}/ca.key", r"--ca .*ca\.key: .*expected a PEM file of certificates"),
        ("--ca {keys}/ca.pem --cert {keys}/client.pem", "--cert and --key go together, and with --ca"),
        ("--cert {keys}/client.pem --key {keys}/client.key", "--cert and --key go together, and with --ca"),
        (
            "--ca {keys}/ca.pem --cert {keys}/client.pem --key {keys}/server.key",
            r"--cert .*client\.pem --key .*server\.key: .*expected PEM files that belong together",
        ),
        ("--ca {keys}/ca.pem --cert {keys}/ca.key --key {keys}/ca.key", "expected PEM files that belong together"),
    ],
)
def test_files_that_cannot_be_used_are_told_before_anything_listens(
    keys: Path, tmp_path: Path, words: str, text: str
) -> None:
    command = ["page", "-c", str(bare_configuration(tmp_path)), *NO_SERVER, "--port", "0"]
    done = CliRunner().invoke(main, [*command, *words.format(keys=keys).split()])
    assert done.exit_code == 2
    assert done.output.startswith("dpsr: ")
    assert "page: http" not in done.output
    assert re.search(text, done.output), done.output


def test_an_encrypted_key_is_told(keys: Path, tmp_path: Path) -> None:
    key = tmp_path / "client.key"
    command = ["openssl", "ec", "-in", keys / "client.key", "-out", key, "-aes256", "-passout", "pass:secret"]
    subprocess.run(command, check=True, capture_output=True)
    words = ["--ca", str(keys / "ca.pem"), "--cert", str(keys / "client.pem"), "--key", str(key)]
    done = CliRunner().invoke(main, ["page", "-c", str(bare_configuration(tmp_path)), *NO_SERVER, *words])
    assert done.exit_code == 2
    assert "the key without a password" in done.output


def test_tls_on_one_side_alone_is_told(shop: Path, keys: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["page", "-c", str(shop), "--port", "0"])
    assert (done.exit_code, "name the authority that signed it by --ca" in done.output) == (2, True)
    command = ["page", "-c", str(bare_configuration(tmp_path)), "--port", "0", "--ca", str(keys / "ca.pem")]
    done = CliRunner().invoke(main, command)
    assert (done.exit_code, "the configured server has no TLS" in done.output) == (2, True)


def test_commands_ask_with_tls(shop: Path, port: str, keys: Path, files: tuple[str, ...]) -> None:
    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, [*words, "-c", str(shop), "--target", f"127.0.0.1:{port}"])
        return done.exit_code, done.output

    code, output = run("search", QUERY, *files)
    assert (code, output.splitlines()[0]) == (0, QUERY)
    item = "H01"  # in no list of the query
    code, output = run("explain", QUERY, "--item", item, *files)
    assert (code, "BM25: " in output) == (0, True)
    store = JudgementStore(shop.with_name("judgements.sqlite"))
    store.report(BadCase(id=0, query=QUERY, kind="missing item", item_id=item, judge="ann", version=1))
    store.close()
    code, output = run("badcases", *files)
    assert (code, "still bad" in output) == (1, True)
    for command in (("search", QUERY), ("explain", QUERY, "--item", item), ("badcases",)):
        code, output = run(*command, "--ca", str(keys / "stranger.pem"))
        assert code == 1
        assert "the certificate of the server is not accepted" in output
    code, output = run("explain", QUERY, *files)
    assert (code, "go with --item" in output) == (2, True)
