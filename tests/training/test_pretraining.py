"""Catalogue pre-training: synthetic queries find their items, and an interrupted run goes on exactly."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.config import Config, parse_config
from dpsr.data.batches.features import ItemFeatures, QueryFeatures
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.model.run_files import CheckpointError
from dpsr.model.token_statistics import relative_idf, token_kinds
from dpsr.model.trained import load_trained
from dpsr.model.two_tower import TwoTower
from dpsr.tokenizer_cc import Tokenizer
from dpsr.training import loop
from dpsr.training.divergence import TrainingDivergedError
from dpsr.training.trainer import train

from .test_trainer import all_variables, assert_same_variables, curve

NOUNS = ["sink", "hammer", "screw", "faucet", "ladder", "lamp", "saw", "drill"]
ADJECTIVES = ["steel", "red", "small", "cordless", "oak", "brass", "heavy", "outdoor"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of 64 titles, and a log of some of them."""
    folder, random = tmp_path_factory.mktemp("shop"), np.random.default_rng(3)
    titles = [f"{adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS]
    lines = ["item_id,title", *(f"i{row},{title} no {row}" for row, title in enumerate(titles))]
    (folder / "items.csv").write_text("\n".join(lines))
    rows = random.integers(0, len(titles), 400)
    lines = ["query,item_id,timestamp", *(f"{titles[row]},i{row},{time}" for time, row in enumerate(rows))]
    (folder / "log.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def make_run(shop: Path) -> Callable[..., Config]:
    def make(work_dir: Path, **sections: dict) -> Config:
        tree: dict = {
            "name": "shop",
            "work_dir": str(work_dir),
            "data": {
                "items": {"path": str(shop / "items.csv")},
                "interactions": {"path": str(shop / "log.csv")},
                "valid_share": 0.2,
            },
            "tokenizer": {"min_count": 1, "oov_buckets": 20},
            "model": {
                "dimension": 16,
                "hidden": [16],
                "heads": 1,
                "residual": True,
                "shared_tokens": True,
                "combiner": "sqrtn_by_kind",
                "initial_idf": True,
            },
            "loss": {"kind": "softmax", "group_size": 8, "popularity_correction": True, "mask_clicked": True},
            "pretraining": {"epochs": 2, "words": [1, 3], "mixed_share": 0.25},
            "training": {
                "epochs": 2,
                "batch_size": 16,
                "table_learning_rate": 0.3,
                "checkpoint_every": 3,
                "typo_share": 0.3,
            },
        }
        for name, values in sections.items():
            tree[name] = tree[name] | values
        return parse_config(tree, "test")

    return make


@pytest.fixture(scope="module")
def dataset(make_run: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset.load(prepare(make_run(tmp_path_factory.mktemp("dataset")), progress=False))


@pytest.fixture(scope="module")
def finished(
    make_run: Callable[..., Config], dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Config, dict]:
    config = make_run(tmp_path_factory.mktemp("finished"))
    return config, train(config, dataset, progress=False)


def test_epochs_name_their_stage(finished: tuple[Config, dict]) -> None:
    config, metrics = finished
    assert [epoch["stage"] for epoch in metrics["epochs"]] == ["pretraining"] * 2 + ["training"] * 2
    assert [epoch["epoch"] for epoch in metrics["epochs"]] == [1, 2, 3, 4]
    clicks = 288
    assert metrics["steps"] == 2 * (64 // 16) + 2 * (clicks // 12)
    assert json.loads((config.checkpoint_dir / "metrics.json").read_text()) == metrics
    tags = {
        value.tag
        for path in (config.checkpoint_dir / "events").glob("events.*")
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert {"pretraining/step/loss", "training/step/loss", "pretraining/epoch/valid_top1"} <= tags


def test_words_alone_find_the_items(make_run: Callable[..., Config], dataset: Dataset, tmp_path: Path) -> None:
    config = make_run(tmp_path, pretraining={"epochs": 8, "mixed_share": 0.0}, training={"epochs": 0})
    metrics = train(config, dataset, progress=False)
    assert {epoch["stage"] for epoch in metrics["epochs"]} == {"pretraining"}
    assert metrics["epochs"][-1]["train_loss"] < metrics["epochs"][0]["train_loss"]
    assert metrics["epochs"][-1]["valid_top1"] > 0.8


class _InterruptError(Exception):
    pass


@pytest.mark.parametrize("saves", [1, 3, pytest.param(7, marks=pytest.mark.slow)])
def test_interrupted_in_either_stage_equals_uninterrupted(
    make_run: Callable[..., Config],
    dataset: Dataset,
    finished: tuple[Config, dict],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    saves: int,
) -> None:
    broken, save, done = make_run(tmp_path), loop.Training._save, []

    def save_then_stop(training: loop.Training, *position: int) -> None:
        if len(done) == saves:
            raise _InterruptError
        save(training, *position)
        done.append(position)

    monkeypatch.setattr(loop.Training, "_save", save_then_stop)
    with pytest.raises(_InterruptError):
        train(broken, dataset, progress=False)
    monkeypatch.undo()
    assert curve(train(broken, dataset, progress=False)) == curve(finished[1])
    assert_same_variables(all_variables(broken), all_variables(finished[0]))


def test_another_pretraining_is_another_run(
    make_run: Callable[..., Config], dataset: Dataset, finished: tuple[Config, dict]
) -> None:
    config = make_run(Path(finished[0].work_dir), pretraining={"epochs": 3})
    with pytest.raises(CheckpointError, match=r"pretraining\.epochs = 2 there, 3 here"):
        train(config, dataset, progress=False)


def test_a_bag_is_the_sum_of_its_kinds(finished: tuple[Config, dict], dataset: Dataset) -> None:
    """By hand, in NumPy: the words, the bigrams, the trigrams and the hashed ids of a text, each by their number."""
    model = load_trained(finished[0].checkpoint_dir, dataset)
    tokenizer = Tokenizer.load(dataset.tokenizer_path)
    table, kind_of = model.tables["tokens"].embeddings.numpy(), {"word": 0, "bigram": 1, "trigram": 2}
    for text in ["red steel sink", "cordless unheard-of hammer", "xyz", ""]:
        tokens = tokenizer.tokens(text)
        parts: dict[int, list[np.ndarray]] = {}
        for token in tokens:
            kind = 3 if token.id > tokenizer.vocabulary_size else kind_of[token.kind]
            parts.setdefault(kind, []).append(table[token.id])
        expected = sum((np.sum(rows, axis=0) / np.sqrt(len(rows)) for rows in parts.values()), np.zeros(16))
        ids = tf.RaggedTensor.from_row_lengths(tokenizer.encode(text), [len(tokens)])
        np.testing.assert_allclose(model.tables["tokens"].lookup(ids)[0], expected, rtol=1e-4, atol=1e-5)


def test_kinds_are_those_of_the_tokenizer(dataset: Dataset) -> None:
    tokenizer = Tokenizer.load(dataset.tokenizer_path)
    kinds, idf = token_kinds(tokenizer), relative_idf(tokenizer)
    names = ["word", "bigram", "trigram"]
    for token in tokenizer.tokens("red steel sink cordless oak hammer"):
        if token.document_frequency:
            assert names[kinds[token.id]] == token.kind
    assert (kinds[1 + tokenizer.vocabulary_size :] == 3).all()
    assert (np.diff(idf[1 : 1 + tokenizer.vocabulary_size]) >= 0).all()  # ids are by descending frequency
    assert np.sqrt(np.mean(idf.astype(float) ** 2)) == pytest.approx(1.0)


def test_a_model_restored_without_a_tokenizer_knows_the_kinds(finished: tuple[Config, dict], dataset: Dataset) -> None:
    model = load_trained(finished[0].checkpoint_dir, dataset)
    fresh = TwoTower(model.config, dataset.schema, seed=1, tokenizer=Tokenizer.load(dataset.tokenizer_path))
    assert model.token_kinds is not None
    assert fresh.token_kinds is not None
    assert np.array_equal(model.token_kinds, fresh.token_kinds)
    tokens = tf.RaggedTensor.from_row_lengths(dataset.item_tokens[0], [len(dataset.item_tokens[0])])
    queries = QueryFeatures(tokens, {}, tf.RaggedTensor.from_row_lengths(tf.zeros([0], tf.int32), [0]))
    # One token table and one residual tower each: an untrained item is its own text's query.
    np.testing.assert_allclose(
        fresh.query_heads(queries)[0, 0], fresh.item_vectors(ItemFeatures(tokens, {}))[0], rtol=1e-4, atol=1e-5
    )


def test_a_loss_that_explodes_names_its_batch(
    make_run: Callable[..., Config], dataset: Dataset, tmp_path: Path
) -> None:
    config = make_run(
        tmp_path,
        pretraining={"epochs": 0, "mixed_share": 0.0},
        training={"learning_rate": 300.0, "table_learning_rate": 300.0, "checkpoint_every": 1},
        loss={"temperature": 0.02},
    )
    with pytest.raises(TrainingDivergedError, match=r"grew to .* of the training, most likely .* query rows \d+, "):
        train(config, dataset, progress=False)
    told = json.loads((config.checkpoint_dir / "diverged.json").read_text())
    assert told["stage"] == "training"
    texts = dataset.query_texts().to_pylist()
    assert told["queries"] == [texts[row] for row in told["query_rows"]]
    assert told["item_ids"] == [f"i{row}" for row in told["item_rows"]]
    assert len(told["item_ids"]) == config.training.batch_size
    clicked = {(record["query"], record["item"]) for record in dataset.interactions("train")}
    assert set(zip(told["query_rows"], told["item_rows"], strict=True)) <= clicked
