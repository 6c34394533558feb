"""A headless Chromium, and what tests do with the page in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

LONGEST_WAIT = 60.0
"""Seconds; only a failing test waits so long."""
IMAGE_HOST = "images.test"
NAMES = ("chromium", "chromium-browser", "google-chrome")
WCAG = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa")
"""axe's tags of the levels A and AA."""
Got = TypeVar("Got")


def browser_program() -> str | None:
    """The path of an installed Chromium."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def start_browser(downloads: Path, image_port: int | None = None) -> Chrome:
    """A headless Chromium that keeps what pages write to the console, and reaches loopback alone.

    Args:
        downloads: folder of the files that pages let one save.
        image_port: port on loopback of the server that stands for ``IMAGE_HOST``.
    """
    options = ChromeOptions()
    options.binary_location = browser_program() or ""
    options.add_argument("--headless=new")
    options.add_argument("--disable-dev-shm-usage")  # containers have 64 MB there
    options.add_argument("--disable-background-networking")
    images = f"MAP {IMAGE_HOST} 127.0.0.1:{image_port}, " if image_port else ""
    options.add_argument(f"--host-resolver-rules={images}MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost")
    options.add_argument("--window-size=1280,900")
    options.add_argument("--hide-scrollbars")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # the sandbox refuses to start as root
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    save = {"download.prompt_for_download": False, "download.default_directory": str(downloads)}
    options.add_experimental_option("prefs", save)
    return Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))


class Tab:
    """The page in a browser."""

    def __init__(self, driver: Chrome, address: str) -> None:
        """The page at ``address``, without a path."""
        self.driver = driver
        self.address = address.rstrip("/")
        self._logged: list[str] = []

    def fresh(self, view: str = "", *, judge: str | None = None, images: bool = True) -> None:
        """Opens a view as a browser that was never here, but for the name of the judge."""
        self._logged += self._log()
        self.dark(False)
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.driver.get(f"{self.address}/api/shop")
        kept = {"dpsr.images": "on" if images else "off"} | ({"dpsr.judge": judge} if judge else {})
        self.script(
            "localStorage.clear(); for (const [k, v] of Object.entries(arguments[0])) localStorage.setItem(k, v)", kept
        )
        self._log()  # of a document without a picture of its own the browser asks for /favicon.ico
        self.driver.get(f"{self.address}/{view}")
        self.one("body[data-ready=true]")

    def reload(self) -> None:
        """Loads the page anew."""
        self.driver.refresh()
        self.one("body[data-ready=true]")

    def go(self, view: str) -> None:
        """Goes to a view by its address, as ``judge/BOOK``."""
        self.script("location.hash = arguments[0]", view)
        name = view.split("/")[0].split("?")[0]
        self.one(f"body[data-view={name}]")

    def one(self, selector: str) -> WebElement:
        """The first element of a CSS selector, once it is there."""
        return self.until(lambda: next(iter(self.driver.find_elements(By.CSS_SELECTOR, selector)), None), selector)

    def all(self, selector: str) -> list[WebElement]:
        """The elements of a CSS selector now."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """Their texts now, also of those out of sight."""
        return self.script("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)

    def attributes(self, selector: str, name: str) -> list[str | None]:
        """One of their attributes now, all read at the same moment."""
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.getAttribute(arguments[1]))"
        return self.script(script, selector, name)

    def until(self, condition: Callable[[], Got | None], what: str = "") -> Got:
        """The first result of the condition that is true."""
        # What is painted anew between two steps of a condition is looked at once more.
        wait = WebDriverWait(self.driver, LONGEST_WAIT, 0.05, [StaleElementReferenceException])
        return wait.until(lambda _: condition(), f"waited {LONGEST_WAIT:g} s for {what}")

    def script(self, text: str, *arguments: Any) -> Any:
        """The result of a script."""
        return self.driver.execute_script(text, *arguments)

    def painted(self, action: Callable[[], object]) -> None:
        """Does what asks for results, and waits until they are on the screen, all of them."""
        count = "return performance.getEntriesByName('search').length"
        before = self.script(count)
        action()
        self.until(lambda: self.script(count) > before, "painted results")
        self.one("#columns[aria-busy=false]")

    def search(self, query: str) -> None:
        """Puts a query into its field at once, as one who pastes, and waits for the results."""
        self.painted(lambda: self.put("#query", query))
        self.until(lambda: self.script("return document.querySelector('#columns').dataset.query") == query, query)
        self.one("#columns[aria-busy=false]")

    def put(self, selector: str, value: str) -> None:
        """Sets a field to any text; keys are limited to the basic multilingual plane."""
        self.script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
            self.one(selector),
            value,
        )

    def press(self, *keys: str) -> None:
        """Presses keys where the focus is."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def click(self, selector: str) -> None:
        """Clicks the first element of a CSS selector, as soon as it can be clicked."""
        element = self.one(selector)
        self.until(lambda: element.is_displayed() and element.is_enabled(), selector)
        self.script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def ids(self, column: int = 0) -> list[str]:
        """Item ids of the cards of a column."""
        return self.script(f"return [...document.querySelectorAll('#cards-{column} .card')].map(e => e.dataset.itemId)")

    def console(self) -> list[str]:
        """Warnings and errors of the console since the last call, those of the content security policy too."""
        logged, self._logged = self._logged + self._log(), []
        return logged

    def _log(self) -> list[str]:
        entries = self.driver.get_log("browser")
        return [entry["message"] for entry in entries if entry["level"] in ("WARNING", "SEVERE")]

    def violations(self) -> list[str]:
        """What axe-core finds against the levels A and AA, a line each: rule, element, advice."""
        self._lay_out()
        if not self.script("return typeof axe === 'object'"):
            file = resources.files("axe_playwright_python") / "axe.min.js"
            self.script(file.read_text(encoding="utf-8"))
        found = self.driver.execute_async_script(
            "const done = arguments[1];"
            "axe.run(document, {runOnly: {type: 'tag', values: arguments[0]}, resultTypes: ['violations']})"
            ".then(r => done(r.violations), e => done([{id: 'axe', help: String(e), nodes: []}]));",
            WCAG,
        )
        return [
            f"{rule['id']}: {node['target']} {node['html'][:120]} {node['failureSummary']}"
            for rule in found
            for node in rule["nodes"] or [{"target": "", "html": "", "failureSummary": rule["help"]}]
        ]

    def _lay_out(self) -> None:
        """Scrolls to the end and back: what was never in sight has no size of its own (``content-visibility``)."""
        self.driver.execute_async_script(
            "const done = arguments[0]; const back = scrollY; let at = 0;"
            "const step = () => { const ended = at > document.body.scrollHeight; scrollTo(0, ended ? back : at);"
            " at += innerHeight / 2; requestAnimationFrame(ended ? () => done() : step); }; step();"
        )

    def dark(self, on: bool) -> None:
        """Sets what the system prefers, a dark or a light page."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Sets the size of the window's inside, in CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
