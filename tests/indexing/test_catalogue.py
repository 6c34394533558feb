"""Items that came after the training: read, embedded, served; and embedding that survives a kill."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from dpsr.data.dataset.schema import DatasetError
from dpsr.indexing.catalogue import Catalogue
from dpsr.indexing.corpus import embed_catalogue, embed_items
from dpsr.indexing.embedded_rows import embedded_rows
from dpsr.indexing.errors import ExportError
from dpsr.indexing.manifest import read_manifest
from dpsr.indexing.publish import export
from dpsr.indexing.warmup import WARMUP_FILE

from .conftest import ITEMS, K, Shop


def write_items(path: Path, shop: Shop, columns: dict[str, Any] | None = None) -> Path:
    """Items with new ids, among them one of a brand that training never saw."""
    new = {
        "item_id": [f"new-{number}" for number in range(30)],
        "title": [f"red lamp {number} unheard-of" for number in range(30)],
        "brand": ["Acme", "Søren", "Startup"] * 10,
        "price": [float(number) for number in range(30)],
    }
    if shop.dataset.schema.item_id_type == "int64":
        new["item_id"] = list(range(1_000_000, 1_000_030))
    pq.write_table(pa.table(new | (columns or {})), path)
    return path


def embed(shop: Shop, catalogue: Catalogue, **options: Any) -> np.ndarray:
    return embed_catalogue(shop.model, catalogue, progress=False, **options)


def interrupt_when_embedded(shop: Shop, catalogue: Catalogue, base: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), embedded_rows(base, shop.model, catalogue) as rows:
        embed(shop, catalogue, resume_from=rows)
        raise KeyboardInterrupt


def test_the_datasets_own_items_read_from_their_file_are_the_same(shop: Shop) -> None:
    read = Catalogue.read(shop.config.data.items.path, shop.config, shop.dataset)
    own = Catalogue.of_dataset(shop.dataset)
    assert read.item_ids.tolist() == own.item_ids.tolist()
    np.testing.assert_array_equal(read.texts.tokens.values, own.texts.tokens.values)
    np.testing.assert_array_equal(read.texts.tokens.row_splits, own.texts.tokens.row_splits)
    np.testing.assert_array_equal(read.categorical["brand"], own.categorical["brand"])
    np.testing.assert_array_equal(embed(shop, read), embed_items(shop.model, shop.dataset, progress=False))


def test_an_unseen_brand_is_out_of_vocabulary(string_shop: Shop, tmp_path: Path) -> None:
    catalogue = Catalogue.read(
        str(write_items(tmp_path / "new.parquet", string_shop)), string_shop.config, string_shop.dataset
    )
    rows = string_shop.dataset.schema.categorical["brand"]
    vocabulary = string_shop.dataset.vocabularies["items.brand"]
    assert catalogue.categorical["brand"][:3].tolist() == [
        vocabulary.index("Acme") + 1,
        vocabulary.index("Søren") + 1,
        rows - 1,
    ]


def test_items_never_seen_in_training_are_served(shop: Shop, tmp_path: Path) -> None:
    index = shop.config.index.model_copy(update={"filter_range": ["price"]})
    config = shop.config.model_copy(update={"work_dir": str(tmp_path), "index": index})
    path = write_items(tmp_path / "new.parquet", shop)
    version = export(config, shop.dataset, shop.model, items=str(path), progress=False)

    manifest = read_manifest(version)
    assert (manifest["items"], manifest["items_file"]) == (30, str(path))
    assert (version / WARMUP_FILE).exists()
    loaded = tf.saved_model.load(str(version))
    history = tf.constant(
        shop.dataset.item_ids[np.newaxis, :3].tolist(), shop.dataset.schema.item_id_type
    )  # of the old catalogue: what users have clicked on
    answer = loaded.signatures["personalized"](
        query=tf.constant(["red lamp"]),
        age=tf.constant([""]),
        home_city=tf.constant([""]),
        history=history,
        filter_brand=tf.constant(["Startup"]),
        filter_min_price=tf.constant([9.0]),
        filter_max_price=tf.constant([np.inf], tf.float32),
    )
    new = pq.read_table(path).to_pylist()
    expected = {row["item_id"] for row in new if row["brand"] == "Startup" and row["price"] >= 9}
    found = [item.decode() if isinstance(item, bytes) else item for item in answer["item_id"].numpy()[0].tolist()]
    assert set(found[: len(expected)]) == expected
    assert answer["shortfall"].numpy().tolist() == [K - len(expected)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item_id": [1] * 30}, "item ids of the dataset are string"),
        ({"item_id": ["a", "b"] * 15}, r"2 values of item_id occur more than once \(a, b\)"),
        ({"item_id": [None] * 30}, "30 of 30 rows .* empty item_id"),
        ({"title": None}, "column 'title' is missing"),
    ],
)
def test_items_that_cannot_be_used_are_refused(
    columns: dict[str, Any], message: str, string_shop: Shop, tmp_path: Path
) -> None:
    path = write_items(tmp_path / "new.parquet", string_shop)
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.drop_columns([name])
        if values is not None:
            kind = pa.string() if values[0] is None else None
            table = table.append_column(name, pa.array(values, kind))
    pq.write_table(table, path)
    with pytest.raises(DatasetError, match=message):
        Catalogue.read(str(path), string_shop.config, string_shop.dataset)


def test_csv_prices_are_numbers_too(string_shop: Shop, tmp_path: Path) -> None:
    parquet = write_items(tmp_path / "new.parquet", string_shop)
    pa.csv.write_csv(pq.read_table(parquet), tmp_path / "new.csv")
    config = string_shop.config.model_copy(
        update={
            "work_dir": str(tmp_path),
            "index": string_shop.config.index.model_copy(update={"filter_range": ["price"]}),
        }
    )
    version = export(config, string_shop.dataset, string_shop.model, items=str(tmp_path / "new.csv"), progress=False)
    manifest = read_manifest(version)
    assert manifest["filters"] == ["filter_brand", "filter_max_price", "filter_min_price"]


KILLED = """
import os, signal, sys
from pathlib import Path
from dpsr.config import parse_config
from dpsr.data.dataset.tables import Dataset
from dpsr.indexing import embedded_rows as module
from dpsr.indexing.catalogue import Catalogue
from dpsr.indexing.corpus import embed_catalogue
from dpsr.model.two_tower import TwoTower
import json
config = parse_config(json.loads(sys.argv[1]), "test")
dataset = Dataset.load(config.dataset_dir)
module._SECONDS_BETWEEN_NOTES = 0.0
class Killed(module.EmbeddedRows):
    def advance(self, done):
        super().advance(done)
        if done >= 100:
            os.kill(os.getpid(), signal.SIGKILL)
module.EmbeddedRows = Killed
model = TwoTower(config.model, dataset.schema, seed=3)
catalogue = Catalogue.of_dataset(dataset)
with module.embedded_rows(Path(sys.argv[2]), model, catalogue) as rows:
    embed_catalogue(model, catalogue, batch_size=40, progress=False, resume_from=rows)
"""


def test_after_a_kill_only_the_rest_is_embedded(string_shop: Shop, tmp_path: Path) -> None:
    config = json.dumps(string_shop.config.model_dump(mode="json", exclude_none=True))
    killed = subprocess.run([sys.executable, "-c", KILLED, config, str(tmp_path)], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()

    catalogue = Catalogue.of_dataset(string_shop.dataset)
    whole = embed(string_shop, catalogue)
    with embedded_rows(tmp_path, string_shop.model, catalogue) as rows:
        assert rows.done == 120
        np.testing.assert_allclose(rows.vectors[:120], whole[:120], atol=1e-6)
        assert not rows.vectors[120:].any()
        rows.vectors[0] = 7.0  # would be written over if it were embedded again
        vectors = embed(string_shop, catalogue, batch_size=40, resume_from=rows)
        assert (vectors[0] == 7.0).all()
        np.testing.assert_allclose(vectors[1:], whole[1:], atol=1e-6)
    assert list(tmp_path.iterdir()) == []


def test_vectors_of_another_model_or_catalogue_are_not_taken(string_shop: Shop, tmp_path: Path) -> None:
    catalogue = Catalogue.of_dataset(string_shop.dataset)
    interrupt_when_embedded(string_shop, catalogue, tmp_path)
    (kept,) = tmp_path.iterdir()
    items = write_items(tmp_path.with_suffix(".parquet"), string_shop)
    other = Catalogue.read(str(items), string_shop.config, string_shop.dataset)
    with embedded_rows(tmp_path, string_shop.model, other) as rows:
        assert rows.done == 0
        assert not kept.exists()  # nobody can use them any more
    with embedded_rows(tmp_path, string_shop.model, catalogue) as rows:
        assert rows.done == 0


def test_what_was_finished_is_not_done_again(string_shop: Shop, tmp_path: Path) -> None:
    catalogue = Catalogue.of_dataset(string_shop.dataset)
    interrupt_when_embedded(string_shop, catalogue, tmp_path)
    with embedded_rows(tmp_path, string_shop.model, catalogue) as rows:
        assert rows.done == ITEMS


def test_two_exports_do_not_embed_the_same_items(string_shop: Shop, tmp_path: Path) -> None:
    catalogue = Catalogue.of_dataset(string_shop.dataset)
    second = embedded_rows(tmp_path, string_shop.model, catalogue)
    with (
        embedded_rows(tmp_path, string_shop.model, catalogue),
        pytest.raises(ExportError, match="another export is embedding these items"),
    ):
        second.__enter__()


def test_a_damaged_file_is_begun_anew(string_shop: Shop, tmp_path: Path) -> None:
    catalogue = Catalogue.of_dataset(string_shop.dataset)
    interrupt_when_embedded(string_shop, catalogue, tmp_path)
    next(tmp_path.glob("*/vectors.npy")).write_bytes(b"nothing")
    with embedded_rows(tmp_path, string_shop.model, catalogue) as rows:
        assert rows.done == 0
        assert rows.vectors.shape == (ITEMS, 16)
