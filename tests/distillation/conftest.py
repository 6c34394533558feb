"""A small shop, and a teacher that was trained on it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dpsr.config import Config, parse_config
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.training.trainer import train

NOUNS = ["sink", "hammer", "screw", "faucet", "ladder", "lamp", "saw", "drill"]
ADJECTIVES = ["steel", "red", "small", "cordless", "oak", "brass", "heavy", "outdoor"]
TITLES = [f"{adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS]
WIDTH = 12


def write_items(path: Path, titles: list[str]) -> Path:
    path.write_text("\n".join(["item_id,title,brand", *(f"i{n},{title},b{n % 3}" for n, title in enumerate(titles))]))
    return path


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Config]:
    folder, random = tmp_path_factory.mktemp("shop"), np.random.default_rng(3)
    write_items(folder / "items.csv", TITLES)
    rows = random.integers(0, len(TITLES), 400)
    lines = ["query,item_id,timestamp", *(f"{TITLES[row]},i{row},{time}" for time, row in enumerate(rows))]
    (folder / "log.csv").write_text("\n".join(lines))

    def make(work_dir: Path, **sections: dict) -> Config:
        tree: dict = {
            "name": "shop",
            "work_dir": str(work_dir),
            "data": {
                "items": {"path": str(folder / "items.csv"), "categorical": ["brand"]},
                "interactions": {"path": str(folder / "log.csv")},
                "valid_share": 0.2,
            },
            "tokenizer": {"min_count": 1, "oov_buckets": 20},
            "model": {"dimension": WIDTH, "hidden": [], "heads": 1, "residual": True},
            "loss": {"kind": "softmax", "group_size": 8},
            "pretraining": {"epochs": 1, "words": [1, 3]},
            "training": {"epochs": 1, "batch_size": 16, "table_learning_rate": 0.1, "checkpoint_every": 3},
            "index": {"k": 5, "min_recall": 0.5},
        }
        for name, values in sections.items():
            tree[name] = tree.get(name, {}) | values
        return parse_config(tree, "test")

    return make


def trained(config: Config) -> Config:
    dataset = Dataset.load(prepare(config, progress=False))
    train(config, dataset, progress=False)
    return config


@pytest.fixture(scope="session")
def teacher(make_run: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A bag model, trained on the same catalogue with another tokenizer and other towers."""
    sections = {"tokenizer": {"trigrams": False}, "model": {"shared_tokens": True}, "training": {"seed": 7}}
    return trained(make_run(tmp_path_factory.mktemp("teacher"), **sections))


@pytest.fixture(scope="session")
def dataset(make_run: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset.load(prepare(make_run(tmp_path_factory.mktemp("dataset")), progress=False))


@pytest.fixture(scope="session")
def stranger(make_run: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A narrower model of two heads, trained on a catalogue of which one title differs."""
    folder = tmp_path_factory.mktemp("stranger")
    config = make_run(folder, model={"dimension": 6, "heads": 2}, training={"epochs": 0})
    titles = [*TITLES]
    titles[5] = "wooden lamp"
    items = config.data.items.model_copy(update={"path": str(write_items(folder / "items.csv", titles))})
    return trained(config.model_copy(update={"data": config.data.model_copy(update={"items": items})}))
