"""Parts of scores: exact where towers are linear in the bag, integrated gradients elsewhere; towers are not trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from dpsr.config import Config, ModelConfig, parse_config
from dpsr.data.dataset.tables import Dataset
from dpsr.data.demo_shop.shop import generate
from dpsr.data.prepare.job import prepare
from dpsr.indexing.publish import export
from dpsr.model.two_tower import TwoTower
from dpsr.page.explain.attribution import EXACT, INTEGRATED, LEAST_ERROR, TOLERANCE, attribute
from dpsr.page.explain.features import QueryReader
from dpsr.page.explain.heads import head_scores
from dpsr.tokenizer_cc import Tokenizer

QUERIES = ["phone for grandpa", "red", "", "zzz 手机 stroller stroller"]
TRANSFORMER = {"layers": 2, "width": 12, "heads": 2, "intermediate": 16, "max_query_length": 8, "max_item_length": 9}
PROFILE = {"gender": "female"}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A prepared shop with subwords."""
    folder = tmp_path_factory.mktemp("shop")
    generate(folder, items=200, users=30, interactions=1000, seed=3)
    tree = {
        "name": "shop",
        "work_dir": str(folder / "work"),
        "data": {
            "items": {"path": str(folder / "items.parquet"), "categorical": ["brand"]},
            "users": {"path": str(folder / "users.parquet"), "profile": ["gender"]},
            "interactions": {"path": str(folder / "interactions.parquet")},
        },
        "tokenizer": {"min_count": 1, "oov_buckets": 50, "subwords": {"vocabulary": 120}},
        "model": {"text_encoder": "transformer", "transformer": TRANSFORMER, "dimension": 8, "hidden": []},
        "index": {"k": 50},
    }
    config = parse_config(tree, "tests")
    prepare(config, progress=False)
    return config


@pytest.fixture(scope="module")
def reader(config: Config) -> QueryReader:
    return QueryReader(Dataset.load(config.dataset_dir))


def towers(reader: QueryReader, **settings: Any) -> TwoTower:
    model = ModelConfig(
        **{"dimension": 8, "hidden": [], "heads": 1, "history_length": 4, "initial_scale": 0.5, **settings}
    )
    tokenizer = Tokenizer.load(reader.dataset.tokenizer_path)
    built = TwoTower(model, reader.dataset.schema, seed=5, tokenizer=tokenizer)
    for layer in built.query_tower.variables:  # biases are drawn as zeros
        if layer.shape.rank == 1:
            layer.assign(0.1 * tf.random.stateless_normal(layer.shape, [1, layer.shape[0]]))
    return built


def item_vector() -> np.ndarray:
    vector = np.random.default_rng(2).normal(size=8).astype(np.float32)
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize(
    "settings",
    [
        {"combiner": "sum"},
        {"combiner": "mean", "residual": True, "shared_tokens": True},
        {"combiner": "sqrtn", "heads": 3},
        {"combiner": "sqrtn_by_kind", "heads": 2, "head_tables": True, "history_titles": 2},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_towers_without_hidden_layers_are_explained_exactly(reader: QueryReader, settings: dict[str, Any]) -> None:
    model, item, history = towers(reader, **settings), item_vector(), np.array([3, -1, 5, 6])
    for query in QUERIES:
        read = reader.read(model, query, PROFILE, history)
        found = attribute(model, read.features, item)
        assert found.method == EXACT
        heads = model.query_heads(read.features).numpy()[0]
        np.testing.assert_allclose(found.scores, heads @ item, atol=1e-5)
        np.testing.assert_allclose(found.errors, 0.0, atol=1e-5)
        assert found.tokens is not None
        assert found.tokens.shape == (model.config.heads, len(read.tokens))
        assert found.subwords is None


def test_the_part_of_a_token_is_what_its_row_adds(reader: QueryReader) -> None:
    model, item = towers(reader, combiner="sum"), item_vector()
    read = reader.read(model, "phone for grandpa", {}, np.zeros(0, np.int64))
    found = attribute(model, read.features, item)
    assert found.tokens is not None
    weights = model.weights.query.first.last
    first = weights.kernel.numpy()[:8]  # the text is the first input
    (name,) = model.query_inputs.texts[0].tables
    rows = model.tables[name].embeddings.numpy()[[token.id for token in read.tokens]]
    added = rows @ first @ item
    # One divisor for all tokens: the norm before the division.
    divisors = added / found.tokens[0]
    np.testing.assert_allclose(divisors, divisors[0], rtol=1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden": [32], "heads": 2},
        {"hidden": [32, 16], "heads": 2, "head_tables": True, "residual": True},
        {"text_encoder": "transformer", "transformer": TRANSFORMER},
        {"text_encoder": "transformer", "transformer": TRANSFORMER, "hidden": [16], "heads": 2},
    ],
    ids=["one layer", "head tables", "transformer", "transformer and layer"],
)
def test_integrated_gradients_sum_up_to_what_the_tokens_change(reader: QueryReader, settings: dict[str, Any]) -> None:
    model, item = towers(reader, **settings), item_vector()
    if model.config.reads_subwords:  # far from where it is drawn, so that it is not about linear
        for variable in tf.nest.flatten(model.text_weights):
            variable.assign(4.0 * variable)
    for query in QUERIES:
        read = reader.read(model, query, PROFILE, np.array([1, 2]))
        found = attribute(model, read.features, item)
        assert found.method == INTEGRATED
        np.testing.assert_allclose(found.scores, model.query_heads(read.features).numpy()[0] @ item, atol=1e-4)
        changed = found.scores - found.without
        parts = found.subwords if model.config.reads_subwords else found.tokens
        assert parts is not None
        allowed = np.maximum(TOLERANCE * np.abs(changed), LEAST_ERROR)
        assert np.all(np.abs(parts.sum(axis=1) - changed) <= allowed)
        assert np.all(np.abs(changed) > allowed) == bool(query)


def test_an_exported_transformer_is_explained_with_its_own_score(config: Config, reader: QueryReader) -> None:
    dataset = reader.dataset
    model = TwoTower(config.model, dataset.schema, seed=5, tokenizer=reader.tokenizer)
    version = export(config, dataset, model, progress=False)
    embed = tf.saved_model.load(str(version)).signatures["embed_query"]
    served = embed(query=tf.constant(QUERIES))["heads"].numpy()
    item = item_vector()
    title = dataset.item_table().column("title")[0].as_py()
    for query, heads in zip([*QUERIES, title], [*served, None], strict=True):
        read = reader.read(model, query, {}, np.zeros(0, np.int64))
        explained, notes = head_scores(model, reader, read, item, title)
        assert notes == []
        for number, head in enumerate(explained):
            assert sum(part.value for part in head.tokens) == pytest.approx(head.score, abs=1e-6)
            assert {part.kind for part in head.tokens[:-1]} <= {"subword"}
            if heads is not None:
                assert head.score == pytest.approx(float(heads[number] @ item), abs=1e-4)
    assert all(part.matched for part in explained[0].tokens[:-1])
    assert len(explained[0].tokens) > 1


def test_a_sequence_is_cut_as_the_servable_cuts_it(reader: QueryReader) -> None:
    model = towers(reader, text_encoder="transformer", transformer=TRANSFORMER)
    read = reader.read(model, "stroller " * 50, {}, np.zeros(0, np.int64))
    assert len(read.subwords) == TRANSFORMER["max_query_length"] - 2
    found = attribute(model, read.features, item_vector())
    assert found.subwords is not None
    assert found.subwords.shape == (1, len(read.subwords))


def test_profile_values_have_the_ids_of_the_dataset(reader: QueryReader, tmp_path: Path) -> None:
    model = towers(reader)
    vocabulary = reader.dataset.vocabularies["users.gender"]
    for value, expected in ((f" {vocabulary[0]} ", 1), ("", 0), ("unheard of", len(vocabulary) + 1)):
        read = reader.read(model, "phone", {"gender": value}, np.zeros(0, np.int64))
        assert read.features.profile["gender"].numpy().tolist() == [expected]
