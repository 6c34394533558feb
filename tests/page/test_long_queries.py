"""Books, snapshots, bad cases and explanations of queries that are longer than the server, or an explanation, takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from page_process import Page, running_page
from page_shop import serving

from dpsr.cli import main
from dpsr.config import Config
from dpsr.data.judgements.records import BadCase, Column
from dpsr.data.judgements.store import JudgementStore
from dpsr.page.search.lists import QUERIES_AT_ONCE
from dpsr.page.search.searcher import Searcher

QUERY = "phone for grandpa"
LIMIT = 4096
LONG = "phone " * 800
"""Above ``LIMIT`` in bytes ..."""
LONG_IN_BYTES = "機" * (LIMIT // 3 + 1)
"""... and one that is not in characters."""
AT_LIMIT = "milk " + "x" * (LIMIT - 5)


@pytest.fixture(scope="module")
def target(page_shop: Path) -> Iterator[str]:
    with serving(page_shop) as target:
        yield target


@pytest.fixture(scope="module")
def page(page_shop: Path, target: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    judgements = tmp_path_factory.mktemp("long") / "judgements.sqlite"
    with running_page(page_shop, "--target", target, "--set", f"page.judgements={judgements}") as page:
        yield page


@pytest.fixture
def searcher(shop_config: Config, target: str) -> Iterator[Searcher]:
    searcher = Searcher(shop_config, target, None)
    yield searcher
    searcher.close()


@pytest.mark.parametrize(
    "column", [Column(), Column(mode="lexical"), Column(mode="hybrid", lexical_weight=0.4), Column(version=1, head=1)]
)
def test_the_other_queries_have_the_lists_that_they_have_alone(searcher: Searcher, column: Column) -> None:
    others = [f"{QUERY} {number}" for number in range(QUERIES_AT_ONCE + 5)]
    queries = [LONG, *others[:10], LONG_IN_BYTES, AT_LIMIT, *others[10:], LONG]
    found = searcher.lists(queries, column, 20)
    assert [query for query, each in zip(queries, found, strict=True) if each is None] == [LONG, LONG_IN_BYTES, LONG]
    alone = dict(zip(others, searcher.lists(others, column, 20), strict=True))
    for query, each in zip(queries, found, strict=True):
        if query in alone:
            assert each is not None
            assert [item.item_id for item in each] == [item.item_id for item in alone[query] or ()]
    assert searcher.lists([LONG], column, 20) == [None]


@pytest.fixture
def book(page: Page) -> Iterator[str]:
    """A book whose three queries are judged, two of them too long for the server."""
    page.done("POST", "/api/books", {"name": "long", "queries": [QUERY, LONG, LONG_IN_BYTES]})
    (result,) = page.done("POST", "/api/search", {"query": QUERY})["results"]
    item = result["items"][0]["item_id"]
    for query in (QUERY, LONG, LONG_IN_BYTES):
        body = {"book": "long", "judge": "ann", "query": query, "item_id": item, "grade": 3}
        page.done("PUT", "/api/judgements", body)
    yield "long"
    page.done("DELETE", "/api/books/long")


def test_a_report_counts_them_as_without_results_and_names_them(page: Page, book: str) -> None:
    columns = [{}, {"mode": "lexical"}, {"kind": "baseline", "baseline": "popularity"}]
    wanted = {"columns": columns, "count": 10}
    figures = page.done("POST", f"/api/books/{book}/report", wanted)["figures"]
    assert [each["refused"] for each in figures] == [[LONG, LONG_IN_BYTES], [LONG, LONG_IN_BYTES], []]
    assert [each["queries"] for each in figures] == [3] * 3
    assert figures[0]["values"]["ndcg@10"][0] == pytest.approx(1 / 3)


def test_a_snapshot_names_them_and_has_the_other_lists(page: Page, book: str) -> None:
    new = {"name": "now", "book": book, "columns": [{"version": 1}, {"version": 2}], "count": 20}
    taken = page.done("POST", "/api/snapshots", new)
    assert taken["refused"] == [LONG, LONG_IN_BYTES]
    assert taken in page.done("GET", "/api/snapshots")["snapshots"]
    store = JudgementStore(page.judgements)
    lists = store.snapshot_lists(taken["id"])
    store.close()
    assert [list(map(len, lists[query])) for query in (QUERY, LONG, LONG_IN_BYTES)] == [[20, 20], [0, 0], [0, 0]]
    page.done("DELETE", f"/api/snapshots/{taken['id']}")


def test_a_bad_case_and_an_explanation_of_one_are_kept_and_told(page: Page) -> None:
    body = {"query": LONG, "kind": "missing item", "item_id": "H01", "judge": "ann"}
    case = page.done("POST", "/api/bad_cases", body)
    assert (case["rank"], case["version"]) == (None, 2)
    page.done("DELETE", f"/api/bad_cases/{case['id']}")
    explained = page.done("POST", "/api/explain", {"query": LONG, "item_id": "H01", "columns": [{"mode": "hybrid"}]})
    assert explained["ranks"] == [None]
    assert "hybrid: the query is longer than the server takes" in explained["notes"]
    (result,) = page.done("POST", "/api/search", {"query": LONG})["results"]
    assert "serving.max_query_bytes allows 4096" in result["error"]


@pytest.fixture
def badcases(page_shop: Path, target: str, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Runs ``dpsr badcases`` on a case that is fixed and two whose query is too long for the server."""
    path = tmp_path / "judgements.sqlite"
    store = JudgementStore(path)
    for query, kind in ((QUERY, "wrong item"), (LONG, "missing item"), (LONG_IN_BYTES, "wrong item")):
        case = {"id": 0, "query": query, "kind": kind, "item_id": "H01", "judge": "ann", "version": 1}
        store.report(BadCase.model_validate(case))
    store.close()

    def run(*words: str) -> tuple[int, str]:
        command = ["badcases", "-c", str(page_shop), "--set", f"data.judgements.path={path}", *words]
        done = CliRunner().invoke(main, command)
        return done.exit_code, done.output

    return run


def test_bad_cases_of_them_count_as_without_results_and_are_named(
    badcases: Callable[..., tuple[int, str]], target: str
) -> None:
    code, output = badcases("--target", target, "--json")
    assert code == 1
    found = json.loads(output)
    assert [each["state"] for each in found["cases"]] == ["fixed", "still bad", "fixed"]
    assert sorted(found["refused"]) == sorted([LONG, LONG_IN_BYTES])
    code, output = badcases("--target", target)
    assert code == 1
    lines = [line for line in output.splitlines() if "serving.max_query_bytes" in line]
    assert [f"no query of {size} bytes" in line for line, size in zip(lines, ("4,800", "4,098"), strict=True)] == [
        True
    ] * 2


def test_an_exported_version_takes_them(badcases: Callable[..., tuple[int, str]]) -> None:
    _, output = badcases("--json")
    assert json.loads(output)["refused"] == []


def test_dpsr_explain_says_how_long_a_query_may_be(page_shop: Path) -> None:
    command = ["explain", "-c", str(page_shop), "--item", "H01"]
    done = CliRunner().invoke(main, [*command, "x" * 12_000])
    assert done.exit_code == 1
    expected = "dpsr: query: string should have at most 10000 characters (found 12,000); shorten it\n"
    assert done.output == expected
