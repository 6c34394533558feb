"""Popularity, BM25 and click memory against plain Python."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dpsr.baselines import exhaustive
from dpsr.baselines.bm25 import BM25Retriever
from dpsr.baselines.examples import QueryExamples, make_examples
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.baselines.memory import ClickMemoryRetriever
from dpsr.baselines.popularity import PopularityRetriever
from dpsr.config import LexicalConfig
from dpsr.data.dataset.schema import CLICK, INTERACTION, PURCHASE, SKIP
from dpsr.indexing.catalogue import ItemRows
from dpsr.indexing.lexical.build import ItemTerms
from dpsr.tokenizer_cc.terms import analyze

TITLES = ["red shoe", "red shoe red", "blue shoe", "green hat", "hat hat hat", "", "red shoe"]


def bm25_of(titles: list[str], *, clicks: np.ndarray | None = None, **lexical: Any) -> BM25Retriever:
    table = pa.table({"title": pa.array(titles, pa.string())})
    config = LexicalConfig(**lexical)
    items = ItemRows(np.arange(len(titles)), table)
    return BM25Retriever(ItemTerms.of(items, ("title",), bigrams=config.bigrams), config, clicks)


def queries(*texts: str) -> QueryExamples:
    return make_examples(np.array(texts, dtype=object), np.zeros(len(texts), dtype=INTERACTION), seed=1)


def log(*clicks: tuple[int, int, int]) -> np.ndarray:
    """Records of (query, item, event)."""
    records = np.zeros(len(clicks), dtype=INTERACTION)
    for record, (query, item, event) in zip(records, clicks, strict=True):
        record["query"], record["item"], record["event"] = query, item, event
    return records


def bm25_oracle(query: list[str], documents: list[list[str]], k1: float = 1.2, b: float = 0.75) -> list[float]:
    """Lucene's BM25 written out."""
    average = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for term in query:
            df = sum(term in other for other in documents)
            idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
            tf = document.count(term)
            if tf:
                score += idf * tf / (tf + k1 * (1 - b + b * len(document) / average))
        scores.append(score)
    return scores


@pytest.mark.parametrize(
    "query", ["red", "Red shoes", "hat", "blue red hat", "shoe shoe", "unknown", "", "unknown hat"]
)
@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.0, 0.0), (0.4, 1.0)])
def test_bm25_equals_its_formula(query: str, k1: float, b: float) -> None:
    bm25 = bm25_of(TITLES, k1=k1, b=b)
    expected = bm25_oracle(analyze(query), [analyze(title) for title in TITLES], k1, b)
    assert bm25.score_all(queries(query))[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_popularity_is_added_to_the_items_that_are_found() -> None:
    clicks = np.array([1, 50, 0, 9, 0, 7, 2])
    bm25, both = bm25_of(TITLES), bm25_of(TITLES, clicks=clicks, popularity=0.3)
    plain = bm25.score_all(queries("red shoe", "hat"))
    expected = np.where(plain > 0, plain + 0.3 * np.log1p(clicks), 0)
    np.testing.assert_allclose(both.score_all(queries("red shoe", "hat")), expected, rtol=1e-5)


def test_a_misspelt_word_is_corrected() -> None:
    titles = ["red shoe", "green lantern", "blue shoe"]
    assert bm25_of(titles).retrieve(queries("lantren"), 3)[0].tolist() == [[1, -1, -1]]


def test_popularity_ranks_by_clicks_whatever_the_query() -> None:
    items, scores = PopularityRetriever(np.array([0, 1, 2, 0])).retrieve(queries("a", "b"), 2)
    assert items.tolist() == [[2, 1], [2, 1]]
    assert scores.tolist() == [[2, 1], [2, 1]]


def test_popularity_orders_items_of_equal_bm25() -> None:
    both = bm25_of(TITLES, clicks=np.array([1, 50, 0, 9, 0, 0, 2]), popularity=0.01)
    assert both.retrieve(queries("red shoe"), 3)[0].tolist() == [[1, 6, 0]]
    plain = bm25_of(TITLES).score_all(queries("red shoe"))
    assert plain[0, 0] == plain[0, 6]


def test_bigrams_are_terms_too() -> None:
    titles = ["shoe red", "red shoe", "red shoe green"]  # a bigram of two titles or more
    without, found = (bm25_of(titles, bigrams=bigrams).scores(queries("red shoe"))[0] for bigrams in (False, True))
    assert without[0] == without[1]
    assert found[1] > found[0]


def test_memory_ranks_by_clicks_then_by_the_back_off() -> None:
    backoff = PopularityRetriever(np.array([9, 8, 7, 6, 5, 4]))
    texts = ["Halo", "halo ", "fable"]
    records = log((0, 3, CLICK), (1, 5, CLICK), (0, 5, PURCHASE), (1, 4, CLICK), (0, 1, SKIP), (2, 0, CLICK))
    memory = ClickMemoryRetriever(texts, [records[:2], records[2:]], backoff)
    # "halo" was followed by item 5 twice, by 3 and 4 once each (3 is the more popular); the skip of 1 is not a click.
    items, scores = memory.retrieve(queries("HALO", "unknown", "fable"), 6)
    assert items.tolist() == [[5, 3, 4, 0, 1, 2], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]]
    assert scores[1].tolist() == [9, 8, 7, 6, 5, 4]
    assert scores[2, 0] > 9
    assert scores[0, 2] > scores[0, 3] == 9


@pytest.mark.parametrize("seed", range(4))
def test_memory_equals_a_dictionary_of_counters(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpsr.data.dataset.pairs._LEAST_MERGED", 30)  # merged several times, and with a rest
    rng = np.random.default_rng(seed)
    num_items, num_queries = 40, 12
    popularity = rng.permutation(num_items)
    texts = [f"q{query // 2}" + " " * (query % 2) for query in range(num_queries)]  # pairs are the same query
    records = log(*((int(rng.integers(10)), int(rng.integers(num_items)), CLICK) for _ in range(200)))
    counters: dict[str, Counter] = {}
    for record in records:
        counters.setdefault(texts[record["query"]].strip(), Counter())[int(record["item"])] += 1
    blocks = np.array_split(records, 13)
    memory = ClickMemoryRetriever(texts, blocks, PopularityRetriever(popularity))
    items, _ = memory.retrieve(queries(*texts), num_items)
    for text, row in zip(texts, items.tolist(), strict=True):
        seen = counters.get(text.strip(), Counter())
        assert row == sorted(range(num_items), key=lambda item: (-seen[item], -popularity[item]))


def all_baselines() -> dict[str, ExhaustiveRetriever]:
    bm25 = bm25_of(TITLES)
    counts = np.array([3, 0, 1, 4, 4, 0, 3])
    both = bm25_of(TITLES, clicks=counts, popularity=0.3)
    memory = ClickMemoryRetriever(["hat", "red"], [log((0, 4, CLICK), (1, 2, CLICK), (1, 0, CLICK))], both)
    return {"popularity": PopularityRetriever(counts), "bm25": bm25, "both": both, "memory": memory}


@pytest.mark.parametrize("name", ["popularity", "bm25", "both", "memory"])
@pytest.mark.parametrize("scores_at_once", [1, 20, 1 << 24])
def test_retrieve_and_score_agree_for_any_batch_size(
    name: str, scores_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    retriever = all_baselines()[name]
    examples = queries("hat", "red shoe", "hat", "nothing", "red", "blue red")
    whole, _ = retriever.retrieve(examples, len(TITLES))
    monkeypatch.setattr(exhaustive, "_SCORES_AT_ONCE", scores_at_once)
    items, scores = retriever.retrieve(examples, 4)
    assert items.dtype == np.int32
    assert scores.dtype == np.float32
    assert (items == whole[:, :4]).all()
    found = items >= 0
    assert (scores == np.where(found, retriever.score(examples, np.maximum(items, 0)), -np.inf)).all()
    assert found.all() or name in ("bm25", "both")
    for row in scores:
        assert row.tolist() == sorted(row.tolist(), reverse=True)


def test_bm25_finds_nothing_in_a_catalogue_without_terms() -> None:
    bm25 = bm25_of(["", "?!"])
    assert bm25.score_all(queries("red", "")).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    items, scores = bm25.retrieve(queries("red"), 2)
    assert items.tolist() == [[-1, -1]]
    assert scores.tolist() == [[-np.inf, -np.inf]]
