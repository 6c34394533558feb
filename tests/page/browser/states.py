"""Every state of the page that is checked as a whole: each function brings a tab into one."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable

import shop_oracle
from browsing import Tab
from page_shop import WORD
from selenium.webdriver import Keys

BOOK = "States of the page"
QUERY = "wireless headphones"


def _book(tab: Tab) -> None:
    """A book with judgements of two judges, once."""
    books = [each["name"] for each in shop_oracle.api(tab.address, "books")["books"]]
    if BOOK in books:
        return
    queries = [QUERY, "手机", "حذاء جري", "running shoes"]
    shop_oracle.ask(tab.address, "POST", "books", {"name": BOOK, "queries": queries})
    found = shop_oracle.ask(tab.address, "POST", "search", {"query": QUERY, "count": 5})["results"][0]["items"]
    for judge, shift in (("ann", 0), ("bob", 1)):
        for place, item in enumerate(found):
            grade = min(3, (place + shift * (place % 2)) % 4)
            pair = {"book": BOOK, "judge": judge, "query": QUERY, "item_id": item["item_id"], "grade": grade}
            shop_oracle.ask(tab.address, "PUT", "judgements", {**pair, "comment": "as asked" * place})
    for item in found[:2]:
        case = {
            "query": QUERY,
            "kind": "wrong item",
            "item_id": item["item_id"],
            "note": "not wireless",
            "judge": "ann",
        }
        shop_oracle.ask(tab.address, "POST", "bad_cases", case)
    for version in (1, 2):
        kept = {"name": f"version {version}", "book": BOOK, "columns": [{"version": version}], "count": 10}
        shop_oracle.ask(tab.address, "POST", "snapshots", kept)


def empty_search(tab: Tab) -> None:
    tab.fresh("#search", judge="ann")


def results(tab: Tab) -> None:
    """Two columns with a user, a filter, links and a fusion slider, and titles of every script."""
    _book(tab)
    user = shop_oracle.api(tab.address, "shop")["users"][0]
    columns = "".join(
        "&c=" + urllib.parse.quote(text) for text in ('{"mode":"hybrid","lexical_weight":0.4}', '{"mode":"lexical"}')
    )
    tab.fresh(f"#search?n=10&q={WORD}%20phone&u={user}{columns}", judge="ann")
    tab.one("#columns[data-query][aria-busy=false] .mark.moved")
    tab.one("[data-facet=brand] button")


def judged_results(tab: Tab) -> None:
    """Results of a query with grades and figures, in three columns."""
    _book(tab)
    columns = "".join("&c=" + urllib.parse.quote(text) for text in ("{}", '{"mode":"dense"}', '{"version":1}'))
    tab.fresh(f"#search?n=10&q={QUERY}{columns}", judge="ann")
    tab.one("#columns[data-query][aria-busy=false] .mark.grade")


def no_results(tab: Tab) -> None:
    """A query and a filter that nothing matches, and what the server refuses."""
    columns = "".join("&c=" + urllib.parse.quote(text) for text in ('{"mode":"lexical"}', '{"version":77}'))
    tab.fresh(f"#search?n=10&q=qqqqqq{columns}", judge="ann")
    tab.one("#results-1 .problem")
    tab.until(lambda: tab.one("#results-1 .problem").text, "what the server says")


def explanation(tab: Tab) -> None:
    judged_results(tab)
    tab.click("#cards-0 .card:nth-child(2) [data-act=explain]")
    tab.one("#explain-body[aria-busy=false] [data-part=near]")


def bad_case_dialog(tab: Tab) -> None:
    judged_results(tab)
    tab.click("#report-missing")
    tab.put("#bad-case-search", QUERY)
    tab.one("#bad-case-picks input").click()


def books(tab: Tab) -> None:
    """The list, and the form with every part open."""
    _book(tab)
    tab.fresh("#judge", judge="ann")
    tab.one("#books-table")
    tab.click("input[name=book-source][value=sample]")
    tab.script(
        "arguments[0].value = 'disagreement'; arguments[0].dispatchEvent(new Event('change', {bubbles: true}))",
        tab.one("#new-book-sample"),
    )


def confirmation(tab: Tab) -> None:
    _book(tab)
    tab.fresh("#judge", judge="ann")
    tab.click("#books-table [data-act=remove-book]")


def judging(tab: Tab) -> None:
    """A book with grades, a comment field, figures of all columns, and everything unfolded."""
    _book(tab)
    tab.fresh(f"#judge/{urllib.parse.quote(BOOK)}?at=1", judge="ann")
    tab.one("#pool .card[data-saved=yes]")
    tab.one("#figures-table td b")
    tab.script("document.querySelectorAll('.report details').forEach(each => (each.open = true))")
    tab.click("#pool [data-act=open-comment]")


def name_dialog(tab: Tab) -> None:
    tab.fresh("#search")
    tab.click("#judge-name-button")


def bad_cases(tab: Tab) -> None:
    _book(tab)
    tab.fresh("#badcases", judge="ann")
    tab.one("#bad-cases-table")


def snapshots(tab: Tab) -> None:
    _book(tab)
    tab.fresh("#snapshots", judge="ann")
    tab.click("#show-difference")
    tab.one(".differences")


def key_help(tab: Tab) -> None:
    tab.fresh("#search")
    tab.press(Keys.TAB)
    tab.click("#help-button")


STATES: dict[str, Callable[[Tab], None]] = {
    state.__name__: state
    for state in (
        empty_search, results, judged_results, no_results, explanation, bad_case_dialog, books, confirmation, judging,
        name_dialog, bad_cases, snapshots, key_help,
    )
}  # fmt: skip
"""Name -> what brings a tab there."""
