"""Search, compare and explain, as a person does them in a browser."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import shop_oracle
from browsing import Tab
from page_shop import HOSTILE
from selenium.webdriver import ActionChains, Keys

QUERY = "smartphone"
DENSE = {"mode": "dense"}
LEXICAL = {"mode": "lexical"}
HYBRID = {"mode": "hybrid"}


@pytest.fixture(scope="module")
def catalogue(shop: Path) -> dict[str, dict[str, Any]]:
    return shop_oracle.catalogue(shop)


def choose(tab: Tab, index: int, wanted: dict[str, Any]) -> None:
    """Chooses a column by what it asks, whatever it is called."""
    columns = shop_oracle.api(tab.address, "shop")["columns"]
    given = [{name: value for name, value in each.items() if value is not None} for each in columns]
    place = given.index({"kind": "server", **wanted})
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change', {bubbles: true}))"
    tab.painted(lambda: tab.script(script, tab.one(f"#column-{index}"), str(place)))


def add(tab: Tab, wanted: dict[str, Any]) -> None:
    """Adds a column on the right."""
    index = len(tab.all("#columns > .column"))
    tab.painted(lambda: tab.click("#add-column"))
    choose(tab, index, wanted)


def test_results_are_cards_in_the_order_of_the_server(tab: Tab, catalogue: dict, target: str) -> None:
    tab.search(QUERY)
    ids = tab.ids()
    assert ids == shop_oracle.served(target, QUERY)[:50]
    assert tab.texts("#cards-0 .card .rank") == [str(rank + 1) for rank in range(50)]
    titles = dict(zip(ids, tab.texts("#cards-0 .card .title"), strict=True))
    usual = [item for item in ids if item not in HOSTILE]
    assert [titles[item] for item in usual] == [catalogue[item]["title"] for item in usual]
    for card, item in list(zip(tab.all("#cards-0 .card"), ids, strict=True))[:10]:
        assert card.is_displayed()
        assert catalogue[item]["brand"] in card.text
        assert f"{catalogue[item]['price']:g}" in card.text
    pictured = tab.script("return [...document.querySelectorAll('#cards-0 .card.pictured')].map(e => e.dataset.itemId)")
    assert pictured == [item for item in ids if (catalogue[item]["image"] or "").startswith("http")]
    tab.until(lambda: tab.script("return document.querySelector('#cards-0 img.picture').naturalWidth > 0"), "an image")


def test_results_follow_every_key(tab: Tab, target: str) -> None:
    tab.press(*QUERY)  # the field has the focus of a page without a query
    tab.until(lambda: tab.script("return document.querySelector('#columns').dataset.query") == QUERY, "the last key")
    tab.one("#columns[aria-busy=false]")
    assert tab.ids() == shop_oracle.served(target, QUERY)[:50]
    tab.until(lambda: "q=smartphone" in tab.script("return location.hash"), "the address")
    tab.reload()
    tab.until(lambda: tab.ids() == shop_oracle.served(target, QUERY)[:50], "the results of the address")


def test_facets_and_bounds_filter(tab: Tab, catalogue: dict) -> None:
    tab.search(QUERY)
    value = "[data-facet=brand] button.value"
    brand = tab.one(value).get_attribute("data-value")
    tab.painted(lambda: tab.click(value))
    assert tab.ids()
    assert {catalogue[item]["brand"] for item in tab.ids()} == {brand}
    assert tab.one("[data-facet=brand] button[aria-pressed=true]").get_attribute("data-value") == brand
    prices = sorted(catalogue[item]["price"] for item in tab.ids())
    middle = prices[len(prices) // 2]
    tab.painted(lambda: tab.put("[data-facet=price] [data-end=most]", str(middle)))
    assert tab.ids()
    assert all(catalogue[item]["brand"] == brand and catalogue[item]["price"] <= middle + 1e-3 for item in tab.ids())
    assert tab.one("#filters-count").text == "2 filters"
    tab.until(lambda: "f.brand" in tab.script("return location.hash"), "the address")
    tab.painted(lambda: tab.click("#filters-clear"))
    assert len({catalogue[item]["brand"] for item in tab.ids()}) > 1


def test_arrows_show_what_a_user_changes(tab: Tab) -> None:
    tab.search("phone")
    anonymous = tab.ids()
    assert not tab.all(".mark.moved")
    user = shop_oracle.api(tab.address, "shop")["users"][0]
    tab.script("document.querySelector('#user').open = true")
    tab.painted(lambda: tab.put("#user-id", user))
    personal = tab.ids()
    assert personal != anonymous
    checked = 0
    for rank, item in enumerate(personal, 1):
        mark = tab.one(f"#cards-0 [data-item-id='{item}'] .mark.moved")
        before = mark.get_attribute("data-anonymous-rank")
        if item in anonymous:
            assert before == str(anonymous.index(item) + 1)
            by = int(before) - rank
            arrow = f"▲{by}" if by > 0 else f"▼{-by}" if by < 0 else "="
            assert mark.text.splitlines()[0].startswith(arrow)
            checked += by != 0
    assert checked
    tab.painted(lambda: tab.click("#user-clear"))
    assert tab.ids() == anonymous
    assert not tab.all(".mark.moved")
    # A history as clicked together: the items of other departments pull others up.
    tab.painted(lambda: tab.click("#cards-0 .card:nth-child(20) [data-act=history]"))
    assert len(tab.all("#history li")) == 1
    assert tab.all(".mark.moved")


def test_columns_are_linked_and_their_agreement_is_counted(tab: Tab) -> None:
    tab.search(QUERY)
    choose(tab, 0, DENSE)
    add(tab, LEXICAL)
    dense, lexical = tab.ids(0), tab.ids(1)
    assert dense
    assert lexical
    alone = tab.script("return [...document.querySelectorAll('#cards-0 .card.alone')].map(e => e.dataset.itemId)")
    assert alone == [item for item in dense if item not in lexical]
    assert alone
    common = next(item for item in dense if item in lexical)
    mark = tab.one(f"#cards-0 [data-item-id='{common}'] [data-also-in=B]")
    assert mark.text.startswith(f"B {lexical.index(common) + 1}")
    ActionChains(tab.driver).move_to_element(tab.one(f"#cards-0 [data-item-id='{common}'] .title")).perform()
    linked = "return [...document.querySelectorAll('.card.linked')].map(e => e.dataset.itemId)"
    tab.until(lambda: tab.script(linked) == [common, common], "the same item in both columns")
    overlap = len(set(dense[:10]) & set(lexical[:10])) / 10
    pair = tab.one("#agreement [data-pair=AB]").text
    assert f"overlap@10 {100 * overlap:.0f} %" in pair
    assert "RBO 0" in pair
    add(tab, {"version": 1})
    assert len(tab.all("#agreement .pair")) == 3
    assert "version 1" in tab.one("#results-2 .meta").text
    assert "version 2" in tab.one("#results-0 .meta").text
    assert not tab.one("#add-column").is_displayed()
    tab.painted(lambda: tab.click("#remove-column-1"))
    assert len(tab.all("#columns > .column")) == 2


def test_the_fusion_slider_goes_from_dense_to_lexical(tab: Tab, target: str) -> None:
    tab.search(QUERY)
    choose(tab, 0, HYBRID)
    served = tab.ids()
    slider = tab.one("#fusion-0")
    tab.painted(lambda: slider.send_keys(Keys.END))
    check_order(tab, target, "lexical")
    tab.painted(lambda: slider.send_keys(Keys.HOME))
    check_order(tab, target, "dense")
    tab.painted(lambda: slider.send_keys(*[Keys.ARROW_RIGHT] * 3))
    tab.until(lambda: "lexical_weight" in tab.script("return decodeURIComponent(location.hash)"), "the address")
    tab.painted(lambda: tab.click("#fusion-reset-0"))
    assert tab.ids() == served


def check_order(tab: Tab, target: str, mode: str) -> None:
    """The ten best on the page are the ten best of a mode; those of equal scores in any order."""
    scores = shop_oracle.scored(target, QUERY, mode=[mode])
    assert [scores[item] for item in tab.ids()[:10]] == list(scores.values())[:10]


def test_an_item_is_explained(tab: Tab, catalogue: dict, target: str, shop: Path) -> None:
    clicked = shop_oracle.clicks(shop)
    queries = shop_oracle.api(tab.address, "shop")["queries"]
    query, item = next(
        (query, item)
        for query in queries
        for item in shop_oracle.served(target, query, mode=["lexical"])[:50]
        if clicked.get((query, item), 0) > 1
    )
    tab.search(query)
    choose(tab, 0, HYBRID)
    add(tab, LEXICAL)
    rank = tab.ids(1).index(item) + 1
    opener = f"#cards-1 [data-item-id='{item}'] [data-act=explain]"
    tab.click(opener)
    tab.one("#explain-body[aria-busy=false] [data-part=head]")
    assert tab.one("#explain .item-title").text == catalogue[item]["title"]
    ranks = tab.texts("#explain [data-part=ranks] tbody td:last-child")
    assert ranks[1] == str(rank)
    assert len(ranks) == 2
    for part, said in (("head", "h3"), ("bm25", "h3")):
        for section in tab.all(f"#explain [data-part={part}]"):
            total = number(tab.script("return arguments[0].querySelector(arguments[1]).textContent", section, said))
            values = tab.script(
                "return [...arguments[0].querySelectorAll('td.value')].map(e => e.textContent)", section
            )
            assert math.isclose(sum(map(number, values)), total, abs_tol=0.0006 * (len(values) + 1))
    words = set(catalogue[item]["title"].lower().split())
    for line in tab.all("#explain [data-part=bm25] tbody tr.matched"):
        # A misspelt term stands beside the one that it counts as: "sneaker -> speaker".
        assert (line.get_attribute("data-token") or "").split(" -> ")[-1] in words
    near = tab.attributes("#explain [data-part=near] li", "data-item-id")
    assert near
    assert item not in near
    (count,) = tab.texts("#explain [data-part=clicks] tbody tr:first-child td:last-child")
    assert 0 < int(count) <= clicked[query, item]
    tab.click("#explain [data-part=near] button")
    tab.until(lambda: tab.one("#explain").get_attribute("data-item-id") == near[0], "the nearest item")
    tab.press(Keys.ESCAPE)
    assert not tab.one("#explain").is_displayed()


def test_the_keyboard_alone_searches_moves_explains_and_reports(tab: Tab) -> None:
    tab.search("shoes")
    choose(tab, 0, DENSE)
    add(tab, LEXICAL)
    focused = "return document.activeElement.closest('.card')?.dataset.itemId"
    tab.script("document.activeElement.blur()")
    tab.press("/")
    assert tab.script("return document.activeElement.id") == "query"
    tab.script("document.activeElement.blur()")
    tab.press("j", "j", "j", "k")
    assert tab.script(focused) == tab.ids(0)[1]
    tab.press("l")
    assert tab.script("return document.activeElement.closest('.card').parentElement.id") == "cards-1"
    tab.press("i", "e")
    tab.one("#explain-body[aria-busy=false] [data-part]")
    tab.press(Keys.ESCAPE)
    tab.until(lambda: tab.script(focused) is not None, "the focus back on the card")


def number(text: str) -> float:
    """The last number of a text with the typographic minus, as ``Head 0: −0.123, the best`` has it."""
    words = text.replace("−", "-").replace("+", "").replace(",", " ").split()
    numbers = [word for word in words if word.lstrip("-").replace(".", "", 1).isdigit() and "." in word]
    return float(numbers[-1])
