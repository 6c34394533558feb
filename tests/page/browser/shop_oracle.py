"""What the shop and its server say without the page."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from page_shop import NAME

from dpsr.serving.client import PredictClient


def catalogue(config: Path) -> dict[str, dict[str, Any]]:
    """Rows of the items by their ids."""
    rows = pq.read_table(config.parent / "shop" / "items.parquet").to_pylist()
    return {row["item_id"]: row for row in rows}


def clicks(config: Path) -> Counter[tuple[str, str]]:
    """How often the log has a query and an item, whatever the event."""
    log = pq.read_table(config.parent / "shop" / "interactions.parquet", columns=["query", "item_id"])
    return Counter(zip(log.column("query").to_pylist(), log.column("item_id").to_pylist(), strict=True))


def clicked_queries(config: Path) -> set[str]:
    """The queries of the log."""
    log = pq.read_table(config.parent / "shop" / "interactions.parquet", columns=["query"])
    return set(log.column("query").unique().to_pylist())


def served(target: str, query: str, **inputs: Any) -> list[str]:
    """Item ids that the newest version answers a query with, the best first."""
    return list(scored(target, query, **inputs))


def scored(target: str, query: str, **inputs: Any) -> dict[str, float]:
    """Their scores too."""
    with PredictClient(target) as client:
        answer = client.predict(NAME, {"query": [query], **inputs})
    pairs = zip(answer["item_id"][0], answer["score"][0].tolist(), strict=True)
    return {item.decode(): score for item, score in pairs if item}


def ask(address: str, method: str, path: str, body: Any = None) -> Any:
    """The answer of the page's server to a request."""
    headers = {"content-type": "application/json", "x-dpsr-page": "1"}
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address.rstrip('/')}/api/{path}", content, headers, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def api(address: str, path: str) -> Any:
    """The answer to a GET request."""
    return ask(address, "GET", path)
