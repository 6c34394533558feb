from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.indexing.dense import exact
from dpsr.indexing.dense.ann import Index
from dpsr.indexing.dense.exact import exact_search, recall_at_k

from .vectors import clustered_vectors, unit

ITEMS, K = 3000, 50
REGIMES = {
    "exact": {"exact_below": ITEMS + 1},
    "hashed": {"exact_below": 0},
    "tree": {"exact_below": 0, "tree_from": 0},
}
SCANN = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])


def search(index: Index, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, scores = index.search(tf.constant(queries))
    return rows.numpy(), scores.numpy()


def recall(vectors: np.ndarray, queries: np.ndarray, rows: np.ndarray) -> float:
    heads = queries[:, np.newaxis]
    return recall_at_k(vectors, heads, rows, exact_search(vectors, heads, rows.shape[1])[1][:, -1])


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return clustered_vectors(ITEMS, seed=1)


@pytest.fixture(scope="module", params=REGIMES)
def index(request: pytest.FixtureRequest, vectors: np.ndarray) -> Index:
    built = Index.build(vectors, K, queries=clustered_vectors(100, seed=2), **REGIMES[request.param])
    assert built.plan.kind == request.param
    return built


def test_recall_on_queries_it_was_not_tuned_on(index: Index, vectors: np.ndarray) -> None:
    queries = clustered_vectors(100, seed=3)
    rows, _ = search(index, queries)
    assert recall(vectors, queries, rows) >= (1.0 if index.plan.kind == "exact" else 0.95)


def test_scores_are_the_inner_products_best_first(index: Index, vectors: np.ndarray) -> None:
    queries = clustered_vectors(20, seed=4)
    rows, scores = search(index, queries)
    exact = np.take_along_axis(queries @ vectors.T, rows, axis=1)
    np.testing.assert_allclose(scores, exact, atol=1e-5 if index.plan.kind == "exact" else 0.02)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_rows_of_a_search_are_distinct(index: Index) -> None:
    rows, _ = search(index, clustered_vectors(20, seed=5))
    assert all(len(np.unique(found)) == K for found in rows)


def test_a_batch_is_the_same_as_single_searches(index: Index) -> None:
    queries = clustered_vectors(8, seed=6)
    rows, scores = search(index, queries)
    singles = [search(index, queries[i : i + 1]) for i in range(len(queries))]
    overlap = [len(np.intersect1d(rows[i], single[0])) / K for i, single in enumerate(singles)]
    if index.plan.kind == "tree":  # leaves and candidates on the border may change sides
        assert np.mean(overlap) > 0.98
    else:
        assert min(overlap) == 1.0
        np.testing.assert_allclose(scores, np.concatenate([single[1] for single in singles]), rtol=1e-6)


def test_an_empty_batch_finds_nothing(index: Index) -> None:
    rows, scores = search(index, np.zeros([0, 32], np.float32))
    assert rows.shape == scores.shape == (0, K)


def test_a_vector_without_direction_does_not_fail(index: Index) -> None:
    rows, scores = search(index, np.stack([np.full(32, np.nan), np.zeros(32)]).astype(np.float32))
    assert (rows[0] == -1).all()
    assert np.isfinite(scores).all()


def test_saved_and_loaded_it_answers_the_same(index: Index, tmp_path: Path) -> None:
    queries = tf.constant(clustered_vectors(10, seed=7))
    tf.saved_model.save(index, str(tmp_path), options=SCANN)
    loaded = tf.saved_model.load(str(tmp_path))
    for after, before in zip(loaded.search(queries), index.search(queries), strict=True):
        np.testing.assert_array_equal(after, before)


def test_two_loaded_indexes_do_not_share_a_searcher(tmp_path: Path) -> None:
    paths = []
    for seed in (11, 12):
        items = clustered_vectors(500, seed=seed)
        index = Index.build(items, 5, queries=items[:1])
        paths.append((tmp_path / str(seed), items))
        tf.saved_model.save(index, str(paths[-1][0]), options=SCANN)
    loaded = [(tf.saved_model.load(str(path)), items) for path, items in paths]
    queries = clustered_vectors(10, seed=13)
    for model, items in loaded + loaded[::-1]:
        rows, _ = model.search(tf.constant(queries))
        np.testing.assert_array_equal(rows, exact_search(items, queries[:, np.newaxis], 5)[0])


RELOADS = """
import ctypes, gc, sys
import tensorflow as tf
from dpsr.ops_cc import library

def resident_bytes():
    ctypes.CDLL(None).malloc_trim(0)
    return int(open("/proc/self/statm").read().split()[1]) * 4096

library.load_all()
sizes = []
for _ in range(5):
    loaded = tf.saved_model.load(sys.argv[1])
    loaded.search(tf.zeros([1, 64]))
    loaded.release()
    del loaded
    gc.collect()
    sizes.append(resident_bytes())
print(sizes[-1] - sizes[0])
"""


def test_a_released_index_answers_again(vectors: np.ndarray) -> None:
    index = Index.build(vectors, K, queries=vectors[:1])
    before = search(index, vectors[:5])
    index.release()
    for after, first in zip(search(index, vectors[:5]), before, strict=True):
        np.testing.assert_array_equal(after, first)


@pytest.mark.slow
def test_going_from_version_to_version_does_not_grow_the_process(tmp_path: Path) -> None:
    vectors = clustered_vectors(200_000, 64, seed=1)
    tf.saved_model.save(Index.build(vectors, 5, queries=vectors[:1], exact_below=10**9), str(tmp_path), options=SCANN)
    command = [sys.executable, "-c", RELOADS, str(tmp_path)]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < vectors.nbytes / 2, "four more loads kept memory of the size of an index"


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("items", [1, 2, 40])
def test_k_beyond_the_catalogue_returns_all_of_it(items: int, regime: str) -> None:
    options = REGIMES[regime]
    vectors = clustered_vectors(items, seed=8)
    index = Index.build(vectors, 1000, queries=clustered_vectors(10, seed=9), **options)
    rows, _ = search(index, clustered_vectors(4, seed=10))
    assert rows.shape == (4, items)
    assert all(sorted(found) == list(range(items)) for found in rows.tolist())


def test_leaves_with_too_few_items_leave_places_empty(vectors: np.ndarray) -> None:
    index = Index.build(
        vectors, 1000, queries=clustered_vectors(10, seed=2), exact_below=0, tree_from=0, target_recall=0
    )
    rows, scores = search(index, clustered_vectors(30, seed=3))
    missing = rows < 0
    assert missing.any()
    assert (rows[missing] == -1).all()
    assert (scores[missing] == np.float32(tf.float32.min)).all()
    # Training draws no seed, and may leave a leaf empty: a search of that leaf alone finds nothing.
    assert (~missing[:, 0]).mean() > 0.5
    assert (np.diff(missing.astype(int), axis=1) >= 0).all()


def test_a_higher_target_searches_further(vectors: np.ndarray) -> None:
    queries = clustered_vectors(100, seed=2)
    cheap, thorough = (
        Index.build(vectors, K, queries=queries, exact_below=0, tree_from=0, target_recall=target)
        for target in (0.1, 0.99)
    )
    assert cheap.plan.leaves_to_search < thorough.plan.leaves_to_search
    assert thorough.tuned.recall is not None
    assert thorough.tuned.recall >= 0.99


def test_odd_dimensions_can_be_hashed() -> None:
    vectors = clustered_vectors(1000, 7, seed=1)
    index = Index.build(vectors, 20, queries=vectors[:50], exact_below=0)
    assert recall(vectors, vectors[50:100], search(index, vectors[50:100])[0]) > 0.9


@pytest.mark.parametrize(
    ("vectors", "queries", "message"),
    [
        (np.zeros([0, 4]), np.zeros([1, 4]), "at least one item"),
        (np.ones([9, 4]), np.zeros([1, 3]), r"expected \[Q, 4\]"),
        (np.ones([20, 4]), np.zeros([0, 4]), "tuned on query vectors"),
    ],
)
def test_what_cannot_be_indexed_is_refused(vectors: np.ndarray, queries: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Index.build(vectors, 5, queries=queries, exact_below=0)


def test_recall_counts_any_of_equal_items() -> None:
    twice = np.repeat(unit(np.random.default_rng(0).normal(size=(5, 8))), 2, axis=0)
    heads = twice[:1, np.newaxis]
    _, scores = exact_search(twice, heads, 1)
    for row, expected in ((0, 1.0), (1, 1.0), (2, 0.0)):
        assert recall_at_k(twice, heads, np.array([[row]]), scores[:, -1]) == expected
    assert recall_at_k(twice, heads, np.array([[-1]]), scores[:, -1]) == 0.0


@pytest.mark.parametrize("items", [3, 60, 500])
@pytest.mark.parametrize("seed", range(3))
def test_the_kth_score_is_that_of_exact_search(seed: int, items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "_SCORES_AT_ONCE", 500)  # several steps
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, size=(items, 3)).astype(np.float32)
    heads = rng.integers(-2, 3, size=(7, 2, 3)).astype(np.float32)
    np.testing.assert_array_equal(exact.kth_scores(vectors, heads, 20), exact_search(vectors, heads, 20)[1][:, -1])


@pytest.mark.parametrize("seed", range(3))
def test_exact_search_equals_sorting_everything(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, size=(60, 3)).astype(np.float32)
    heads = rng.integers(-2, 3, size=(7, 2, 3)).astype(np.float32)
    rows, scores = exact_search(vectors, heads, 20)
    for i, query in enumerate(heads):
        every = sorted((-max(float(h @ v) for h in query), row) for row, v in enumerate(vectors))[:20]
        assert rows[i].tolist() == [row for _, row in every]
        assert scores[i].tolist() == [-score for score, _ in every]


@pytest.mark.parametrize(("precision", "bytes_per_dimension"), [("float32", 4), ("int8", 1)])
def test_precision_decides_what_a_vector_takes(precision: str, bytes_per_dimension: int, tmp_path: Path) -> None:
    vectors = clustered_vectors(20_000, 64, seed=1)
    index = Index.build(vectors, K, queries=vectors[:20], exact_below=0, precision=precision)
    tf.saved_model.save(index, str(tmp_path), options=SCANN)
    written = sum(path.stat().st_size for path in tmp_path.glob("variables/variables.data*"))
    codes = 64 / 2
    assert written == pytest.approx(len(vectors) * (64 * bytes_per_dimension + codes), rel=0.1)
    rows, scores = search(index, vectors[20:30])
    exact = np.take_along_axis(vectors[20:30] @ vectors.T, rows, axis=1)
    np.testing.assert_allclose(scores, exact, atol=1e-5 if precision == "float32" else 0.02)


@pytest.mark.parametrize("count", [1, K // 2, K, 7 * K, ITEMS])
def test_one_may_ask_for_more_or_fewer_than_k(index: Index, vectors: np.ndarray, count: int) -> None:
    queries = clustered_vectors(50, seed=14)
    rows, scores = (tensor.numpy() for tensor in index.search_best(tf.constant(queries), tf.constant(count)))
    assert rows.shape == scores.shape == (50, count)
    assert all(len(np.unique(found[found >= 0])) == np.count_nonzero(found >= 0) for found in rows)
    assert recall(vectors, queries, rows) >= (1.0 if index.plan.kind == "exact" else 0.85)
