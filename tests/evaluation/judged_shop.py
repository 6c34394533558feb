"""A small shop with a log and judged queries, searched by words alone."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dpsr.config import Config, parse_config

ITEMS, CLICKS = 90, 900
WORDS = ["red", "blue", "phone", "case", "milk", "powder", "shoe", "coat", "lamp", "desk", "chair", "game", "hat"]


def write_shop(folder: Path) -> None:
    """Queries are words of the clicked item's title; 40 of them have judged items."""
    rng = np.random.default_rng(5)
    titles = [" ".join(rng.choice(WORDS, 4, replace=False)) for _ in range(ITEMS)]
    items = np.minimum(rng.geometric(0.05, CLICKS) - 1, ITEMS - 1)
    queries = [" ".join(rng.choice(titles[item].split(), rng.integers(1, 3), replace=False)) for item in items]
    judged = rng.integers(0, CLICKS, 40)
    tables = {
        "items": {"item_id": [f"i{row}" for row in range(ITEMS)], "title": titles},
        "clicks": {
            "query": queries,
            "item_id": [f"i{item}" for item in items],
            "timestamp": np.arange(CLICKS) * 60 + 1_600_000_000,
        },
        "labels": {
            "query": [queries[row] for row in judged for _ in range(3)],
            "item_id": [f"i{item}" for row in judged for item in (items[row], *rng.integers(0, ITEMS, 2))],
            "label": [float(label) for _ in judged for label in (2, 1, 0)],
        },
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")


def make_config(folder: Path, **evaluation: object) -> Config:
    tree = {
        "name": "small",
        "work_dir": str(folder / "run"),
        "data": {
            "items": {"path": str(folder / "items.parquet")},
            "interactions": {"path": str(folder / "clicks.parquet")},
            "valid_share": 0.1,
            "test_share": 0.2,
        },
        "index": {"mode": "lexical"},
        "evaluation": {"candidates": 40, "labels": {"path": str(folder / "labels.parquet")}} | evaluation,
    }
    return parse_config(tree, "test")


def write_toml(folder: Path) -> Path:
    path = folder / "shop.toml"
    path.write_text(
        f"""
name = "small"
work_dir = {json.dumps(str(folder / "run"))}
[data]
valid_share = 0.1
test_share = 0.2
[data.items]
path = {json.dumps(str(folder / "items.parquet"))}
[data.interactions]
path = {json.dumps(str(folder / "clicks.parquet"))}
[index]
mode = "lexical"
"""
    )
    return path
