from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from dpsr.data.batches.features import QueryFeatures
from dpsr.indexing.corpus import embed_items
from dpsr.indexing.dense.ann import Index
from dpsr.indexing.dense.exact import exact_search
from dpsr.indexing.errors import ExportError
from dpsr.indexing.servable import dense_servable
from dpsr.indexing.signature import profile_inputs
from dpsr.tokenizer_cc import Tokenizer

from .conftest import ITEMS, K, Shop, make_shop

QUERIES = ["red shoe", "手机 case", "", "   ", "naïve 4.5 kg lamp", "zzz unheard-of", "\x00\ud7ff", "a" * 5000]
WEIRD = [b"\xff\xfe\x00", b"\xe6\x89", b"red\x80shoe", "\U0001f600".encode(), bytes(range(256))]
PROFILE = {"age": "18-25", "home_city": "Wien"}
NO_FILTER = {"filter_brand": [""]}

Answer = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def vectors(shop: Shop) -> np.ndarray:
    return embed_items(shop.model, shop.dataset, batch_size=64, progress=False)


@pytest.fixture(scope="module")
def saved(shop: Shop, vectors: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("servable") / "1"
    index = Index.build(vectors, K, queries=vectors[:0])
    dense_servable(shop.model, shop.dataset, index).save(path)
    return path


@pytest.fixture(scope="module")
def signatures(saved: Path) -> Mapping[str, Any]:
    loaded = tf.saved_model.load(str(saved))
    return {name: (loaded, loaded.signatures[name])[1] for name in loaded.signatures}


@pytest.fixture(scope="module")
def call(saved: Path) -> Callable[..., Answer]:
    loaded = tf.saved_model.load(str(saved))

    def answer(signature: str, **inputs: Any) -> Answer:
        inputs |= NO_FILTER if signature == "personalized" else {}
        outputs = loaded.signatures[signature](**{name: tf.constant(values) for name, values in inputs.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return answer


@pytest.fixture(scope="module")
def tokenizer(shop: Shop) -> Tokenizer:
    return Tokenizer.load(shop.dataset.tokenizer_path)


def profile_id(shop: Shop, column: str, value: str) -> int:
    vocabulary = shop.dataset.vocabularies[f"users.{column}"]
    if not value:
        return 0
    return vocabulary.index(value) + 1 if value in vocabulary else len(vocabulary) + 1


def heads_of(
    shop: Shop,
    tokenizer: Tokenizer,
    queries: Sequence[str | bytes],
    profile: Mapping[str, Sequence[str]] | None = None,
    history: Sequence[Sequence[int]] | None = None,
) -> np.ndarray:
    """The Python side: tokenizer, ids by hand, query tower."""
    values, row_splits = tokenizer.encode_batch(queries)
    columns = {
        column: [profile_id(shop, column, value) for value in (profile or {}).get(name, [""] * len(queries))]
        for column, name in profile_inputs(shop.dataset.schema.profile).items()
    }
    history = history or [[]] * len(queries)
    titles = [
        [token for item in rows[-shop.model.config.history_titles :] for token in shop.dataset.item_tokens[item][:12]]
        for rows in history
    ]
    features = QueryFeatures(
        tokens=tf.RaggedTensor.from_row_splits(values, row_splits),
        profile={column: tf.constant(ids, tf.int32) for column, ids in columns.items()},
        history=tf.ragged.constant(history, tf.int32, ragged_rank=1),
        history_titles=tf.ragged.constant(titles, tf.int32, ragged_rank=1),
    )
    return shop.model.query_heads(features).numpy()


def assert_answers(answer: Answer, shop: Shop, vectors: np.ndarray, heads: np.ndarray) -> None:
    """The answer is the exact best k, whatever order equal scores are in."""
    _, scores = exact_search(vectors, heads, K)
    np.testing.assert_allclose(answer["score"], scores, atol=1e-5)
    row_of = {item: row for row, item in enumerate(shop.dataset.item_ids.tolist())}
    for i in range(len(heads)):
        ids = [item.decode() if isinstance(item, bytes) else item for item in answer["item_id"][i].tolist()]
        rows = [row_of[item] for item in ids]
        assert len(set(rows)) == K
        by_head = heads[i] @ vectors[rows].T
        np.testing.assert_allclose(by_head.max(axis=0), answer["score"][i], atol=1e-5)
        np.testing.assert_allclose(by_head[answer["head"][i], np.arange(K)], answer["score"][i], atol=1e-5)


def padded(shop: Shop, rows: Sequence[Sequence[int]], width: int) -> np.ndarray:
    """Item rows as a client's padded ids."""
    if shop.dataset.schema.item_id_type == "int64":
        return np.array(
            [[*(int(shop.dataset.item_ids[row]) for row in r), *[-1] * (width - len(r))] for r in rows], np.int64
        )
    return np.array([[*(shop.dataset.item_ids[row] for row in r), *[""] * (width - len(r))] for r in rows], object)


def test_ids_are_in_the_variables_and_not_in_the_graph(shop: Shop, saved: Path) -> None:
    """The message of a graph has 2 GiB at most, which the ids of some ten million items would fill."""
    graph = (saved / "saved_model.pb").read_bytes()
    variables = b"".join(file.read_bytes() for file in saved.glob("variables/*.data*"))
    ids = shop.dataset.item_ids
    written = [ids.tobytes()] if ids.dtype == np.int64 else [item.encode() for item in ids]
    assert all(item in variables for item in written)
    assert not any(item in graph for item in written)


def test_signatures_are_the_documented_ones(signatures: Mapping[str, Any], shop: Shop) -> None:
    ids = tf.dtypes.as_dtype(shop.dataset.schema.item_id_type)
    found = {
        name: (
            {key: (spec.dtype, spec.shape.as_list()) for key, spec in function.structured_input_signature[1].items()},
            {key: (spec.dtype, spec.shape.as_list()) for key, spec in function.structured_outputs.items()},
        )
        for name, function in signatures.items()
    }
    query = {"query": (tf.string, [None])}
    items = {"item_id": (ids, [None, K]), "score": (tf.float32, [None, K])}
    items |= {name: (tf.int32, [None, K]) for name in ("head", "source")}
    counted = items | {"shortfall": (tf.int32, [None])}
    profile = {column: (tf.string, [None]) for column in PROFILE}
    filters = {"filter_brand": (tf.string, [None])}
    assert found == {
        "serving_default": (query, items),
        "personalized": (query | profile | {"history": (ids, [None, None])} | filters, counted),
        "filtered": (query | filters, counted),
        "embed_query": (query, {"heads": (tf.float32, [None, 2, 16])}),
        "tokenize": (query, {"values": (tf.int32, [None]), "row_splits": (tf.int64, [None])}),
    }


def test_item_vectors_are_the_item_towers(shop: Shop, vectors: np.ndarray) -> None:
    assert vectors.shape == (ITEMS, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    whole = embed_items(shop.model, shop.dataset, batch_size=10 * ITEMS, progress=False)
    np.testing.assert_allclose(vectors, whole, atol=1e-6)


def test_default_answers_are_the_python_sides(
    call: Callable[..., Answer], shop: Shop, tokenizer: Tokenizer, vectors: np.ndarray
) -> None:
    assert_answers(call("serving_default", query=QUERIES), shop, vectors, heads_of(shop, tokenizer, QUERIES))


def test_personalized_answers_are_the_python_sides(
    call: Callable[..., Answer], shop: Shop, tokenizer: Tokenizer, vectors: np.ndarray
) -> None:
    rng = np.random.default_rng(5)
    ages, cities = ["", "18-25", "26-40", "never seen"], ["Wien", "大阪", "", "Oslo"]
    profile = {"age": [ages[i % 4] for i in range(8)], "home_city": [cities[i // 2] for i in range(8)]}
    history = [rng.integers(ITEMS, size=length).tolist() for length in (0, 1, 4, 5, 9, 3, 0, 2)]
    answer = call("personalized", query=QUERIES, history=padded(shop, history, 9), **profile)
    recent = [rows[-4:] for rows in history]
    assert_answers(answer, shop, vectors, heads_of(shop, tokenizer, QUERIES, profile, recent))


def test_tokenize_is_the_tokenizer(call: Callable[..., Answer], tokenizer: Tokenizer) -> None:
    texts = [*QUERIES, *WEIRD]
    answer = call("tokenize", query=[text.encode() if isinstance(text, str) else text for text in texts])
    values, row_splits = tokenizer.encode_batch(texts)
    np.testing.assert_array_equal(answer["values"], values)
    np.testing.assert_array_equal(answer["row_splits"], row_splits)


def test_embed_query_is_the_query_tower(call: Callable[..., Answer], shop: Shop, tokenizer: Tokenizer) -> None:
    heads = call("embed_query", query=QUERIES)["heads"]
    np.testing.assert_allclose(heads, heads_of(shop, tokenizer, QUERIES), atol=1e-5)


def test_nothing_known_of_the_user_is_the_default(call: Callable[..., Answer], shop: Shop) -> None:
    nothing = dict.fromkeys(PROFILE, [""] * len(QUERIES))
    default = call("serving_default", query=QUERIES)
    for width in (0, 3):
        history = padded(shop, [[]] * len(QUERIES), width).reshape(len(QUERIES), width)
        if history.dtype == object and width == 0:
            history = tf.zeros([len(QUERIES), 0], tf.string)
        personalized = call("personalized", query=QUERIES, history=history, **nothing)
        for name in default:
            np.testing.assert_array_equal(personalized[name], default[name])


@pytest.mark.parametrize("changed", ["age", "home_city", "history"])
def test_every_input_matters(call: Callable[..., Answer], shop: Shop, changed: str) -> None:
    inputs = {"query": ["red shoe"], "history": padded(shop, [[1, 2]], 4)}
    inputs |= {column: [value] for column, value in PROFILE.items()}
    other = inputs | {changed: padded(shop, [[7, 8]], 4) if changed == "history" else [""]}
    assert not np.array_equal(call("personalized", **inputs)["score"], call("personalized", **other)["score"])


def test_unknown_and_padding_ids_are_ignored_wherever_they_stand(call: Callable[..., Answer], shop: Shop) -> None:
    plain = padded(shop, [[3, 1, 4, 1, 5]], 5)[0].tolist()
    unknown, padding = ("no such item", "") if isinstance(plain[0], str) else (987_654_321, -1)
    noisy = [padding, plain[0], unknown, plain[1], plain[2], padding, plain[3], unknown, plain[4], padding, unknown]
    profile = {column: [value] for column, value in PROFILE.items()}
    dtype = object if isinstance(plain[0], str) else np.int64
    answers = [
        call("personalized", query=["lamp"], history=np.array([ids], dtype), **profile) for ids in (plain, noisy)
    ]
    for name in answers[0]:
        np.testing.assert_array_equal(answers[0][name], answers[1][name])


def test_values_are_trimmed_as_the_dataset_is(call: Callable[..., Answer], shop: Shop) -> None:
    history = padded(shop, [[1, 2]], 2)
    plain, spaced = (
        call("personalized", query=["lamp"], history=history, **{"age": [age], "home_city": ["Oslo"]})
        for age in ("26-40", "  26-40\t")
    )
    np.testing.assert_array_equal(plain["score"], spaced["score"])


def test_a_batch_is_the_same_as_single_calls(call: Callable[..., Answer], shop: Shop) -> None:
    history = padded(shop, [[i, i + 1] for i in range(len(QUERIES))], 4)
    profile = {column: [value] * len(QUERIES) for column, value in PROFILE.items()}
    batch = call("personalized", query=QUERIES, history=history, **profile)
    for i, query in enumerate(QUERIES):
        row = {column: values[i : i + 1] for column, values in profile.items()}
        single = call("personalized", query=[query], history=history[i : i + 1], **row)
        np.testing.assert_allclose(batch["score"][i], single["score"][0], atol=1e-6)
        assert len(set(batch["item_id"][i]) & set(single["item_id"][0])) >= K - 1  # equal scores may change places


@pytest.mark.parametrize("signature", ["serving_default", "embed_query", "tokenize"])
def test_no_bytes_make_it_fail(call: Callable[..., Answer], signature: str) -> None:
    for tensor in call(signature, query=WEIRD).values():
        if tensor.dtype.kind == "f":
            assert np.isfinite(tensor).all()


@pytest.mark.parametrize("signature", ["serving_default", "embed_query", "tokenize"])
def test_an_empty_batch_has_an_empty_answer(call: Callable[..., Answer], signature: str) -> None:
    answer = call(signature, query=tf.zeros([0], tf.string))
    assert all(len(tensor) == (name == "row_splits") for name, tensor in answer.items())


def test_the_item_tower_stays_out(saved: Path, shop: Shop) -> None:
    def size(variables: Sequence[tf.Variable]) -> int:
        return sum(int(np.prod(v.shape)) * 4 for v in variables)

    written = sum(path.stat().st_size for path in (saved / "variables").glob("variables.data*"))
    queries_only = size([table for name, table in _tables(shop) if name not in ("item_tokens", "item.brand")])
    assert written < queries_only + size([v for _, v in _tables(shop)]) / 2 + 100_000


def _tables(shop: Shop) -> list[tuple[str, tf.Variable]]:
    return [(name, table.trainable_variables[0]) for name, table in shop.model.tables.items()]


@pytest.mark.parametrize("columns", [["query"], ["age", "history"], ["home city", "home-city"]])
def test_columns_that_would_share_an_input_are_refused(columns: list[str]) -> None:
    with pytest.raises(ExportError, match="rename the column"):
        profile_inputs(columns)


def test_without_users_personalized_takes_query_and_history(tmp_path: Path) -> None:
    plain = make_shop(tmp_path, model={"history_length": 0, "profile": False, "heads": 1})
    vectors = embed_items(plain.model, plain.dataset, progress=False)
    dense_servable(plain.model, plain.dataset, Index.build(vectors, K, queries=vectors[:0])).save(tmp_path / "1")
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    default = loaded.signatures["serving_default"](query=tf.constant(["lamp"]))
    personalized = loaded.signatures["personalized"](
        query=tf.constant(["lamp"]),
        history=tf.constant([["sku-1"]]),
        **{column: tf.constant([value]) for column, value in PROFILE.items()},
        filter_brand=tf.constant([""]),
    )
    for name in default:
        np.testing.assert_array_equal(default[name], personalized[name])
