"""A small real shop for tests of the page: hybrid, two heads, users, a price range, images, two versions of a model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dpsr.config import Config, load_config
from dpsr.serving import READY_PREFIX

NAME = "small_shop"
ITEMS, USERS, CLICKS, K = 300, 60, 3_000, 100
HOSTILE = {
    "H01": "zzhostile <script>alert(1)</script> \x01\x07\x1b[31m \u202e end",
    "H02": "zzhostile " + "x" * 1_000_000,
    "H03": "",
}
"""Titles of items by their ids."""
IMAGES = {"H01": "javascript:alert(1)", "H02": "https://images.test/a b.png", "H03": "HTTPS://images.test/a.png"}
CONFIGURATION = """
name = "{name}"
work_dir = "{folder}/work"

[data.items]
path = "{folder}/shop/items.parquet"
text = ["title"]
categorical = ["brand", "category"]
numeric = ["price"]

[data.users]
path = "{folder}/shop/users.parquet"
profile = ["gender", "age_band", "purchase_power"]

[data.interactions]
path = "{folder}/shop/interactions.parquet"

[tokenizer]
min_count = 1

[model]
dimension = 8
hidden = [16]
heads = 2
history_length = 5

[loss]
kind = "softmax"
group_size = 128

[training]
epochs = 1
batch_size = 128

[evaluation]
baselines = ["popularity", "bm25>popularity@50", "dssm", "bm25>dpsr@50"]

[index]
mode = "hybrid"
fusion = "weighted_sum"
dense_weight = 1.0
filter_range = ["price"]
k = {k}

[page]
image = "image"
fields = ["brand", "category", "price", "department"]

[serving]
port = 0
rest_port = -1
model_config_file = "{folder}/models.config"
"""
MODELS = """
model_config_list {{
  config {{
    name: "{name}"
    base_path: "{folder}/work/servables/{name}"
    model_platform: "tensorflow"
    model_version_policy {{ all {{}} }}
    version_labels {{ key: "stable" value: 1 }}
  }}
}}
"""


def make(folder: Path) -> Config:
    """Makes the shop in an empty folder, and two versions of a model that is not trained, with different weights."""
    from dpsr.data.dataset.tables import Dataset
    from dpsr.data.demo_shop.shop import generate
    from dpsr.data.prepare.job import prepare
    from dpsr.indexing.publish import export
    from dpsr.model.two_tower import TwoTower
    from dpsr.tokenizer_cc import Tokenizer

    generate(folder / "shop", items=ITEMS, users=USERS, interactions=CLICKS, seed=3)
    _add_items(folder / "shop" / "items.parquet")
    (folder / "models.config").write_text(MODELS.format(name=NAME, folder=folder), encoding="utf-8")
    (folder / "shop.toml").write_text(CONFIGURATION.format(name=NAME, folder=folder, k=K), encoding="utf-8")
    config = load_config(folder / "shop.toml")
    prepare(config, progress=False)
    dataset = Dataset.load(config.dataset_dir)
    for seed in (1, 2):
        model = TwoTower(config.model, dataset.schema, seed=seed, tokenizer=Tokenizer.load(dataset.tokenizer_path))
        export(config, dataset, model, progress=False)
    return config


def _add_items(path: Path) -> None:
    """Adds images and the hostile items to a catalogue."""
    table = pq.read_table(path)
    template = table.slice(0, 1).to_pylist()[0]
    rows = [{**template, "item_id": item, "title": title, "brand": "Evil"} for item, title in HOSTILE.items()]
    table = pa.concat_tables([table, pa.Table.from_pylist(rows, schema=table.schema)])
    images = [IMAGES.get(item, f"http://images.test/{item}.png") for item in table.column("item_id").to_pylist()]
    pq.write_table(table.append_column("image", pa.array(images)), path)


@contextmanager
def serving(config_file: Path) -> Iterator[str]:
    """A real server of the shop on a free port; yields its address."""
    command = [sys.executable, "-m", "dpsr.cli", "serve", "-c", str(config_file)]
    with (config_file.parent / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    try:
        yield next(line.split()[-1] for line in process.stdout if line.startswith(READY_PREFIX))
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()
