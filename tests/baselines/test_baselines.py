"""Popularity, BM25, click memory and analyzers against plain Python."""

import logging
import math
from collections import Counter
from functools import partial

import numpy as np
import pytest

from dpsr.baselines import exhaustive
from dpsr.baselines.analyzers import light_stem, stemmed_words, with_bigrams
from dpsr.baselines.bm25 import BM25Retriever
from dpsr.baselines.examples import QueryExamples, make_examples
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.baselines.hybrids import BM25PopularityRetriever
from dpsr.baselines.memory import ClickMemoryRetriever
from dpsr.baselines.popularity import PopularityRetriever
from dpsr.baselines.tuning import POPULARITY_WEIGHTS, choose_weight
from dpsr.data.dataset.schema import CLICK, INTERACTION, PURCHASE, SKIP
from dpsr.tokenizer_cc import VocabularyBuilder

TITLES = ["red shoe", "red shoe red", "blue shoe", "green hat", "hat hat hat", "", "red shoe"]


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
            score += idf * tf / (tf + k1 * (1 - b + b * len(document) / average))
        scores.append(score)
    return scores


@pytest.mark.parametrize("query", ["red", "red shoe", "hat", "blue red hat", "shoe shoe", "unknown", "", "unknown hat"])
def test_bm25_equals_its_formula(query: str) -> None:
    bm25 = BM25Retriever(TITLES, str.split)
    expected = bm25_oracle(query.split(), [title.split() for title in TITLES])
    assert bm25.score_all(queries(query))[0].tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("word", "stem"),
    [("shoes", "shoe"), ("games", "game"), ("boss", "boss"), ("xbox", "xbox"), ("bus", "bus"), ("gas", "gas")],
)
def test_light_stem_removes_a_plural_s(word: str, stem: str) -> None:
    assert light_stem(word) == stem


def test_bm25_terms_are_words_with_letters_split_from_digits_and_plurals_removed() -> None:
    builder = VocabularyBuilder(max_vocabulary=100, min_count=1, oov_buckets=4, bigrams=True, trigrams=True)
    builder.add(["red shoe"])
    words = stemmed_words(builder.build())
    assert words("4ft XBOX360 Games, 1/2 inch; glass") == ["4", "ft", "xbox", "360", "game", "1/2", "inch", "glass"]
    assert words("激安スマホ") == list("激安スマホ")
    assert words("?!") == []


def test_popularity_ranks_by_clicks_whatever_the_query() -> None:
    items, scores = PopularityRetriever(np.array([0, 1, 2, 0])).retrieve(queries("a", "b"), 2)
    assert items.tolist() == [[2, 1], [2, 1]]
    assert scores.tolist() == [[2, 1], [2, 1]]


def test_popularity_orders_items_of_equal_bm25() -> None:
    bm25 = BM25Retriever(TITLES, str.split)
    both = BM25PopularityRetriever(bm25, np.array([1, 50, 0, 9, 0, 0, 2]), 0.01)
    assert both.retrieve(queries("red shoe"), 3)[0].tolist() == [[1, 6, 0]]
    plain = bm25.score_all(queries("red shoe"))
    assert plain[0, 0] == plain[0, 6]


def test_the_weight_of_popularity_is_the_one_that_finds_the_clicks() -> None:
    bm25 = BM25Retriever(TITLES, str.split)
    counts = np.array([0, 0, 0, 0, 0, 0, 100])
    popular, textual = queries("red shoe"), queries("hat")
    popular.records["item"], textual.records["item"] = 6, 4
    mix = partial(BM25PopularityRetriever, bm25)
    assert choose_weight(partial(mix, counts), POPULARITY_WEIGHTS, popular) > 0
    assert choose_weight(partial(mix, np.array([0, 0, 0, 0, 0, 0, 10**6])), POPULARITY_WEIGHTS, textual) == 0


def test_bigrams_are_terms_too() -> None:
    terms = with_bigrams(str.split)
    assert terms("red shoe red") == ["red", "shoe", "red", "red shoe", "shoe red"]
    assert terms("") == []
    found = BM25Retriever(["shoe red", "red shoe"], terms).scores(queries("red shoe"))[0]
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
    bm25 = BM25Retriever(TITLES, str.split)
    counts = np.array([3, 0, 1, 4, 4, 0, 3])
    both = BM25PopularityRetriever(bm25, counts, 0.3)
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
    assert (scores == retriever.score(examples, items)).all()
    assert (np.diff(scores, axis=1) <= 0).all()


def test_bm25_scores_nothing_in_a_catalogue_without_terms() -> None:
    bm25 = BM25Retriever(["", "?!"], lambda text: [word for word in text.split() if word.isalpha()])
    assert bm25.score_all(queries("red", "")).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    items, scores = bm25.retrieve(queries("red"), 2)
    assert sorted(items[0].tolist()) == [0, 1]
    assert scores.tolist() == [[0.0, 0.0]]


def test_bm25_silences_the_log_of_its_library(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        BM25Retriever(["red phone", "blue phone"], str.split)
    assert not caplog.records
