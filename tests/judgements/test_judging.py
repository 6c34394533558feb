"""Figures, sampled books and snapshots: against formulas, and with a real server of a small real shop."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "page"))
from page_shop import HOSTILE, serving

from dpsr.config import Config, load_config
from dpsr.data.dataset.tables import Dataset
from dpsr.data.judgements.errors import MissingRecordError
from dpsr.data.judgements.records import Book, BookQuery, Column, Judgement
from dpsr.data.judgements.store import JudgementStore
from dpsr.evaluation.measures.rank_biased_overlap import rank_biased_overlap
from dpsr.page.contract import BookReport, Found, NewBook, NewSnapshot
from dpsr.page.errors import PageError
from dpsr.page.judging.figures import book_report, query_figures
from dpsr.page.judging.sampling import DEPTH, drawn_queries, sample_book
from dpsr.page.judging.snapshots import difference, list_difference, take_snapshot
from dpsr.page.search.searcher import Searcher

LONGEST = 4096
FIRST, SECOND = Column(version=1), Column(version=2)


def listed(*items: str) -> list[Found]:
    return [Found(item_id=item, score=-float(rank)) for rank, item in enumerate(items)]


def graded(**grades: int) -> dict[tuple[str, str], int]:
    return {("q", item): grade for item, grade in grades.items()}


class FixedLists:
    """The lists of a table, in place of a server."""

    def __init__(self, table: dict[str, list[str]]) -> None:
        self.table = table

    def lists(self, queries: Sequence[str], column: Column, count: int) -> list[list[Found]]:
        assert column == Column()
        return [listed(*self.table[query][:count]) for query in queries]

    def title(self, column: Column) -> str:
        return "table"

    def version(self, column: Column) -> int | None:
        return None


# ----------------------------------------------------------------------------------------- figures


def test_the_figures_of_a_query_are_their_formulas() -> None:
    figures = query_figures(listed("a", "x", "b", "c"), graded(a=1, b=3, c=0, d=2))
    gains, ideal = [1, 0, 3, 0], [3, 2, 1]
    dcg, best = (sum(gain / math.log2(rank + 2) for rank, gain in enumerate(each)) for each in (gains, ideal))
    assert figures == pytest.approx(
        {
            "ndcg@10": dcg / best,
            "precision@10": 1 / 10,
            "err@10": 1 / 8 + (7 / 8) * (7 / 8) / 3,
            "judged@10": 3 / 4,
        }
    )


def test_only_the_ten_best_count() -> None:
    others = [str(number) for number in range(10)]
    figures = query_figures(listed(*others, "a"), graded(a=3))
    assert figures == {"ndcg@10": 0.0, "precision@10": 0.0, "err@10": 0.0, "judged@10": 0.0}
    assert query_figures(listed(*others[:9], "a"), graded(a=3))["ndcg@10"] > 0


def test_a_query_without_judgements_has_no_figures() -> None:
    assert query_figures(listed("a"), {}) == {}


def test_no_order_of_bad_items_is_better() -> None:
    assert query_figures(listed("a"), graded(a=0)) == {"precision@10": 0.0, "err@10": 0.0, "judged@10": 1.0}


def test_an_empty_list_has_figures() -> None:
    assert query_figures([], graded(a=2)) == {"ndcg@10": 0.0, "precision@10": 0.0, "err@10": 0.0, "judged@10": 0.0}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JudgementStore]:
    opened = JudgementStore(tmp_path / "judgements.sqlite")
    yield opened
    opened.close()


def judge(store: JudgementStore, query: str, grades: dict[str, int], name: str = "ann") -> None:
    store.judge_many(
        [Judgement(book="b", judge=name, query=query, item_id=item, grade=grade) for item, grade in grades.items()]
    )


def report(store: JudgementStore, table: dict[str, list[str]]) -> BookReport:
    return book_report(store, FixedLists(table), store.book("b"), [Column()], 10)


def test_a_book_has_the_means_of_its_judged_queries(store: JudgementStore) -> None:
    store.add_book(Book(name="b", queries=tuple(BookQuery(query=query) for query in ("p", "q", "r", "not judged"))))
    store.add_book(Book(name="other"))
    judge(store, "p", {"a": 3, "b": 0})
    judge(store, "q", {"a": 0, "b": 2})
    judge(store, "r", {"c": 0})
    judge(store, "p", {"a": 3}, "bob")
    judge(store, "q", {"b": 3}, "bob")
    store.judge(Judgement(book="other", judge="ann", query="p", item_id="b", grade=3))
    table = {"p": ["b", "a"], "q": ["b"], "r": []}
    found = report(store, table)
    assert (found.pairs, found.judges) == (5, {"ann": 5, "bob": 2})
    assert found.alpha is not None
    (figures,) = found.figures
    assert (figures.title, figures.queries) == ("table", 3)
    grades = [store.grades(book="b", query=query) for query in table]
    each = [query_figures(listed(*items), grade) for items, grade in zip(table.values(), grades, strict=True)]
    assert set(figures.values) == {"ndcg@10", "precision@10", "err@10", "judged@10"}
    for measure, (mean, low, high) in figures.values.items():
        values = [value[measure] for value in each if measure in value]
        assert mean == pytest.approx(np.mean(values))
        assert min(values) - 1e-9 <= low <= mean <= high <= max(values) + 1e-9
    assert figures.values["precision@10"][1] < figures.values["precision@10"][2]


def test_the_interval_of_one_query_is_the_whole_range(store: JudgementStore) -> None:
    store.add_book(Book(name="b"))
    judge(store, "p", {"a": 3})
    (figures,) = report(store, {"p": ["a"]}).figures
    assert figures.values["ndcg@10"] == (1.0, 0.0, 1.0)


def test_a_book_without_judgements_asks_nothing(store: JudgementStore) -> None:
    store.add_book(Book(name="b", queries=(BookQuery(query="not in the table"),)))
    assert report(store, {}) == BookReport()


def test_more_queries_make_intervals_narrower(store: JudgementStore) -> None:
    store.add_book(Book(name="b"))
    rng = np.random.default_rng(5)
    table: dict[str, list[str]] = {}
    widths = []
    for size in (10, 100):
        for number in range(len(table), size):
            table[str(number)] = ["a"]
            judge(store, str(number), {"a": int(rng.integers(0, 4))})
        _, low, high = report(store, table).figures[0].values["err@10"]
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


# ----------------------------------------------------------------------------------------- sampled books


@pytest.fixture(scope="module")
def config(page_shop: Path) -> Config:
    return load_config(page_shop)


@pytest.fixture(scope="module")
def searcher(config: Config, page_shop: Path) -> Iterator[Searcher]:
    with serving(page_shop) as target:
        searcher = Searcher(config, target, None)
        yield searcher
        searcher.close()


@pytest.fixture(scope="module")
def clicks(config: Config) -> Counter[str]:
    dataset = Dataset.load(config.dataset_dir)
    texts = dataset.query_texts().to_pylist()
    return Counter(texts[row] for row in dataset.interactions("train")["query"].tolist())


def test_a_book_by_frequency_has_queries_of_the_log_with_their_clicks(
    config: Config, searcher: Searcher, clicks: Counter[str]
) -> None:
    new = NewBook(name="b", sample="frequency", count=20, seed=3)
    book = sample_book(new, searcher, config)
    assert book.name == "b"
    assert len({query.query for query in book.queries}) == 20
    assert [query.weight for query in book.queries] == [clicks[query.query] for query in book.queries]
    assert [query.weight for query in book.queries] == sorted((query.weight for query in book.queries), reverse=True)
    assert sample_book(new, searcher, config) == book
    assert sample_book(new.model_copy(update={"seed": 4}), searcher, config) != book


def test_queries_are_drawn_by_their_clicks(config: Config, clicks: Counter[str]) -> None:
    dataset = Dataset.load(config.dataset_dir)
    draws = 400
    drawn = Counter(drawn_queries(dataset, 1, seed=seed, longest=LONGEST)[0].query for seed in range(draws))
    frequent = [text for text, _ in clicks.most_common(len(clicks) // 10)]
    share = sum(clicks[text] for text in frequent) / clicks.total()
    found = sum(drawn[text] for text in frequent) / draws
    assert found == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / draws))


def test_a_large_book_has_every_clicked_query(config: Config, clicks: Counter[str]) -> None:
    drawn = drawn_queries(Dataset.load(config.dataset_dir), 100_000, seed=1, longest=LONGEST)
    assert {query.query: query.weight for query in drawn} == {
        text: count for text, count in clicks.items() if text.strip()
    }


def test_texts_that_the_server_refuses_are_not_drawn(config: Config, clicks: Counter[str]) -> None:
    drawn = drawn_queries(Dataset.load(config.dataset_dir), 100_000, seed=1, longest=12)
    assert {query.query for query in drawn} == {text for text in clicks if text.strip() and len(text.encode()) <= 12}
    assert 0 < len(drawn) < len(clicks)


def test_a_book_by_disagreement_has_the_queries_of_least_overlap(config: Config, searcher: Searcher) -> None:
    new = NewBook(name="b", sample="disagreement", count=5, columns=(FIRST, SECOND), seed=2)
    book = sample_book(new, searcher, config)
    pool = [query.query for query in drawn_queries(Dataset.load(config.dataset_dir), 50, seed=2, longest=LONGEST)]
    first, second = (
        [[each.item_id for each in found] for found in searcher.lists(pool, column, DEPTH)]
        for column in (FIRST, SECOND)
    )
    overlaps = dict(zip(pool, map(rank_biased_overlap, first, second), strict=True))
    taken = [overlaps[query.query] for query in book.queries]
    assert taken == sorted(overlaps.values())[:5]
    assert taken[0] < max(overlaps.values())


def test_a_book_by_disagreement_needs_two_columns(config: Config) -> None:
    with pytest.raises(PageError, match="compares two columns; found 1"):
        sample_book(NewBook(name="b", sample="disagreement", columns=(FIRST,)), FixedLists({}), config)


# ----------------------------------------------------------------------------------------- snapshots


def test_a_snapshot_keeps_lists_versions_and_settings(
    config: Config, searcher: Searcher, store: JudgementStore
) -> None:
    queries = ["phone for grandpa", *(title for title in HOSTILE.values() if len(title) < 4000)]
    assert len(queries) > 2
    store.add_book(Book(name="b", queries=tuple(BookQuery(query=query) for query in queries)))
    baseline = Column(kind="baseline", baseline="popularity")
    new = NewSnapshot(name="s", book="b", columns=(FIRST, SECOND, baseline), count=7)
    kept = take_snapshot(new, store, searcher, config)
    assert store.snapshots() == [kept]
    assert (kept.name, kept.book, kept.columns, kept.versions) == ("s", "b", new.columns, (1, 2, None))
    assert kept.settings["name"] == config.name
    assert kept.settings["index.k"] == str(config.index.k)
    lists = store.snapshot_lists(kept.id)
    assert list(lists) == queries
    for place, column in enumerate(new.columns):
        expected = searcher.lists(queries, column, 7)
        assert [each[place] for each in lists.values()] == [
            [(item.item_id, item.score) for item in found] for found in expected
        ]


def test_a_snapshot_of_nothing_is_an_error(config: Config, store: JudgementStore) -> None:
    store.add_book(Book(name="empty"))
    with pytest.raises(PageError, match="'empty' has no query"):
        take_snapshot(NewSnapshot(name="s", book="empty"), store, FixedLists({}), config)
    with pytest.raises(MissingRecordError, match="'none'"):
        take_snapshot(NewSnapshot(name="s", book="none"), store, FixedLists({}), config)


def test_two_snapshots_differ_where_their_lists_do(config: Config, searcher: Searcher, store: JudgementStore) -> None:
    queries = ["phone for grandpa", "red shoes"]
    store.add_book(Book(name="b", queries=tuple(BookQuery(query=query) for query in queries)))
    store.add_book(Book(name="c", queries=(BookQuery(query="red shoes"), BookQuery(query="other"))))
    first, again, second = (
        take_snapshot(NewSnapshot(name="s", book=book, columns=columns), store, searcher, config).id
        for book, columns in (("b", (FIRST, SECOND)), ("b", (FIRST, SECOND)), ("c", (SECOND,)))
    )
    same = difference(store, first, again)
    assert [(each.query, each.column) for each in same] == [(query, column) for query in queries for column in (0, 1)]
    assert all(each.overlap_10 == 1.0 and not each.entered and not each.left and not each.moved for each in same)
    (found,) = difference(store, first, second)
    assert (found.query, found.column) == ("red shoes", 0)
    old, new = ([item.item_id for item in searcher.lists(["red shoes"], column, 50)[0]] for column in (FIRST, SECOND))
    assert found == list_difference("red shoes", 0, old, new)
    assert found.overlap_10 < 1.0
    with pytest.raises(MissingRecordError):
        difference(store, first, 99)


def test_entered_left_and_moved_items_are_told() -> None:
    old = ["a", "b", *(f"same {number}" for number in range(3, 10)), "tenth", "eleventh", "twelfth", "thirteenth"]
    new = ["b", "a", *(f"same {number}" for number in range(3, 10)), "eleventh", "tenth", "thirteenth", "twelfth"]
    found = list_difference("q", 2, old, new)
    assert (found.query, found.column, found.overlap_10) == ("q", 2, 0.9)
    assert (found.entered, found.left) == (("eleventh",), ("tenth",))
    assert found.moved == {"b": (2, 1), "a": (1, 2), "eleventh": (11, 10), "tenth": (10, 11)}
    assert list_difference("q", 0, [], []).overlap_10 == 1.0
    assert list_difference("q", 0, [], ["a"]).entered == ("a",)
