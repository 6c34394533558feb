"""A small shop, prepared for real, and towers that have not been trained: their answers are arbitrary but exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from dpsr.config import Config, parse_config
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.model.two_tower import TwoTower
from dpsr.tokenizer_cc import Tokenizer

ITEMS, USERS, CLICKS = 300, 40, 2000
K = 20
WORDS = [
    "red",
    "green",
    "blue",
    "shoe",
    "lamp",
    "phone",
    "case",
    "milk",
    "sugar",
    "chair",
    "手机",
    "naïve",
    "4.5",
    "kg",
]
_EVENTS = ["click", "click", "click", "purchase"]


@dataclass(frozen=True)
class Shop:
    """A configuration with the dataset it prepared and a model for it."""

    config: Config
    dataset: Dataset
    model: TwoTower


def write_raw_shop(directory: Path, item_id_type: str, seed: int = 1) -> None:
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(10 * ITEMS)[:ITEMS]
    ids = [f"sku-{number}" for number in numbers] if item_id_type == "string" else [int(number) for number in numbers]
    users = [f"u{number}" for number in range(USERS)]

    def phrases(count: int, words: int) -> list[str]:
        return [" ".join(rng.choice(WORDS, size=words)) for _ in range(count)]

    def write(name: str, columns: dict[str, list]) -> None:
        pq.write_table(pa.table(columns), directory / f"{name}.parquet")

    def chosen(values: list, count: int) -> list:
        return [values[i] for i in rng.integers(len(values), size=count)]

    brands = ["Acme", "Søren", "零", None]
    prices = [None if price > 90 else round(float(price), 2) for price in 100 * rng.random(ITEMS)]
    items = {"item_id": ids, "title": phrases(ITEMS, 5), "brand": chosen(brands, ITEMS), "price": prices}
    write("items", items)
    ages, cities = ["18-25", "26-40", None], ["Wien", "大阪", "Oslo"]
    write("users", {"user_id": users, "age": chosen(ages, USERS), "home city": chosen(cities, USERS)})
    log = {
        "query": chosen(phrases(60, 2), CLICKS),
        "item_id": chosen(ids, CLICKS),
        "user_id": chosen([*users, None], CLICKS),
        "timestamp": list(range(CLICKS)),
        "event": chosen(_EVENTS, CLICKS),
    }
    write("interactions", log)


def make_shop(
    directory: Path,
    *,
    item_id_type: str = "string",
    seed: int = 1,
    categorical: Sequence[str] = ("brand",),
    **sections: dict,
) -> Shop:
    write_raw_shop(directory, item_id_type, seed)
    tree = {
        "name": "shop",
        "work_dir": str(directory / "work"),
        "data": {
            "items": {"path": str(directory / "items.parquet"), "categorical": list(categorical)},
            "users": {"path": str(directory / "users.parquet"), "profile": ["age", "home city"]},
            "interactions": {"path": str(directory / "interactions.parquet")},
        },
        "tokenizer": {"min_count": 1, "oov_buckets": 50},
        "model": {"dimension": 16, "hidden": [32], "heads": 2, "history_length": 4, **sections.pop("model", {})},
        "index": {"k": K, **sections.pop("index", {})},
        **sections,
    }
    config = parse_config(tree, "tests")
    prepare(config, progress=False)
    dataset = Dataset.load(config.dataset_dir)
    tokenizer = Tokenizer.load(dataset.tokenizer_path)
    return Shop(config, dataset, TwoTower(config.model, dataset.schema, seed=3, tokenizer=tokenizer))


@pytest.fixture(scope="session", params=["string", "int64"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The shop with item ids of either type; one with the titles of the history, the other with kinds of tokens."""
    model = {"string": {"history_titles": 2}, "int64": {"combiner": "sqrtn_by_kind"}}[request.param]
    return make_shop(
        tmp_path_factory.mktemp(f"shop-{request.param}"),
        item_id_type=request.param,
        model={**model, "history_decay": 0.7},
    )


@pytest.fixture(scope="session")
def string_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """One shop, where the type of the ids does not matter."""
    return make_shop(tmp_path_factory.mktemp("shop"))


def ops_of(version: Path) -> set[str]:
    """The operations in the functions of a servable."""
    model = SavedModel.FromString((version / "saved_model.pb").read_bytes())
    functions = [function for graph in model.meta_graphs for function in graph.graph_def.library.function]
    return {node.op for function in functions for node in function.node_def}
