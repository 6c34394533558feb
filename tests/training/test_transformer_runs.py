"""Whole runs of a transformer: stages that train it, checkpoints that hold it, and where it may go on from."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from dpsr.config import Config, ConfigError, parse_config
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.model.feature_tables import feature_tables
from dpsr.model.run_files import CheckpointError
from dpsr.model.trained import load_trained
from dpsr.training.trainer import train

from ..model.published import BERT, random_weights, write_checkpoint

ADJECTIVES, NOUNS = ["steel", "red", "kitchen"], ["sink", "hammer", "hammers", "query", "item"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue, a log of it, and two checkpoints of one tokenizer."""
    folder, random = tmp_path_factory.mktemp("shop"), np.random.default_rng(3)
    titles = [f"{first} {second} {third}" for first in ADJECTIVES for second in NOUNS for third in ("1", "2", "a")]
    rows = [f"i{row},{title},{title[0]}" for row, title in enumerate(titles)]
    (folder / "items.csv").write_text("\n".join(["item_id,title,brand", *rows]))
    chosen = random.integers(0, len(titles), 300)
    lines = [f"{titles[row]},i{row},{time}" for time, row in enumerate(chosen)]
    (folder / "log.csv").write_text("\n".join(["query,item_id,timestamp", *lines]))
    for seed in (1, 2):
        config = BERT | {"num_hidden_layers": 1}
        write_checkpoint(folder / f"checkpoint-{seed}", config, random_weights(config, seed))
    return folder


def make_config(folder: Path, work_dir: Path, transformer: dict, **sections: Any) -> Config:
    items = {"path": str(folder / "items.csv"), "categorical": ["brand"]}
    tree = {
        "name": "shop",
        "work_dir": str(work_dir),
        "data": {"items": items, "interactions": {"path": str(folder / "log.csv")}, "valid_share": 0.2},
        "model": {
            "text_encoder": "transformer",
            "transformer": {"max_query_length": 8, "max_item_length": 10} | transformer,
            "dimension": 8,
            "hidden": [],
            "heads": 1,
            "residual": True,
            "shared_tokens": True,
        },
        "loss": {"kind": "softmax", "group_size": 8},
        "training": {"epochs": 2, "batch_size": 16, "learning_rate": 0.05},
    }
    return parse_config(tree | sections, "test")


def vectors(config: Config, dataset: Dataset) -> np.ndarray:
    model = load_trained(config.checkpoint_dir, dataset)
    return model.item_vectors(feature_tables(model.config, dataset).items(tf.range(dataset.schema.num_items))).numpy()


def test_a_run_learns_and_its_checkpoints_need_no_published_one(folder: Path, tmp_path: Path) -> None:
    initial = shutil.copytree(folder / "checkpoint-1", tmp_path / "checkpoint")
    config = make_config(folder, tmp_path / "run", {"initial": str(initial), "dropout": 0.1})
    prepare(config, progress=False)
    dataset = Dataset.load(config.dataset_dir)
    epochs = train(config, dataset, progress=False)["epochs"]
    assert epochs[1]["train_loss"] < epochs[0]["train_loss"]
    text = (config.checkpoint_dir / "model.json").read_text()
    assert str(initial) not in text
    assert json.loads(text)["model"]["transformer"]["width"] == 8
    found = vectors(config, dataset)
    other = make_config(folder, tmp_path / "run", {"initial": str(folder / "checkpoint-2"), "dropout": 0.1})
    with pytest.raises(CheckpointError, match=r"initial has weights of SHA-256 \w+ there, \w+ here"):
        train(other, dataset, progress=False)
    assert train(config, dataset, progress=False)["epochs"] == epochs  # goes on from the end
    shutil.rmtree(initial)
    np.testing.assert_array_equal(vectors(config, dataset), found)


def test_training_nothing_is_said(folder: Path, tmp_path: Path) -> None:
    initial = str(folder / "checkpoint-1")
    config = make_config(folder, tmp_path, {"initial": initial}, training={"epochs": 0, "batch_size": 16})
    prepare(config, progress=False)
    with pytest.raises(ConfigError, match=r"no stage has an epoch.*`dpsr export` use model\.transformer\.initial"):
        train(config, Dataset.load(config.dataset_dir), progress=False)
