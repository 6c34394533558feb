"""Judge, report a bad case, keep snapshots, as people do them in a browser."""

from __future__ import annotations

import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import shop_oracle
from browsing import Tab
from selenium.webdriver import Keys

QUERIES = ("wireless headphones", "running shoes", "milk powder")


def new_book(tab: Tab, name: str, queries: tuple[str, ...] = QUERIES) -> None:
    """Makes a book of pasted queries, which then is open."""
    tab.go("judge")
    tab.put("#new-book-name", name)
    tab.put("#new-book-queries", "\n".join(queries))
    tab.click("#new-book-create")
    tab.one("#pool .card")


def judge(tab: Tab, name: str, book: str, grades: str) -> None:
    """Grades the first items of the first query of a book by pressing digits."""
    tab.fresh(f"#judge/{urllib.parse.quote(book)}?at=1", judge=name)
    tab.one("#pool .card[aria-current=true]")
    tab.press(*grades)
    tab.until(lambda: saved(tab, len(grades)), "judgements on disk")


def saved(tab: Tab, count: int) -> bool:
    return len(tab.all("#pool .card[data-saved=yes]")) == count


def judgements(tab: Tab, book: str) -> list[dict]:
    return shop_oracle.api(tab.address, f"books/{urllib.parse.quote(book)}/judgements")["judgements"]


def value(tab: Tab, measure: str = "ndcg@10") -> str | None:
    found = tab.texts(f"#figures-table tbody tr:first-child [data-measure='{measure}'] b")
    return found[0] if found else None


def test_two_judges_grade_by_keyboard_and_the_figures_follow(tab: Tab) -> None:
    tab.fresh("#judge", judge="ann")
    new_book(tab, "keys")
    pool = tab.attributes("#pool .card", "data-item-id")
    assert len(pool) >= 10
    tab.press("3", "2", "0", "1")
    tab.until(lambda: saved(tab, 4), "four judgements on disk")
    first = tab.until(lambda: value(tab), "figures")
    kept = {(each["judge"], each["item_id"]): each["grade"] for each in judgements(tab, "keys")}
    assert kept == {("ann", item): grade for item, grade in zip(pool, (3, 2, 0, 1), strict=False)}
    tab.press("c", *"a good one", Keys.ENTER)  # on the fifth, which has no grade yet
    tab.press("3")
    tab.until(lambda: saved(tab, 5), "a fifth judgement")
    tab.until(lambda: value(tab) not in (first, None), "other figures")
    assert [each["comment"] for each in judgements(tab, "keys") if each["item_id"] == pool[4]] == ["a good one"]
    tab.press("u")
    tab.until(lambda: saved(tab, 4), "the fifth taken back")
    tab.until(lambda: value(tab) == first, "the figures of before")
    assert "needs two judges" in tab.one("#agreement-figures").text

    judge(tab, "bob", "keys", "3201")
    agreed = "#agreement-figures[data-alpha='1']"
    tab.one(agreed)
    tab.press("k", "k", "k", "k", "0")
    tab.until(
        lambda: not tab.all(agreed) and tab.one("#agreement-figures").get_attribute("data-alpha"), "less agreement"
    )
    assert float(tab.one("#agreement-figures").get_attribute("data-alpha")) < 0.7
    assert "bob 4" in tab.one("#agreement-figures").text

    tab.press("n")
    tab.until(lambda: tab.one("#judging-query").text == QUERIES[1], "the next query")
    tab.press("p")
    tab.until(lambda: tab.one("#judging-query").text == QUERIES[0], "the query before")
    tab.reload()
    tab.one("#pool .card[data-saved=yes]")
    assert tab.attributes("#pool .card", "data-grade")[:4] == ["0", "2", "0", "1"]


def test_grades_of_the_judge_are_on_the_cards_of_a_search(tab: Tab) -> None:
    tab.fresh("#judge", judge="ann")
    new_book(tab, "seen in search", ("handbag leather",))
    item = tab.one("#pool .card").get_attribute("data-item-id")
    tab.press("3", "0")
    tab.until(lambda: saved(tab, 2), "two judgements")
    tab.go("search")
    tab.search("handbag leather")
    assert tab.one(f"#cards-0 [data-item-id='{item}'] .mark.grade").text == "3 perfect"
    assert "nDCG@10" in tab.one("#results-0 .meta").text


@pytest.mark.parametrize("format", ["qrels", "csv", "workbench", "labels"])
def test_judgements_leave_and_come_back(tab: Tab, format: str, tmp_path: Path) -> None:
    tab.fresh("#judge", judge="ann")
    new_book(tab, f"from {format}", ("yoga mat",))
    tab.press("3", "0", "2")
    tab.until(lambda: saved(tab, 3), "three judgements")
    graded = {each["item_id"]: each["grade"] for each in judgements(tab, f"from {format}")}
    file = tmp_path / "judgements"
    address = tab.one(f"#exports [data-export={format}]").get_attribute("href")
    with urllib.request.urlopen(address) as answer:
        assert "attachment" in answer.headers["content-disposition"]
        file.write_bytes(answer.read())

    tab.fresh("#judge", judge="carl")
    tab.click("input[name=book-source][value=file]")
    tab.put("#new-book-name", f"to {format}")
    tab.script("document.querySelector('#new-book-format').value = arguments[0]", format)
    tab.one("#new-book-file").send_keys(str(file))
    tab.click("#new-book-create")
    tab.until(lambda: "3 judgements imported" in tab.one("#new-book-report").text, "a report of the import")
    assert {each["item_id"]: each["grade"] for each in judgements(tab, f"to {format}")} == graded


def test_a_file_that_is_none_is_told_line_by_line(tab: Tab, tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    file.write_text("query,docid,rating\nyoga mat,I1,<script>window.hacked=1</script>\nyoga mat,I2,2\n")
    tab.fresh("#judge", judge="carl")
    tab.click("input[name=book-source][value=file]")
    tab.put("#new-book-name", "rejected lines")
    tab.script("document.querySelector('#new-book-format').value = 'csv'")
    tab.one("#new-book-file").send_keys(str(file))
    tab.click("#new-book-create")
    tab.until(lambda: "1 judgement imported, 1 line rejected" in tab.one("#new-book-report").text, "a report")
    assert "2" in tab.one("#new-book-report li").text
    assert tab.script("return window.hacked") is None


@pytest.mark.parametrize("sample", ["frequency", "disagreement"])
def test_books_are_sampled_from_the_log(tab: Tab, sample: str) -> None:
    tab.fresh("#judge", judge="ann")
    tab.click("input[name=book-source][value=sample]")
    tab.put("#new-book-name", f"by {sample}")
    select = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change', {bubbles: true}))"
    tab.script(select, tab.one("#new-book-sample"), sample)
    tab.put("#new-book-count", "7")
    tab.click("#new-book-create")
    tab.one("#pool .card")
    assert len(tab.all("#book-queries li")) == 7
    queries = [each["query"] for each in shop_oracle.api(tab.address, f"books/by%20{sample}")["queries"]]
    assert len(set(queries)) == 7
    tab.go("judge")
    tab.click(f"[data-book='by {sample}'] [data-act=remove-book]")
    tab.click("#confirm-yes")
    tab.until(lambda: not tab.all(f"[data-book='by {sample}']"), "the book gone")


def test_a_bad_case_is_reported_from_a_card_and_withdrawn(tab: Tab) -> None:
    tab.fresh(judge="ann")
    tab.search("dark chocolate")
    wrong, missing = tab.ids()[3], tab.ids()[4]
    tab.click(f"#cards-0 [data-item-id='{wrong}'] [data-act=bad]")
    tab.press(*"not <b>chocolate</b>", Keys.ENTER)
    tab.until(lambda: not tab.one("#bad-case-dialog").is_displayed(), "the dialog closed")
    tab.click("#report-missing")
    tab.put("#bad-case-search", "dark chocolate")
    tab.click(f"#bad-case-picks input[value='{missing}']")
    tab.click("#bad-case-send")
    tab.until(lambda: not tab.one("#bad-case-dialog").is_displayed(), "the dialog closed")
    kept = shop_oracle.api(tab.address, "bad_cases")["bad_cases"][-2:]
    facts = [(each["kind"], each["item_id"], each["note"], each["version"], each["rank"]) for each in kept]
    assert facts == [("wrong item", wrong, "not <b>chocolate</b>", 2, 4), ("missing item", missing, "", 2, 5)]
    tab.go("badcases")
    row = f"[data-bad-case='{kept[0]['id']}']"
    assert tab.one(f"{row} .note").text == "not <b>chocolate</b>"
    (shown,) = shop_oracle.ask(tab.address, "POST", "items", {"item_ids": [wrong]})["items"].values()
    assert shown["title"] in tab.one(row).text
    tab.click(f"{row} [data-act=withdraw]")
    tab.until(lambda: not tab.all(row), "the report withdrawn")
    assert kept[0]["id"] not in [each["id"] for each in shop_oracle.api(tab.address, "bad_cases")["bad_cases"]]


def test_two_snapshots_differ_as_their_versions_do(tab: Tab) -> None:
    tab.fresh("#judge", judge="ann")
    new_book(tab, "kept")
    tab.go("snapshots")
    columns = shop_oracle.api(tab.address, "shop")["columns"]
    wanted = [{"kind": "server", "version": version} for version in (1, 2)]
    places = [
        next(i for i, c in enumerate(columns) if {k: v for k, v in c.items() if v is not None} == w) for w in wanted
    ]
    for name, place in zip(("before", "after"), places, strict=True):
        boxes = tab.all("#snapshot-boxes input")
        boxes[place].click()
        for other, box in enumerate(boxes):
            if other != place and box.is_selected():
                box.click()
        tab.script("document.querySelector('#snapshot-book').value = 'kept'")
        tab.put("#snapshot-name", name)
        tab.click("#snapshot-send")
        tab.until(lambda name=name: name in "".join(tab.texts("#snapshots-table tbody th")), name)
    # Until the button is pressed, the view shows the pair that it found when it opened.
    pair = "-".join(tab.attributes("#snapshots-table [data-snapshot]", "data-snapshot")[-2:])
    tab.click("#show-difference")
    tab.one(f"#difference[data-pair='{pair}']")
    queries = tab.attributes(".differences tbody tr", "data-query")
    assert queries
    assert set(queries) <= set(QUERIES)
    lists = []
    for version in (1, 2):
        request = {"query": QUERIES[0], "columns": [{"version": version}], "count": 10}
        found = shop_oracle.ask(tab.address, "POST", "search", request)["results"][0]["items"]
        lists.append({each["item_id"] for each in found})
    entered = tab.attributes(f".differences tr[data-query='{QUERIES[0]}'] .entered li", "data-item-id")
    assert set(entered) == lists[1] - lists[0]
    assert entered
    tab.reload()
    tab.one(".differences tbody tr")
