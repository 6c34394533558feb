"""Searches of the page against a real server of a small real shop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from page_shop import CONTROL, HOSTILE, ITEMS, LARGE, NAME, UNTITLED, K, serving

from dpsr.config import Config
from dpsr.data.dataset.tables import Dataset
from dpsr.data.judgements.records import Book, Column, Judgement
from dpsr.data.judgements.store import JudgementStore
from dpsr.page.contract import Range, SearchAnswer, SearchRequest, User
from dpsr.page.errors import PageError
from dpsr.page.search.searcher import Searcher
from dpsr.page.search.users import LONGEST_HISTORY
from dpsr.serving.client import PredictClient

QUERY = "phone for grandpa"
AS_SERVED = Column()
DENSE, LEXICAL, HYBRID = (Column.model_validate({"mode": mode}) for mode in ("dense", "lexical", "hybrid"))


@pytest.fixture(scope="module")
def config(shop_config: Config) -> Config:
    return shop_config


@pytest.fixture(scope="module")
def target(page_shop: Path) -> Iterator[str]:
    with serving(page_shop) as address:
        yield address


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JudgementStore]:
    store = JudgementStore(tmp_path_factory.mktemp("judgements") / "judgements.sqlite")
    yield store
    store.close()


@pytest.fixture(scope="module")
def searcher(config: Config, target: str, store: JudgementStore) -> Iterator[Searcher]:
    searcher = Searcher(config, target, store)
    yield searcher
    searcher.close()


@pytest.fixture(scope="module")
def dataset(config: Config) -> Dataset:
    return Dataset.load(config.dataset_dir)


def found(searcher: Searcher, column: Column = AS_SERVED, count: int = K, **more: object) -> list[str]:
    """Item ids of one column, which has to answer."""
    (result,) = searcher.search(
        SearchRequest.model_validate({"query": QUERY, "columns": (column,), "count": count, **more})
    ).results
    assert result.error is None
    return [each.item_id for each in result.items]


def predicted(
    target: str, signature: str = "serving_default", version: int | None = None, **inputs: object
) -> list[str]:
    """The answer of the server to a client that knows nothing of the page."""
    with PredictClient(target) as client:
        answer = client.predict(NAME, {"query": [QUERY], **inputs}, signature=signature, version=version)
    return [item.decode() for item in answer["item_id"][0] if item]


def lexical_scores(searcher: Searcher) -> dict[str, float]:
    """By item id, best first; items of equal scores are in any order in other lists."""
    (listed,) = searcher.lists([QUERY], LEXICAL, K)
    assert listed is not None
    return {each.item_id: each.score for each in listed}


def best_of(scores: dict[str, float]) -> list[float]:
    """The ten best."""
    return list(scores.values())[:10]


# ----------------------------------------------------------------------------------------- columns


def test_a_column_is_what_the_server_answers(searcher: Searcher, target: str) -> None:
    assert found(searcher) == predicted(target)
    for column in (DENSE, LEXICAL, HYBRID):
        assert found(searcher, column) == predicted(target, mode=[column.mode])
    assert found(searcher, Column(version=1)) == predicted(target, version=1) != predicted(target, version=2)
    assert found(searcher, Column(label="stable")) == predicted(target, version=1)
    assert found(searcher, count=7) == predicted(target)[:7]


def test_a_column_tells_version_and_sources(searcher: Searcher) -> None:
    columns = (DENSE, LEXICAL, Column(label="stable"))
    results = searcher.search(SearchRequest(query=QUERY, columns=columns)).results
    assert [result.version for result in results] == [2, 2, 1]
    assert [result.title for result in results] == ["dense", "lexical", "stable"]
    assert {each.sources for each in results[0].items} == {("dense",)}
    assert {each.sources for each in results[1].items} == {("lexical",)}
    assert all(each.head is None for each in results[1].items)
    assert all(result.milliseconds > 0.0 for result in results)
    assert [searcher.version(column) for column in columns] == [2, 2, 1]
    assert searcher.version(Column(kind="baseline", baseline="bm25")) is None


def test_heads_share_out_the_dense_list(searcher: Searcher) -> None:
    lists = [found(searcher, Column(mode="dense", head=head)) for head in range(2)]
    assert all(lists)
    assert sorted(lists[0] + lists[1]) == sorted(found(searcher, DENSE))


def test_the_servables_weight_gives_the_servables_list(searcher: Searcher) -> None:
    """dense_weight = 1 is a lexical weight of a half."""
    half = found(searcher, Column(mode="hybrid", lexical_weight=0.5))
    assert half == found(searcher, HYBRID)
    assert half not in (found(searcher, DENSE), found(searcher, LEXICAL))
    assert found(searcher, Column(lexical_weight=0.0), count=20) == found(searcher, DENSE, count=20)
    by_words = lexical_scores(searcher)
    assert [by_words[item] for item in found(searcher, Column(lexical_weight=1.0), count=10)] == best_of(by_words)


def test_an_error_of_a_column_leaves_the_others(searcher: Searcher) -> None:
    columns = (Column(version=9), Column(), Column(model="nobody"))
    results = searcher.search(SearchRequest(query=QUERY, columns=columns)).results
    assert "9" in (results[0].error or "")
    assert not results[0].items
    assert results[1].error is None
    assert results[1].items
    assert "nobody" in (results[2].error or "")


def test_no_server_is_an_error_that_says_what_to_run(config: Config) -> None:
    searcher = Searcher(config, "127.0.0.1:9", None)
    try:
        (result,) = searcher.search(SearchRequest(query=QUERY)).results
        assert "`dpsr serve`" in (result.error or "")
        with pytest.raises(PageError, match=r"127\.0\.0\.1:9"):
            searcher.lists([QUERY], Column(), 5)
    finally:
        searcher.close()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (Column(kind="baseline"), "no name"),
        (Column(kind="baseline", baseline="bm25", version=1), "no version"),
        (Column(baseline="bm25"), "kind server"),
        (Column(mode="dense", lexical_weight=0.5), "hybrid"),
    ],
)
def test_members_of_a_column_go_together(searcher: Searcher, column: Column, message: str) -> None:
    with pytest.raises(PageError, match=message):
        searcher.search(SearchRequest(query=QUERY, columns=(column,)))


def test_many_queries_have_the_lists_of_single_ones(searcher: Searcher) -> None:
    queries = [f"{QUERY} {number}" for number in range(150)] + [QUERY]
    lists = searcher.lists(queries, Column(), 5)
    assert len(lists) == len(queries)
    assert [each.item_id for each in lists[-1]] == found(searcher, count=5)
    fused = Column(lexical_weight=0.3)
    assert [each.item_id for each in searcher.lists([QUERY], fused, 9)[0]] == found(searcher, fused, count=9)
    assert searcher.lists([], Column(), 5) == []


# ----------------------------------------------------------------------------------------- filters, facets


def test_filters_are_those_of_the_server(searcher: Searcher, target: str) -> None:
    brand = searcher.items(found(searcher, count=1)).popitem()[1].fields["brand"]
    bounds = {"filter_min_price": [5.0], "filter_max_price": [200.0], "filter_brand": [brand]}
    filters = {"brand": brand, "price": Range(least=5, most=200)}
    expected = predicted(target, "filtered", **bounds)
    assert expected
    assert found(searcher, filters=filters) == expected
    assert {item.fields["brand"] for item in searcher.items(expected).values()} == {brand}
    assert found(searcher, filters={"price": Range(most=1)}) == predicted(target, "filtered", filter_max_price=[1.0])
    with pytest.raises(PageError, match="least <= most"):
        found(searcher, filters={"price": Range(least=2, most=1)})
    (result,) = searcher.search(SearchRequest(query=QUERY, filters={"colour": "red"})).results
    assert "colour" in (result.error or "")
    assert "brand" in (result.error or "")


def test_facets_count_the_items_of_the_first_column(searcher: Searcher) -> None:
    answer = searcher.search(SearchRequest(query=QUERY, columns=(DENSE, LEXICAL), count=60))
    ids = [each.item_id for each in answer.results[0].items]
    brands = [answer.items[item].fields["brand"] for item in ids]
    counts = {facet.value: facet.count for facet in answer.facets["brand"]}
    assert counts == {brand: brands.count(brand) for brand in list(counts)}
    assert [facet.count for facet in answer.facets["brand"]] == sorted(counts.values(), reverse=True)
    assert sum(counts.values()) == len(ids) or len(counts) == 20
    assert answer.facets.keys() == {"brand", "category"}


# ----------------------------------------------------------------------------------------- users


def test_a_user_of_the_dataset_is_its_profile_and_history(searcher: Searcher, target: str, dataset: Dataset) -> None:
    user = searcher.shop().users[0]
    row = dataset.user_ids().to_pylist().index(user)
    assert len(dataset.history[row]) == np.diff(dataset.history.row_splits).max()
    profile = dataset.user_table().to_pylist()[row]
    history = dataset.item_ids[dataset.history[row]]
    inputs = {column: [profile[column] or ""] for column in dataset.schema.profile}
    expected = predicted(target, "personalized", history=np.array([history], object), **inputs)
    assert found(searcher, user=User(user_id=user)) == expected != found(searcher)
    typed = User(
        profile={column: profile[column] or "" for column in inputs}, history=tuple(history[-LONGEST_HISTORY:])
    )
    assert found(searcher, user=typed) == expected


def test_ranks_without_the_user_stand_beside(searcher: Searcher) -> None:
    anonymous = found(searcher)
    request = SearchRequest(
        query=QUERY, count=K, columns=(Column(), DENSE), user=User(user_id=searcher.shop().users[0])
    )
    personal, _ = searcher.search(request).results
    places = {item: rank for rank, item in enumerate(anonymous, start=1)}
    assert [each.anonymous_rank for each in personal.items] == [places.get(each.item_id) for each in personal.items]
    assert [each.anonymous_rank for each in personal.items] != list(range(1, K + 1))
    assert all(each.anonymous_rank is None for each in searcher.search(SearchRequest(query=QUERY)).results[0].items)


def test_unknown_users_and_columns_are_named(searcher: Searcher) -> None:
    with pytest.raises(PageError, match="nobody"):
        found(searcher, user=User(user_id="nobody"))
    with pytest.raises(PageError, match=r"shoe_size.*gender"):
        found(searcher, user=User(profile={"shoe_size": "42"}))


# ----------------------------------------------------------------------------------------- baselines


def baseline(name: str) -> Column:
    return Column(kind="baseline", baseline=name)


def test_baselines_answer_as_in_an_evaluation(searcher: Searcher, dataset: Dataset) -> None:
    (popular,) = searcher.lists([QUERY], baseline("popularity"), 10)
    clicks = dataset.clicks_per_item("train")
    rows = searcher.catalogue.rows_of([each.item_id for each in popular])
    assert clicks[rows].tolist() == np.sort(clicks)[::-1][:10].tolist()
    by_words = lexical_scores(searcher)
    assert [by_words[each.item_id] for each in searcher.lists([QUERY], baseline("bm25"), 10)[0]] == best_of(by_words)
    answer = searcher.search(SearchRequest(query=QUERY, columns=(LEXICAL, baseline("bm25")), user=User()))
    assert answer.results[1].title == "bm25"
    assert answer.results[1].version is None
    assert answer.agreement[0].overlap_10 > 0.5


def test_filters_hold_for_baselines(searcher: Searcher) -> None:
    searcher.lists([QUERY], baseline("popularity"), 1)
    brand = searcher.shop() and searcher.items(found(searcher, count=1)).popitem()[1].fields["brand"]
    ids = found(searcher, baseline("popularity"), filters={"brand": brand, "price": Range(least=0.0)})
    everything = searcher.items(f"I{number:07d}" for number in range(ITEMS))
    assert sorted(ids) == sorted(item for item, card in everything.items() if card.fields["brand"] == brand)


def test_baselines_that_cannot_be_made_say_why(searcher: Searcher) -> None:
    for name, message in (("dssm", "dpsr compare"), ("arc-i", "dpsr compare"), ("dpsr", "model"), ("bm26", "bm25")):
        with pytest.raises(PageError, match=message):
            searcher.lists([QUERY], baseline(name), 10)
        (result,) = searcher.search(SearchRequest(query=QUERY, columns=(baseline(name),))).results
        assert message in (result.error or "")


# ----------------------------------------------------------------------------------------- items, shop, grades


def test_cards_show_the_catalogue(searcher: Searcher, config: Config) -> None:
    table = pq.read_table(config.data.items.path).to_pylist()
    items = searcher.items([row["item_id"] for row in table])
    for row in table:
        item = items[row["item_id"]]
        if row["item_id"] not in HOSTILE:
            assert (item.title, item.image) == (row["title"], row["image"])
            assert item.fields["department"] == row["department"]
            assert float(item.fields["price"]) == row["price"]


def test_hostile_texts_are_cut_and_other_addresses_dropped(searcher: Searcher) -> None:
    items = searcher.items([*HOSTILE, "unknown", "é" * 9])
    assert items[CONTROL].title == HOSTILE[CONTROL]
    assert items[LARGE].title == HOSTILE[LARGE][:1000]
    assert items[UNTITLED].title == UNTITLED
    assert {items[item].image for item in HOSTILE} == {None}
    assert items["unknown"].title == "unknown"
    assert items["unknown"].fields == {}


def test_the_shop_names_what_can_be_compared(searcher: Searcher, target: str, dataset: Dataset) -> None:
    shop = searcher.shop()
    assert (shop.name, shop.target, shop.items) == (NAME, target, ITEMS + len(HOSTILE))
    assert [(each.column, each.kind) for each in shop.filters] == [
        ("brand", "category"),
        ("category", "category"),
        ("price", "number"),
    ]
    assert shop.column_titles == (
        *("as served", "dense", "lexical", "hybrid", "dense, head 0", "dense, head 1", "version 2", "version 1"),
        *("stable", "bm25", "popularity", "bm25>popularity@50", "dssm"),
    )
    assert len(set(shop.queries)) == len(shop.queries) > 10
    records, texts = dataset.interactions("train"), dataset.query_texts().to_pylist()
    assert shop.queries[0] == texts[int(np.bincount(records["query"]).argmax())]
    assert shop.profile == tuple(dataset.schema.profile)


def test_grades_and_figures_stand_beside_the_items(searcher: Searcher, store: JudgementStore) -> None:
    first, second, *_ = found(searcher)
    store.add_book(Book(name="b"))
    for judge, item, grade in (("ann", first, 3), ("ben", first, 0), ("ben", second, 1)):
        store.judge(Judgement(book="b", judge=judge, query=QUERY, item_id=item, grade=grade))

    def graded(judge: str | None) -> SearchAnswer:
        return searcher.search(SearchRequest(query=QUERY), judge)

    assert [each.grade for each in graded(None).results[0].items[:3]] == [2, 1, None]
    assert [each.grade for each in graded("ann").results[0].items[:3]] == [3, 1, None]
    assert graded("ben").results[0].figures.keys() >= {"ndcg@10", "precision@10", "err@10", "judged@10"}
    assert searcher.search(SearchRequest(query="another")).results[0].figures == {}


def test_files_are_made_once_and_again_for_another_dataset(config: Config, target: str, searcher: Searcher) -> None:
    file = Path(config.work_dir) / "page" / "catalogue" / "items.arrow"
    before = file.stat().st_mtime_ns
    Searcher(config, target, None).close()
    assert file.stat().st_mtime_ns == before
    fewer = config.model_copy(update={"page": config.page.model_copy(update={"fields": ["brand"]})})
    other = Searcher(fewer, target, None)
    assert other.items(["I0000001"])["I0000001"].fields.keys() == {"brand"}
    assert searcher.items(["I0000001"])["I0000001"].fields.keys() == {"brand", "category", "price", "department"}
    other.close()
