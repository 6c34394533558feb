from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from dpsr.data.batches.features import QueryFeatures
from dpsr.indexing.corpus import embed_items
from dpsr.indexing.dense import searcher
from dpsr.indexing.dense.ann import Index
from dpsr.indexing.errors import ExportError
from dpsr.indexing.filters import Filters, category_ids, numeric_column
from dpsr.indexing.servable import dense_servable
from dpsr.ops_cc.head_merge import NO_SCORE
from dpsr.tokenizer_cc import Tokenizer

from .conftest import ITEMS, K, Shop, make_shop

QUERIES = ["red shoe", "手机 case", "", "naïve 4.5 kg lamp", "chair", "milk sugar"]
Answer = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return make_shop(tmp_path_factory.mktemp("shop"), categorical=["brand", "price"])


@pytest.fixture(scope="module")
def vectors(shop: Shop) -> np.ndarray:
    return embed_items(shop.model, shop.dataset, progress=False)


class Loaded:
    """A saved and loaded servable; filters that are not named let everything through."""

    def __init__(self, shop: Shop, vectors: np.ndarray, path: Path, **options: Any) -> None:
        index = Index.build(vectors, K, queries=vectors[:0], **options.pop("index", {}))
        servable = dense_servable(shop.model, shop.dataset, index, filter_range=["price"], **options)
        servable.save(path)
        self.path = path
        self.no_filter = {name: [value] for name, value in servable.filters.without().items()}
        self._loaded = tf.saved_model.load(str(path))

    def __call__(self, signature: str = "filtered", **inputs: Any) -> Answer:
        function = self._loaded.signatures[signature]
        inputs = self.no_filter | inputs
        outputs = function(**{name: tf.constant(values) for name, values in inputs.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}


@pytest.fixture(scope="module")
def whole(shop: Shop, vectors: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """All matching items are scored."""
    return Loaded(shop, vectors, tmp_path_factory.mktemp("whole") / "1")


@pytest.fixture(scope="module")
def wide(shop: Shop, vectors: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Items are looked for among the nearest ones, but for a filter that hardly any match."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(searcher, "most_listed", lambda k, items: K)
        return Loaded(shop, vectors, tmp_path_factory.mktemp("wide") / "1")


@pytest.fixture(scope="module")
def heads(shop: Shop) -> np.ndarray:
    """[queries, m, d]."""
    values, row_splits = Tokenizer.load(shop.dataset.tokenizer_path).encode_batch(QUERIES)
    nobody = dict.fromkeys(shop.dataset.schema.profile, tf.zeros(len(QUERIES), tf.int32))
    history = tf.RaggedTensor.from_row_lengths(tf.zeros([0], tf.int32), [0] * len(QUERIES))
    return shop.model.query_heads(
        QueryFeatures(tf.RaggedTensor.from_row_splits(values, row_splits), nobody, history)
    ).numpy()


def matching(shop: Shop, brand: str = "", low: float = -math.inf, high: float = math.inf) -> np.ndarray:
    """bool [items], row by row in plain Python."""
    table = shop.dataset.item_table()
    limited = (low, high) != (-math.inf, math.inf)
    return np.array(
        [
            (not brand or found == brand.strip())
            and (not limited or (price is not None and np.float32(low) <= np.float32(price) <= np.float32(high)))
            for found, price in zip(table.column("brand").to_pylist(), table.column("price").to_pylist(), strict=True)
        ]
    )


def assert_best(answer: Answer, row: int, scores: np.ndarray, allowed: np.ndarray, shop: Shop) -> None:
    """Row ``row`` of the answer is the best of the allowed items; ``scores`` [m, items]."""
    ids = shop.dataset.item_ids
    best = np.where(allowed, scores.max(axis=0), -np.inf)
    expected = min(K, int(allowed.sum()))
    assert answer["shortfall"][row] == K - expected
    found = [item.decode() for item in answer["item_id"][row].tolist()]
    assert found[expected:] == [""] * (K - expected)
    assert (answer["head"][row, expected:] == -1).all()
    assert (answer["score"][row, expected:] == np.float32(NO_SCORE)).all()
    assert len(set(found[:expected])) == expected
    rows = [int(np.flatnonzero(ids == item)[0]) for item in found[:expected]]
    assert allowed[rows].all()
    np.testing.assert_allclose(answer["score"][row, :expected], np.sort(best)[::-1][:expected], atol=1e-5)
    np.testing.assert_allclose(scores[answer["head"][row, :expected], rows], answer["score"][row, :expected], atol=1e-5)


FILTERS: list[dict[str, Any]] = [
    {},
    {"brand": "Acme"},
    {"brand": "零"},
    {"brand": " Søren\t"},
    {"brand": "never heard of"},
    {"low": 50.0},
    {"high": 20.0},
    {"low": 30.0, "high": 33.0},
    {"low": 60.0, "high": 40.0},
    {"brand": "Acme", "low": 10.0, "high": 60.0},
]


def inputs_of(filters: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "filter_brand": [asked.get("brand", "") for asked in filters],
        "filter_min_price": np.array([asked.get("low", -np.inf) for asked in filters], np.float32),
        "filter_max_price": np.array([asked.get("high", np.inf) for asked in filters], np.float32),
    }


@pytest.mark.parametrize("asked", FILTERS, ids=str)
def test_the_best_matching_items_are_found(
    asked: dict[str, Any], whole: Loaded, shop: Shop, vectors: np.ndarray, heads: np.ndarray
) -> None:
    answer = whole(query=QUERIES, **inputs_of([asked]))
    for row in range(len(QUERIES)):
        assert_best(answer, row, heads[row] @ vectors.T, matching(shop, **asked), shop)


@pytest.mark.parametrize("seed", range(3))
def test_each_row_has_its_own_filter(
    seed: int, whole: Loaded, wide: Loaded, shop: Shop, vectors: np.ndarray, heads: np.ndarray
) -> None:
    asked = [FILTERS[i] for i in np.random.default_rng(seed).integers(len(FILTERS), size=len(QUERIES))]
    for loaded in (whole, wide):
        answer = loaded(query=QUERIES, **inputs_of(asked))
        for row in range(len(QUERIES)):
            assert_best(answer, row, heads[row] @ vectors.T, matching(shop, **asked[row]), shop)


@pytest.mark.parametrize("asked", FILTERS, ids=str)
def test_the_best_are_found_among_the_nearest_too(
    asked: dict[str, Any], wide: Loaded, shop: Shop, vectors: np.ndarray, heads: np.ndarray
) -> None:
    answer = wide(query=QUERIES, **inputs_of([asked]))
    for row in range(len(QUERIES)):
        assert_best(answer, row, heads[row] @ vectors.T, matching(shop, **asked), shop)


def test_what_matches_far_from_the_query_is_found(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the items nearest to the queries match, and the filter is as wide as half of the catalogue."""
    monkeypatch.setattr(searcher, "most_listed", lambda k, items: K)
    rng = np.random.default_rng(1)
    prices = np.array(
        [math.nan if price is None else price for price in shop.dataset.item_table().column("price").to_pylist()]
    )
    vectors = rng.normal(size=(ITEMS, 16)).astype(np.float32)
    vectors[prices >= 50, 0] = -100.0
    heads = np.zeros((1, 2, 16), np.float32)
    heads[:, :, 0] = 1.0
    heads[:, 1, 1] = 0.1
    index = Index.build(vectors, K, queries=vectors[:0])
    filters = Filters(shop.dataset.item_table(), ["brand"], ["price"])
    dense = searcher.DenseSearcher(index, lambda features: tf.constant(heads), filters)
    inputs = {name: tf.constant(value) for name, value in inputs_of([{"low": 50.0}]).items()}
    found = dense.search_heads_matching(tf.constant(heads), filters.requested(inputs, tf.constant(1)))
    scores = np.where(prices >= 50, (heads[0] @ vectors.T).max(axis=0), -np.inf)
    assert np.count_nonzero(prices >= 50) > 4 * K
    np.testing.assert_allclose(found.scores[0], np.sort(scores)[::-1][:K], rtol=1e-5)


def test_personalized_filters_too(whole: Loaded, shop: Shop) -> None:
    user = {"age": ["18-25"], "home_city": ["Oslo"], "history": [[str(shop.dataset.item_ids[3])]]}
    plain = whole("personalized", query=["lamp"], **user)
    filtered = whole("personalized", query=["lamp"], **user, **inputs_of([{"brand": "Acme"}]))
    assert plain["shortfall"].tolist() == filtered["shortfall"].tolist() == [0]
    allowed = set(shop.dataset.item_ids[matching(shop, brand="Acme")].tolist())
    assert {item.decode() for item in filtered["item_id"][0]} <= allowed
    kept = [item for item in plain["item_id"][0].tolist() if item.decode() in allowed]
    assert kept == filtered["item_id"][0].tolist()[: len(kept)]


def test_without_a_filter_the_answer_is_the_default(whole: Loaded, wide: Loaded) -> None:
    for loaded in (whole, wide):
        filtered = loaded(query=QUERIES)
        default = loaded._loaded.signatures["serving_default"](query=tf.constant(QUERIES))
        for name in default:
            np.testing.assert_array_equal(filtered[name], default[name])


def test_nan_is_no_limit(whole: Loaded) -> None:
    nothing = whole(query=QUERIES, filter_min_price=np.array([np.nan], np.float32))
    np.testing.assert_array_equal(nothing["item_id"], whole(query=QUERIES)["item_id"])


def test_an_empty_batch_has_an_empty_answer(whole: Loaded) -> None:
    answer = whole(query=tf.zeros([0], tf.string), **inputs_of([{"brand": "Acme"}]))
    assert all(len(values) == 0 for values in answer.values())


def test_a_filter_for_another_number_of_rows_is_refused(whole: Loaded) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        whole(query=QUERIES, filter_brand=["Acme", "Acme"])


def test_requests_may_leave_filters_out(whole: Loaded) -> None:
    model = saved_model_pb2.SavedModel.FromString((whole.path / "saved_model.pb").read_bytes())
    signatures = model.meta_graphs[0].signature_def
    for name in ("filtered", "personalized"):
        defaults = {alias: tf.make_ndarray(proto).tolist() for alias, proto in signatures[name].defaults.items()}
        assert defaults == {"filter_brand": [b""], "filter_min_price": [-math.inf], "filter_max_price": [math.inf]}
    assert not signatures["serving_default"].defaults


def test_a_tree_goes_further_for_a_filter(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a tenth of the leaves a filter would leave little; it is looked for in more."""
    monkeypatch.setattr(searcher, "most_listed", lambda k, items: K)
    vectors = np.random.default_rng(1).normal(size=(ITEMS, 16)).astype(np.float32)
    options = {"exact_below": 0, "tree_from": 0, "target_recall": 0.3}
    index = Index.build(vectors, K, queries=vectors[:50], **options)
    assert index.plan.leaves_to_search < index.plan.num_leaves / 2
    servable = dense_servable(shop.model, shop.dataset, index, filter_range=["price"])
    servable.save(tmp_path / "1")
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    asked = {name: tf.constant(values) for name, values in inputs_of([{"brand": "Acme"}]).items()}
    answer = loaded.signatures["filtered"](query=tf.constant(QUERIES), **asked)
    assert answer["shortfall"].numpy().tolist() == [0] * len(QUERIES)
    allowed = set(shop.dataset.item_ids[matching(shop, brand="Acme")].tolist())
    assert {item.decode() for item in answer["item_id"].numpy().flat} <= allowed


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("cost", pa.array([1.0]), r"names column 'cost', which the items do not have \(found: item_id, price\)"),
        ("price", pa.array(["cheap"]), "column 'price' holds no numbers"),
    ],
)
def test_what_has_no_numbers_cannot_be_a_range(column: str, values: pa.Array, message: str) -> None:
    table = pa.table({"item_id": ["a"], "price": values})
    with pytest.raises(ExportError, match=message):
        Filters(table, [], [column])


def test_columns_of_one_input_name_are_refused() -> None:
    table = pa.table({"item_id": ["a"], "a b": ["x"], "a-b": ["y"]})
    with pytest.raises(ExportError, match="rename the column"):
        Filters(table, ["a b", "a-b"], [])


def test_the_example_matches_an_item(shop: Shop) -> None:
    filters = Filters(shop.dataset.item_table(), ["brand"], ["price"])
    example = filters.example()
    assert example["filter_brand"]
    assert math.isfinite(example["filter_min_price"])  # type: ignore[arg-type]
    expected = matching(shop, brand=str(example["filter_brand"]), low=float(example["filter_min_price"]))
    np.testing.assert_array_equal(filters.matching_rows(example, ITEMS), np.flatnonzero(expected))
    assert expected.any()


@pytest.mark.parametrize("cuts", [[], [3], [0, 3, 3, 5]])
def test_a_column_in_chunks_is_read_as_in_one(cuts: list[int]) -> None:
    """Columns of more than 2 GiB of text are in several chunks, which no one array can hold."""

    def chunked(values: list[str | None]) -> pa.ChunkedArray:
        ends = [0, *cuts, len(values)]
        return pa.chunked_array([values[start:end] for start, end in pairwise(ends)], pa.string())

    found, ids = category_ids(chunked(["b", " a\u3000", None, "", "b", "c", "a"]))
    assert (found, ids.tolist()) == (["b", "a", "c"], [1, 2, -2, -2, 1, 3, 2])
    numbers = numeric_column(pa.table({"x": chunked(["1", "x", None, "", " 2.5 ", "-3", "1"])}), "x")
    np.testing.assert_array_equal(numbers, np.float32([1, np.nan, np.nan, np.nan, 2.5, -3, 1]))
