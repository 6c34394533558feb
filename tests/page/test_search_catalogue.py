"""Catalogue, facets, filters and users of a small dataset whose ids are whole numbers; no server takes part."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsr.config import Config, parse_config
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.prepare.job import prepare
from dpsr.page.contract import Range, User
from dpsr.page.errors import PageError
from dpsr.page.search.catalogue import Catalogue
from dpsr.page.search.facets import MOST_VALUES, Facets
from dpsr.page.search.matching import matching
from dpsr.page.search.users import Users, personal_inputs

ITEMS = 200
IDS = np.random.default_rng(1).permutation(10 * ITEMS)[:ITEMS]
BRANDS = [f"brand {number % 40}" if number % 5 else None for number in range(ITEMS)]
PRICES = [number / 4 if number % 7 else None for number in range(ITEMS)]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A prepared dataset; the raw catalogue lies in two files, and its column ``picture`` in the second alone."""
    folder = tmp_path_factory.mktemp("numbers")
    items = {"id": IDS, "title": [f"title {number}" for number in range(ITEMS)], "brand": BRANDS, "price": PRICES}
    table = pa.table({**items, "note": [f"note {number}" for number in range(ITEMS)]})
    (folder / "items").mkdir()
    pq.write_table(table.slice(0, 80), folder / "items" / "a.parquet")
    pictures = pa.array([f"https://pictures.test/{number}" for number in range(80, ITEMS)])
    pq.write_table(table.slice(80).append_column("picture", pictures), folder / "items" / "b.parquet")
    clicks = {"query": ["title 1", "title 2"] * 20, "item_id": IDS[:40], "user_id": ["u1", "u2"] * 20}
    pq.write_table(pa.table({**clicks, "timestamp": np.arange(40)}), folder / "log.parquet")
    pq.write_table(pa.table({"user_id": ["u0", "u1", "u2"], "sex": ["f", None, " m "]}), folder / "users.parquet")
    config = parse_config(
        {
            "name": "numbers",
            "work_dir": str(folder / "work"),
            "data": {
                "items": {
                    "path": str(folder / "items"),
                    "columns": {"item_id": "id"},
                    "categorical": ["brand"],
                    "numeric": ["price"],
                },
                "users": {"path": str(folder / "users.parquet"), "profile": ["sex"]},
                "interactions": {"path": str(folder / "log.parquet")},
            },
            "page": {"image": "picture", "fields": ["brand", "price", "note"]},
        },
        "test",
    )
    prepare(config, progress=False)
    return config


def test_pages_that_start_together_make_the_files_once(config: Config, tmp_path: Path) -> None:
    work_dir = tmp_path / "work"
    shutil.copytree(config.work_dir, work_dir, ignore=shutil.ignore_patterns("page"))
    copy = config.model_copy(update={"work_dir": str(work_dir)})
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: Catalogue(copy), range(4)))
    wanted = str(IDS[7])
    assert [each.items([wanted])[wanted].title for each in opened] == ["title 7"] * 4
    assert not list((work_dir / "page").glob("*.lock"))


@pytest.fixture(scope="module")
def catalogue(config: Config) -> Catalogue:
    return Catalogue(config)


def test_columns_of_dataset_and_raw_catalogue_meet_by_id(catalogue: Catalogue) -> None:
    items = catalogue.items([str(item) for item in IDS])
    for number, item_id in enumerate(IDS.tolist()):
        item = items[str(item_id)]
        price = PRICES[number]
        assert item.title == f"title {number}"
        assert item.image == (f"https://pictures.test/{number}" if number >= 80 else None)
        given = {"brand": BRANDS[number], "price": None if price is None else f"{price:g}", "note": f"note {number}"}
        assert item.fields == {column: value for column, value in given.items() if value is not None}
    assert catalogue.rows_of(IDS).tolist() == catalogue.rows_of([str(item) for item in IDS]).tolist()
    assert catalogue.ids(catalogue.rows_of(IDS)) == [str(item) for item in IDS]
    assert catalogue.items(["-5", "no number"])["no number"].title == "no number"


def test_facets_are_the_most_frequent_values(config: Config, catalogue: Catalogue) -> None:
    facets = Facets(config, catalogue.schema)
    rows = catalogue.rows_of(IDS[:150])
    brands = [brand for brand in BRANDS[:150] if brand is not None]
    expected = sorted((-brands.count(brand), brand) for brand in set(brands))[:MOST_VALUES]
    found = facets.count(rows, ["brand", "price", "nothing"])
    assert [(-facet.count, facet.value) for facet in found["brand"]] == expected
    assert found.keys() == {"brand"}
    assert facets.count(rows[:0], ["brand"]) == {}


def test_filters_keep_the_items_that_a_loop_keeps(catalogue: Catalogue) -> None:
    rows = catalogue.rows_of(IDS)
    for filters, kept in (
        ({"brand": "brand 3"}, [brand == "brand 3" for brand in BRANDS]),
        ({"brand": " brand 3 "}, [brand == "brand 3" for brand in BRANDS]),
        ({"brand": ""}, [True] * ITEMS),
        ({"price": Range(least=10.0)}, [price is not None and price >= 10 for price in PRICES]),
        ({"price": Range(least=10.0, most=20.25)}, [price is not None and 10 <= price <= 20.25 for price in PRICES]),
        ({"price": Range()}, [True] * ITEMS),
        (
            {"price": Range(most=30), "brand": "brand 8"},
            [
                price is not None and price <= 30 and brand == "brand 8"
                for price, brand in zip(PRICES, BRANDS, strict=True)
            ],
        ),
    ):
        assert matching(catalogue, rows, filters).tolist() == kept


def test_users_have_profile_and_history(config: Config, catalogue: Catalogue) -> None:
    users = Users(config, catalogue.schema, catalogue)
    assert set(users.examples(2)) == {"u1", "u2"}
    assert users.examples(9)[-1] == "u0"
    assert users.profile(User(user_id="u1")) == ({"sex": ""}, [str(item) for item in IDS[:40:2]])
    assert users.profile(User(user_id="u0", history=("7",))) == ({"sex": "f"}, ["7"])
    assert users.profile(User(profile={"sex": "m"})) == ({"sex": "m"}, [])
    profile = users.profile(User(user_id="u2", profile={"sex": "x"}))
    inputs = personal_inputs(profile, catalogue.schema, 2)
    assert inputs["sex"] == ["x", "x"]
    assert inputs["history"].dtype == np.int64
    assert inputs["history"].tolist() == [IDS[1:40:2].tolist()] * 2
    assert personal_inputs(users.profile(User()), catalogue.schema, 3)["history"].shape == (3, 0)
    with pytest.raises(PageError, match="'seven'"):
        personal_inputs(users.profile(User(history=("seven",))), catalogue.schema, 1)


def test_a_column_that_nobody_has_is_named(config: Config) -> None:
    wrong = config.model_copy(update={"page": config.page.model_copy(update={"image": "photo"})})
    with pytest.raises(DatasetError, match="photo"):
        Catalogue(wrong)


def test_no_dataset_says_what_to_run(config: Config, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="dpsr prepare"):
        Catalogue(config.model_copy(update={"work_dir": str(tmp_path)}))
