"""The shop of the page's tests: a generated one with hostile titles, trained briefly, in two published versions.

The fixture ``page_shop`` of ``tests/conftest.py`` makes it once for all tests, by this program:

    python tests/page/page_shop.py build/page_shop
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dpsr.serving import READY_PREFIX

NAME = "page_shop"
ITEMS, USERS, CLICKS, K = 600, 120, 8_000, 200
MEGABYTE = 1_000_000
WORD = "zzhostile"
"""Stands in each title of ``HOSTILE`` and in no other."""
LARGE, CONTROL, UNTITLED = "H03", "H05", "H12"
"""Items of a long title, of control characters, and without any title."""
HOSTILE = {
    "H01": f"{WORD} <script>window.hacked=1</script><img src=x onerror=window.hacked=1>",
    "H02": f"{WORD} \"double\" 'single' `back` &amp; &lt;b&gt; ${{window.hacked=1}} {{{{7*7}}}}",
    LARGE: f"{WORD} megabyte " + "heavy words " * ((MEGABYTE - 20) // 12),
    "H04": f"{WORD} unbroken " + "x" * 5_000,
    CONTROL: f"{WORD} control \x01\x02\x07\x08\x0b\x1b[31m\x7f\x85 end",
    "H06": f"{WORD} \u202eoverride gnp.exe\u202c \u2066isolate",
    "H07": f"{WORD} 手机 苹果 老人三防手机 5G 双卡 128GB 全网通",
    "H08": f"{WORD} حذاء جري خفيف للرجال 42",
    "H09": f"{WORD} נעלי ריצה קלות 44 (חדש)",
    "H10": f"{WORD} </title></textarea><svg/onload=window.hacked=1>",
    "H11": f"{WORD} combining Z\u0335\u0321\u0322a\u0353\u0354l\u0324go \U0001f469\u200d\U0001f467 \ufffd",
    UNTITLED: "",
}
"""Titles by item ids."""
BAD_IMAGES = ("javascript:window.hacked=1", "data:text/html,<script>window.hacked=1</script>", "/etc/passwd", "")
"""Values of the image column that are no http or https address: those of the hostile items, in turn."""
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
    config = load_config(_configure(folder))
    prepare(config, progress=False)
    dataset = Dataset.load(config.dataset_dir)
    fresh = TwoTower(config.model, dataset.schema, seed=3, tokenizer=Tokenizer.load(dataset.tokenizer_path))
    export(config, dataset, fresh, progress=False)
    train(config, dataset, progress=False)
    export(config, dataset, load_trained(config.checkpoint_dir, dataset), progress=False)
    return folder / "shop.toml"


def copied(config_file: Path, folder: Path) -> Path:
    """Copies the shop into a new folder, for a test that changes it.

    Returns:
        The configuration file of the copy.
    """
    shutil.copytree(config_file.parent, folder)
    return _configure(folder)


def _configure(folder: Path) -> Path:
    (folder / "models.config").write_text(MODELS.format(name=NAME, folder=folder), encoding="utf-8")
    file = folder / "shop.toml"
    file.write_text(CONFIGURATION.format(name=NAME, folder=folder, k=K), encoding="utf-8")
    return file


def _add_images_and_hostile_items(path: Path) -> None:
    """Adds the column ``image`` and the items of ``HOSTILE`` to a catalogue."""
    table = pq.read_table(path)
    images = ["http://images.test/image.svg" if row % 2 else None for row in range(len(table))]
    template = table.slice(0, 1).to_pylist()[0]
    rows = [{**template, "item_id": item, "title": title} for item, title in HOSTILE.items()]
    more = pa.Table.from_pylist(rows, schema=table.schema)
    images += [BAD_IMAGES[row % len(BAD_IMAGES)] for row in range(len(rows))]
    pq.write_table(pa.concat_tables([table, more]).append_column("image", pa.array(images)), path)


@contextmanager
def serving(config_file: Path) -> Iterator[str]:
    """A real server of a shop on a free port; yields its address."""
    command = [sys.executable, "-m", "dpsr.cli", "serve", "-c", str(config_file)]
    with config_file.with_name("server.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    try:
        yield next(line.split()[-1] for line in process.stdout if line.startswith(READY_PREFIX))
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


if __name__ == "__main__":
    print(make(Path(sys.argv[1]).resolve()))
