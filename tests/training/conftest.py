"""A small generated dataset, written in the layout of docs/architecture.md."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dpsr.config import Config, parse_config
from dpsr.data.dataset.records import Layout, write_records
from dpsr.data.dataset.schema import INTERACTION, SPLITS, Schema, split_file
from dpsr.data.dataset.tables import Bags, Dataset

ITEMS, USERS, QUERIES, TOKENS = 60, 25, 40, 120


def random_bags(random: np.random.Generator, rows: int, ids: int, longest: int) -> Bags:
    """Bags of 0 to ``longest`` ids in 1..ids - 1."""
    lengths = random.integers(0, longest + 1, rows)
    splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Bags(random.integers(1, ids, splits[-1]).astype(np.int32), splits)


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Dataset]:
    """Writes a dataset below a folder; a query's tokens are a part of the tokens of the item that it leads to."""

    def make(folder: Path, *, records: int = 700, fingerprint: str = "f00d") -> Dataset:
        random = np.random.default_rng(7)
        item_tokens = [random.choice(np.arange(1, TOKENS), 6, replace=False) for _ in range(ITEMS)]
        target = random.integers(0, ITEMS, QUERIES)
        query_tokens = [random.choice(item_tokens[item], 3, replace=False) for item in target]
        history = random_bags(random, USERS, ITEMS, 8)
        layout = Layout.of(queries=QUERIES, users=USERS, items=ITEMS, longest_history=8)
        counts = {"train": records, "valid": records // 8, "test": records // 8}
        for split in SPLITS:
            rows = np.zeros(counts[split], INTERACTION)
            rows["query"] = random.integers(0, QUERIES, len(rows))
            rows["item"] = target[rows["query"]]
            rows["user"] = random.integers(-1, USERS, len(rows))
            longest = np.append(np.diff(history.row_splits), 0)[rows["user"]]
            rows["history_end"] = random.integers(0, longest + 1)
            rows["event"] = 1
            path = folder / split_file(split)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_records(path, layout, [rows])
        (folder / "queries").mkdir(exist_ok=True)
        texts = pa.table({"query": [f"query {row}" for row in range(QUERIES)]})
        with pa.ipc.new_file(folder / "queries/queries.arrow", texts.schema) as writer:
            writer.write_table(texts)
        return Dataset(
            directory=folder,
            manifest={"files": {split_file("train"): {"sha256": f"{records}"}}},
            schema=Schema(
                text=("title",),
                categorical={"brand": 5},
                profile={"age": 4},
                num_items=ITEMS,
                num_users=USERS,
                num_queries=QUERIES,
                token_rows=TOKENS,
                item_id_type="int64",
                tokenizer_fingerprint=fingerprint,
            ),
            item_ids=np.arange(ITEMS),
            item_tokens=_bags(item_tokens),
            item_categorical={"brand": random.integers(0, 5, ITEMS).astype(np.int32)},
            query_tokens=_bags(query_tokens),
            user_profile={"age": random.integers(0, 4, USERS).astype(np.int32)},
            history=history,
            vocabularies={},
        )

    return make


@pytest.fixture(scope="session")
def make_config(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Config]:
    """A configuration of a short training, by default in a folder of the test; keys may be overridden."""
    folders: dict[str, Path] = {}

    def folder_of_test() -> Path:
        test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
        return folders.setdefault(test, tmp_path_factory.mktemp("run"))

    def make(work_dir: Path | None = None, **sections: dict) -> Config:
        tree = {
            "name": "shop",
            "work_dir": str(work_dir or folder_of_test()),
            "data": {"items": {"path": "items.csv"}, "interactions": {"path": "log.csv"}},
            "model": {"dimension": 16, "hidden": [24], "history_length": 4},
            "loss": {"kind": "softmax", "group_size": 8},
            "training": {
                "epochs": 2,
                "batch_size": 32,
                "table_learning_rate": 0.3,
                "checkpoint_every": 7,
                "token_dropout": 0.1,
            },
        }
        for name, values in sections.items():
            tree[name] = tree[name] | values if name in tree else values
        return parse_config(tree, "test")

    return make


def _bags(rows: list[np.ndarray]) -> Bags:
    return Bags(np.concatenate(rows).astype(np.int32), np.cumsum([0, *map(len, rows)]).astype(np.int64))
