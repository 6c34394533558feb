"""The transformer among the inputs of the towers: a plain NumPy encoder, sharing, projection, dropout and learning."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from dpsr.config import LossConfig, ModelConfig, TrainingConfig
from dpsr.data.batches.batch import Batch
from dpsr.data.batches.features import ItemFeatures, QueryFeatures, TextFeatures
from dpsr.data.dataset.schema import DatasetError, SubwordsSchema
from dpsr.model.text_encoders.transformer import TransformerEncoder
from dpsr.model.two_tower import TwoTower
from dpsr.training.run_optimizers import adagrad
from dpsr.training.step import MatchingStep

from .numpy_encoder import last_hidden_states
from .test_two_tower import SCHEMA, random_items, random_queries

SUBWORDS = SubwordsSchema(num_ids=40, fingerprint="cafe", pad=0, unk=1, cls=2, sep=3, mask=4)
WITH_SUBWORDS = replace(SCHEMA, subwords=SUBWORDS)
SMALL = {"layers": 2, "width": 8, "heads": 2, "intermediate": 12, "positions": 16, "max_query_length": 8}


def make_model(transformer: dict | None = None, **settings: object) -> TwoTower:
    settings = {
        "text_encoder": "transformer",
        "transformer": SMALL | {"max_item_length": 12} | (transformer or {}),
        "dimension": 8,
        "hidden": [],
        "heads": 1,
        "residual": True,
    } | settings
    return TwoTower(ModelConfig(**settings), WITH_SUBWORDS, seed=3)


def random_sequences(random: np.random.Generator, rows: int, longest: int = 8) -> tf.RaggedTensor:
    lengths = random.integers(2, longest + 1, rows)
    ids = [[SUBWORDS.cls, *random.integers(5, SUBWORDS.num_ids, length - 2), SUBWORDS.sep] for length in lengths]
    return tf.ragged.constant(ids, tf.int32, row_splits_dtype=tf.int64)


def queries_and_items(seed: int, queries: int, items: int) -> tuple[QueryFeatures, ItemFeatures]:
    random = np.random.default_rng(seed)
    return (
        random_queries(random, queries)._replace(subwords=random_sequences(random, queries)),
        random_items(random, items)._replace(subwords=random_sequences(random, items, 12)),
    )


def encoder_of(model: TwoTower) -> tuple[TransformerEncoder, Any]:
    encoder = model.query_inputs.texts[0]
    assert isinstance(encoder, TransformerEncoder)
    return encoder, model.weights.texts[encoder.name]


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("dimension", [8, 6])
def test_a_text_is_encoded_as_by_plain_numpy(norm: str, activation: str, pooling: str, dimension: int) -> None:
    model = make_model({"norm": norm, "activation": activation, "pooling": pooling}, dimension=dimension)
    random = np.random.default_rng(5)
    for variable in tf.nest.flatten(model.text_weights):  # biases and norms too
        variable.assign_add(random.normal(0.0, 0.3, variable.shape).astype(np.float32))
    (encoder, weights), sequences = encoder_of(model), random_sequences(random, 7)
    found = encoder(TextFeatures(sequences, sequences), {}, weights)
    arrays = tf.nest.map_structure(lambda variable: variable.numpy(), weights)
    for row, sequence in enumerate(sequences):
        states = last_hidden_states(sequence.numpy(), arrays.encoder, encoder.shape)[-1]
        pooled = states[0] if pooling == "cls" else states.mean(axis=0)
        expected = pooled if dimension == 8 else pooled @ arrays.projection
        np.testing.assert_allclose(found[row], expected, atol=2e-5)


def test_a_fresh_residual_tower_is_the_direction_of_the_text_and_its_columns() -> None:
    model = make_model(profile=False)
    queries, _ = queries_and_items(1, 6, 1)
    encoder, weights = encoder_of(model)
    expected = tf.math.l2_normalize(encoder(queries.text, {}, weights), axis=1)
    np.testing.assert_allclose(model.query_heads(queries)[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("shared", "names"), [(True, ["transformer"]), (False, ["query_transformer", "item_transformer"])]
)
def test_towers_share_the_transformer_where_they_share_tokens(shared: bool, names: list[str]) -> None:
    model = make_model(shared_tokens=shared)
    assert list(model.text_weights) == names
    assert set(model.tables) == {"user.age", "item.brand", "item.category"}


def test_heads_with_tables_of_their_own_read_bags_of_tokens() -> None:
    model = make_model(heads=2, head_tables=True)
    queries, _ = queries_and_items(1, 6, 1)
    assert {"query_tokens.0", "query_tokens.1"} <= model.tables.keys()
    assert model.query_heads(queries).shape == (6, 2, 8)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_steps_train_the_transformer(shared: bool, dropout: float) -> None:
    model = make_model({"dropout": dropout}, shared_tokens=shared, dimension=6)
    step = MatchingStep(
        model, LossConfig(kind="softmax", group_size=4), adagrad(model, TrainingConfig(learning_rate=0.05))
    )
    queries, items = queries_and_items(2, 8, 11)
    batch = Batch(queries, items, tf.range(8), tf.range(11))
    before = [variable.numpy() for variable in tf.nest.flatten(model.text_weights)]
    loss, take = float(step.loss(batch)), tf.function(step.__call__)
    first = float(take(batch))
    assert (first == pytest.approx(loss, rel=1e-5)) == (dropout == 0.0)
    for _ in range(30):
        take(batch)
    assert float(step.loss(batch)) < 0.7 * loss
    changed = [
        not np.array_equal(old, new) for old, new in zip(before, tf.nest.flatten(model.text_weights), strict=True)
    ]
    assert all(changed)


def test_dropout_differs_between_steps_and_is_repeated_by_the_seed() -> None:
    model = make_model({"dropout": 0.3})
    queries, _ = queries_and_items(3, 6, 1)
    values = model.lookup(model.query_inputs.bags(queries))

    def heads(seed: list[int] | None) -> np.ndarray:
        key = None if seed is None else tf.constant(seed, tf.int64)
        return model.project_query(queries, values, model.weights, key).numpy()

    assert np.array_equal(heads([1, 2]), heads([1, 2]))
    assert not np.allclose(heads([1, 2]), heads([1, 70_000]))
    np.testing.assert_allclose(heads(None)[:, :], model.query_heads(queries), atol=1e-6)


def test_bfloat16_changes_vectors_by_its_rounding_at_most() -> None:
    queries, _ = queries_and_items(1, 6, 4)
    exact, rounded = (make_model({"bfloat16": given}).query_heads(queries).numpy() for given in (False, True))
    np.testing.assert_allclose(rounded, exact, atol=0.03)  # equal where the processor lacks AVX512_BF16


def test_a_model_without_tables_looks_nothing_up() -> None:
    schema = replace(WITH_SUBWORDS, categorical={}, profile={})
    config = ModelConfig(text_encoder="transformer", transformer=SMALL | {"max_item_length": 12}, dimension=8)
    model = TwoTower(config, schema)
    queries, items = queries_and_items(4, 8, 8)
    step = MatchingStep(model, LossConfig(kind="softmax", group_size=4), adagrad(model, TrainingConfig()))
    assert model.tables == {}
    assert float(step(Batch(queries, items, tf.range(8), tf.range(8)))) > 0


def test_missing_subwords_are_said() -> None:
    with pytest.raises(DatasetError, match=r"prepared without subwords.*dpsr prepare"):
        TwoTower(ModelConfig(text_encoder="transformer"), SCHEMA)
    queries, _ = queries_and_items(4, 3, 1)
    with pytest.raises(ValueError, match="batch was joined without them"):
        make_model().query_heads(queries._replace(subwords=None))
