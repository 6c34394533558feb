"""The stages of a transformer: language, interaction, matching, each from the best model of the one before."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from dpsr.config import Config, ConfigError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.model.trained import load_trained
from dpsr.training.loop import Training
from dpsr.training.recipes import make_recipe
from dpsr.training.trainer import start_run, train

from .language_shop import STAGES, language_config, write_shop
from .test_trainer import all_variables, assert_same_variables, curve

MINED = {"loss": {"kind": "softmax", "group_size": 8, "mined_negatives": 2}}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    prepare(language_config(folder, folder), progress=False)
    return folder


@pytest.fixture(scope="module")
def dataset(shop: Path) -> Dataset:
    return Dataset.load(shop / "dataset")


@pytest.fixture(scope="module")
def finished(shop: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, dict]:
    """An uninterrupted run through all stages, whose epochs over the log have mined negatives."""
    config = language_config(shop, tmp_path_factory.mktemp("finished"), transformer={"dropout": 0.1}, **MINED)
    return config, train(config, dataset, progress=False)


def encoders(config: Config, prefix: Path | None = None) -> dict[str, list[np.ndarray]]:
    model = load_trained(config.checkpoint_dir)
    if prefix is not None:
        tf.train.Checkpoint(model=model).read(str(prefix)).expect_partial()
    return {name: [each.numpy() for each in tf.nest.flatten(weights)] for name, weights in model.text_weights.items()}


@pytest.mark.slow
def test_every_stage_has_its_figures_and_its_best_model(finished: tuple[Config, dict]) -> None:
    config, metrics = finished
    counts = dict(zip(STAGES, (2, 2, 1, 2), strict=True))
    assert [epoch["stage"] for epoch in metrics["epochs"]] == [name for name in STAGES for _ in range(counts[name])]
    for epoch in metrics["epochs"]:
        assert ("valid_accuracy" in epoch) == (epoch["stage"] in ("mlm", "interaction"))
        assert ("valid_top1" in epoch) == (epoch["stage"] in ("pretraining", "training"))
    assert metrics["best_epoch"] > 5, "the model of the run is one of the last stage"
    bests = {path.name.partition(".")[0] for path in config.checkpoint_dir.glob("best-*")}
    assert len(bests) == 4


def test_language_is_learnt(shop: Path, dataset: Dataset, tmp_path: Path) -> None:
    config = language_config(
        shop,
        tmp_path,
        mlm={"epochs": 25, "accumulate": 1, "patience": 10},
        interaction={"epochs": 0},
        pretraining={"epochs": 0},
        training={"epochs": 0},
    )
    epochs = train(config, dataset, progress=False)["epochs"]
    assert epochs[-1]["train_loss"] < 0.8 * epochs[0]["train_loss"]
    assert max(epoch["valid_accuracy"] for epoch in epochs) > 0.25, "one of four materials, rooms or five things"
    assert load_trained(config.checkpoint_dir).trainable_variables, "the head is no part of the model"
    names = tf.train.load_checkpoint(str(config.checkpoint_dir)).get_variable_to_shape_map()
    assert any(name.startswith("weights_of_mlm/") for name in names)


def test_pairs_are_told_apart(shop: Path, dataset: Dataset, tmp_path: Path) -> None:
    config = language_config(
        shop,
        tmp_path,
        mlm={"epochs": 0},
        interaction={"kind": "classification", "epochs": 12, "learning_rate": 0.02},
        pretraining={"epochs": 0},
        training={"epochs": 0},
    )
    epochs = train(config, dataset, progress=False)["epochs"]
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"]


def test_the_next_stage_starts_from_the_best_epoch(
    shop: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = language_config(
        shop, tmp_path, mlm={"epochs": 3}, interaction={"epochs": 1}, pretraining={"epochs": 0}, training={"epochs": 0}
    )
    start_run(config, dataset, resume=True)
    recipe = make_recipe(config, dataset)
    accuracies, begun = iter([0.1, 0.3, 0.2]), {}
    mlm, *others = recipe.stages
    judged = mlm.__class__(**{**vars(mlm), "validate": lambda: {"valid_loss": 1.0, "valid_accuracy": next(accuracies)}})
    begin = Training._begin

    def remembered(training: Training, scheduled: Any) -> None:
        begin(training, scheduled)
        begun[scheduled.stage.name] = [each.numpy() for each in tf.nest.flatten(recipe.model.text_weights)]

    monkeypatch.setattr(Training, "_begin", remembered)
    Training(config, dataset, recipe._replace(stages=[judged, *others]), progress=False).run()
    best = tf.nest.flatten(list(encoders(config, config.checkpoint_dir / "best-2").values()))
    assert all(np.array_equal(found, expected) for found, expected in zip(begun["interaction"], best, strict=True))


def test_separate_towers_start_from_one_encoder(shop: Path, dataset: Dataset, tmp_path: Path) -> None:
    config = language_config(
        shop,
        tmp_path,
        model={"shared_tokens": False},
        mlm={"epochs": 1},
        interaction={"epochs": 0},
        pretraining={"epochs": 0},
        training={"epochs": 1},
    )
    train(config, dataset, progress=False)
    start = encoders(config, config.checkpoint_dir / "best-1")
    end = encoders(config)
    assert set(start) == {"query_transformer", "item_transformer"}
    for query, item in zip(start["query_transformer"], start["item_transformer"], strict=True):
        assert np.array_equal(query, item)
    assert not np.array_equal(end["query_transformer"][0], end["item_transformer"][0])


class _InterruptError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("saves", [1, 2, 4, 6, 8, 10, 12])
def test_a_run_goes_on_exactly_in_every_stage(
    shop: Path,
    dataset: Dataset,
    finished: tuple[Config, dict],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    saves: int,
) -> None:
    config = language_config(shop, tmp_path, transformer={"dropout": 0.1}, **MINED)
    save, done = Training._save, []

    def save_then_stop(training: Training, *position: int) -> None:
        if len(done) == saves:
            raise _InterruptError
        save(training, *position)
        done.append(position)

    monkeypatch.setattr(Training, "_save", save_then_stop)
    with pytest.raises(_InterruptError):
        train(config, dataset, progress=False)
    monkeypatch.undo()
    assert curve(train(config, dataset, progress=False)) == curve(finished[1])
    assert_same_variables(all_variables(config), all_variables(finished[0]))


_CHILD = """
import pickle, sys
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
from dpsr.data.dataset.tables import Dataset
from dpsr.training.trainer import train
with open(sys.argv[1], "rb") as file:
    config, dataset = pickle.load(file)
train(config, Dataset.load(dataset), progress=False)
"""


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_run_killed_in_every_stage_ends_where_an_unharmed_one_does(
    shop: Path, dataset: Dataset, tmp_path: Path
) -> None:
    configs = [
        language_config(
            shop,
            tmp_path / name,
            transformer={"dropout": 0.1},
            mlm={"epochs": 6, "batch_size": 8},
            interaction={"epochs": 6, "batch_size": 8},
            pretraining={"epochs": 6, "words": [1, 2]},
            training={"optimizer": "adamw", "epochs": 6, "batch_size": 8, "checkpoint_every": 2},
            **MINED,
        )
        for name in ("whole", "killed")
    ]
    commands = []
    for config in configs:
        Path(config.work_dir).mkdir()
        arguments = Path(config.work_dir) / "arguments"
        arguments.write_bytes(pickle.dumps((config, dataset.directory)))
        commands.append([sys.executable, "-c", _CHILD, str(arguments)])
    subprocess.run(commands[0], check=True)
    killed = configs[1]

    def stage() -> str:
        """The stage whose epoch ended last."""
        try:
            return json.loads((killed.checkpoint_dir / "metrics.json").read_text())["epochs"][-1]["stage"]
        except (FileNotFoundError, IndexError):
            return ""

    for name in STAGES:
        child = subprocess.Popen(commands[1])
        while stage() != name:
            assert child.poll() is None, f"the run ended before it could be killed in {name}"
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    subprocess.run(commands[1], check=True)
    whole, found = (json.loads((each.checkpoint_dir / "metrics.json").read_text()) for each in configs)
    assert curve(found) == curve(whole)
    assert_same_variables(all_variables(killed), all_variables(configs[0]))


def test_the_longest_pair_fits_the_positions(shop: Path, dataset: Dataset, tmp_path: Path) -> None:
    config = language_config(shop, tmp_path, transformer={"positions": 30})
    with pytest.raises(ConfigError, match=r"up to 35 subwords, and model\.transformer\.positions = 30; lower"):
        train(config, dataset, progress=False)


def test_a_bag_learns_no_language(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mlm\.epochs = 2 trains a transformer, and model\.text_encoder = 'bag'"):
        language_config(shop, tmp_path, model={"text_encoder": "bag"})
