"""Milliseconds of `dpsr page`: from the press of a key in the search field to painted results, and of explanations.

    python benchmarks/page.py                              # 20,000 items
    python benchmarks/page.py --items 100000 --columns 3

The shop is that of `dpsr demo` at another size, one epoch of training, exported as a hybrid. A headless Chromium, the
page and the model server share the machine and speak over loopback. Queries of the shop's own log are typed key by key;
a key is pressed once the results of the one before are painted, so that each has a list of its own. The browser
measures: `performance.measure("search")` of the client goes from the time of the input event to the first task after
the frame that shows the first screen of results. "server" is what the model server takes of it, as the page says.
Scrolling is through the list of 1,000 results: milliseconds between frames from top to end. An explanation is an answer
to POST /api/explain, for an item among the ten best of a query of the log and its rank in the hybrid list; the first
one, which reads the version, the towers and the log, stands apart.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "page" / "browser"))
import shop_oracle
from browsing import Tab, start_browser
from services import start_page, start_server

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATION = """
[index]
mode = "hybrid"
fusion = "weighted_sum"
dense_weight = 1.0
"""
SHOP = """
import sys
from pathlib import Path
from dpsr.data.demo_shop.shop import generate

generate(Path(sys.argv[1]), items=int(sys.argv[2]), users=2_000, interactions=100_000, seed=1)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--keys", type=int, default=200, help="key presses that are measured")
    parser.add_argument("--explanations", type=int, default=200, help="explanations that are measured")
    parser.add_argument("--columns", type=int, choices=(1, 2, 3), default=1, help="lists side by side")
    parser.add_argument("--work-dir", type=Path, help="keeps the shop there, or takes the one that is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = shop(options.work_dir or folder / "shop", options.items)
        server = start_server(config, folder)
        page = start_page(config, server.address, folder)
        driver = start_browser(folder)
        try:
            tab = Tab(driver, page.address)
            columns = "".join(f'&c={{"mode":"{mode}"}}' for mode in ("hybrid", "dense", "lexical")[: options.columns])
            tab.fresh(f"#search?{columns[1:]}", images=False)
            painted, served = press_keys(tab, options.keys)
            frames = scroll(tab)
            first, explained = explain(page.address, options.explanations)
        finally:
            driver.quit()
            page.stop()
            server.stop()
    rows = [
        ("key press to painted results", len(painted), *quantiles(painted)),
        ("of it the model server", len(served), *quantiles(served)),
        ("between frames, scrolling 1,000 results", len(frames), *quantiles(frames)),
        ("the first explanation", 1, first, first, first),
        ("later explanations", len(explained), *quantiles(explained)),
    ]
    print(tabulate(rows, headers=["milliseconds", "count", "median", "p95", "largest"], floatfmt=".1f"))
    lists = f"{options.columns} list" + "s" * (options.columns > 1)
    machine = f"{os.cpu_count()} cores shared by all, {platform.processor() or platform.machine()}"
    print(f"\n{options.items:,} items, {lists} of 50 results; {machine}, Python {platform.python_version()}")


def shop(folder: Path, items: int) -> Path:
    """The configuration of an exported shop, made where the folder has none."""
    config = folder / "shop.toml"
    if (folder / "exported").exists():
        return config
    folder.mkdir(parents=True, exist_ok=True)
    example = (ROOT / "examples" / "demo_shop.toml").read_text(encoding="utf-8")
    text = example.replace('"build/demo', f'"{folder.resolve()}').replace("epochs = 5", "epochs = 1")
    config.write_text(text + CONFIGURATION, encoding="utf-8")
    subprocess.run([sys.executable, "-c", SHOP, folder / "shop", str(items)], check=True)
    for command in ("prepare", "train", "export"):
        subprocess.run([sys.executable, "-m", "dpsr.cli", command, "-c", config], check=True, stdout=sys.stderr)
    (folder / "exported").touch()
    return config


def press_keys(tab: Tab, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each key press, and of the model server's slowest column in it; the first query warms up."""
    queries = [query for query in shop_oracle.api(tab.address, "shop")["queries"] if query.isascii()]
    painted: list[float] = []
    served: list[float] = []
    field = tab.one("#query")
    number = 0
    while len(painted) < count:
        query = queries[number % len(queries)]
        tab.put("#query", "")
        for key in query:
            tab.painted(lambda key=key: field.send_keys(key))
            if number and len(painted) < count:
                painted.append(tab.script("return performance.getEntriesByName('search').at(-1).duration"))
                lines = tab.texts("#columns .meta")
                served.append(max(float(line.split(" ms")[0].split(" · ")[-1]) for line in lines))
        number += 1
    return painted, served


def scroll(tab: Tab) -> list[float]:
    """Milliseconds between the frames of a list of 1,000 results that scrolls by 100 pixels a frame."""
    query = shop_oracle.api(tab.address, "shop")["queries"][0]
    tab.fresh(f'#search?q={query}&n=1000&c={{"mode":"dense"}}', images=False)
    tab.until(lambda: len(tab.ids()) == 1000, "1,000 results")
    return tab.driver.execute_async_script(
        "const done = arguments[0]; const times = []; let before = null;"
        "const step = (now) => { if (before !== null) times.push(now - before); before = now;"
        " if (scrollY + innerHeight >= document.documentElement.scrollHeight - 1 || times.length > 2000) done(times);"
        " else { scrollBy(0, 100); requestAnimationFrame(step); } }; requestAnimationFrame(step);"
    )


def explain(address: str, count: int) -> tuple[float, list[float]]:
    """Milliseconds of the first explanation, and of ``count`` later ones, of the items of a query after another."""
    column = {"mode": "hybrid"}
    milliseconds: list[float] = []
    while True:
        for query in shop_oracle.api(address, "shop")["queries"]:
            found = shop_oracle.ask(address, "POST", "search", {"query": query, "columns": [column], "count": 10})
            for item in found["results"][0]["items"][len(milliseconds) % 3 :: 3]:
                wanted = {"query": query, "item_id": item["item_id"], "columns": [column]}
                start = time.perf_counter()
                shop_oracle.ask(address, "POST", "explain", wanted)
                milliseconds.append(1000 * (time.perf_counter() - start))
                if len(milliseconds) > count:
                    return milliseconds[0], milliseconds[1:]


def quantiles(values: list[float]) -> tuple[float, float, float]:
    return float(np.median(values)), float(np.quantile(values, 0.95)), max(values)


if __name__ == "__main__":
    main()
