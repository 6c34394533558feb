"""``dpsr init``: files of many shapes become a configuration that loads and that ``dpsr prepare`` works with."""

import json
import random
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from dpsr.cli import main
from dpsr.config import Config, load_config
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.guess.configuration import propose
from dpsr.data.guess.names import rank, words
from dpsr.data.guess.recipes import LARGE_LOG, MEDIUM_LOG, choose_recipe
from dpsr.data.prepare.job import prepare

ITEMS, CLICKS = 120, 400
NOUNS, KINDS, BRANDS = (
    ("sink", "drill", "lamp", "phone"),
    ("steel", "red", "large", "cheap", "new"),
    ("Acme", "Bolt", "Cora"),
)
Row = dict[str, Any]


def catalogue(ids: Callable[[int], Any] = lambda row: f"sku-{row}") -> list[Row]:
    """Items with all columns that a shop may have."""
    return [
        {
            "id": ids(row),
            "title": f"{KINDS[row % 5]} {NOUNS[row % 4]} no {row} of iron",
            "brand": BRANDS[row % 3],
            "price": 1.5 + row % 17,
            "image": f"https://shop.example/{row}.jpg",
        }
        for row in range(ITEMS)
    ]


def log(items: Sequence[Row]) -> list[Row]:
    """Clicks on these items."""
    choice = random.Random(7)
    return [
        {
            "query": f"{choice.choice(KINDS)} {choice.choice(NOUNS)}",
            "item": choice.choice(items)["id"],
            "user": f"u{row % 23}",
            "time": 1_700_000_000 + 60 * row,
            "event": "click" if row % 9 else "purchase",
        }
        for row in range(CLICKS)
    ]


def renamed(rows: Sequence[Row], names: dict[str, str]) -> list[Row]:
    """The rows with other names of columns; those without a name are left out."""
    return [{names[key]: value for key, value in row.items() if key in names} for row in rows]


def write(path: Path, rows: Sequence[Row]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        pa.csv.write_csv(pa.Table.from_pylist(list(rows)), path)
    else:
        pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=100)
    return str(path)


SHAPES = {
    "snake": (
        {"id": "sku", "title": "product_title", "brand": "brand", "price": "price", "image": "image_url"},
        {"query": "search_term", "item": "clicked_item", "user": "customer_id", "time": "ts"},
    ),
    "camel": (
        {"id": "productId", "title": "productName", "brand": "brandName", "price": "listPrice", "image": "imageUrl"},
        {"query": "searchQuery", "item": "productId", "user": "visitorId", "time": "eventTime", "event": "eventType"},
    ),
    "german": (
        {"id": "Artikelnummer", "title": "Bezeichnung", "brand": "Marke", "price": "Preis", "image": "Bild"},
        {"query": "Suchbegriff", "item": "Artikelnummer", "user": "Kundennummer", "time": "Zeitstempel"},
    ),
    "chinese": (
        {"id": "商品ID", "title": "商品标题", "brand": "品牌", "price": "价格", "image": "图片"},
        {"query": "搜索词", "item": "商品ID", "user": "用户ID", "time": "时间", "event": "行为"},
    ),
    "ubi": (
        {"id": "object_id", "title": "name", "brand": "manufacturer", "price": "price", "image": "img"},
        {"query": "user_query", "item": "object_id", "user": "client_id", "time": "timestamp", "event": "action_name"},
    ),
    "contract": (
        {"id": "item_id", "title": "title", "brand": "brand", "price": "price", "image": "image"},
        {"query": "query", "item": "item_id", "user": "user_id", "time": "timestamp", "event": "event"},
    ),
}


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["init", *arguments])
    return result.exit_code, result.output


def prepared(config_file: Path, work_dir: Path) -> tuple[Config, Dataset]:
    config = load_config(config_file, [f"work_dir={work_dir}"])
    return config, Dataset.load(prepare(config, progress=False))


@pytest.mark.parametrize("ids", [lambda row: f"A{row:05d}", lambda row: 9_000_000 + row], ids=["texts", "integers"])
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_prepared_as_it_is(shape: str, suffix: str, ids: Callable[[int], Any], tmp_path: Path) -> None:
    of_items, of_log = SHAPES[shape]
    items = catalogue(ids)
    paths = [write(tmp_path / f"items{suffix}", renamed(items, of_items))]
    paths.append(write(tmp_path / f"log{suffix}", renamed(log(items), of_log)))
    code, output = run(*paths, "--out", str(tmp_path / "shop.toml"), "--name", "shop")
    assert code == 0, output
    config, dataset = prepared(tmp_path / "shop.toml", tmp_path / "work")
    mapped = config.data.items.columns
    assert mapped.get("item_id", "item_id") == of_items["id"]
    assert [mapped.get(name, name) for name in config.data.items.text] == [of_items["title"]]
    assert [mapped.get(name, name) for name in config.data.items.categorical] == [of_items["brand"]]
    assert [mapped.get(name, name) for name in config.data.items.numeric] == [of_items["price"]]
    assert config.data.interactions is not None
    names = config.data.interactions.columns
    roles = {"query": "query", "item": "item_id", "user": "user_id", "time": "timestamp", "event": "event"}
    assert {names.get(roles[key], roles[key]) for key in of_log} == set(of_log.values())
    assert dataset.schema.num_items == ITEMS
    assert sum(len(dataset.interactions(split)) for split in ("train", "valid", "test")) == CLICKS


def test_a_directory_of_parts_and_a_pattern_are_sampled_in_all_their_files(tmp_path: Path) -> None:
    items = catalogue()
    for part in range(4):
        write(tmp_path / "items" / f"part-{part}.parquet", items[part * 30 : part * 30 + 30])
    clicks = log(items)
    write(tmp_path / "clicks-0.jsonl", renamed(clicks[:200], {"query": "query", "item": "item"}))
    write(tmp_path / "clicks-1.jsonl", clicks[200:])  # users, times and events appear in the second file alone
    code, output = run(str(tmp_path / "items"), str(tmp_path / "clicks-*.jsonl"), "--out", str(tmp_path / "shop.toml"))
    assert code == 0, output
    config = load_config(tmp_path / "shop.toml")
    assert config.name == "items"
    assert config.data.interactions is not None
    assert config.data.interactions.columns == {"item_id": "item", "user_id": "user"}
    assert "time looks like a time" in output


def test_users_give_the_profile(tmp_path: Path) -> None:
    items = catalogue()
    users = [{"customer_id": f"u{row}", "email": f"u{row}@shop.example", "gender": "mf"[row % 2]} for row in range(23)]
    paths = [write(tmp_path / "items.csv", items), write(tmp_path / "log.csv", log(items))]
    out = tmp_path / "shop.toml"
    code, output = run(*paths, "--users", write(tmp_path / "users.csv", users), "--out", str(out), "--name", "shop")
    assert code == 0, output
    config, dataset = prepared(out, tmp_path / "work")
    assert config.data.users is not None
    assert config.data.users.profile == ["gender"]
    assert dataset.schema.num_users == 23


def test_without_a_log_the_catalogue_is_learnt_from(tmp_path: Path) -> None:
    out = tmp_path / "shop.toml"
    code, output = run(write(tmp_path / "items.csv", catalogue()), "--out", str(out), "--name", "shop")
    assert code == 0, output
    config, _ = prepared(out, tmp_path / "work")
    assert config.training.epochs == 0
    assert config.data.items.text == ["title", "brand"]


def test_rows_that_cannot_be_used_raise_the_limit_and_are_said(tmp_path: Path) -> None:
    items = catalogue()
    clicks = log(items)
    for row in clicks[::5]:
        row["item"] = "gone"
    for row in clicks[1::5]:
        row["event"] = "view"
    paths = [write(tmp_path / "items.csv", items), write(tmp_path / "log.csv", clicks)]
    out = tmp_path / "shop.toml"
    code, output = run(*paths, "--out", str(out), "--name", "shop")
    assert code == 0, output
    assert "rows whose event is view (20%) are rejected" in output
    assert "40.0% of the sampled rows cannot be used" in output
    _, dataset = prepared(out, tmp_path / "work")
    assert sum(len(dataset.interactions(split)) for split in ("train", "valid", "test")) == 240


def test_an_existing_file_is_left_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "shop.toml"
    out.write_text("precious")
    code, output = run(write(tmp_path / "items.csv", catalogue()), "--out", str(out))
    assert code == 1
    assert f"{out}: exists and is left as it is" in output
    assert out.read_text() == "precious"


def test_what_cannot_be_guessed_is_an_error_that_lists_the_columns(tmp_path: Path) -> None:
    items = catalogue()
    good = write(tmp_path / "items.csv", items)
    without_id = write(tmp_path / "no_id.csv", renamed(items, {"brand": "brand", "price": "price"}))
    without_text = write(tmp_path / "no_text.csv", renamed(items, {"id": "id", "price": "price"}))
    strange = write(tmp_path / "strange.csv", [row | {"item": f"x{row['item']}"} for row in log(items)])
    numbers = write(tmp_path / "no_query.csv", renamed(log(items), {"item": "item", "time": "ts"}))
    coded = write(tmp_path / "coded.csv", [row | {"event": "view"} for row in log(items)])
    ubi = write(tmp_path / "ubi.csv", [{"action_name": "click", "query_id": "1", "object_id": "sku-1"}] * 3)
    twice = str(tmp_path / "twice.parquet")
    pq.write_table(pa.table([["a", "b"]] * 2, names=["query", "query"]), twice)
    for files, message in (
        ([good, twice], r"twice\.parquet: has two columns named 'query'"),
        ([without_id], r"no_id\.csv: no column looks like item ids, .*\(columns: brand, price\)"),
        ([without_text], r"no_text\.csv: no column has texts of several words, .*\(columns: id, price\)"),
        ([good, strange], r"strange\.csv: no column holds item ids of the catalogue \(columns: query, item, user, "),
        ([good, numbers], r"no_query\.csv: no column looks like query texts \(columns: item, ts\)"),
        ([good, coded], r"column 'event' holds view; expected click, purchase, skip"),
        ([good, ubi], r"ubi\.csv: looks like events of User Behavior Insights.*dpsr data import-ubi"),
        ([str(tmp_path / "nowhere.csv")], r"nowhere\.csv: no such file"),
    ):
        with pytest.raises(DatasetError, match=message):
            propose(*files)


@pytest.mark.parametrize(
    ("clicks", "items", "example"),
    [
        (None, 1000, "chorus_icecat"),
        (2_000, 1_000, "homedepot"),
        (38_128, 458, "bestbuy_xbox"),
        (MEDIUM_LOG, 10_000, "dpsr_p"),
        (LARGE_LOG, 1_000_000, "paper"),
    ],
)
def test_the_recipe_is_that_of_the_example_of_its_size(clicks: int | None, items: int, example: str) -> None:
    recipe = choose_recipe(clicks, items)
    tree = tomllib.loads(recipe.toml.replace("@TEXT@", ""))
    theirs = tomllib.loads((Path(__file__).parent.parent / "examples" / f"{example}.toml").read_text())
    assert f"examples/{example}.toml" in recipe.why
    for section in ("model", "loss", "training"):
        assert {"profile": True} | tree[section] == {"profile": True} | theirs[section]
    pretraining = theirs.get("pretraining", {})
    assert {"text": None, "words": [1, 5]} | tree.get("pretraining", {}) == {"words": [1, 5]} | pretraining | {
        "text": None
    }


def test_names_are_read_in_every_spelling() -> None:
    assert words("productTitleEN") == ["product", "title", "en"]
    assert words("Item ID") == words("item_id") == words("itemId") == ["item", "id"]
    assert rank("productTitle", ("title", "producttitle")) == 1
    assert rank("product_title_en", ("producttitle",)) == 1
    assert rank("subtitle", ("title",)) is None
