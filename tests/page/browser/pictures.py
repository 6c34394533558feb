"""Pictures of the page for the README: a comparison, and a book that is judged.

    python tests/page/browser/pictures.py docs/images

The shop is that of ``dpsr demo``, small, in a temporary folder; ``--config`` takes another one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import shop_oracle
from browsing import Tab, start_browser
from services import start_page, start_server

SIZE = (1280, 800)
QUERY = "senior mobile phone"
BOOK = "Frequent queries"
JUDGES = ("ann", "bob")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to, for example docs/images")
    parser.add_argument("--config", type=Path, help="the TOML configuration of a shop that is exported")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = arguments.config or demo_shop(folder / "shop")
        server = start_server(config, folder)
        page = start_page(config, server.address, folder)
        driver = start_browser(folder)
        try:
            tab = Tab(driver, page.address)
            compare(tab, arguments.folder / "page_compare.png")
            judge(tab, arguments.folder / "page_judge.png")
        finally:
            driver.quit()
            page.stop()
            server.stop()


def demo_shop(folder: Path) -> Path:
    """A demo shop with a second, hybrid version."""
    dpsr = [sys.executable, "-m", "dpsr.cli"]
    subprocess.run([*dpsr, "demo", "--size", "small", "--work-dir", folder], check=True)
    config = folder / "shop.toml"
    hybrid = '\n[index]\nmode = "hybrid"\nfusion = "weighted_sum"\n'
    config.write_text(config.read_text(encoding="utf-8") + hybrid, encoding="utf-8")
    subprocess.run([*dpsr, "export", "-c", config], check=True)
    return config


def compare(tab: Tab, file: Path) -> None:
    """A query in two columns with the fusion slider, for a user."""
    user = shop_oracle.api(tab.address, "shop")["users"][0]
    columns = '&c={"mode":"hybrid","lexical_weight":0.3}&c={"mode":"lexical"}'
    tab.fresh(f"#search?q={QUERY}&n=10&u={user}{columns}", judge=JUDGES[0], images=False)
    tab.size(*SIZE)
    tab.one("#columns[data-query][aria-busy=false] .mark.moved")
    tab.one("[data-facet] button")
    for _ in range(5):  # the first answers of a process take longer than those that people see
        tab.search(QUERY)
    tab.one("#columns[aria-busy=false] .mark.moved")
    tab.click("#query")
    tab.driver.save_screenshot(str(file))


def judge(tab: Tab, file: Path) -> None:
    """A book with grades and comments of two judges, and the figures of its columns."""
    book = {"name": BOOK, "sample": "frequency", "count": 12}
    queries = [each["query"] for each in shop_oracle.ask(tab.address, "POST", "books", book)["queries"]]
    for place, query in enumerate(queries[:6]):
        request = {"query": query, "columns": [{"mode": "hybrid"}], "count": 10}
        found = shop_oracle.ask(tab.address, "POST", "search", request)["results"][0]["items"]
        for rank, item in enumerate(found):
            for number, name in enumerate(JUDGES):
                grade = max(0, 3 - (rank + place) // 3 - (number if rank % 4 == 1 else 0))
                pair = {"book": BOOK, "judge": name, "query": query, "item_id": item["item_id"], "grade": grade}
                comment = "another model fits better" if rank == 2 else ""
                shop_oracle.ask(tab.address, "PUT", "judgements", {**pair, "comment": comment})
    tab.fresh(f"#judge/{BOOK}?at=1", judge=JUDGES[0], images=False)
    tab.size(*SIZE)
    tab.one("#pool .card[data-saved=yes]")
    tab.one("#figures-table td b")
    tab.press("j", "j")
    tab.driver.save_screenshot(str(file))


if __name__ == "__main__":
    main()
