"""A text encoder with dense weights of its own: trained, stored, loaded and shared without a change elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from dpsr.config import Config, LossConfig, ModelConfig, TrainingConfig
from dpsr.data.batches.batch import Batch
from dpsr.data.batches.features import FeatureTables, TextFeatures
from dpsr.data.dataset.schema import Schema
from dpsr.data.dataset.tables import Dataset
from dpsr.model.embeddings import TableBags, TableValues
from dpsr.model.text_encoders import registry
from dpsr.model.trained import load_trained
from dpsr.training.loop import Training
from dpsr.training.recipes import make_recipe
from dpsr.training.run_optimizers import adagrad
from dpsr.training.step import MatchingStep
from dpsr.training.trainer import start_run

from ..model.test_two_tower import make_model, random_items, random_queries


class SequenceEncoder:
    """Multiplies the row of every token by a matrix, and takes the mean over the text, as a transformer would pool."""

    def __init__(self, _: ModelConfig, schema: Schema, prefix: str) -> None:
        self.name = f"{prefix}tokens"
        self.tables = {self.name: schema.token_rows}

    def draw_weights(self, seed: int) -> Any:
        width = 8
        return {"kernel": tf.Variable(tf.random.stateless_normal([width, width], [seed, 1], stddev=0.5))}

    def bags(self, texts: TextFeatures) -> TableBags:
        return {self.name: tf.RaggedTensor.from_uniform_row_length(texts.tokens.values, 1)}

    def __call__(
        self, texts: TextFeatures, values: TableValues, weights: Any, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        tokens = texts.tokens
        vectors = tf.nn.relu(values[self.name] @ weights["kernel"])
        return tf.math.divide_no_nan(
            tf.math.unsorted_segment_sum(vectors, tokens.value_rowids(), tokens.nrows()),
            tf.cast(tokens.row_lengths(), tf.float32)[:, tf.newaxis],
        )


@pytest.fixture(autouse=True)
def _sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._ENCODERS, "bag", SequenceEncoder)


def test_the_gradient_reaches_the_weights_and_the_rows_of_the_encoder() -> None:
    random = np.random.default_rng(1)
    model = make_model(shared_tokens=False)
    step = MatchingStep(model, LossConfig(kind="softmax", group_size=4), adagrad(model, TrainingConfig()))
    queries, items = random_queries(random, 8), random_items(random, 11)
    batch = Batch(queries, items, tf.range(8), tf.constant(random.integers(0, 20, 11), tf.int32))
    watched = [weights["kernel"] for weights in model.text_weights.values()]
    watched += [model.tables["query_tokens"].embeddings, model.tables["item_tokens"].embeddings]
    before = [variable.numpy() for variable in watched]
    loss = step.loss(batch)
    losses = [float(step(batch)) for _ in range(30)]
    assert losses[0] == pytest.approx(float(loss), rel=1e-5)
    assert losses[-1] < 0.8 * losses[0]
    assert all(not np.array_equal(old, new) for old, new in zip(before, watched, strict=True))


@pytest.mark.parametrize(("shared", "names"), [(True, ["tokens"]), (False, ["query_tokens", "item_tokens"])])
def test_towers_that_share_tokens_share_the_encoder(shared: bool, names: list[str]) -> None:
    model = make_model(shared_tokens=shared)
    assert list(model.text_weights) == names
    variables = adagrad(model, TrainingConfig()).variables
    assert (
        len({variable.ref() for variable in variables})
        == len(variables)
        == len(model.trainable_variables) - len(model.tables)
    )


def test_a_run_stores_and_restores_the_weights(
    make_config: Callable[..., Config],
    make_dataset: Callable[..., Dataset],
    tmp_path: Path,
) -> None:
    dataset = make_dataset(tmp_path / "dataset")
    config = make_config(model={"dimension": 8, "shared_tokens": True}, training={"epochs": 1})
    start_run(config, dataset, resume=True)
    recipe = make_recipe(config, dataset)
    Training(config, dataset, recipe, progress=False).run()
    loaded, tables = load_trained(config.checkpoint_dir), FeatureTables(dataset, 0)
    items = tables.items(tf.range(dataset.schema.num_items))
    assert np.array_equal(loaded.item_vectors(items), recipe.model.item_vectors(items))
    kernel = loaded.text_weights["tokens"]["kernel"].numpy()
    assert not np.array_equal(kernel, make_recipe(config, dataset).model.text_weights["tokens"]["kernel"])
    again = Training(config, dataset, make_recipe(config, dataset), progress=False)
    assert np.array_equal(again._model.text_weights["tokens"]["kernel"], kernel)
