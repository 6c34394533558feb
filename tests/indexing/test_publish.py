from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from dpsr.config import Config
from dpsr.indexing import disk
from dpsr.indexing import publish as publish_module
from dpsr.indexing.catalogue import Catalogue
from dpsr.indexing.dense.ann import Index
from dpsr.indexing.errors import ExportError
from dpsr.indexing.manifest import MANIFEST_FILE, read_manifest, searcher_table
from dpsr.indexing.publish import export
from dpsr.indexing.warmup import WARMUP_FILE
from dpsr.model.two_tower import TwoTower

from .conftest import ITEMS, K, Shop, make_shop

ANSWERS = """
import sys
import tensorflow as tf
from dpsr.ops_cc import library
library.load_all()
loaded = tf.saved_model.load(sys.argv[1])
answer = loaded.signatures["serving_default"](query=tf.constant(["red shoe", ""]))
assert answer["item_id"].shape[0] == 2
mine = {name for name in sys.modules if name.startswith("dpsr.") and not name.startswith("dpsr.ops_cc")}
assert mine <= {"dpsr.config", "dpsr.errors"}, mine
"""


def names(base: Path) -> set[str]:
    return {path.name for path in base.iterdir()} if base.exists() else set()


def elsewhere(config: Config, directory: Path, **index: Any) -> Config:
    """The configuration with another place for servables."""
    return config.model_copy(update={"work_dir": str(directory), "index": config.index.model_copy(update=index)})


@pytest.fixture(scope="module")
def published(shop: Shop) -> Path:
    return export(shop.config, shop.dataset, shop.model, progress=False)


def test_the_first_version_is_whole(published: Path, shop: Shop) -> None:
    assert published == shop.config.model_base_path / "1"
    assert names(shop.config.model_base_path) == {"1"}
    assert {"saved_model.pb", "variables", "assets", "assets.extra"} <= names(published)


def test_the_manifest_says_what_was_published(published: Path, shop: Shop) -> None:
    manifest = read_manifest(published)
    assert manifest["tokenizer_fingerprint"] == shop.dataset.schema.tokenizer_fingerprint
    assert manifest["items"] == ITEMS
    assert manifest["item_id_type"] == shop.dataset.schema.item_id_type
    dense = manifest["searchers"]["dense"]
    assert dense["kind"] == "exact"
    assert dense["k"] == K
    assert dense["recall"]["serving_default"] == dense["recall"]["personalized"] == 1.0
    assert Config.model_validate(manifest["config"]) == shop.config


def test_a_manifest_of_the_first_release_names_the_dense_searcher(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_FILE).parent.mkdir()
    old = {"items": 7, "index": {"kind": "exact", "k": 5}, "recall": {"serving_default": 1.0}}
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(old))
    dense = {"kind": "exact", "k": 5, "recall": {"serving_default": 1.0}}
    assert read_manifest(tmp_path) == {"items": 7, "searchers": {"dense": dense}}


@pytest.mark.parametrize("content", [None, "{"])
def test_a_version_without_a_manifest_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / MANIFEST_FILE).parent.mkdir()
        (tmp_path / MANIFEST_FILE).write_text(content)
    with pytest.raises(ExportError, match=r"manifest\.json: not the manifest of a version .*dpsr export"):
        read_manifest(tmp_path)


def test_it_answers_where_there_is_no_model_code(published: Path) -> None:
    subprocess.run([sys.executable, "-c", ANSWERS, str(published)], check=True)


def test_warmup_requests_replay(published: Path, shop: Shop) -> None:
    loaded = tf.saved_model.load(str(published))
    signatures = []
    for record in tf.data.TFRecordDataset(str(published / WARMUP_FILE)).as_numpy_iterator():
        request = PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.name == shop.config.name
        signatures.append(request.model_spec.signature_name)
        inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        loaded.signatures[signatures[-1]](**inputs)
    assert set(signatures) == {"serving_default", "personalized", "filtered", "embed_query", "tokenize"}


def test_a_hashed_index_becomes_the_next_version_with_its_recall(string_shop: Shop, tmp_path: Path) -> None:
    config = elsewhere(string_shop.config, tmp_path, exact_below=0)
    (config.model_base_path / "6").mkdir(parents=True)
    version = export(config, string_shop.dataset, string_shop.model, progress=False)
    assert version == config.model_base_path / "7"
    assert names(config.model_base_path) == {"6", "7"}
    manifest = read_manifest(version)
    assert manifest["searchers"]["dense"]["kind"] == "hashed"
    assert 0.95 <= manifest["searchers"]["dense"]["recall"]["serving_default"] <= 1.0
    assert manifest["searchers"]["dense"]["latency_ms"] > 0
    header, _, row = (re.split(r"\s{2,}", line.strip()) for line in searcher_table(version).splitlines())
    shown = dict(zip(header, row, strict=True))
    dense = manifest["searchers"]["dense"]
    assert shown.pop("ms per vector") == f"{dense['latency_ms']:.2f}"
    assert shown == {
        "searcher": "dense",
        "items": str(ITEMS),
        "index": "hashed",
        "reorder": str(dense["reorder"]),
        "precision": "float32",
        f"recall@{K}": f"{dense['recall']['serving_default']:.4f}",
        "personalized": f"{dense['recall']['personalized']:.4f}",
    }


def test_below_the_recall_bar_nothing_is_published(string_shop: Shop, tmp_path: Path, monkeypatch: Any) -> None:
    """Half of the vectors that are indexed belong to other items."""
    build = Index.build

    def wrong(vectors: np.ndarray, k: int, **options: Any) -> Any:
        shuffled = vectors.copy()
        shuffled[: ITEMS // 2] = vectors[: ITEMS // 2][::-1]
        return build(shuffled, k, **options)

    monkeypatch.setattr(Index, "build", wrong)
    config = elsewhere(string_shop.config, tmp_path)
    with pytest.raises(ExportError, match=r"recall@20 of signature \w+ is 0\.\d+ .*index.min_recall = 0.95"):
        export(config, string_shop.dataset, string_shop.model, progress=False)
    assert names(config.model_base_path) == set()


@pytest.mark.slow
def test_a_servable_of_another_model_is_refused(string_shop: Shop, tmp_path: Path, monkeypatch: Any) -> None:
    other = TwoTower(string_shop.config.model, string_shop.dataset.schema, seed=99)
    monkeypatch.setattr(publish_module, "for_inference", lambda *_: other)
    config = elsewhere(string_shop.config, tmp_path)
    with pytest.raises(ExportError, match=r"embed_query are up to .* away from the model's"):
        export(config, string_shop.dataset, string_shop.model, progress=False)
    assert names(config.model_base_path) == set()


@pytest.mark.slow
def test_a_servable_that_does_not_load_is_refused(string_shop: Shop, tmp_path: Path, monkeypatch: Any) -> None:
    save = publish_module.RetrievalModule.save

    def truncated(self: Any, path: Path) -> None:
        save(self, path)
        for data in (path / "variables").glob("variables.data*"):
            os.truncate(data, data.stat().st_size // 2)

    monkeypatch.setattr(publish_module.RetrievalModule, "save", truncated)
    config = elsewhere(string_shop.config, tmp_path)
    with pytest.raises(ExportError, match="does not load or answer in a fresh process"):
        export(config, string_shop.dataset, string_shop.model, progress=False)
    assert names(config.model_base_path) == set()


def test_another_tokenizer_is_refused_and_both_are_named(string_shop: Shop, tmp_path: Path) -> None:
    schema = replace(string_shop.dataset.schema, tokenizer_fingerprint="abc123")
    stranger = TwoTower(string_shop.config.model, schema)
    config = elsewhere(string_shop.config, tmp_path)
    with pytest.raises(ExportError) as refused:
        export(config, string_shop.dataset, stranger, progress=False)
    assert "abc123" in str(refused.value)
    assert string_shop.dataset.schema.tokenizer_fingerprint in str(refused.value)
    assert names(config.model_base_path) == set()


def test_an_exchanged_tokenizer_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    shop = make_shop(tmp_path / "a")
    other = make_shop(tmp_path / "b", seed=2, tokenizer={"min_count": 3, "oov_buckets": 9})
    shop.dataset.tokenizer_path.write_bytes(other.dataset.tokenizer_path.read_bytes())
    with pytest.raises(ExportError, match="but the dataset's manifest says"):
        export(shop.config, shop.dataset, shop.model, progress=False)


def test_other_columns_are_refused(string_shop: Shop, tmp_path: Path) -> None:
    schema = replace(string_shop.dataset.schema, profile={"age": 9})
    stranger = TwoTower(string_shop.config.model, schema)
    with pytest.raises(ExportError, match=r"trained with profile = \{'age': 9\}"):
        export(elsewhere(string_shop.config, tmp_path), string_shop.dataset, stranger, progress=False)


KILLED = """
import sys
from dpsr.config import load_config
from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.publish import export
from dpsr.model.two_tower import TwoTower
config = load_config(sys.argv[1])
dataset = Dataset.load(config.dataset_dir)
export(config, dataset, TwoTower(config.model, dataset.schema), progress=False)
"""


@pytest.mark.slow
def test_killed_while_it_verifies_no_version_is_visible(tmp_path: Path) -> None:
    shop = make_shop(tmp_path)
    file = tmp_path / "shop.toml"
    file.write_text(_toml(shop.config.model_dump(mode="json", exclude_none=True)))
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(file)], start_new_session=True)
    base = shop.config.model_base_path
    deadline = time.monotonic() + 120
    while not list(base.glob(".tmp-*/examples/item_ids.arrow")):
        assert process.poll() is None, "the export ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    assert all(name.startswith(".tmp-") for name in names(base))
    assert export(shop.config, shop.dataset, shop.model, progress=False).name == "1"
    assert names(base) == {"1"}


def _toml(tree: dict[str, Any], prefix: str = "") -> str:
    plain = {key: value for key, value in tree.items() if not isinstance(value, dict)}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in plain.items()]
    for key, value in tree.items():
        if isinstance(value, dict):
            lines += [f"[{prefix}{key}]", _toml(value, f"{prefix}{key}.")]
    return "\n".join(lines)


@pytest.mark.parametrize(("column", "message"), [("colour", "which the items do not have"), ("title", "no numbers")])
def test_a_column_that_is_no_range_is_refused_before_items_are_embedded(
    column: str, message: str, string_shop: Shop, tmp_path: Path
) -> None:
    config = elsewhere(string_shop.config, tmp_path, filter_range=[column])
    with pytest.raises(ExportError, match=message):
        export(config, string_shop.dataset, string_shop.model, progress=False)
    assert names(config.model_base_path) == names(tmp_path / "embeddings") == set()


def test_only_the_newest_versions_are_kept(string_shop: Shop, tmp_path: Path) -> None:
    config = elsewhere(string_shop.config, tmp_path, keep_versions=2)
    for name in ("3", "5", "6"):
        (config.model_base_path / name).mkdir(parents=True)
    assert export(config, string_shop.dataset, string_shop.model, progress=False).name == "7"
    assert names(config.model_base_path) == {"6", "7"}
    assert names(tmp_path / "embeddings") == set()


def test_too_small_a_disk_is_refused_before_anything_is_done(
    string_shop: Shop, tmp_path: Path, monkeypatch: Any
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=5_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    config = elsewhere(string_shop.config, tmp_path)
    with pytest.raises(ExportError, match=r"needs about \d+ MB, but only 5 MB are free"):
        export(config, string_shop.dataset, string_shop.model, progress=False)
    assert names(config.model_base_path) == names(tmp_path / "embeddings") == set()


@pytest.mark.parametrize("exact_below", [0, 10**9])
def test_the_disk_that_is_said_to_be_needed_is_enough(
    exact_below: int, string_shop: Shop, tmp_path: Path, monkeypatch: Any
) -> None:
    """What lies on the disk when it is fullest: when the servable is checked."""
    written = []
    verify = publish_module.verify_in_fresh_process

    def measured(*paths: Any) -> dict[str, float]:
        written.append(sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()))
        return verify(*paths)

    monkeypatch.setattr(publish_module, "verify_in_fresh_process", measured)
    monkeypatch.setattr(disk, "_FIXED", 1 << 20)
    config = elsewhere(string_shop.config, tmp_path, exact_below=exact_below)
    export(config, string_shop.dataset, string_shop.model, progress=False)
    catalogue = Catalogue.of_dataset(string_shop.dataset)
    needed = disk.export_bytes(config.index, string_shop.dataset.schema, string_shop.model, catalogue)
    assert written[0] <= needed <= 10 * written[0]
