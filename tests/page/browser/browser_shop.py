"""The shop of the browser tests: a generated one with hostile titles, trained briefly, in two published versions.

As a program it makes the shop in a folder:

    python tests/page/browser/browser_shop.py build/page_shop
"""

from __future__ import annotations

import sys
from pathlib import Path

NAME = "page_shop"
ITEMS, USERS, CLICKS = 600, 120, 8_000
MEGABYTE = 1_000_000
WORD = "zzhostile"
"""Stands in each title of ``HOSTILE`` and in no other."""
HOSTILE = {
    "H01": f"{WORD} <script>window.hacked=1</script><img src=x onerror=window.hacked=1>",
    "H02": f"{WORD} \"double\" 'single' `back` &amp; &lt;b&gt; ${{window.hacked=1}} {{{{7*7}}}}",
    "H03": f"{WORD} megabyte " + "heavy words " * ((MEGABYTE - 20) // 12),
    "H04": f"{WORD} unbroken " + "x" * 5_000,
    "H05": f"{WORD} control \x01\x02\x07\x08\x0b\x1b[31m\x7f\x85 end",
    "H06": f"{WORD} \u202eoverride gnp.exe\u202c \u2066isolate",
    "H07": f"{WORD} 手机 苹果 老人三防手机 5G 双卡 128GB 全网通",
    "H08": f"{WORD} حذاء جري خفيف للرجال 42",
    "H09": f"{WORD} נעלי ריצה קלות 44 (חדש)",
    "H10": f"{WORD} </title></textarea><svg/onload=window.hacked=1>",
    "H11": f"{WORD} combining Z\u0335\u0321\u0322a\u0353\u0354l\u0324go \U0001f469\u200d\U0001f467 \ufffd",
    "H12": "",
}
"""Items by their ids, the last without any title."""
BAD_IMAGES = ("javascript:window.hacked=1", "data:text/html,<script>window.hacked=1</script>", "/etc/passwd", "")
"""Values of the image column that are no http or https address."""

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
dimension = 16
hidden = [32]
heads = 2
residual = true
shared_tokens = true
history_length = 5

[loss]
kind = "softmax"
group_size = 128
popularity_correction = true

[training]
epochs = 3
batch_size = 256
learning_rate = 0.1
table_learning_rate = 0.6
token_dropout = 0.15

[index]
mode = "hybrid"
fusion = "weighted_sum"
dense_weight = 1.0
filter_range = ["price"]
k = 200

[page]
image = "image"
fields = ["brand", "price", "department"]

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


def make(folder: Path) -> Path:
    """Makes the shop, and two versions of its model: without and with a training.

    Args:
        folder: an empty directory.

    Returns:
        The configuration file.
    """
    from dpsr.config import load_config
    from dpsr.data.dataset.tables import Dataset
    from dpsr.data.demo_shop.shop import generate
    from dpsr.data.prepare.job import prepare
    from dpsr.indexing.publish import export
    from dpsr.model.trained import load_trained
    from dpsr.model.two_tower import TwoTower
    from dpsr.tokenizer_cc import Tokenizer
    from dpsr.training.trainer import train

    generate(folder / "shop", items=ITEMS, users=USERS, interactions=CLICKS, seed=5)
    _add_images_and_hostile_items(folder / "shop" / "items.parquet")
    (folder / "models.config").write_text(MODELS.format(name=NAME, folder=folder), encoding="utf-8")
    file = folder / "shop.toml"
    file.write_text(CONFIGURATION.format(name=NAME, folder=folder), encoding="utf-8")
    config = load_config(file)
    prepare(config, progress=False)
    dataset = Dataset.load(config.dataset_dir)
    fresh = TwoTower(config.model, dataset.schema, seed=3, tokenizer=Tokenizer.load(dataset.tokenizer_path))
    export(config, dataset, fresh, progress=False)
    train(config, dataset, progress=False)
    export(config, dataset, load_trained(config.checkpoint_dir, dataset), progress=False)
    return file


def _add_images_and_hostile_items(path: Path) -> None:
    """Adds the column ``image`` and the items of ``HOSTILE`` to a catalogue."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    images = ["http://images.test/image.svg" if row % 2 else None for row in range(len(table))]
    template = table.slice(0, 1).to_pylist()[0]
    rows = [{**template, "item_id": item, "title": title} for item, title in HOSTILE.items()]
    more = pa.Table.from_pylist(rows, schema=table.schema)
    images += [BAD_IMAGES[row % len(BAD_IMAGES)] for row in range(len(rows))]
    pq.write_table(pa.concat_tables([table, more]).append_column("image", pa.array(images)), path)


if __name__ == "__main__":
    print(make(Path(sys.argv[1]).resolve()))
