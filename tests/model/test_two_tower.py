"""Shapes and laws of the towers, and one whole training step against automatic differentiation."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from dpsr.config import LossConfig, ModelConfig, TrainingConfig
from dpsr.data.batches.batch import Batch
from dpsr.data.batches.features import ItemFeatures, QueryFeatures
from dpsr.data.dataset.schema import Schema
from dpsr.model.embeddings import TableBags, TableValues
from dpsr.model.two_tower import TwoTower
from dpsr.training.run_optimizers import adagrad
from dpsr.training.step import MatchingStep

from ..ops.stock_embedding_bag import stock_embedding_bag
from ..ops.stock_group_loss import batch_loss

SCHEMA = Schema(
    text=("title",),
    categorical={"brand": 7, "category": 4},
    profile={"age": 5},
    num_items=20,
    num_users=9,
    num_queries=30,
    token_rows=50,
    item_id_type="int64",
    tokenizer_fingerprint="f00d",
)
VARIANTS = [
    {
        "residual": residual,
        "shared_tokens": shared,
        "heads": heads,
        "history_length": history,
        "history_titles": titles,
    }
    for residual, shared, heads, history, titles in [
        (False, False, 2, 0, 0),
        (False, True, 1, 3, 2),
        (True, False, 3, 3, 0),
        (True, True, 2, 3, 3),
        (True, True, 1, 0, 0),
    ]
] + [{"residual": True, "shared_tokens": True, "heads": 2, "head_tables": True}]


def make_model(**settings: object) -> TwoTower:
    return TwoTower(ModelConfig(**{"dimension": 8, "hidden": [10]} | settings), SCHEMA, seed=3)


def random_ragged(random: np.random.Generator, rows: int, ids: int, shortest: int = 1) -> tf.RaggedTensor:
    lengths = random.integers(shortest, 6, rows)
    return tf.RaggedTensor.from_row_lengths(tf.constant(random.integers(0, ids, lengths.sum()), tf.int32), lengths)


def random_queries(random: np.random.Generator, rows: int) -> QueryFeatures:
    return QueryFeatures(
        random_ragged(random, rows, SCHEMA.token_rows),
        {"age": tf.constant(random.integers(0, 5, rows), tf.int32)},
        random_ragged(random, rows, SCHEMA.num_items, shortest=0),
        random_ragged(random, rows, SCHEMA.token_rows, shortest=0),
    )


def random_items(random: np.random.Generator, rows: int) -> ItemFeatures:
    return ItemFeatures(
        random_ragged(random, rows, SCHEMA.token_rows),
        {name: tf.constant(random.integers(0, size, rows), tf.int32) for name, size in SCHEMA.categorical.items()},
    )


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_heads_and_vectors_are_unit_vectors(settings: dict) -> None:
    random = np.random.default_rng(0)
    model = make_model(**settings)
    heads, vectors = model.query_heads(random_queries(random, 6)), model.item_vectors(random_items(random, 9))
    assert heads.shape == (6, settings["heads"], 8)
    assert vectors.shape == (9, 8)
    np.testing.assert_allclose(np.linalg.norm(heads, axis=-1), 1.0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1.0, atol=1e-5)


@pytest.mark.parametrize("residual", [False, True])
def test_heads_differ_from_the_start(residual: bool) -> None:
    heads = make_model(residual=residual, heads=3).query_heads(random_queries(np.random.default_rng(0), 6)).numpy()
    for first, second in [(0, 1), (0, 2), (1, 2)]:
        assert np.abs(heads[:, first] - heads[:, second]).max() > 1e-2


def test_residual_starts_as_the_bag_of_tokens() -> None:
    model = make_model(residual=True, profile=False)
    queries = random_queries(np.random.default_rng(1), 5)
    rows = model.tables["query_tokens"].embeddings.numpy()
    sums = np.stack([rows[bag.numpy()].sum(axis=0) for bag in queries.tokens])
    expected = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    np.testing.assert_allclose(model.query_heads(queries)[:, 0], expected, atol=1e-5)


def test_shared_tokens_are_one_table() -> None:
    assert {"query_tokens", "item_tokens"} <= make_model().tables.keys()
    shared = make_model(shared_tokens=True).tables
    assert "tokens" in shared
    assert not {"query_tokens", "item_tokens"} & shared.keys()


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_rows_do_not_depend_on_their_neighbours(settings: dict) -> None:
    model = make_model(**settings)
    queries = random_queries(np.random.default_rng(2), 6)
    alone = [
        model.query_heads(
            QueryFeatures(
                queries.tokens[row : row + 1],
                {"age": queries.profile["age"][row : row + 1]},
                queries.history[row : row + 1],
                queries.history_titles[row : row + 1],
            )
        )[0]
        for row in range(6)
    ]
    np.testing.assert_allclose(model.query_heads(queries), alone, atol=1e-6)


def test_profile_and_history_change_the_heads_only_where_configured() -> None:
    queries = random_queries(np.random.default_rng(3), 6)
    other = queries._replace(profile={"age": (queries.profile["age"] + 1) % 5})
    assert not np.allclose(make_model().query_heads(queries), make_model().query_heads(other))
    assert np.array_equal(make_model(profile=False).query_heads(queries), make_model(profile=False).query_heads(other))
    other = queries._replace(history=random_ragged(np.random.default_rng(9), 6, SCHEMA.num_items))
    with_history = make_model(history_length=3)
    assert not np.allclose(with_history.query_heads(queries), with_history.query_heads(other))
    assert np.array_equal(make_model().query_heads(queries), make_model().query_heads(other))
    other = queries._replace(history_titles=random_ragged(np.random.default_rng(9), 6, SCHEMA.token_rows))
    with_titles = make_model(history_length=3, history_titles=1)
    assert not np.allclose(with_titles.query_heads(queries), with_titles.query_heads(other))
    assert np.array_equal(with_history.query_heads(queries), with_history.query_heads(other))
    with pytest.raises(ValueError, match="model reads the titles of the history"):
        with_titles.query_heads(queries._replace(history_titles=None))


def test_embeddings_of_users_are_initialised_at_a_smaller_scale_than_those_of_words() -> None:
    tables = make_model(history_length=3, history_titles=2).tables
    spread = {name: float(np.std(table.embeddings)) for name, table in tables.items()}
    for name in ("user.age", "history", "history_titles"):
        assert 0 < spread[name] < 0.3 * spread["query_tokens"]


def differentiable(model: TwoTower) -> TwoTower:
    """The same model with lookups of stock operations."""

    def lookup(bags: TableBags) -> TableValues:
        tables = [model.tables[name] for name in bags]
        assert all(table.decay == 1.0 for table in tables)
        return {
            name: stock_embedding_bag(table.embeddings, bags[name], combiner=table.combiner)
            for name, table in zip(bags, tables, strict=True)
        }

    model.lookup = lookup
    return model


@pytest.mark.parametrize("kind", ["hinge", "softmax"])
@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_a_step_equals_automatic_differentiation_through_every_lookup(settings: dict, kind: str) -> None:
    random = np.random.default_rng(5)
    loss = LossConfig(kind=kind, group_size=4, margin=0.5)
    training = TrainingConfig(learning_rate=0.05, table_learning_rate=0.2)
    explicit, stock = make_model(**settings), differentiable(make_model(**settings))
    step = MatchingStep(explicit, loss, adagrad(explicit, training))
    tables = [table.embeddings for table in stock.tables.values()]
    dense = [*stock.query_tower.trainable_variables, *stock.item_tower.trainable_variables]
    table_optimizer = tf_keras.optimizers.Adagrad(0.2, epsilon=1e-30, jit_compile=False)
    dense_optimizer = tf_keras.optimizers.Adagrad(0.05, jit_compile=False)
    for _ in range(3):
        queries, items = random_queries(random, 8), random_items(random, 8 + 3)
        rows = tf.constant(random.integers(0, 20, 11), tf.int32)
        batch = Batch(queries, items, tf.range(8), rows)
        with tf.GradientTape() as tape:
            value = batch_loss(stock.query_heads(queries), stock.item_vectors(items), tf.range(8), rows, loss, 1.0)
        table_gradients, dense_gradients = tape.gradient(value, (tables, dense))
        table_optimizer.apply_gradients(
            [(tf.convert_to_tensor(gradient), table) for gradient, table in zip(table_gradients, tables, strict=True)]
        )
        dense_optimizer.apply_gradients(zip(dense_gradients, dense, strict=True))
        np.testing.assert_allclose(step(batch), value, rtol=1e-5)
    for name, table in explicit.tables.items():
        np.testing.assert_allclose(table.embeddings, stock.tables[name].embeddings, atol=1e-4, err_msg=name)
    for one, other in zip(explicit.query_tower.trainable_variables, stock.query_tower.trainable_variables, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_token_dropout_leaves_out_other_tokens_in_every_step() -> None:
    queries = random_queries(np.random.default_rng(0), 2000)
    model = make_model()
    step = MatchingStep(model, LossConfig(), adagrad(model, TrainingConfig()), token_dropout=0.3)
    first = step._thin(queries, None)
    assert np.array_equal(first.tokens.values, step._thin(queries, None).tokens.values)
    assert first.tokens.nrows() == 2000
    for thinned, row in zip(first.tokens, queries.tokens, strict=True):
        remaining = iter(row.numpy().tolist())
        assert all(token in remaining for token in thinned.numpy().tolist())  # a subsequence
    kept = first.tokens.values.shape[0] / queries.tokens.values.shape[0]
    assert kept == pytest.approx(0.7, abs=0.03)
    step.optimizer.iterations().assign_add(1)
    assert not np.array_equal(first.tokens.row_lengths(), step._thin(queries, None).tokens.row_lengths())


def test_model_survives_a_saved_model(tmp_path: Path) -> None:
    model = make_model(residual=True, history_length=3)
    queries, items = random_queries(np.random.default_rng(4), 5), random_items(np.random.default_rng(4), 5)

    class Served(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.int32),
                tf.TensorSpec([None], tf.int64),
                tf.TensorSpec([None], tf.int32),
            ]
        )
        def heads(self, values: tf.Tensor, row_splits: tf.Tensor, age: tf.Tensor) -> tf.Tensor:
            tokens = tf.RaggedTensor.from_row_splits(values, row_splits)
            empty = tf.RaggedTensor.from_row_splits(tf.zeros([0], tf.int32), tf.zeros_like(row_splits))
            return self.model.query_heads(QueryFeatures(tokens, {"age": age}, empty))

    served = Served()
    arguments = queries.tokens.values, queries.tokens.row_splits, queries.profile["age"]
    tf.saved_model.save(served, str(tmp_path / "saved"), signatures=served.heads)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(loaded.heads(*arguments), served.heads(*arguments), atol=1e-6)
    assert model.item_vectors(items).shape == (5, 8)


def test_every_input_has_a_table() -> None:
    model = make_model(history_length=4)
    assert sorted(model.tables) == sorted(
        ["query_tokens", "item_tokens", "user.age", "history", "item.brand", "item.category"]
    )
