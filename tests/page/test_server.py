"""Every operation of the page over real HTTP, with a real shop, a real store and a model server of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from page_process import NO_SERVER, Page, bare_configuration, running_page
from page_shop import HOSTILE, LARGE, NAME

from dpsr.page.server.pools import Pool
from dpsr.page.server.static_files import STATIC_DIR
from dpsr.serving.api.http_server import HttpError

QUERY = "phone for grandpa"
COLUMNS = [{"mode": "dense"}, {"mode": "lexical"}, {"version": 1}]
PERFECT, BAD = 3, 0


@pytest.fixture(scope="module")
def early(page_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page, whose own model server may still be starting."""
    judgements = tmp_path_factory.mktemp("server") / "judgements.sqlite"
    with running_page(page_shop, "--set", f"page.judgements={judgements}") as page:
        yield page


@pytest.fixture(scope="module")
def page(early: Page) -> Page:
    """The page when its model server is ready."""
    deadline = time.monotonic() + 240
    while (reply := early.ask("GET", "/api/shop")).status != 200:
        assert reply.status == 503, reply
        assert time.monotonic() < deadline, reply
        time.sleep(0.2)
    return early


@pytest.fixture(scope="module")
def best(page: Page) -> list[str]:
    """The items that the shop finds for ``QUERY``."""
    answer = page.done("POST", "/api/search", {"query": QUERY})
    return [each["item_id"] for each in answer["results"][0]["items"]]


def test_the_page_answers_before_its_model_server(early: Page) -> None:
    assert early.raw("GET", "/").status == 200
    assert early.done("POST", "/api/books", {"name": "early", "queries": ["q"]})["name"] == "early"
    reply = early.ask("GET", "/api/shop")
    if reply.status != 200:  # else the model server was faster than this test
        assert reply.status == 503
        assert "starting" in reply.json["error"]
    case = {"query": "q", "kind": "wrong item", "item_id": "x", "judge": "ann"}
    assert early.done("POST", "/api/bad_cases", case)["rank"] is None, "a report is kept anyway"


def test_shop(page: Page) -> None:
    shop = page.done("GET", "/api/shop")
    assert shop["name"] == NAME
    assert {each["column"] for each in shop["filters"]} == {"brand", "category", "price"}
    assert len(shop["columns"]) == len(shop["column_titles"]) > 3


def test_search_in_three_columns(page: Page) -> None:
    answer = page.done("POST", "/api/search", {"query": QUERY, "columns": COLUMNS, "count": 20})
    assert [each["error"] for each in answer["results"]] == [None] * 3
    dense, lexical, older = (len(each["items"]) for each in answer["results"])
    assert (dense, older) == (20, 20)
    assert 0 < lexical <= 20
    assert len(answer["agreement"]) == 3
    assert {each["item_id"] for result in answer["results"] for each in result["items"]} == answer["items"].keys()


def test_a_column_that_the_server_lacks_has_the_error(page: Page) -> None:
    answer = page.done("POST", "/api/search", {"query": QUERY, "columns": [{}, {"version": 99}]})
    assert [bool(each["error"]) for each in answer["results"]] == [False, True]


def test_a_request_that_is_wrong_is_told(page: Page) -> None:
    reply = page.ask("POST", "/api/search", {"query": QUERY, "user": {"user_id": "nobody"}})
    assert (reply.status, "nobody" in reply.json["error"]) == (400, True)


def test_hostile_titles_are_found_as_they_are(page: Page) -> None:
    answer = page.done("POST", "/api/search", {"query": "zzhostile", "columns": [{"mode": "lexical"}]})
    titles = {item_id: item["title"] for item_id, item in answer["items"].items() if item_id in HOSTILE}
    assert titles["H01"] == HOSTILE["H01"]
    assert HOSTILE[LARGE].startswith(titles[LARGE].removesuffix("\u2026").rstrip())
    assert len(titles[LARGE]) < 3000


def test_explain(page: Page, best: list[str]) -> None:
    found = page.done("POST", "/api/explain", {"query": QUERY, "item_id": best[0], "columns": [{}, {"mode": "dense"}]})
    assert found["item"]["item_id"] == best[0]
    assert found["ranks"][0] == 1
    assert page.ask("POST", "/api/explain", {"query": QUERY, "item_id": "none"}).status == 400


def test_titles_of_items_that_no_list_has(page: Page, best: list[str]) -> None:
    items = page.done("POST", "/api/items", {"item_ids": [best[0], "H01", "none"]})["items"]
    assert items["H01"]["title"] == HOSTILE["H01"]
    assert items[best[0]]["title"] != best[0]
    assert items["none"]["title"] == "none"


def test_books_are_made_listed_and_removed(page: Page) -> None:
    given = page.done("POST", "/api/books", {"name": "given", "queries": ["a", "b", "a"]})
    assert [each["query"] for each in given["queries"]] == ["a", "b"]
    assert page.ask("POST", "/api/books", {"name": "given"}).status == 409
    frequent = page.done("POST", "/api/books", {"name": "frequent", "sample": "frequency", "count": 5})
    assert len(frequent["queries"]) == 5
    disagreed = {"name": "disagreed", "sample": "disagreement", "count": 3, "columns": COLUMNS[:2]}
    assert len(page.done("POST", "/api/books", disagreed)["queries"]) == 3
    names = {each["name"] for each in page.done("GET", "/api/books")["books"]}
    assert {"given", "frequent", "disagreed"} <= names
    assert page.done("GET", "/api/books/frequent") == frequent
    for name in ("given", "frequent", "disagreed"):
        page.done("DELETE", f"/api/books/{name}")
    assert page.ask("GET", "/api/books/given").status == 404


@pytest.fixture
def judged(page: Page, best: list[str]) -> Iterator[str]:
    """A book with the judgements of two judges."""
    name = "judged / book"
    page.done("POST", "/api/books", {"name": name, "queries": [QUERY]})
    for judge, grades in (("ann", (PERFECT, BAD)), ("bob", (PERFECT, BAD))):
        for item, grade in zip(best, grades, strict=False):
            body = {"book": name, "judge": judge, "query": QUERY, "item_id": item, "grade": grade}
            assert page.done("PUT", "/api/judgements", body)["judged_at"] > 0
    yield name
    page.done("DELETE", f"/api/books/{quote(name, safe='')}")


def test_judgements_stand_in_searches_and_reports(page: Page, best: list[str], judged: str) -> None:
    path = f"/api/books/{quote(judged, safe='')}"
    assert len(page.done("GET", f"{path}/judgements")["judgements"]) == 4
    assert len(page.done("GET", f"{path}/judgements?judge=ann&query={quote(QUERY)}")["judgements"]) == 2
    assert page.done("GET", f"{path}/judgements?query=other")["judgements"] == []
    (result,) = page.done("POST", "/api/search?judge=ann", {"query": QUERY})["results"]
    assert [each["grade"] for each in result["items"][:3]] == [PERFECT, BAD, None]
    assert result["figures"]["judged@10"] == pytest.approx(0.2)
    report = page.done("POST", f"{path}/report", {"columns": COLUMNS, "count": 50})
    assert [each["queries"] for each in report["figures"]] == [1] * 3
    assert (report["alpha"], report["pairs"], report["judges"]) == (1.0, 2, {"ann": 2, "bob": 2})
    assert page.ask("POST", f"{path}/report", {"columns": COLUMNS, "count": 9}).status == 400


@pytest.mark.parametrize("format", ["qrels", "csv", "workbench", "labels"])
def test_a_file_goes_out_and_comes_in(page: Page, judged: str, format: str) -> None:
    exported = page.raw("GET", f"/api/books/{quote(judged, safe='')}/export?format={format}")
    assert exported.status == 200
    assert exported.headers["Content-Disposition"].startswith('attachment; filename="judged___book.')
    page.done("POST", "/api/books", {"name": "copy"})
    try:
        headers = {"content-type": "application/octet-stream", "x-dpsr-page": "1"}
        path = f"/api/books/copy/import?format={format}&judge=file"
        assert page.raw("POST", path, exported.body, headers).json == {"imported": 2, "rejected": []}
        found = page.done("GET", "/api/books/copy/judgements")["judgements"]
        assert {(each["judge"], each["query"], each["grade"]) for each in found} == {
            ("file", QUERY, PERFECT),
            ("file", QUERY, BAD),
        }
        assert page.raw("POST", path, b"\xff\xfe nonsense", headers).status in (200, 400)
        assert len(page.done("GET", "/api/books/copy/judgements")["judgements"]) == 2
        assert page.raw("POST", path.replace("copy", "none"), exported.body, headers).status == 404
    finally:
        page.done("DELETE", "/api/books/copy")


def test_a_bad_case_is_kept_with_its_rank_and_version(page: Page, best: list[str]) -> None:
    body = {"query": QUERY, "kind": "wrong item", "item_id": best[2], "judge": "ann", "note": "no"}
    case = page.done("POST", "/api/bad_cases", body)
    assert (case["rank"], case["version"], case["withdrawn"]) == (3, 2, False)
    missing = page.done("POST", "/api/bad_cases", body | {"kind": "missing item", "item_id": "nowhere"})
    assert missing["rank"] is None
    assert case in page.done("GET", "/api/bad_cases")["bad_cases"]
    for each in (case, missing):
        assert page.done("DELETE", f"/api/bad_cases/{each['id']}")["withdrawn"]
    assert case["id"] not in [each["id"] for each in page.done("GET", "/api/bad_cases")["bad_cases"]]
    assert page.ask("DELETE", "/api/bad_cases/999999").status == 404


def test_snapshots_are_kept_and_compared(page: Page) -> None:
    page.done("POST", "/api/books", {"name": "snapped", "queries": [QUERY, "milk"]})
    first, second = (
        page.done(
            "POST", "/api/snapshots", {"name": str(version), "book": "snapped", "columns": [{"version": version}]}
        )
        for version in (1, 2)
    )
    assert (first["versions"], second["versions"]) == ([1], [2])
    assert [each["id"] for each in page.done("GET", "/api/snapshots")["snapshots"]] == [first["id"], second["id"]]
    path = f"/api/snapshots/{first['id']}/difference"
    same = page.done("GET", f"{path}/{first['id']}")["differences"]
    assert [each["overlap_10"] for each in same] == [1.0, 1.0]
    other = page.done("GET", f"{path}/{second['id']}")["differences"]
    assert [each["query"] for each in other] == [QUERY, "milk"]
    assert any(each["entered"] or each["moved"] for each in other)
    for each in (first, second):
        assert page.done("DELETE", f"/api/snapshots/{each['id']}") == {}
    assert page.ask("DELETE", f"/api/snapshots/{first['id']}").status == 404
    page.done("DELETE", "/api/books/snapped")


def test_the_document_of_the_api(page: Page) -> None:
    assert page.done("GET", "/api/openapi.json")["openapi"].startswith("3.1")


def test_static_files_are_asked_for_again_and_sent_once(page: Page) -> None:
    start = page.raw("GET", "/")
    assert start.headers["Content-Type"] == "text/html; charset=utf-8"
    names = re.findall(r'(?:src|href)="(static/[^"]+)"', start.body.decode())
    assert len(names) >= 3
    types = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
    for path in sorted(STATIC_DIR.iterdir()):
        reply = page.raw("GET", f"/static/{path.name}")
        assert (reply.status, reply.body, reply.headers["Cache-Control"]) == (200, path.read_bytes(), "no-cache")
        assert reply.headers["Content-Type"] == types.get(path.suffix, reply.headers["Content-Type"])
        again = page.raw("GET", f"/static/{path.name}", headers={"If-None-Match": f'"x", {reply.headers["ETag"]}'})
        assert (again.status, again.body) == (304, b"")
    assert {f"static/{path.name}" for path in STATIC_DIR.iterdir()} >= set(names)


def test_clients_that_leave_block_nobody(page: Page) -> None:
    body = b'{"query": "' + QUERY.encode() + b'", "columns": [{}, {"mode": "dense"}, {"mode": "lexical"}]}'
    head = f"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nx-dpsr-page: 1\r\nContent-Length: {len(body)}\r\n"
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", page.port), 10) as connection:
            connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
    deadline = time.monotonic() + 60
    while page.ask("POST", "/api/search", {"query": QUERY}).status == 503:
        assert time.monotonic() < deadline


def test_a_server_at_the_configured_address_is_asked(page: Page, page_shop: Path, tmp_path: Path) -> None:
    target = page.done("GET", "/api/shop")["target"]
    words = ("--set", f"serving.port={target.rpartition(':')[2]}", "--set", f"page.judgements={tmp_path / 'other'}")
    words += ("--set", "name=another_name", "--model", NAME)
    with running_page(page_shop, *words) as other:
        assert other.judgements == tmp_path / "other"
        assert other.done("GET", "/api/shop")["target"] == target
        assert other.done("POST", "/api/search", {"query": QUERY})["results"][0]["error"] is None


def test_what_the_server_refuses_for_good_is_no_passing_error(page: Page, page_shop: Path, tmp_path: Path) -> None:
    target = page.done("GET", "/api/shop")["target"]
    words = ("--target", target, "--model", "nobody", "--set", f"page.judgements={tmp_path / 'other'}")
    with running_page(page_shop, *words) as other:
        reply = other.ask("GET", "/api/shop")
        assert (reply.status, "Latest(nobody)" in reply.json["error"]) == (400, True)


def test_without_a_model_server_the_rest_works(page_shop: Path, tmp_path: Path) -> None:
    with running_page(page_shop, *NO_SERVER, "--set", f"page.judgements={tmp_path / 'other'}") as page:
        reply = page.ask("GET", "/api/shop")
        assert reply.status == 503
        assert "no server answers" in reply.json["error"]
        (result,) = page.done("POST", "/api/search", {"query": QUERY})["results"]
        assert "no server answers" in result["error"]
        page.done("POST", "/api/books", {"name": "book", "queries": ["q"]})


def test_a_model_server_that_cannot_start_is_told(tmp_path: Path) -> None:
    with running_page(bare_configuration(tmp_path), "--set", "serving.port=0") as page:
        deadline = time.monotonic() + 120
        while "starting" in (reply := page.ask("GET", "/api/shop")).json["error"]:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert reply.status == 503
        assert re.search(r"the model server ended \(exit code [12]\).*server\.log", reply.json["error"])


def _children(process: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _ends(process: int) -> bool:
    deadline = time.monotonic() + 30
    while Path(f"/proc/{process}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not Path(f"/proc/{process}").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_model_server_ends_with_the_page(tmp_path: Path, number: signal.Signals) -> None:
    with running_page(bare_configuration(tmp_path), "--set", "serving.port=0") as page:
        (child,) = _children(page.process.pid)
        os.kill(page.process.pid, number)
        assert page.process.wait(30) == (-number if number == signal.SIGKILL else 0)
        assert _ends(child)
    assert "Traceback" not in (tmp_path / "page.log").read_text()


def test_work_that_waits_is_dropped_with_its_client() -> None:
    async def scene() -> None:
        pool, gate, ran = Pool("searches", threads=1, waiting=2), threading.Event(), []
        first = asyncio.create_task(pool.run(gate.wait))
        await asyncio.sleep(0)
        second, third = (asyncio.create_task(pool.run(lambda each=each: ran.append(each))) for each in (2, 3))
        await asyncio.sleep(0)
        with pytest.raises(HttpError, match="3 searches are under way"):
            await pool.run(lambda: ran.append(4))
        second.cancel()
        await asyncio.sleep(0)
        fourth = asyncio.create_task(pool.run(lambda: ran.append(5)))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(first, third, fourth)
        assert ran == [3, 5]
        pool.close(wait=True)

    asyncio.run(scene())
