"""Filtered search over random catalogues against NumPy: K items come back whenever K match, the best ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from dpsr.indexing.dense import searcher as dense_searcher
from dpsr.indexing.dense.ann import Index
from dpsr.indexing.dense.searcher import DenseSearcher
from dpsr.indexing.dense.segments import BASE, SegmentedIndex
from dpsr.indexing.filters import Filters
from dpsr.indexing.fusion import FusionPlan
from dpsr.indexing.hybrid import HybridSearcher
from dpsr.indexing.lexical import searcher as lexical_searcher
from dpsr.indexing.lexical.searcher import LexicalSearcher
from dpsr.indexing.searcher import Found, Queries
from dpsr.ops_cc.bm25 import Bm25Field, build_bm25
from dpsr.ops_cc.head_merge import NO_SCORE
from dpsr.tokenizer_cc.terms import TermVocabularyBuilder

QUERIES, DIMENSION = 7, 12
BRANDS, SHOPS, WORDS = ["Acme", "Søren", "零", None], ["a", "b"], ["lamp", "chair", "milk", "sugar", "phone"]


class Drawn:
    """Items, queries, and the filters of each query, with what matches by plain loops."""

    def __init__(self, seed: int, items: int) -> None:
        rng = np.random.default_rng(seed)
        self.rng = rng
        self.vectors = rng.normal(size=(items, DIMENSION)).astype(np.float32)
        self.heads = rng.normal(size=(QUERIES, int(rng.integers(1, 4)), DIMENSION)).astype(np.float32)
        self.scores = np.einsum("bmd,nd->bmn", self.heads, self.vectors)
        # Some catalogues are sorted by a column, and the vectors of some depend on it.
        prices = [None if rng.random() < 0.1 else float(price) for price in rng.integers(0, 30, items)]
        if rng.random() < 0.5:
            prices.sort(key=lambda price: (price is None, price))
        if rng.random() < 0.5:
            self.vectors[[price is not None and price < 15 for price in prices]] *= 0.1
            self.scores = np.einsum("bmd,nd->bmn", self.heads, self.vectors)
        self.columns: dict[str, list[Any]] = {
            "brand": rng.choice(np.array(BRANDS, object), items).tolist(),
            "shop": rng.choice(SHOPS, items).tolist(),
            "price": prices,
            "stock": [None if rng.random() < 0.5 else int(stock) for stock in rng.integers(0, 4, items)],
        }
        self.titles = [" ".join(rng.choice(WORDS, int(rng.integers(0, 5)))) for _ in range(items)]
        self.texts = [" ".join(rng.choice(WORDS, int(rng.integers(1, 3)))) for _ in range(QUERIES)]
        self.asked = [self._asked() for _ in range(QUERIES)]
        self.matches = np.array([[self._matches(asked, row) for row in range(items)] for asked in self.asked])

    def _asked(self) -> dict[str, Any]:
        def limit(open_: float, most: int) -> float:
            return float(self.rng.choice([open_, open_, np.nan, *self.rng.integers(-1, most, 3)]))

        return {
            "filter_brand": str(self.rng.choice(["", "", "Acme", " Søren ", "零", "never heard of"])),
            "filter_shop": str(self.rng.choice(["", "", "a", "b"])),
            "filter_min_price": limit(-np.inf, 32),
            "filter_max_price": limit(np.inf, 32),
            "filter_min_stock": limit(-np.inf, 3),
            "filter_max_stock": np.inf,
        }

    def _matches(self, asked: dict[str, Any], row: int) -> bool:
        for column in ("brand", "shop"):
            wanted = asked[f"filter_{column}"].strip()
            if wanted and self.columns[column][row] != wanted:
                return False
        for column in ("price", "stock"):
            low, high = asked[f"filter_min_{column}"], asked[f"filter_max_{column}"]
            low, high = -np.inf if np.isnan(low) else low, np.inf if np.isnan(high) else high
            value = self.columns[column][row]
            if (low, high) != (-np.inf, np.inf) and (value is None or not low <= value <= high):
                return False
        return True

    @property
    def filters(self) -> Filters:
        return Filters(pa.table(self.columns), ["brand", "shop"], ["price", "stock"])

    @property
    def queries(self) -> Queries:
        return Queries(tf.constant(self.texts), tf.constant(self.heads))

    def inputs(self, filters: Filters) -> dict[str, tf.Tensor]:
        return {
            name: tf.constant([asked[name] for asked in self.asked], spec.dtype) for name, spec in filters.specs.items()
        }

    def found(self, searcher: Any, filters: Filters) -> Found:
        @tf.function(autograph=False)
        def search(queries: Queries, inputs: dict[str, tf.Tensor]) -> Found:
            return searcher.search_matching(queries, filters.requested(inputs, tf.constant(QUERIES)))

        return Found(*(tensor.numpy() for tensor in search(self.queries, self.inputs(filters))))

    def assert_best(self, found: Found, k: int, scores: np.ndarray, *, exact: bool = True) -> None:
        """``scores`` [m, items] by query: K matching items come back if K match; the best ones where ``exact``."""
        for query in range(QUERIES):
            expected = min(k, int(self.matches[query].sum()))
            rows = found.rows[query, :expected]
            assert (found.rows[query] >= 0).sum() == expected
            assert (found.rows[query, expected:] == -1).all()
            assert len(np.unique(rows)) == expected
            assert self.matches[query][rows].all()
            of_rows = scores[query][found.heads[query, :expected], rows]
            np.testing.assert_allclose(found.scores[query, :expected], of_rows, atol=1e-4)
            if exact:
                np.testing.assert_allclose(of_rows, scores[query].max(axis=0)[rows], atol=1e-4)
                best = np.sort(scores[query].max(axis=0)[self.matches[query]])[::-1][:expected]
                np.testing.assert_allclose(of_rows, best, atol=1e-4)


@pytest.fixture(params=["as measured", "none", "some", "all"])
def listed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many matching items are all scored, with no question to the index."""
    monkeypatch.setattr(dense_searcher, "_LISTED_AT_ONCE", 1000)  # of two or three queries
    most = {"none": 0, "some": 60, "all": 1000}.get(request.param)
    if most is not None:
        monkeypatch.setattr(dense_searcher, "most_listed", lambda k, items: most)
        monkeypatch.setattr(lexical_searcher, "LISTED_SHARE", most / 200)


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize("seed", range(12))
def test_the_best_matching_items_are_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = Drawn(seed, items=int(rng.choice([1, 3, 50, 400])))
    index = Index.build(drawn.vectors, int(rng.integers(1, 40)), queries=drawn.vectors[:0])
    filters = drawn.filters
    found = drawn.found(DenseSearcher(index, lambda heads: heads, filters), filters)
    drawn.assert_best(found, index.k, drawn.scores)
    assert (found.sources == np.where(found.rows >= 0, 1, 0)).all()


def test_a_head_whose_nearest_items_do_not_match_finds_those_behind_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """One head alone fills the answer, with items that score less than what the other one did not get to."""
    monkeypatch.setattr(dense_searcher, "most_listed", lambda k, items: 0)
    counts = [100, 200, 100]
    vectors = np.repeat(np.array([(1.0, 0.0), (0.0, 9.0), (0.0, 5.0)], np.float32), counts, axis=0)
    filters = Filters(pa.table({"brand": np.repeat(["x", "y", "x"], counts)}), ["brand"], [])
    dense = DenseSearcher(Index.build(vectors, 4, queries=vectors[:0]), lambda heads: heads, filters)
    wanted = filters.requested({"filter_brand": tf.constant(["x"])}, tf.constant(1))
    found = dense.search_heads_matching(tf.constant([[[1.0, 0.0], [0.0, 1.0]]]), wanted)
    assert found.scores.numpy().tolist() == [[5.0] * 4]
    assert found.rows.numpy().tolist() == [[300, 301, 302, 303]]


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("tree_from", [0, 10_000])
def test_approximate_indexes_never_starve(tree_from: int, precision: Any) -> None:
    drawn = Drawn(5, items=900)
    options = {"exact_below": 0, "tree_from": tree_from, "precision": precision, "target_recall": 0.5}
    index = Index.build(drawn.vectors, 25, queries=drawn.vectors[:50], **options)
    filters = drawn.filters
    found = drawn.found(DenseSearcher(index, lambda heads: heads, filters), filters)
    every = tf.range(len(drawn.vectors))[tf.newaxis] + tf.zeros([QUERIES, 1], tf.int32)
    drawn.assert_best(found, index.k, index.scores_of(tf.constant(drawn.heads), every).numpy(), exact=False)


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize("seed", range(4))
def test_segments_are_searched_alike(seed: int) -> None:
    drawn = Drawn(seed, items=300)
    fresh = 40 * seed
    removed = drawn.rng.choice(300 - fresh, 30, replace=False)
    for column in drawn.columns.values():
        for row in removed:
            column[row] = None
    base = Index.build(drawn.vectors[: 300 - fresh], 20, queries=drawn.vectors[:0], name=BASE)
    index = SegmentedIndex(base, drawn.vectors[300 - fresh :], removed, 20)
    filters = drawn.filters
    drawn.matches = np.array([[drawn._matches(asked, row) for row in range(300)] for asked in drawn.asked])
    drawn.matches[:, removed] = False
    found = drawn.found(DenseSearcher(index, lambda heads: heads, filters), filters)
    drawn.assert_best(found, index.k, drawn.scores)


def lexical_over(drawn: Drawn, filters: Filters, k: int, directory: Path) -> LexicalSearcher:
    builder = TermVocabularyBuilder()
    builder.add(drawn.titles)
    tokenizer = builder.build()
    tokenizer.save(directory / "terms.model")
    values, row_splits = tokenizer.encode_batch(drawn.titles)
    index = build_bm25([Bm25Field(row_splits, values)], tokenizer.num_terms)
    return LexicalSearcher(index, directory / "terms.model", filters, k=k)


def words_of(drawn: Drawn, lexical: LexicalSearcher) -> np.ndarray:
    """The lexical scores of all items, [QUERIES, items]."""
    every = tf.range(len(drawn.titles))[tf.newaxis] + tf.zeros([QUERIES, 1], tf.int32)
    return lexical.scores_of(lexical.terms(drawn.queries.texts), every).numpy()


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize("seed", range(6))
def test_the_best_matching_items_with_a_word_of_the_query_are_found(seed: int, tmp_path: Path) -> None:
    drawn = Drawn(seed, items=200)
    filters = drawn.filters
    lexical = lexical_over(drawn, filters, int(drawn.rng.integers(1, 100)), tmp_path)
    words = words_of(drawn, lexical)
    wanted = filters.requested(drawn.inputs(filters), tf.constant(QUERIES))
    found = lexical.search_terms_matching(lexical.terms(drawn.queries.texts), wanted)
    for query in range(QUERIES):
        named = np.flatnonzero(drawn.matches[query] & (words[query] > 0))
        best = named[np.argsort(-words[query][named], kind="stable")][: lexical.k]
        missing = lexical.k - len(best)
        assert found.rows[query].numpy().tolist() == best.tolist() + [-1] * missing
        assert found.scores[query].numpy().tolist() == words[query][best].tolist() + [float(NO_SCORE)] * missing
        assert found.sources[query].numpy().tolist() == [2] * len(best) + [0] * missing


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize("seed", range(6))
def test_a_hybrid_search_joins_what_matches(seed: int, tmp_path: Path) -> None:
    drawn = Drawn(seed, items=200)
    k, weight = int(drawn.rng.integers(1, 30)), 0.5
    filters = drawn.filters
    lexical = lexical_over(drawn, filters, k, tmp_path)
    index = Index.build(drawn.vectors, k, queries=drawn.vectors[:0])
    dense = DenseSearcher(index, lambda heads: heads, filters)
    found = drawn.found(HybridSearcher(dense, lexical, FusionPlan("weighted_sum", weight)), filters)
    words = words_of(drawn, lexical)
    by_vectors = drawn.scores.max(axis=1)
    for query in range(QUERIES):
        matching = np.flatnonzero(drawn.matches[query])
        near = matching[np.argsort(-by_vectors[query][matching], kind="stable")][:k]
        named = matching[np.argsort(-words[query][matching], kind="stable")]
        named = named[words[query][named] > 0][:k]
        union = np.union1d(near, named)
        best = words[query][named].max(initial=0.0)
        joined = (words[query] / best if best > 0 else 0.0) + weight * by_vectors[query]
        expected = min(k, len(union))
        rows = found.rows[query, :expected]
        assert (found.rows[query] >= 0).sum() == expected == min(k, len(matching))
        assert np.isin(rows, union).all()
        assert len(np.unique(rows)) == expected
        np.testing.assert_allclose(found.scores[query, :expected], np.sort(joined[union])[::-1][:expected], atol=1e-4)
        np.testing.assert_array_equal(
            found.sources[query, :expected], np.isin(rows, near) + 2 * np.isin(rows, named).astype(int)
        )
