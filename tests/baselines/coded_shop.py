"""A shop whose queries are codes that no title has; only the log relates them to items."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dpsr.config import Config, parse_config
from dpsr.data.prepare.job import prepare

COLOURS = ["red", "blue", "green", "pink", "grey", "teal"]
CODES = ["zk", "qx", "wv", "jf", "py", "mb"]  # typed queries, in no title


def make_shop(folder: Path, *, skips: bool, subwords: int = 0) -> Config:
    """Titles have a colour, queries a code for one; only the log relates codes to colours.

    Args:
        folder: of the files.
        skips: whether the log has skipped items.
        subwords: size of a vocabulary of subwords; 0 for none.
    """
    rng = np.random.default_rng(5)
    colour = np.arange(60) % len(COLOURS)
    titles = [f"{COLOURS[kind]} thing {row}" for row, kind in enumerate(colour)]
    clicked = rng.integers(0, 60, 1200)
    query, item, event = [CODES[colour[each]] for each in clicked], list(clicked), ["click"] * 1200
    if skips:
        query += [CODES[kind] for kind in rng.integers(0, 5, 600)]
        item += list(rng.integers(0, 60, 600))
        event += ["skip"] * 600
    order = rng.permutation(len(query))
    columns = {
        "query": [query[row] for row in order],
        "item_id": [f"i{item[row]}" for row in order],
        "event": [event[row] for row in order],
        "timestamp": np.arange(len(order)) + 1_600_000_000,
    }
    pq.write_table(pa.table({"item_id": [f"i{row}" for row in range(60)], "title": titles}), folder / "items.parquet")
    pq.write_table(pa.table(columns), folder / "interactions.parquet")
    data = {name: {"path": str(folder / f"{name}.parquet")} for name in ("items", "interactions")}
    tree = {"name": "coded", "work_dir": str(folder / "run"), "data": data | {"valid_share": 0.1, "test_share": 0.1}}
    tokenizer: dict[str, object] = {"min_count": 1}
    if subwords:
        tokenizer["subwords"] = {"vocabulary": subwords}
    config = parse_config(tree | {"tokenizer": tokenizer, "evaluation": {"baselines": ["bm25", "dssm"]}}, "test")
    prepare(config, progress=False)
    return config
