"""Titles, queries, notes and addresses of strangers are shown as text, and no error comes of them."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
import shop_oracle
from browsing import Tab
from page_shop import HOSTILE, WORD
from selenium.webdriver import Keys

LEXICAL = "&c=" + urllib.parse.quote('{"mode":"lexical"}')
TEXTS = {
    "script": "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>",
    "quotes": """"double" 'single' `back` &quot; \\" ' OR 1=1; --""",
    "control": "a\x01b\x07c\x1b[31md\x7fe\x85f",
    "bidi": "\u202egnp.exe\u202c \u2067abc\u2069 \u200f\u061c",
    "chinese": "老人手机 \U00020000 5G",
    "arabic": "حذاء جري (42) خفيف",
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e6\U0001f1f9 Z\u0335\u0321a\u0353",
    "template": "{{7*7}} ${7*7} #{7*7} %s %n {0}",
    "path": "../../etc/passwd?a=b&c=d#e%00%2f",
    "markup": "</title></textarea></script><!--<svg/onload=window.hacked=1>",
}


@pytest.fixture(autouse=True)
def unharmed(tab: Tab) -> Iterator[None]:
    """No text ran as a script."""
    yield
    assert tab.script("return [window.hacked, document.querySelectorAll('script').length, location.pathname]") == [
        None, 1, "/",
    ]  # fmt: skip


def shown(text: str) -> str:
    """The parts of a text that the page shows as they are; something visible stands for each control character."""
    hidden = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF, 0xFFFD]
    return "".join(" " if ord(character) in hidden else character for character in text)


def test_hostile_titles_are_texts(tab: Tab, shop: Path) -> None:
    tab.fresh(f"#search?q={WORD}{LEXICAL}")
    titles = {item: title for item, title in HOSTILE.items() if title}
    tab.until(lambda: set(tab.ids()) == titles.keys(), "all hostile items")
    for item, title in titles.items():
        card = tab.one(f"#cards-0 [data-item-id='{item}']")
        text = tab.script("return arguments[0].querySelector('.title').textContent", card)
        assert text.startswith(title[:60]) or all(part in text for part in shown(title)[:200].split()), item
        assert len(text) < 2_000
        assert not set(text) & {chr(code) for code in (*range(0x20), 0x7F, 0x202E, 0x2066)}
        assert tab.script("return arguments[0].querySelectorAll('script, svg, b').length", card) == 0
        assert not tab.all(f"#cards-0 [data-item-id='{item}'] img")
        box = card.rect
        assert box["width"] <= 1280
        assert box["height"] < 500
    rows = shop_oracle.catalogue(shop)
    assert len(rows["H03"]["title"]) > 990_000
    direction = "return getComputedStyle(document.querySelector(`#cards-0 [data-item-id=${arguments[0]}] .title [dir],"
    direction += " #cards-0 [data-item-id=${arguments[0]}] .title[dir]`)).direction"
    assert tab.script(direction, "H01") == "ltr"
    assert tab.script("return document.documentElement.scrollWidth <= innerWidth")
    for item in titles:
        tab.script("document.querySelector(`#cards-0 [data-item-id=${arguments[0]}] [data-act=explain]`).click()", item)
        tab.until(lambda item=item: tab.one("#explain").get_attribute("data-item-id") == item, item)
        tab.one("#explain-body[aria-busy=false] .item-title")
        assert tab.script("return document.documentElement.scrollWidth <= innerWidth"), item


def test_right_to_left_titles_start_at_the_right(tab: Tab) -> None:
    tab.fresh(f"#search?q={urllib.parse.quote('חדש')}{LEXICAL}")
    tab.until(lambda: tab.ids() == ["H09"], "the Hebrew item")
    # The title begins with a Latin word; the same text without it is right to left.
    tab.fresh(f"#search?q={urllib.parse.quote('حذاء')}{LEXICAL}")
    assert tab.script("return getComputedStyle(document.querySelector('#query')).direction") == "rtl"


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_queries_names_comments_and_notes_are_kept_as_they_are(tab: Tab, name: str) -> None:
    text = TEXTS[name]
    tab.fresh(judge=f"judge {text}")
    tab.search(text)
    assert not tab.one("#error").is_displayed()
    book, path = f"book {text}", urllib.parse.quote(f"book {text}", safe="")
    shop_oracle.ask(tab.address, "POST", "books", {"name": book, "queries": [text]})
    tab.go("judge")
    tab.until(lambda: book in tab.attributes("#books-table [data-book]", "data-book"), "the book")
    tab.go(f"judge/{path}")
    # A query of no known word still has the answers of the dense searcher.
    tab.one("#pool .card")
    tab.click("#pool [data-act=open-comment]")
    tab.put("#pool textarea", text)
    tab.press(Keys.ENTER)
    tab.press("2")
    tab.one("#pool .card[data-saved=yes]")
    (kept,) = shop_oracle.api(tab.address, f"books/{path}/judgements")["judgements"]
    assert (kept["query"], kept["judge"], kept["comment"]) == (text, f"judge {text}", text)
    tab.reload()
    comment = tab.until(lambda: tab.texts("#pool .card[data-saved=yes] .comment"), "the comment")[0]
    assert all(part in comment for part in shown(text).split())
    tab.until(lambda: tab.texts("#figures-table td b"), "figures")

    case = {"query": text, "kind": "wrong item", "item_id": kept["item_id"], "note": text, "judge": text}
    number = shop_oracle.ask(tab.address, "POST", "bad_cases", case)["id"]
    tab.go("badcases")
    row = f"#bad-cases-table [data-bad-case='{number}']"
    tab.one(row)
    assert all(part in tab.texts(f"{row} .note")[0] for part in shown(text).split())
    snapshot = {"name": text, "book": book, "count": 10}
    for _ in range(2):
        shop_oracle.ask(tab.address, "POST", "snapshots", snapshot)
    tab.go("snapshots")
    tab.click("#show-difference")
    tab.one("#difference h2")
    assert tab.script("return document.documentElement.scrollWidth <= innerWidth")


def test_a_query_of_a_megabyte_is_answered_with_words(tab: Tab) -> None:
    tab.put("#query", "heavy words " * 83_334)
    tab.until(lambda: "at most" in tab.one("#error").text, "the limit")
    tab.put("#query", "heavy " * 1_000)
    tab.until(lambda: not tab.one("#error").is_displayed(), "an answer")
    tab.one("#columns[aria-busy=false]")
    tab.search("phone")
    assert not tab.one("#error").is_displayed()
    assert tab.ids()


def test_lone_surrogates_do_not_stop_a_search(tab: Tab) -> None:
    script = (
        "const e = document.querySelector('#query'); e.value = 'phone \\ud800'; e.dispatchEvent(new Event('input'))"
    )
    tab.painted(lambda: tab.script(script))
    assert tab.ids()
    assert not tab.one("#error").is_displayed()


@pytest.mark.parametrize(
    "view",
    [
        "#search?q=%3Cscript%3Ewindow.hacked%3D1%3C/script%3E",
        "#search?q=phone&c=no%20JSON&c=[]&c=null&n=-7&r.price=x..&f.nothing=a&u=%00",
        "#search?%ff=%ff&q=%",
        "#constructor",
        "#__proto__/x",
        "#judge/%ff%00",
        "#snapshots?a=javascript:1&b=%3Cb%3E",
    ],
)
def test_hostile_addresses_open_a_view(tab: Tab, view: str) -> None:
    tab.fresh(view, judge="ann")
    assert tab.script("return document.body.dataset.view") in ("search", "judge", "snapshots")
    assert tab.all("h1")
    refused = [line for line in tab.console() if "Failed to load resource" not in line]
    assert refused == []
