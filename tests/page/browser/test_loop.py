"""The loop in a browser: what people report on the page is right in the next version, which a server swaps in."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ir_measures
import numpy as np
import page_shop
import pytest
import shop_oracle
from browsing import Tab
from selenium.webdriver import Chrome, Keys
from services import Service, start_page, start_server

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "judgements"))
from true_cases import CASES, LEAST_FIXED, TrueCase, difference, true_cases, true_grades

from dpsr.evaluation.bad_cases import DEPTH
from dpsr.serving.client import PredictClient

NAME = "demo_shop"
SETTINGS = """
[data.judgements]

[page]
judgements = "{folder}/judgements.db"

[evaluation]
baselines = ["popularity"]
"""
PAUSE = 0.2
"""Seconds between two requests of the traffic."""
LONGEST_SWAP = 300.0
"""Seconds from the export to the first answer of the next version; only a failing test waits so long."""
JUDGES = ("ann", "bob", "carla")


def dpsr(*words: str | Path, expect: Sequence[int] = (0,)) -> str:
    """What a command prints."""
    done = subprocess.run([sys.executable, "-m", "dpsr.cli", *words], capture_output=True, text=True, check=False)
    assert done.returncode in expect, done.stdout + done.stderr
    return done.stdout


def of_the_demo(test: Callable[..., None]) -> Callable[..., None]:
    """Marks what takes minutes."""
    return pytest.mark.slow(pytest.mark.timeout(1800)(test))


class Traffic:
    """Customers, and people on the page, who search all the time."""

    def __init__(self, target: str, address: str, name: str, query: str) -> None:
        """Starts with requests to the model server and to the page in turn."""
        self.versions: list[int] = []
        self.failures: list[str] = []
        self._target, self._address, self._name, self._query = target, address, name, query
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with PredictClient(self._target) as client:
            while not self._ended.wait(PAUSE):
                try:
                    assert client.predict(self._name, {"query": [self._query]})["item_id"][0][0]
                    (result,) = shop_oracle.ask(self._address, "POST", "search", {"query": self._query})["results"]
                    assert result["error"] is None, result["error"]
                    assert result["items"]
                    self.versions.append(result["version"])
                except Exception as error:
                    self.failures.append(repr(error))

    def wait_for(self, version: int, count: int) -> None:
        """Waits for some answers of a version."""
        deadline = time.monotonic() + LONGEST_SWAP
        while self.versions.count(version) < count and not self.failures:
            assert time.monotonic() < deadline, self.versions[-1:]
            time.sleep(PAUSE)

    def stop(self) -> None:
        """Ends it after the request under way."""
        self._ended.set()
        self._thread.join()


def report(tab: Tab, case: TrueCase, title: str, note: str) -> None:
    """Reports a bad case on the page: a wrong item by keys alone, a missing one by a search for its title."""
    tab.search(case.query)
    tab.script("document.activeElement.blur()")
    if case.kind == "wrong item":
        tab.press(*"j" * (tab.ids().index(case.item_id) + 1), "b", *note, Keys.ENTER)
    else:
        tab.click("#report-missing")
        tab.put("#bad-case-search", title)
        tab.click(f"#bad-case-picks input[value='{case.item_id}']")
        tab.put("#bad-case-note", note)
        tab.click("#bad-case-send")
    tab.until(lambda: not tab.one("#bad-case-dialog").is_displayed(), "the report sent")


def answers_of(tab: Tab, queries: Sequence[str]) -> dict[str, list[str]]:
    """The ten best items that the page shows for each query."""
    found = {}
    for query in queries:
        tab.search(query)
        found[query] = tab.ids()[:DEPTH]
    return found


def is_right(case: TrueCase, lists: Mapping[str, Sequence[str]]) -> bool:
    return (case.item_id in lists[case.query]) == (case.kind == "missing item")


def lists_of(target: str, name: str, queries: Sequence[str]) -> dict[str, list[str]]:
    """The lists of a server's newest version of a model."""
    with PredictClient(target) as client:
        found = client.predict(name, {"query": list(queries)}, outputs=["item_id"])["item_id"]
    return {query: [item.decode() for item in row if item] for query, row in zip(queries, found, strict=True)}


class Loop(NamedTuple):
    """A demo shop whose second version learnt what was reported of the first."""

    config: Path
    target: str
    cases: list[TrueCase]
    reported: list[dict[str, Any]]
    before: dict[str, list[str]]
    """Query -> the ten best items on the page, of the first version."""
    after: dict[str, list[str]]
    versions: list[int]
    """That the requests of the whole time were answered by, in their order."""
    failures: list[str]
    shown: tuple[str, str]
    """The line above the results, before and after."""
    explained: dict[str, Any]
    """The best item of a query, by the page that ran on."""


@pytest.fixture(scope="module")
def services(browser: Chrome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Service, Service]]:
    """The demo with its server and its page."""
    folder = tmp_path_factory.mktemp("loop") / "demo"
    dpsr("demo", "--size", "small", "--work-dir", folder)
    config = folder / "shop.toml"
    config.write_text(config.read_text(encoding="utf-8") + SETTINGS.format(folder=folder), encoding="utf-8")
    server = start_server(config, folder)
    page = start_page(config, server.address, folder)
    yield config, server, page
    page.stop()
    server.stop()


@pytest.fixture(scope="module")
def loop(browser: Chrome, services: tuple[Path, Service, Service]) -> Loop:
    config, server, page = services
    tab = Tab(browser, page.address)
    titles = {item: row["title"] for item, row in shop_oracle.catalogue(config).items()}
    cases = drawn_cases(config, server.address, NAME, titles, CASES)
    queries = sorted({case.query for case in cases})
    for number, judge in enumerate(JUDGES):
        tab.fresh("#search", judge=judge)
        for case in cases[number :: len(JUDGES)]:
            report(tab, case, titles[case.item_id], f"{case.kind}, says {judge}")
    reported = shop_oracle.api(page.address, "bad_cases")["bad_cases"]
    before, shown = answers_of(tab, queries), tab.one("#results-0 .meta").text

    traffic = Traffic(server.address, page.address, NAME, queries[0])
    try:
        for kept in ("dataset", "checkpoints"):
            shutil.copytree(config.with_name(kept), config.parent / "first" / kept)
        dpsr("prepare", "-c", config)
        dpsr("train", "-c", config, "--no-resume")
        dpsr("export", "-c", config)
        traffic.wait_for(2, 20)
    finally:
        traffic.stop()
    after = answers_of(tab, queries)
    shown_now = tab.one("#results-0 .meta").text
    best = {"query": queries[0], "item_id": after[queries[0]][0], "columns": [{}]}
    explained = shop_oracle.ask(page.address, "POST", "explain", best)
    assert tab.console() == []
    shown_lines = shown, shown_now
    return Loop(
        config,
        server.address,
        cases,
        reported,
        before,
        after,
        traffic.versions,
        traffic.failures,
        shown_lines,
        explained,
    )


def drawn_cases(config: Path, target: str, name: str, titles: Mapping[str, str], count: int) -> list[TrueCase]:
    """What is wrong in the results, half of it missing items that a search for their title finds."""
    grades = true_grades(config.parent / "shop")
    known = set(shop_oracle.clicked_queries(config))
    drawn = true_cases(lists_of(target, name, [query for query in grades if query in known]), grades, 4 * CASES)
    wrong = [case for case in drawn if case.kind == "wrong item"]
    missing = [case for case in drawn if case.kind == "missing item"]
    found = lists_of(target, name, [titles[case.item_id] for case in missing])
    missing = [case for case in missing if case.item_id in found[titles[case.item_id]][:DEPTH]]
    assert min(len(wrong), len(missing)) >= count // 2
    return wrong[: count // 2] + missing[: count // 2]


@of_the_demo
def test_what_is_wrong_on_the_page_is_reported(loop: Loop) -> None:
    assert len(loop.cases) == CASES
    assert not any(is_right(case, loop.before) for case in loop.cases)
    kept = {(each["query"], each["kind"], each["item_id"]): each for each in loop.reported}
    assert kept.keys() == {tuple(case) for case in loop.cases}
    for each in loop.reported:
        best = loop.before[each["query"]]
        assert each["version"] == 1
        assert each["note"] == f"{each['kind']}, says {each['judge']}"
        if each["kind"] == "wrong item":
            assert each["rank"] == best.index(each["item_id"]) + 1
    assert {each["judge"] for each in loop.reported} == set(JUDGES)


@of_the_demo
def test_no_request_fails_while_the_version_is_swapped(loop: Loop) -> None:
    assert loop.failures == []
    assert loop.versions == sorted(loop.versions)
    assert set(loop.versions) == {1, 2}
    assert ["version 1" in loop.shown[0], "version 2" in loop.shown[1]] == [True, True]


@of_the_demo
def test_the_page_shows_them_right_in_the_next_version(loop: Loop) -> None:
    right = [case for case in loop.cases if is_right(case, loop.after)]
    assert len(right) >= LEAST_FIXED * CASES, sorted(set(loop.cases) - set(right))


@of_the_demo
def test_the_page_explains_the_next_version_without_a_restart(loop: Loop) -> None:
    assert loop.explained["ranks"] == [1]
    assert loop.explained["heads"]
    assert loop.explained["notes"] == []


@of_the_demo
def test_the_command_says_that_they_are_fixed(loop: Loop) -> None:
    printed = dpsr("badcases", "-c", loop.config, "--target", loop.target, "--json", expect=(0, 1))
    found = json.loads(printed)
    assert found["version"] == 2
    assert sum(found["counts"].values()) == CASES
    assert found["counts"]["fixed"] == sum(is_right(case, loop.after) for case in loop.cases)
    assert found["counts"]["new"] == 0


@of_the_demo
def test_held_out_clicks_are_found_as_well_as_before(loop: Loop) -> None:
    folder = loop.config.parent
    before = evaluated(loop.config, folder / "first")
    after = evaluated(loop.config, folder)
    assert [query for query, _ in before] == [query for query, _ in after]
    _, queries = np.unique([query for query, _ in before], return_inverse=True)
    for measure in (ir_measures.AP @ 5, ir_measures.R @ 100):
        values = (np.array([found[measure] for _, found in each]) for each in (after, before))
        found = difference(*values, queries)
        assert found.high >= 0.0, (measure, found)


def evaluated(config: Path, work_dir: Path) -> list[tuple[str, dict[Any, float]]]:
    """The queries of the test split, and the measures of the model's list for each, by ``dpsr evaluate``."""
    files = work_dir / "trec"
    dpsr("evaluate", "-c", config, "--set", f'work_dir="{work_dir}"', "--trec", files)
    topics = [line.split("\t") for line in (files / "test" / "topics.tsv").read_text(encoding="utf-8").splitlines()]
    qrels = list(ir_measures.read_trec_qrels(str(files / "test" / "qrels.txt")))
    run = list(ir_measures.read_trec_run(str(files / "test" / "dpsr.run")))
    values: dict[str, dict[Any, float]] = {topic: {} for topic, _ in topics}
    for each in ir_measures.iter_calc([ir_measures.AP @ 5, ir_measures.R @ 100], qrels, run):
        values[each.query_id][each.measure] = each.value
    return [(query, values[topic]) for topic, query in topics]


# ----------------------------------------------------------------------------------------- the small shop

IN_ONE_PROCESS = """
import json, sys
from dpsr.cli import main
for words in json.loads(sys.argv[1]):
    main(words, standalone_mode=False)
"""


def test_two_cases_and_grades_by_keyboard_train_the_next_version(shop: Path, browser: Chrome, tmp_path: Path) -> None:
    config = page_shop.copied(shop, tmp_path / "shop")
    store = f'\n[data.judgements]\npath = "{tmp_path / "judgements.db"}"\n'
    config.write_text(config.read_text(encoding="utf-8") + store, encoding="utf-8")
    server = start_server(config, tmp_path)
    page = start_page(config, server.address, tmp_path)
    try:
        tab = Tab(browser, page.address)
        titles = {item: row["title"] for item, row in shop_oracle.catalogue(config).items()}
        cases = drawn_cases(config, server.address, page_shop.NAME, titles, 2)
        queries = [case.query for case in cases]
        tab.fresh("#search", judge="ann")
        for case in cases:
            report(tab, case, titles[case.item_id], case.kind)
        before = answers_of(tab, queries)
        assert not any(is_right(case, before) for case in cases)
        shop_oracle.ask(page.address, "POST", "books", {"name": "keys", "queries": queries})
        tab.fresh("#judge/keys?at=1", judge="ann")
        tab.one("#pool .card[aria-current=true]")
        tab.press("3", "2")
        tab.until(lambda: len(tab.all("#pool .card[data-saved=yes]")) == 2, "grades on disk")

        traffic = Traffic(server.address, page.address, page_shop.NAME, queries[0])
        try:
            steps = [["prepare"], ["train", "--no-resume"], ["export"]]
            words = json.dumps([[name, "-c", str(config), *more] for name, *more in steps])
            done = subprocess.run(
                [sys.executable, "-c", IN_ONE_PROCESS, words], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            traffic.wait_for(3, 3)
        finally:
            traffic.stop()
        assert traffic.failures == []
        assert traffic.versions == sorted(traffic.versions)
        manifest = json.loads((config.parent / "work" / "dataset" / "manifest.json").read_text(encoding="utf-8"))
        graded = shop_oracle.api(page.address, "books/keys/judgements")["judgements"]
        pairs = {(each["query"], each["item_id"]) for each in graded} | {(each.query, each.item_id) for each in cases}
        assert len(graded) == 2
        assert manifest["inputs"]["judgements"]["labels"] == len(pairs)
        tab.fresh("#search", judge="ann")
        after = answers_of(tab, queries)
        assert "version 3" in tab.one("#results-0 .meta").text
        assert [case for case in cases if not is_right(case, after)] == []
    finally:
        page.stop()
        server.stop()
