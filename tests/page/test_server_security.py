"""Who may ask the page, and that nothing that is asked breaks it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from page_process import CHANGING, NO_SERVER, Page, bare_configuration, running_page

from dpsr.page.openapi import OPERATIONS
from dpsr.page.server.calls import MAX_JSON_BYTES

TOKEN = "correct-horse-battery"
MEGABYTE = 1_000_000
HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "\"double\" 'single' `back` \\ ${x} {{7*7}} %00 %2e%2e/ ; DROP TABLE books; --",
    "\x00\x01\x07\x1b[31m\x7f\x85\r\n\t",
    "\u202eoverride\u202c \u2066isolate\u2069 \ufeff\ufffe",
    "手机 חדש حذاء \U0001f469\u200d\U0001f467 Z\u0335\u0321",
    "x" * 10_000,
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with running_page(bare_configuration(tmp_path_factory.mktemp("page")), *NO_SERVER) as page:
        page.done("POST", "/api/books", {"name": "book", "queries": ["phone"]})
        yield page


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page beyond loopback."""
    words = (*NO_SERVER, "--set", "page.host=0.0.0.0", "--set", "page.token_variable=PAGE_TOKEN")
    config = bare_configuration(tmp_path_factory.mktemp("guarded"))
    with running_page(config, *words, environment={"PAGE_TOKEN": TOKEN}) as page:
        yield page


# ------------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/static/main.js", 200),
        ("GET", "/static/page.css", 200),
        ("GET", "/api/books", 200),
        ("GET", "/api/books/book/export?format=csv", 200),
        ("GET", "/nothing", 404),
        ("GET", "/api/nothing", 404),
        ("PATCH", "/api/books", 405),
        ("POST", "/", 405),
        ("POST", "/api/books", 403),
        ("GET", "/api/shop", 503),
    ],
)
def test_every_answer_has_the_policy(page: Page, method: str, path: str, status: int) -> None:
    reply = page.raw(method, path)
    assert reply.status == status
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Referrer-Policy"] == "no-referrer"
    if status >= 400:
        assert set(reply.json) == {"error"}


@pytest.mark.parametrize("request_text", [b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nBad header\r\n\r\n"])
def test_malformed_http_has_the_policy_too(page: Page, request_text: bytes) -> None:
    with socket.create_connection(("127.0.0.1", page.port), 10) as connection:
        connection.sendall(request_text)
        answer = connection.makefile("rb").read()
    assert b" 400 " in answer.splitlines()[0]
    assert b"default-src 'none'" in answer
    assert b"nosniff" in answer


# ------------------------------------------------------------------------------------------- origins


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/api/books"])
@pytest.mark.parametrize(
    "host", ["evil.test", "evil.test:80", "127.0.0.1.evil.test", "10.0.0.1", "localhost.evil.test"]
)
def test_a_rebound_name_is_refused(page: Page, path: str, host: str) -> None:
    assert page.raw("GET", path, headers={"Host": host}).status == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9999", "[::1]:8700", "LOCALHOST:1"])
def test_names_of_loopback_are_known_on_any_port(page: Page, host: str) -> None:
    assert page.raw("GET", "/api/books", headers={"Host": host}).status == 200


@pytest.mark.parametrize("host", ["", "a b", "user@127.0.0.1", "127.0.0.1:port", "127.0.0.1/x"])
def test_a_host_that_is_none_is_refused(page: Page, host: str) -> None:
    assert page.raw("GET", "/api/books", headers={"Host": host}).status in (400, 403)


@pytest.mark.parametrize("origin", ["http://evil.test", "null", "http://127.0.0.1:1", "file://", "http://localhost"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_origin_is_refused(page: Page, origin: str, method: str) -> None:
    body = {"name": "stolen", "queries": []}
    assert page.ask(method, "/api/books", body, Origin=origin).status == 403
    assert [each["name"] for each in page.done("GET", "/api/books")["books"]] == ["book"]


def test_its_own_origin_is_known(page: Page) -> None:
    assert page.ask("GET", "/api/books", Origin=f"http://127.0.0.1:{page.port}").status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_is_refused(page: Page, site: str) -> None:
    assert page.ask("GET", "/api/books", **{"Sec-Fetch-Site": site}).status == 403
    assert page.ask("GET", "/api/books", **{"Sec-Fetch-Site": "same-origin"}).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/json"}, 403),
        ({"content-type": "application/json", "x-dpsr-page": "2"}, 403),
        ({"x-dpsr-page": "1"}, 415),
        ({"content-type": "text/plain", "x-dpsr-page": "1"}, 415),
        ({"content-type": "application/x-www-form-urlencoded", "x-dpsr-page": "1"}, 415),
        ({"content-type": "application/octet-stream", "x-dpsr-page": "1"}, 415),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/books"), ("PUT", "/api/judgements"), ("DELETE", "/api/books/book")]
)
def test_what_a_form_could_send_changes_nothing(
    page: Page, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    before = page.done("GET", "/api/books")
    assert page.raw(method, path, b'{"name": "stolen"}', headers).status == status
    assert page.done("GET", "/api/books") == before


def test_no_other_origin_is_told_that_it_may(page: Page) -> None:
    headers = {"Origin": "http://evil.test", "Access-Control-Request-Method": "PUT"}
    reply = page.raw("OPTIONS", "/api/judgements", headers=headers)
    assert reply.status == 403
    assert not [name for name in reply.headers if name.lower().startswith("access-control")]


# ------------------------------------------------------------------------------------------- token


def test_beyond_loopback_every_operation_needs_the_token(guarded: Page) -> None:
    for operation in OPERATIONS:
        path = operation.path.format(book="b", id=1, other=2)
        assert guarded.ask(operation.method, path).status == 401, operation.name
    assert guarded.raw("GET", "/").status == 200, "the page itself says that the token is missing"


def test_the_address_with_the_token_sets_a_cookie_and_hides_it(guarded: Page) -> None:
    reply = guarded.raw("GET", f"/?token={TOKEN}")
    assert (reply.status, reply.headers["Location"]) == (303, "/")
    cookie = reply.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    known = {"Cookie": cookie.partition(";")[0]}
    assert guarded.ask("GET", "/api/books", **known).status == 200
    assert guarded.ask("GET", "/api/books", Cookie=known["Cookie"][:-1] + "x").status == 401


def test_a_bearer_is_known(guarded: Page) -> None:
    assert guarded.ask("GET", "/api/books", Authorization=f"Bearer {TOKEN}").status == 200
    for wrong in (f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer", TOKEN):
        assert guarded.ask("GET", "/api/books", Authorization=wrong).status == 401
    assert guarded.raw("GET", "/?token=wrong").status == 401
    assert guarded.raw("GET", "/?token=%ff").status == 401


def test_beyond_loopback_another_origin_is_refused_also_with_the_token(guarded: Page) -> None:
    known = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded.ask("GET", "/api/books", Origin="http://evil.test", **known).status == 403
    assert (
        guarded.ask("GET", "/api/books", Host="shop.test:8700", Origin="http://shop.test:8700", **known).status == 200
    )


@pytest.mark.parametrize(
    ("settings", "environment", "told"),
    [
        (("page.host=0.0.0.0",), "", "token_variable is missing"),
        (("page.host=0.0.0.0", "page.token_variable=PAGE_TOKEN"), "", "is not set"),
        (("page.host=0.0.0.0", "page.token_variable=PAGE_TOKEN"), "short", "has 5 characters"),
        (("page.judgements=/proc/no/file",), "", "/proc/no"),
    ],
)
def test_a_page_that_cannot_be_opened_says_why(
    tmp_path: Path, settings: tuple[str, ...], environment: str, told: str
) -> None:
    words = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "dpsr.cli", "page", "-c", str(bare_configuration(tmp_path)), *NO_SERVER, *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PAGE_TOKEN": environment}
    )
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------------------------------- hostile texts


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_come_back_as_they_were(page: Page, text: str) -> None:
    pair = {"book": "book", "judge": text[:200], "query": text, "item_id": text}
    assert page.done("PUT", "/api/judgements", {**pair, "grade": 2, "comment": text})["comment"] == text
    kept = [each for each in page.done("GET", "/api/books/book/judgements")["judgements"] if each["query"] == text]
    assert [(each["judge"], each["item_id"], each["comment"]) for each in kept] == [(text[:200], text, text)]
    case = {"query": text, "kind": "wrong item", "item_id": text, "note": text, "judge": text[:200]}
    assert page.done("POST", "/api/bad_cases", case)["note"] == text
    for format in ("qrels", "csv", "workbench", "labels"):
        assert page.raw("GET", f"/api/books/book/export?format={format}").status == 200
    page.done("PUT", "/api/judgements", {**pair, "grade": None})


@pytest.mark.parametrize("name", [text[:200] for text in HOSTILE] + ["a/b", "a%2Fb", "?x=1#y", " "])
def test_a_book_of_any_name_is_found_again(page: Page, name: str) -> None:
    page.done("POST", "/api/books", {"name": name, "queries": ["q"]})
    path = f"/api/books/{quote(name, safe='')}"
    assert page.done("GET", path)["name"] == name
    reply = page.raw("GET", f"{path}/export?format=qrels")
    assert reply.status == 200
    assert reply.headers["Content-Disposition"].isascii()
    assert page.done("DELETE", path) == {}
    assert page.ask("GET", path).status == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"name": "\xff"}',
        b'{"name": "\\ud800", "queries": []}',
        b'{"name": "\\udc00\\ud800", "queries": []}',
        b'{"name": "n", "queries": [], "count": NaN}',
        b'{"name": "n", "queries": [], "count": 1e999}',
        b'{"name": "n", "queries": [], "more": 1}',
        b'{"name": ""}',
        b'{"name": "' + b"n" * 201 + b'"}',
        b'{"name": "n", "queries": ["' + b"q" * MEGABYTE + b'"]}',
        b'{"name": "n", "queries": [1]}',
        b'{"name": ".."}',
        b'{"name": "n", "' + b"k" * MEGABYTE + b'": 1}',
        b'{"name": "n", "seed": ' + b"9" * 100_000 + b"}",
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_body_that_is_none_is_told_in_a_few_words(page: Page, body: bytes) -> None:
    reply = page.raw("POST", "/api/books", body, CHANGING)
    assert reply.status == 400, reply
    assert 0 < len(reply.json["error"]) < 3000
    assert [each["name"] for each in page.done("GET", "/api/books")["books"]] == ["book"]


@pytest.mark.parametrize("grade", [4, -1, 1.5, "perfect"])
def test_a_grade_is_one_of_four(page: Page, grade: object) -> None:
    body = {"book": "book", "judge": "j", "query": "q", "item_id": "i", "grade": grade}
    assert page.ask("PUT", "/api/judgements", body).status == 400


@pytest.mark.parametrize("note", ["n" * 10_001, "n" * MEGABYTE])
def test_a_note_of_a_megabyte_is_refused(page: Page, note: str) -> None:
    body = {"query": "q", "kind": "wrong item", "item_id": "i", "judge": "j", "note": note}
    reply = page.ask("POST", "/api/bad_cases", body)
    assert reply.status == 400
    assert "note" in reply.json["error"]


def test_bodies_have_limits(page: Page) -> None:
    large = b'{"name": "' + b"n" * MAX_JSON_BYTES + b'"}'
    assert page.raw("POST", "/api/books", large, CHANGING).status == 413
    chunks = (large[start : start + 65536] for start in range(0, len(large), 65536))
    assert page.raw("POST", "/api/books", chunks, CHANGING).status == 413
    assert page.raw("POST", "/api/books", b"x", {**CHANGING, "content-encoding": "br"}).status == 415


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/books/%ff", 400),
        ("/api/books/%ed%a0%80", 400),
        ("/api/books/book/judgements?judge=%ff", 400),
        ("/api/books/book/judgements?judge=" + "j" * 201, 400),
        ("/api/books/book/judgements?nothing=1", 400),
        ("/api/books/book/judgements?judge=a&judge=b", 400),
        ("/api/books/book/export", 400),
        ("/api/books/book/export?format=exe", 400),
        ("/api/books/none/export?format=csv", 404),
        ("/api/books/book/../../../etc/passwd", 404),
        ("/static/", 404),
        ("/static", 404),
        ("/static/../server/run.py", 404),
        ("/static/%2e%2e/contract.py", 404),
        ("/static//etc/passwd", 404),
        ("/static/main.js%00", 404),
        ("/api/snapshots/1/difference/x", 404),
        ("/api/snapshots/1/difference/" + "9" * 30, 404),
        ("/api/snapshots/1/difference/2", 404),
    ],
)
def test_paths_and_parameters(page: Page, path: str, status: int) -> None:
    reply = page.raw("GET", path)
    assert reply.status == status
    assert reply.json["error"]
