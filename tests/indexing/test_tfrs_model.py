"""The towers trained by ``fit`` of TensorFlow Recommenders, then published as any others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from dpsr.config import ConfigError
from dpsr.indexing.manifest import read_manifest
from dpsr.indexing.publish import export

from .conftest import Shop, make_shop

pytest.importorskip("tensorflow_recommenders", reason="the extra tfrs is not installed")
from dpsr.training.tfrs import MatchingModel


@pytest.fixture(scope="module")
def small_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    training = {"epochs": 3, "batch_size": 64, "table_learning_rate": 0.3}
    return make_shop(tmp_path_factory.mktemp("shop"), loss={"kind": "softmax", "group_size": 16}, training=training)


@pytest.mark.parametrize("optimizer", [tf_keras.optimizers.Adam(0.01), "adagrad"])
def test_fit_learns_and_what_it_learnt_is_published(optimizer: Any, small_shop: Shop, tmp_path: Path) -> None:
    model = MatchingModel(small_shop.config, small_shop.dataset)
    model.compile(optimizer)
    variables = tf.nest.flatten(model.towers.weights)
    variables += [table.embeddings for table in model.towers.tables.values()]
    fresh = [variable.numpy() for variable in variables]
    batches = list(model.batches().take(model.steps_per_epoch))
    before = np.mean([model.compute_loss(batch) for batch in batches])
    model.fit(model.batches(), steps_per_epoch=model.steps_per_epoch, epochs=3, verbose=0)
    after = np.mean([model.compute_loss(batch) for batch in batches])
    assert after < 0.9 * before
    assert np.isfinite(model.evaluate(model.batches(), steps=3, verbose=0, return_dict=True)["loss"])
    moved = [np.abs(variable - old).max() for variable, old in zip(variables, fresh, strict=True)]
    assert min(moved) > 0
    config = small_shop.config.model_copy(update={"work_dir": str(tmp_path)})
    version = export(config, small_shop.dataset, model.towers, progress=False)
    assert read_manifest(version)["searchers"]["dense"]["recall"]["personalized"] == 1.0


def test_stages_that_fit_does_not_run_are_named(small_shop: Shop) -> None:
    pretraining = small_shop.config.pretraining.model_copy(update={"epochs": 1})
    shop = replace(small_shop, config=small_shop.config.model_copy(update={"pretraining": pretraining}))
    with pytest.raises(ConfigError, match=r"stages of this configuration: pretraining, training; mined negatives: 0"):
        MatchingModel(shop.config, shop.dataset)
