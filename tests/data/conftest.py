"""A small random log with every kind of trouble, as plain Python rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsr.config import Config, parse_config

START = datetime(2025, 3, 1)


@dataclass
class Raw:
    """Raw inputs: rows as dictionaries, and the configuration that reads them."""

    directory: Path
    items: list[dict[str, Any]]
    interactions: list[dict[str, Any]]
    users: list[dict[str, Any]] | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def write(self) -> None:
        for name, rows in (("items", self.items), ("interactions", self.interactions), ("users", self.users)):
            if rows is not None:
                pq.write_table(pa.Table.from_pylist(rows), self.directory / f"{name}.parquet")

    def config(self, work_dir: str = "work", **data: Any) -> Config:
        tree: dict[str, Any] = {
            "items": {"path": str(self.directory / "items.parquet"), "categorical": ["brand"]},
            "interactions": {"path": str(self.directory / "interactions.parquet")},
        }
        if self.users is not None:
            tree["users"] = {"path": str(self.directory / "users.parquet"), "profile": ["gender"]}
        for name, value in (self.settings | data).items():
            tree[name] = tree[name] | value if isinstance(value, dict) and name in tree else value
        return parse_config(
            {"name": "t", "work_dir": str(self.directory / work_dir), "data": tree, "tokenizer": {"min_count": 1}},
            "test",
        )


def random_raw(directory: Path, *, rows: int = 3000, seed: int = 0, with_users: bool = True) -> Raw:
    """A log whose times repeat, whose users may be anonymous, and which is not in the order of time."""
    random = np.random.default_rng(seed)
    words = ["phone", "case", "red", "blue", "小", "手机", "milk", "ACME", "pro", "x2"]
    items = [
        {
            "item_id": f"i{number}",
            "title": " ".join(random.choice(words, 3)),
            "brand": str(random.choice(["acme", "bolt", "", "core"])) or None,
        }
        for number in range(50)
    ]
    users = [{"user_id": f"u{number}", "gender": ["f", "m", None][number % 3]} for number in range(30)]
    queries = [" ".join(random.choice(words, random.integers(1, 4))) for _ in range(200)]
    columns = (
        random.choice(queries, rows).tolist(),
        random.integers(50, size=rows).tolist(),
        np.where(random.random(rows) < 0.1, -1, random.integers(30, size=rows)).tolist(),
        random.integers(900, size=rows).tolist(),
        random.choice(["click", "purchase", "skip"], rows, p=[0.6, 0.1, 0.3]).tolist(),
    )
    interactions = [
        {
            "query": query,
            "item_id": f"i{item}",
            "user_id": None if user < 0 else f"u{user}",
            "timestamp": START + timedelta(minutes=minute),
            "event": event,
        }
        for query, item, user, minute, event in zip(*columns, strict=True)
    ]
    return Raw(directory, items, interactions, users if with_users else None)


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    built = random_raw(tmp_path)
    built.write()
    return built
