"""The page's server, or the model server behind it, is killed and comes back: nothing that was typed is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import shop_oracle
from browsing import Tab
from selenium.webdriver import Chrome, Keys
from services import start_page, start_server

QUERIES = ["running shoes", "milk powder"]


class Shop:
    """A page and a model server of its own, on addresses that stay."""

    def __init__(self, config: Path, folder: Path) -> None:
        """Starts both."""
        self.config, self.folder = config, folder
        self.server = start_server(config, folder)
        self.page = start_page(config, self.server.address, folder)

    def restart_page(self) -> None:
        port = int(self.page.address.rstrip("/").rsplit(":", 1)[1])
        self.page = start_page(self.config, self.server.address, self.folder, port)

    def restart_server(self) -> None:
        port = int(self.server.address.rsplit(":", 1)[1])
        self.server = start_server(self.config, self.folder, port)


@pytest.fixture(scope="module")
def own(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    own = Shop(shop, tmp_path_factory.mktemp("away"))
    yield own
    own.page.kill()
    own.server.kill()


@pytest.fixture
def own_tab(browser: Chrome, own: Shop) -> Tab:
    return Tab(browser, own.page.address)


def test_what_is_typed_while_the_page_is_away_is_there_when_it_is_back(own: Shop, own_tab: Tab) -> None:
    tab = own_tab
    shop_oracle.ask(tab.address, "POST", "books", {"name": "away", "queries": QUERIES})
    tab.fresh("#judge/away?at=1", judge="ann")
    tab.one("#pool .card")
    tab.press("3")
    tab.one("#pool .card[data-saved=yes]")
    assert not tab.one("#unsaved").is_displayed()
    own.page.kill()
    tab.press("2", "c", *"too narrow", Keys.ENTER, "1")
    tab.until(lambda: len(tab.all("#pool .card[data-saved=pending]")) == 2, "two that wait")
    tab.until(lambda: "2 judgements not saved yet" in tab.one("#unsaved").text, "a line that says so")
    items = tab.attributes("#pool .card", "data-item-id")[:3]
    tab.press("b", *"away as I wrote", Keys.ENTER)
    tab.until(lambda: "Not reported" in tab.one("#bad-case-error").text, "what went wrong")
    assert tab.one("#bad-case-note").get_attribute("value") == "away as I wrote"

    own.restart_page()
    tab.press(Keys.ENTER)
    tab.until(lambda: not tab.one("#bad-case-dialog").is_displayed(), "the report sent")
    tab.until(lambda: not tab.one("#unsaved").is_displayed(), "nothing that waits")
    kept = shop_oracle.api(tab.address, "books/away/judgements")["judgements"]
    facts = {(each["item_id"], each["grade"], each["comment"]) for each in kept}
    assert facts == {(items[0], 3, ""), (items[1], 2, ""), (items[2], 1, "too narrow")}
    assert [case["note"] for case in shop_oracle.api(tab.address, "bad_cases")["bad_cases"]] == ["away as I wrote"]


def test_judgements_outlive_the_browser_window_while_the_page_is_away(own: Shop, own_tab: Tab) -> None:
    tab = own_tab
    tab.fresh("#judge/away?at=2", judge="bob")
    tab.one("#pool .card")
    own.page.kill()
    tab.press("3", "3")
    tab.one("#unsaved button")
    tab.driver.get("about:blank")
    own.restart_page()
    tab.driver.get(f"{tab.address}/")
    tab.one("body[data-ready=true]")
    judged = "books/away/judgements?judge=bob"
    tab.until(lambda: len(shop_oracle.api(tab.address, judged)["judgements"]) == 2, "both judgements")


def test_a_query_stays_while_the_model_server_is_away(own: Shop, own_tab: Tab) -> None:
    tab = own_tab
    tab.fresh("#search")
    tab.search("running shoes")
    before = tab.ids()
    own.server.kill()
    tab.put("#query", "running shoes 42")
    tab.until(lambda: tab.one("#results-0 .problem").text or tab.one("#error").text, "what the server says")
    assert tab.one("#query").get_attribute("value") == "running shoes 42"
    own.restart_server()
    tab.search("running shoes")
    tab.until(lambda: tab.ids() == before or tab.press(Keys.ENTER), "the results of before")
    assert not tab.one("#results-0 .problem").is_displayed()
    tab.console()
