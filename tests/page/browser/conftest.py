"""Fixtures: a real browser, a real page over a real model server."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

sys.path.insert(0, str(Path(__file__).parent))
from browsing import Tab, browser_program, start_browser
from services import Service, image_server, start_page, start_server


@pytest.fixture(scope="session")
def installed() -> None:
    """Skips without a browser."""
    if browser_program() is None or shutil.which("chromedriver") is None:
        pytest.skip("no chromium with its chromedriver; make deps-page installs them")


@pytest.fixture(scope="session")
def shop(installed: None, request: pytest.FixtureRequest) -> Path:
    """Configuration file of the shop, which is not made without a browser."""
    file: Path = request.getfixturevalue("page_shop")
    return file


@pytest.fixture(scope="session")
def target(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a model server of both versions."""
    server = start_server(shop, tmp_path_factory.mktemp("server"))
    yield server.address
    server.stop()


@pytest.fixture(scope="session")
def page(shop: Path, target: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The page over that server."""
    service = start_page(shop, target, tmp_path_factory.mktemp("page"))
    yield service
    service.stop()


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def browser(installed: None, downloads: Path) -> Iterator[Chrome]:
    with image_server() as port:
        driver = start_browser(downloads, port)
        yield driver
        driver.quit()


@pytest.fixture
def tab(browser: Chrome, page: Service) -> Iterator[Tab]:
    """The page, fresh: no settings of an earlier test; its console has to be empty at the end."""
    tab = Tab(browser, page.address)
    tab.fresh()
    yield tab
    assert tab.console() == []
