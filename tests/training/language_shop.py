"""A small shop whose texts a transformer can learn: titles of a few words, each clicked for parts of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dpsr.config import Config, parse_config

MATERIALS = ["steel", "copper", "oak", "glass"]
ROOMS = ["kitchen", "garden", "office", "bath"]
THINGS = ["sink", "hammer", "table", "lamp", "drill"]
SIZES = {"layers": 1, "width": 16, "heads": 2, "intermediate": 32, "max_query_length": 12, "max_item_length": 24}
STAGES = ["mlm", "interaction", "pretraining", "training"]


def write_shop(folder: Path, clicks: int = 240) -> None:
    """Writes 80 items and a log whose queries are two words of the title that they lead to."""
    random = np.random.default_rng(3)
    titles = [f"{a} {b} {c}" for a in MATERIALS for b in ROOMS for c in THINGS]
    rows = [f"i{row},{title},{title.split()[0]}" for row, title in enumerate(titles)]
    (folder / "items.csv").write_text("\n".join(["item_id,title,brand", *rows]))
    lines = []
    for time, row in enumerate(random.integers(0, len(titles), clicks)):
        words = titles[row].split()
        del words[random.integers(3)]
        lines.append(f"{' '.join(words)},i{row},{time}")
    (folder / "log.csv").write_text("\n".join(["query,item_id,timestamp", *lines]))


def language_config(folder: Path, work_dir: Path, **sections: dict[str, Any]) -> Config:
    """A run through all stages of a tiny transformer; keys may be overridden, ``transformer`` among them."""
    tree: dict[str, Any] = {
        "name": "shop",
        "work_dir": str(work_dir),
        "data": {
            "items": {"path": str(folder / "items.csv"), "text": ["title", "brand"]},
            "interactions": {"path": str(folder / "log.csv")},
            "valid_share": 0.2,
        },
        "tokenizer": {"min_count": 1, "subwords": {"vocabulary": 120}},
        "model": {
            "text_encoder": "transformer",
            "transformer": SIZES | sections.pop("transformer", {}),
            "dimension": 16,
            "hidden": [],
            "heads": 1,
            "residual": True,
            "shared_tokens": True,
        },
        "loss": {"kind": "softmax", "group_size": 8},
        "mlm": {"epochs": 2, "batch_size": 16, "learning_rate": 0.01, "accumulate": 2},
        "interaction": {"epochs": 2, "batch_size": 32, "learning_rate": 0.01},
        "pretraining": {"epochs": 1, "words": [1, 2]},
        "training": {
            "optimizer": "adamw",
            "epochs": 2,
            "batch_size": 32,
            "learning_rate": 0.01,
            "checkpoint_every": 2,
        },
    }
    for name, values in sections.items():
        tree[name] = tree.get(name, {}) | values
    return parse_config(tree, "test")
