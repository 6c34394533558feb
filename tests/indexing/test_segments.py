"""An index in segments answers as one that is built anew, whatever was added, changed, removed and added again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from dpsr.config import LexicalConfig
from dpsr.data.dataset.tables import Bags
from dpsr.indexing.catalogue import Catalogue, ItemRows
from dpsr.indexing.dense.ann import Index
from dpsr.indexing.dense.exact import exact_search
from dpsr.indexing.dense.searcher import DenseSearcher
from dpsr.indexing.dense.segments import BASE, SegmentedIndex
from dpsr.indexing.dense.state import state_keys, stored_vectors
from dpsr.indexing.filters import Filters
from dpsr.indexing.fingerprints import row_fingerprints
from dpsr.indexing.incremental.difference import Difference, difference
from dpsr.indexing.incremental.item_files import RowContents
from dpsr.indexing.item_texts import EncodedTexts
from dpsr.indexing.lexical.build import TERMS_FILE, build_lexical
from dpsr.indexing.lexical.searcher import LexicalSearcher

from .vectors import clustered_vectors, unit

DIMENSION, K = 16, 30
SCANN = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
REGIMES: dict[str, dict[str, Any]] = {
    "exact": {"exact_below": 10**9},
    "hashed": {"exact_below": 0},
    "tree": {"exact_below": 0, "tree_from": 0},
    "int8": {"exact_below": 0, "precision": "int8"},
}
WORDS = ["red", "green", "blue", "shoe", "lamp", "phone", "case", "milk", "sugar", "chair", "table", "sofa"]
BRANDS = ["Acme", "Søren", None]
ACME = {"filter_brand": tf.constant(["Acme"])}
# A model that reads tokens and categories; its item tower is `vector_of`.
WORD_VECTORS = np.random.default_rng(5).normal(size=(len(WORDS) + len(BRANDS), DIMENSION))


def built(vectors: np.ndarray, regime: str = "exact", k: int = K) -> Index:
    return Index.build(vectors, k, queries=vectors[:100], name=BASE, **REGIMES[regime])


@dataclass
class Item:
    words: list[int]
    brand: int

    def vector(self) -> np.ndarray:
        return unit(WORD_VECTORS[[*self.words, len(WORDS) + self.brand]].sum(axis=0))


@dataclass
class Shop:
    """Items that change at random; ``gone`` come back as they were."""

    rng: np.random.Generator
    items: dict[str, Item] = field(default_factory=dict)
    gone: dict[str, Item] = field(default_factory=dict)
    made: int = 0

    def item(self) -> Item:
        return Item(self.rng.integers(len(WORDS), size=self.rng.integers(1, 7)).tolist(), int(self.rng.integers(3)))

    def update(self, changes: int) -> None:
        for kind in self.rng.choice(["add", "change", "change words back", "remove", "return"], changes):
            known, gone = list(self.items), list(self.gone)
            if kind == "add" or len(known) < 5:
                self.items[f"item-{self.made}"] = self.item()
                self.made += 1
            elif kind == "return" and gone:
                back = gone[self.rng.integers(len(gone))]
                self.items[back] = self.gone.pop(back)
            elif kind == "remove":
                lost = known[self.rng.integers(len(known))]
                self.gone[lost] = self.items.pop(lost)
            elif kind == "change words back":
                swapped = known[self.rng.integers(len(known))]
                self.items[swapped] = Item(self.items[swapped].words[::-1], self.items[swapped].brand)
            else:
                self.items[known[self.rng.integers(len(known))]] = self.item()

    def catalogue(self) -> Catalogue:
        """In an order that is another one every time."""
        ids = np.array(list(self.items), object)[self.rng.permutation(len(self.items))]
        items = [self.items[item] for item in ids]
        tokens = Bags(
            np.concatenate([np.array(item.words, np.int32) for item in items]),
            np.cumsum([0, *(len(item.words) for item in items)]),
        )
        columns = {
            "item_id": pa.array(ids, pa.string()),
            "title": [" ".join(WORDS[word] for word in item.words) for item in items],
            "brand": pa.array([BRANDS[item.brand] for item in items], pa.string()),
        }
        brands = np.array([item.brand for item in items], np.int32)
        return Catalogue(ids, pa.table(columns), EncodedTexts(tokens), {"brand": brands})

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        return np.array([self.items[item].vector() for item in ids]).reshape(-1, DIMENSION).astype(np.float32)


def contents_of(catalogue: Catalogue) -> RowContents:
    return RowContents.of(catalogue.table.column("item_id"), row_fingerprints(catalogue, ["title"]))


@dataclass
class Version:
    """What a version holds for the next one, and the rows of its index."""

    base: Index
    base_contents: RowContents
    fresh_contents: RowContents
    fresh: np.ndarray
    rows: ItemRows
    index: Any


def first_version(shop: Shop, regime: str) -> Version:
    catalogue = shop.catalogue()
    contents, index = contents_of(catalogue), built(shop.vectors(catalogue.item_ids), regime)
    return Version(index, contents, contents.slice(0, 0), np.empty((0, DIMENSION), np.float32), catalogue, index)


def next_version(before: Version, shop: Shop) -> tuple[Version, Difference]:
    catalogue = shop.catalogue()
    contents = contents_of(catalogue)
    found = difference(before.base_contents, before.fresh_contents, contents)
    true = shop.vectors(catalogue.item_ids[found.fresh])
    carried = found.carried >= 0
    np.testing.assert_array_equal(before.fresh[found.carried[carried]], true[carried])
    index = SegmentedIndex(before.base, true, found.removed, K)
    rows = catalogue.placed(found.order)
    return Version(before.base, before.base_contents, contents.take(found.fresh), true, rows, index), found


def check_lists(found: list[tuple[str, float]], expected: dict[str, float], k: int, *, atol: float = 1e-5) -> None:
    """No item lost, doubled or unknown: the best k of the expected scores, ties in any order."""
    ids, scores = [item for item, _ in found], np.array([score for _, score in found])
    best = np.sort(np.array(list(expected.values())))[::-1][:k]
    assert len(ids) == len(set(ids)) == len(best)
    assert set(ids) <= set(expected)
    np.testing.assert_allclose(scores, best, atol=atol)
    np.testing.assert_allclose([expected[item] for item in ids], best, atol=atol)


def named(rows: ItemRows, found: Any) -> Iterator[list[tuple[str, float]]]:
    for of_query, scores in zip(found.rows.numpy(), found.scores.numpy(), strict=True):
        places = of_query >= 0
        assert (np.diff(places.astype(int)) <= 0).all()
        yield list(zip(rows.item_ids[of_query[places]].tolist(), scores[places].tolist(), strict=True))


@pytest.mark.parametrize("seed", range(2))
def test_version_after_version_answers_as_a_rebuild(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    shop = Shop(rng)
    shop.update(150)
    version = first_version(shop, "exact")
    heads = unit(rng.normal(size=(6, 2, DIMENSION)))
    queries = tf.constant(["red shoe", "milk", "sofa lamp case", "unknown"])
    returned = carried = 0
    for number in range(25):
        shop.update(int(rng.integers(1, 40)))
        previous, (version, found) = version, next_version(version, shop)
        carried += int(np.count_nonzero(found.carried >= 0))
        returned += len(np.setdiff1d(previous.rows.removed, version.rows.removed))
        rows = version.rows
        assert sorted(rows.item_ids[rows.live_rows]) == sorted(shop.items)
        filters = Filters(rows.table, ["brand"], [])
        dense = DenseSearcher(version.index, lambda _: None, filters)
        vectors = {item: shop.items[item].vector() for item in shop.items}
        truth = [{item: float((head @ vector).max()) for item, vector in vectors.items()} for head in heads]
        for mine, theirs in zip(named(rows, dense.search_heads(tf.constant(heads))), truth, strict=True):
            check_lists(mine, theirs, K)
        wanted = filters.requested(ACME, len(heads))
        for mine, theirs in zip(
            named(rows, dense.search_heads_matching(tf.constant(heads), wanted)), truth, strict=True
        ):
            check_lists(mine, {item: score for item, score in theirs.items() if shop.items[item].brand == 0}, K)

        folder = tmp_path / str(number)
        anew = shop.catalogue()
        lists = []
        for each, place in ((rows, folder / "segments"), (anew, folder / "rebuilt")):
            place.mkdir(parents=True)
            postings = build_lexical(each, ("title",), LexicalConfig(), place)
            by_brand = Filters(each.table, ["brand"], [])
            searcher = LexicalSearcher(postings, place / TERMS_FILE, by_brand, k=dense.k)
            terms, wanted = searcher.terms(queries), by_brand.requested(ACME, len(queries))
            matching = searcher.search_terms_matching(terms, wanted)
            lists.append([*named(each, searcher.search_terms(terms)), *named(each, matching)])
        assert (folder / "segments" / TERMS_FILE).read_bytes() == (folder / "rebuilt" / TERMS_FILE).read_bytes()
        for mine, theirs in zip(*lists, strict=True):
            assert [score for _, score in mine] == [score for _, score in theirs]  # to the last bit
            above = [item for item, score in theirs if score > theirs[-1][1]]
            assert set(above) <= {item for item, _ in mine} <= set(shop.items)
    assert returned > 0
    assert carried > 0


@pytest.mark.parametrize("regime", REGIMES)
def test_tombstones_around_a_query_cost_no_place(regime: str) -> None:
    """More tombstones than any over-fetch, all of them nearer than the first item that is left."""
    base, fresh = clustered_vectors(4000, DIMENSION, seed=1), clustered_vectors(300, DIMENSION, seed=2)
    queries = clustered_vectors(5, DIMENSION, seed=3)
    removed = np.argsort(-(base @ queries[0]))[:3700]
    index = SegmentedIndex(built(base, regime), fresh, removed, K)
    both, live = np.concatenate([base, fresh]), np.setdiff1d(np.arange(4300), removed)
    for count in (1, K, 200, len(live), len(live) + 50):
        rows, scores = (tensor.numpy() for tensor in index.search_best(tf.constant(queries), tf.constant(count)))
        assert rows.shape == scores.shape == (5, count)
        filled = min(count, len(live))
        for query, found in zip(queries, rows, strict=True):
            assert (found[:filled] >= 0).all()
            assert (found[filled:] == -1).all()
            assert len(np.unique(found[:filled])) == filled
            assert np.isin(found[:filled], live).all()
            expected = live[exact_search(both[live], query[np.newaxis, np.newaxis], filled)[0][0]]
            assert len(np.intersect1d(found, expected)) >= (1.0 if regime == "exact" else 0.8) * filled


@pytest.mark.parametrize("regime", REGIMES)
def test_saved_and_loaded_it_answers_the_same_and_is_the_base_of_another(regime: str, tmp_path: Path) -> None:
    vectors, fresh = clustered_vectors(3000, DIMENSION, seed=1), clustered_vectors(40, DIMENSION, seed=2)
    base, removed = built(vectors, regime), np.arange(0, 3000, 50)
    index = SegmentedIndex(base, fresh, removed, K)
    queries = tf.constant(clustered_vectors(20, DIMENSION, seed=3))

    @tf.function(input_signature=[tf.TensorSpec([None, DIMENSION])], autograph=False)
    def search(batch: tf.Tensor) -> Any:
        return index.search_best(batch, K)

    module = tf.Module()
    module.index, module.search = index, search  # type: ignore[attr-defined]
    tf.saved_model.save(module, str(tmp_path), options=SCANN)
    loaded = tf.saved_model.load(str(tmp_path))
    before = [tensor.numpy() for tensor in search(queries)]
    for _ in range(2):
        for mine, theirs in zip(loaded.search(queries), before, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        loaded.index.release()

    checkpoint = str(tmp_path / "variables/variables")
    of_base, of_fresh = state_keys(checkpoint)
    np.testing.assert_array_equal(stored_vectors(checkpoint, of_fresh), fresh)
    again = Index.restored(checkpoint, of_base, index.describe()["segments"]["base"], name=BASE)
    assert again.describe() == base.describe()
    read = np.empty_like(vectors)
    again.read_vectors(np.arange(3000), read)
    np.testing.assert_allclose(read, vectors, atol=0.01 if base.precision == "int8" else 0.0, rtol=0)
    for mine, theirs in zip(again.search(queries), base.search(queries), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_scores_of_rows_of_both_segments() -> None:
    base, fresh = clustered_vectors(100, DIMENSION, seed=1), clustered_vectors(20, DIMENSION, seed=2)
    heads = clustered_vectors(6, DIMENSION, seed=3).reshape(3, 2, DIMENSION)
    rows = np.array([[0, 99, 100, 119], [5, 105, 5, 101], [119, 0, 50, 99]], np.int32)
    both = np.concatenate([base, fresh])
    for index in (SegmentedIndex(built(base), fresh, np.array([7]), K), built(both)):
        found = index.scores_of(tf.constant(heads), tf.constant(rows))
        np.testing.assert_allclose(found, np.einsum("qmd,qnd->qmn", heads, both[rows]), atol=1e-5)


def test_equal_scores_are_ordered_by_row() -> None:
    same = np.full((40, 4), 0.5, np.float32)  # inner products without a rounding error
    index = SegmentedIndex(built(same[:25]), same[25:], np.array([3, 4]), 40)
    rows, _ = index.search_best(tf.constant(same[:1]), 38)
    assert rows[0].numpy().tolist() == [row for row in range(40) if row not in (3, 4)]


def test_an_index_without_anything_to_find_is_refused() -> None:
    base, none = built(clustered_vectors(5, DIMENSION, seed=1)), np.empty((0, DIMENSION), np.float32)
    with pytest.raises(ValueError, match="all rows of the base segment are tombstones"):
        SegmentedIndex(base, none, np.arange(5), K)
    with pytest.raises(ValueError, match=r"tombstones 2\.\.5; expected rows of a base segment of 5"):
        SegmentedIndex(base, none, np.array([2, 5]), K)


@pytest.mark.slow
@pytest.mark.parametrize("regime", ["exact", "tree"])
def test_a_million_updates_in_a_hundred_versions(regime: str) -> None:
    """Rows of a table of vectors that are added, changed, removed and added again; a fifth of them is merged."""
    rng = np.random.default_rng(11)
    vectors = clustered_vectors(60_000, DIMENSION, seed=1)  # by item; what an item has now
    original = vectors.copy()
    alive = rng.random(len(vectors)) < 0.6

    def contents(items: np.ndarray, of: np.ndarray) -> RowContents:
        return RowContents(pa.array(items), of[items].view(np.uint64)[:, 0].copy())

    def rebuilt(items: np.ndarray) -> tuple[Index, RowContents]:
        return built(vectors[items], regime), contents(items, vectors)

    items = np.flatnonzero(alive)
    base, base_contents = rebuilt(items)
    fresh, fresh_contents = np.empty((0, DIMENSION), np.float32), base_contents.slice(0, 0)
    updates = merges = 0
    for number in range(100):
        chosen = rng.integers(len(vectors), size=10_000)
        some = rng.choice(chosen, 700, replace=False)
        vectors[some] = clustered_vectors(len(some), DIMENSION, seed=100 + number)
        back = rng.choice(chosen, 300, replace=False)
        vectors[back] = original[back]
        alive[chosen] = rng.random(len(chosen)) < 0.6
        updates += len(chosen)
        items = rng.permutation(np.flatnonzero(alive))
        now = contents(items, vectors)
        found = difference(base_contents, fresh_contents, now)
        row_items = np.where(found.order >= 0, items[found.order], -1)
        assert sorted(row_items[row_items >= 0]) == sorted(items)
        carried = found.carried >= 0
        np.testing.assert_array_equal(fresh[found.carried[carried]], vectors[items[found.fresh[carried]]])
        fresh, fresh_contents = vectors[items[found.fresh]], now.take(found.fresh)
        index: Any = SegmentedIndex(base, fresh, found.removed, K)
        queries = clustered_vectors(10, DIMENSION, seed=1000 + number)
        rows, scores = (tensor.numpy() for tensor in index.search_best(tf.constant(queries), K))
        assert (rows >= 0).all()
        truth, best = exact_search(vectors[items], queries[:, np.newaxis], K)
        same = 0
        for place, query in enumerate(queries):
            mine = row_items[rows[place]]
            assert len(np.unique(mine)) == K
            assert alive[mine].all()
            np.testing.assert_allclose(vectors[mine] @ query, scores[place], atol=1e-5)
            same += int(np.count_nonzero(vectors[mine] @ query >= best[place, -1] - 1e-5))
            if regime == "exact":
                np.testing.assert_allclose(scores[place], best[place], atol=1e-5)
        assert same >= 0.9 * truth.size
        if len(found.removed) > 0.5 * len(base_contents):
            base, base_contents = rebuilt(items)
            fresh, fresh_contents = fresh[:0], base_contents.slice(0, 0)
            merges += 1
    assert updates == 1_000_000
    assert merges > 0
