"""A catalogue without a log: words of its items make the queries that a run is looked at with."""

import json
from pathlib import Path

import numpy as np
import pytest

from dpsr.config import Config, parse_config
from dpsr.data.dataset.inspect import inspect
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.dataset.verify import verify
from dpsr.data.prepare.job import prepare
from dpsr.evaluation.compare.evaluate import evaluate
from dpsr.model.trained import load_trained
from dpsr.training.trainer import train

WORDS = ["red", "blue", "steel", "oak", "lamp", "saw", "drill", "sink"]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    random = np.random.default_rng(2)
    titles = [" ".join(random.choice(WORDS, 4, replace=False)) for _ in range(60)]
    rows = [f"i{row},{title},no {row}" for row, title in enumerate(titles)]
    rows[7] = "i7,,"
    rows[8] = "i8,红色台灯,"
    (tmp_path / "items.csv").write_text("\n".join(["item_id,title,code", *rows]), encoding="utf-8")
    return catalogue(tmp_path)


def catalogue(folder: Path, **data: object) -> Config:
    tree = {
        "name": "shop",
        "work_dir": str(folder / "work"),
        "data": {
            "items": {"path": str(folder / "items.csv"), "text": ["title", "code"]},
            "max_rejected_share": 0.05,
            **data,
        },
        "tokenizer": {"min_count": 1},
        "model": {"dimension": 8, "hidden": [8], "heads": 1, "shared_tokens": True},
        "loss": {"kind": "softmax", "group_size": 8, "popularity_correction": True, "mask_clicked": True},
        "pretraining": {"epochs": 2, "words": [2, 3], "text": ["title"]},
        "training": {"epochs": 0, "batch_size": 8, "table_learning_rate": 0.3},
    }
    return parse_config(tree, "test")


def test_queries_are_words_of_the_clicked_item(config: Config) -> None:
    dataset = Dataset.load(prepare(config, progress=False))
    assert not dataset.has_log
    assert [len(dataset.interactions(split)) for split in ("train", "valid", "test")] == [0, 29, 30]
    queries, items = dataset.query_texts().to_pylist(), dataset.item_table().to_pylist()
    orders = set()
    for record in np.concatenate([dataset.interactions("valid"), dataset.interactions("test")]):
        words, title = queries[record["query"]].split(), items[record["item"]]["title"]
        titled = list(title) if record["item"] == 8 else title.split()
        places = [titled.index(word) for word in words]
        assert 2 <= len(words) <= 3
        assert places == sorted(places)
        orders.add(tuple(places))
    assert len(orders) > 5, "not always the same words"
    rejected = json.loads((dataset.directory / "rejected/interactions.jsonl").read_text())
    assert rejected["reason"] == "empty query", "of item 7"
    assert verify(dataset.directory) == []
    assert "interactions" in inspect(dataset.directory)
    again = Dataset.load(prepare(config, progress=False))
    assert again.manifest == dataset.manifest


def test_a_run_ends_in_an_evaluation_that_says_so(config: Config) -> None:
    dataset = Dataset.load(prepare(config, progress=False))
    metrics = train(config, dataset, progress=False)
    assert [figures["stage"] for figures in metrics["epochs"]] == ["pretraining", "pretraining"]
    assert all(0 <= figures["valid_top1"] <= 1 for figures in metrics["epochs"])
    report = evaluate(config, dataset, load_trained(config.checkpoint_dir, dataset), progress=False)
    assert report.notes[0].startswith("The dataset has no log")


def test_a_log_is_not_appended_to_words_of_items(config: Config, tmp_path: Path) -> None:
    prepare(config, progress=False)
    (tmp_path / "log.csv").write_text("query,item_id\nlamp,i1\nsaw,i2\noak,i3\n")
    interactions = {"path": str(tmp_path / "log.csv")}
    logged = catalogue(tmp_path, interactions=interactions, valid_share=0.3, test_share=0.3)
    with pytest.raises(DatasetError, match="was prepared without a log"):
        prepare(logged, append=True, progress=False)
    assert Dataset.load(prepare(logged, progress=False)).has_log
    with pytest.raises(DatasetError, match=r"data\.interactions is missing, and .* has a log"):
        prepare(config, append=True, progress=False)
