"""The generated shop has the structure that docs/demo_shop.md promises."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dpsr.config import load_config
from dpsr.data.dataset.tables import Dataset
from dpsr.data.demo_shop.catalogue import LEAVES
from dpsr.data.demo_shop.queries import Intent, make_intents, misspell, query_texts
from dpsr.data.demo_shop.shop import SHOWCASE_QUERIES, SHOWCASE_TYPO, generate
from dpsr.data.demo_shop.titles import row_ids
from dpsr.data.prepare.job import prepare

SIZES = {"items": 600, "users": 200, "interactions": 8000}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shop")
    generate(directory, **SIZES, seed=3)
    return directory


@pytest.fixture(scope="module")
def titles(shop: Path) -> dict[str, str]:
    items = pq.read_table(shop / "items.parquet")
    return dict(zip(items["item_id"].to_pylist(), items["title"].to_pylist(), strict=True))


@pytest.fixture(scope="module")
def clicks(shop: Path) -> pa.Table:
    log = pq.read_table(shop / "interactions.parquet")
    return log.filter(pc.equal(log["event"], "click"))


def test_the_same_seed_gives_the_same_bytes(shop: Path, tmp_path: Path) -> None:
    generate(tmp_path / "again", **SIZES, seed=3)
    generate(tmp_path / "other", **SIZES, seed=4)
    for file in shop.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()
        assert file.read_bytes() != (tmp_path / "other" / file.name).read_bytes()


def test_sizes_are_those_asked_for(shop: Path, clicks: pa.Table) -> None:
    items, users = pq.read_table(shop / "items.parquet"), pq.read_table(shop / "users.parquet")
    assert (len(items), len(users)) == (600, 200)
    assert 8000 <= len(clicks) < 8010
    assert len(items["category"].unique()) == len(LEAVES) >= 33
    weeks = (pc.max(clicks["timestamp"]).as_py() - pc.min(clicks["timestamp"]).as_py()).days / 7
    assert 7 < weeks < 9


def test_the_example_configuration_prepares_it(shop: Path, tmp_path: Path) -> None:
    paths = [f"data.{name}.path={shop / name}.parquet" for name in ("items", "users", "interactions")]
    config = load_config(ROOT / "examples/demo_shop.toml", [f"work_dir={tmp_path}", *paths])
    dataset = Dataset.load(prepare(config, progress=False))
    assert all(not entry["rejected"] for entry in dataset.manifest["inputs"].values())
    assert dataset.manifest["counts"]["unknown_users"] == 0
    assert len(dataset.skips()) > 0


def test_clicks_fit_the_true_relevance(shop: Path, clicks: pa.Table) -> None:
    relevance = pq.read_table(shop / "relevance.parquet").to_pydict()
    grade = {
        (query, item): grade
        for query, item, grade in zip(relevance["query"], relevance["item_id"], relevance["grade"], strict=True)
    }
    judged = set(relevance["query"])
    pairs = zip(clicks["query"].to_pylist(), clicks["item_id"].to_pylist(), strict=True)
    found = np.array([grade.get(pair, 0) for pair in pairs if pair[0] in judged])
    assert len(found) > 500
    assert set(found) == {0, 1, 2, 3}
    assert (found == 3).mean() > 0.5
    assert found.mean() > 2


def test_synonyms_stand_in_no_title_but_their_clicks_agree(titles: dict[str, str], clicks: pa.Table) -> None:
    clicked = defaultdict(list)
    for query, item in zip(clicks["query"].to_pylist(), clicks["item_id"].to_pylist(), strict=True):
        clicked[query].append(titles[item].lower())
    phones = [text for query, texts in clicked.items() if "cellphone" in query or "handset" in query for text in texts]
    assert len(phones) > 30
    assert not any("cellphone" in title.lower() or "handset" in title.lower() for title in titles.values())
    assert np.mean(["phone" in text or "手机" in text for text in phones]) > 0.8


def test_apple_means_phones_to_some_and_fruit_to_others(titles: dict[str, str], clicks: pa.Table) -> None:
    found = clicks.filter(pc.equal(clicks["query"], "apple"))["item_id"].to_pylist()
    fruit = [("apples" in titles[item].lower() or "apple " in titles[item].lower()[5:]) for item in found]
    assert 0.1 < np.mean(fruit) < 0.9


def test_every_sense_of_a_query_is_clicked(shop: Path, clicks: pa.Table) -> None:
    items, senses = pq.read_table(shop / "items.parquet"), pq.read_table(shop / "senses.parquet")
    department = dict(zip(items["item_id"].to_pylist(), items["department"].to_pylist(), strict=True))
    meant = defaultdict(dict)
    for query, sense, share in zip(*senses.to_pydict().values(), strict=True):
        meant[query][sense] = share
    assert {"apple", "mouse", "pods"} <= meant.keys()
    assert all(len(found) >= 2 and min(found.values()) >= 0.1 for found in meant.values())
    clicked = {query: set() for query in ("apple", "mouse", "pods")}
    for query, item in zip(clicks["query"].to_pylist(), clicks["item_id"].to_pylist(), strict=True):
        if query in clicked:
            clicked[query].add(department[item])
    assert all(found >= meant[query].keys() for query, found in clicked.items())


def test_people_keep_to_their_sizes(shop: Path, titles: dict[str, str], clicks: pa.Table) -> None:
    worn = defaultdict(list)
    for user, item in zip(clicks["user_id"].to_pylist(), clicks["item_id"].to_pylist(), strict=True):
        size = next((size for size in titles[item].split() if size in ("S", "M", "L", "XL")), None)
        if user and size:
            worn[user].append(size)
    same = np.mean([first == second for sizes in worn.values() for first, second in pairwise(sizes)])
    sizes = np.array([size for each in worn.values() for size in each])
    chance = sum((sizes == size).mean() ** 2 for size in "SML") + (sizes == "XL").mean() ** 2
    assert len(sizes) > 300
    assert same > 1.1 * chance


def test_a_need_may_take_several_pages(shop: Path) -> None:
    log = pq.read_table(shop / "interactions.parquet").filter(pc.field("event") == "click").to_pydict()
    last: dict[str, tuple[str, set[str]]] = {}
    again = other = 0
    for user, query, item in zip(log["user_id"], log["query"], log["item_id"], strict=True):
        if user is None:
            continue
        query_before, items = last.get(user, ("", set()))
        if query != query_before:
            again += item in items
            other += item not in items
        last[user] = query, {item} | (items if query == query_before else set())
    assert again / (again + other) > 0.03  # of 600 items


def test_higher_positions_are_clicked_more(clicks: pa.Table) -> None:
    counts = np.bincount(clicks["position"].to_numpy(), minlength=11)[1:]
    assert counts[0] > counts[4] > counts[9] > 0


def test_purchase_power_shows_in_prices(shop: Path, clicks: pa.Table) -> None:
    items, users = pq.read_table(shop / "items.parquet"), pq.read_table(shop / "users.parquet")
    power = dict(zip(users["user_id"].to_pylist(), users["purchase_power"].to_pylist(), strict=True))
    rank = {}
    for category in items["category"].unique().to_pylist():
        same = items.filter(pc.equal(items["category"], category)).sort_by("price")["item_id"].to_pylist()
        rank |= {item: place / len(same) for place, item in enumerate(same)}
    ranks = defaultdict(list)
    for user, item in zip(clicks["user_id"].to_pylist(), clicks["item_id"].to_pylist(), strict=True):
        ranks[power.get(user)].append(rank[item])
    assert np.mean(ranks["low"]) + 0.1 < np.mean(ranks["high"])


def test_intents_survive_packing() -> None:
    random = np.random.default_rng(0)
    size = 5000
    leaf = random.integers(len(LEAVES), size=size)
    intents = make_intents(
        leaf,
        random.integers(90, size=size),
        random.integers(3, size=size),
        random.integers(2, size=size),
        random.integers(1, 100, size=size),
        random,
    )
    for found, expected in zip(Intent.of_codes(intents.codes()), intents, strict=True):
        np.testing.assert_array_equal(found, expected)
    texts = query_texts(np.unique(intents.codes())[:500])
    assert all(text and text == " ".join(text.split()) for text in texts)


def test_typos_are_one_slip_away() -> None:
    word = "headphones"
    for typo in range(1, 17):
        changed = misspell(f"red {word}", typo).removeprefix("red ")
        assert abs(len(changed) - len(word)) <= 1
        assert sum(a != b for a, b in zip(changed, word, strict=False)) > 0 or changed == word
        assert changed[0] == "h"
    assert misspell("手机 tv", 3) == "手机 tv"


def test_showcase_queries() -> None:
    assert len(SHOWCASE_QUERIES) == 5
    assert SHOWCASE_TYPO[0] in SHOWCASE_QUERIES


def test_a_log_may_be_sized_by_its_pages(tmp_path: Path) -> None:
    generate(tmp_path, items=100, users=20, sessions=3000, seed=1)
    log = pq.read_table(tmp_path / "interactions.parquet")
    clicks = log.filter(pc.equal(log["event"], "click"))
    assert 0.3 < len(clicks) / 3000 < 1.5
    assert log["timestamp"][-1].as_py() - log["timestamp"][0].as_py() > timedelta(weeks=7)
    with pytest.raises(ValueError, match="either interactions or sessions"):
        generate(tmp_path, items=100, users=20, seed=1)


def test_ids_have_as_many_digits_as_the_shop_needs() -> None:
    assert row_ids("I", np.array([0, 41, 9_999_999]), 10_000_000).to_pylist() == ["I0000000", "I0000041", "I9999999"]
    assert row_ids("U", np.array([7, 14_999_999]), 15_000_000).to_pylist() == ["U00000007", "U14999999"]


def test_too_few_items_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="items = 10: a demo shop has 47 categories"):
        generate(tmp_path, items=10, users=1, interactions=1, seed=1)
