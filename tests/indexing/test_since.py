"""Exports since a published version: the answers of a full export, and only what changed is embedded."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from click.testing import CliRunner

from dpsr.cli.indexing import export as export_command
from dpsr.config import Config
from dpsr.data.dataset.schema import DatasetError
from dpsr.indexing import disk
from dpsr.indexing import publish as publish_module
from dpsr.indexing.errors import ExportError
from dpsr.indexing.incremental import indexed as indexed_module
from dpsr.indexing.incremental.item_files import ITEMS_FILE, RowContents
from dpsr.indexing.manifest import MANIFEST_FILE, read_manifest, searcher_table
from dpsr.indexing.parity import ParityExamples, strings
from dpsr.indexing.publish import export
from dpsr.indexing.shards import link_shared
from dpsr.indexing.verify import VerificationError, _item_rows
from dpsr.model.two_tower import TwoTower

from .conftest import ITEMS, K, Shop, make_shop, ops_of

QUERIES = ["red shoe", "手机 case", "", "naïve 4.5 kg lamp", "fresh blue milk", "qqqq", "milk sugr"]
Row = dict[str, Any]
DEFAULTS: dict[str, Any] = {"mode": "", "filter_brand": "", "filter_min_price": -np.inf, "filter_max_price": np.inf}


def ask(loaded: Any, signature: str, queries: list[str], **inputs: Any) -> dict[str, np.ndarray]:
    names = ["mode"] if signature == "serving_default" else list(DEFAULTS)
    tensors = {name: tf.constant([inputs.get(name, DEFAULTS[name])]) for name in names}
    answer = loaded.signatures[signature](query=tf.constant(queries), **tensors)
    return {name: tensor.numpy() for name, tensor in answer.items()}


def elsewhere(config: Config, directory: Path, **index: Any) -> Config:
    return config.model_copy(update={"work_dir": str(directory), "index": config.index.model_copy(update=index)})


@dataclass
class Exports:
    """Versions of one shop, and the rows that the item tower embedded for each."""

    shop: Shop
    folder: Path
    rows: list[Row]
    embedded: list[int]

    def export(self, since: str | None = None, **index: Any) -> Path:
        """Publishes the rows as they are now."""
        config, file = elsewhere(self.shop.config, self.folder, **index), self.folder / "items.parquet"
        pq.write_table(pa.Table.from_pylist(self.rows), file)
        embed = indexed_module.embed_catalogue

        def counted(model: Any, catalogue: Any, **options: Any) -> np.ndarray:
            self.embedded.append(len(catalogue))
            return embed(model, catalogue, **options)

        self.embedded.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(indexed_module, "embed_catalogue", counted)
            return export(config, self.shop.dataset, self.shop.model, items=str(file), since=since, progress=False)


def exports_of(folder: Path, **index: Any) -> Exports:
    index = {"mode": "hybrid", "filter_range": ["price"], "fusion": "weighted_sum", **index}
    shop = make_shop(folder, item_id_type="int64", index=index)
    return Exports(shop, folder, pq.read_table(folder / "items.parquet").to_pylist(), [])


def change(rows: list[Row]) -> None:
    """Removes 4 items, gives 5 another title, 2 another brand and 3 another price, and adds 6."""
    del rows[40:44]
    for row in rows[:5]:
        row["title"] = f"fresh {row['title']}"
    for row in rows[5:7]:
        row["brand"] = "Acme" if row["brand"] != "Acme" else "Søren"
    for row in rows[7:10]:
        row["price"] = 1000.0 + row["item_id"]
    for number in range(6):
        rows.insert(
            20 * number, {"item_id": 9_000_000 + number, "title": "fresh blue milk", "brand": "New", "price": 5.0}
        )


@dataclass
class Chain:
    """Version 1 of all items, 2 with changes, 3 with some taken back; a full export of the items of 3."""

    exports: Exports
    first: Path
    second: Path
    third: Path
    rebuilt: Path


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    exports = exports_of(tmp_path_factory.mktemp("chain"))
    before = [dict(row) for row in exports.rows]
    first = exports.export()
    assert exports.embedded == [ITEMS]
    change(exports.rows)
    second = exports.export("1")
    assert exports.embedded == [13]
    by_id = {row["item_id"]: row for row in exports.rows}
    exports.rows.append(before[41])  # comes back as it was
    by_id[before[0]["item_id"]].update(before[0])
    by_id[before[1]["item_id"]]["title"] = "another red lamp"
    del exports.rows[150]
    third = exports.export("latest")
    assert exports.embedded == [1]
    anew = Exports(exports.shop, tmp_path_factory.mktemp("anew"), exports.rows, [])
    return Chain(exports, first, second, third, anew.export())


def test_the_manifest_says_what_was_taken_over(chain: Chain) -> None:
    assert [version.name for version in (chain.first, chain.second, chain.third)] == ["1", "2", "3"]
    assert "since" not in read_manifest(chain.first)
    for version, since, embedded, fresh, removed in ((chain.second, 1, 13, 13, 11), (chain.third, 2, 1, 12, 10)):
        manifest = read_manifest(version)
        assert manifest["since"] == {"version": since, "base": 1, "embedded": embedded}
        segments = manifest["searchers"]["dense"]["segments"]
        assert (segments["base"]["items"], segments["fresh"], segments["removed"]) == (ITEMS, fresh, removed)
        assert manifest["items"] == ITEMS + fresh - removed
        assert manifest["fusion"] == read_manifest(chain.first)["fusion"]
        assert f" {manifest['items']} " in searcher_table(version)
    assert read_manifest(chain.third)["items"] == len(chain.exports.rows)


def test_the_answers_are_those_of_a_full_export(chain: Chain) -> None:
    """Each alone to the last bit of a score, both together up to the rounding of inner products."""
    mine, theirs = (tf.saved_model.load(str(version)) for version in (chain.third, chain.rebuilt))
    known = {row["item_id"] for row in chain.exports.rows}
    compared = 0
    for mode in ("dense", "lexical"):
        for signature, inputs in (
            ("serving_default", {}),
            ("filtered", {"filter_brand": "Acme"}),
            ("filtered", {"filter_brand": "New"}),
            ("filtered", {"filter_min_price": 1000.0}),
            ("filtered", {"filter_min_price": 20.0, "filter_max_price": 30.0, "filter_brand": "零"}),
        ):
            found, expected = (ask(loaded, signature, QUERIES, mode=mode, **inputs) for loaded in (mine, theirs))
            np.testing.assert_allclose(found["score"], expected["score"], rtol=0 if mode == "lexical" else 1e-5)
            for ids, others, scores in zip(found["item_id"], expected["item_id"], expected["score"], strict=True):
                places = scores > -1e30
                assert ((ids >= 0) == places).all()
                assert len(set(ids[places])) == np.count_nonzero(places)
                assert set(ids[places]) <= known
                sure = others[places & (scores > scores[places].min(initial=np.inf) + 1e-5)]
                assert set(sure) <= set(ids)
                compared += len(sure)
    assert compared > 300


def test_no_variable_is_copied_for_a_request(chain: Chain) -> None:
    assert "ResourceGather" not in ops_of(chain.third)


def test_fresh_and_returned_items_are_found_and_removed_ones_are_not(chain: Chain) -> None:
    loaded = tf.saved_model.load(str(chain.third))
    answer = ask(loaded, "filtered", ["fresh blue milk"], filter_brand="New")
    ids = answer["item_id"][0]
    assert {*range(9_000_000, 9_000_006)} == set(ids[ids >= 0])
    assert answer["shortfall"].tolist() == [K - 6]


def test_contents_of_removed_rows_are_kept(chain: Chain) -> None:
    first, third = RowContents.read(chain.first), RowContents.read(chain.third)
    assert len(third) == ITEMS + 12
    assert third.slice(0, ITEMS).item_ids.equals(first.item_ids)
    np.testing.assert_array_equal(third.slice(0, ITEMS).fingerprints, first.fingerprints)


def test_what_is_taken_over_is_one_file_with_the_version(chain: Chain, tmp_path: Path) -> None:
    """By inode; the version that it came from may be removed."""
    files = [{path.stat().st_ino for path in version.glob("variables/*")} for version in (chain.first, chain.second)]
    third = sorted(chain.third.glob("variables/*.data-*"))
    in_first = [path for path in third if path.stat().st_ino in files[0]]
    in_second = [path for path in third if path.stat().st_ino in files[1]]
    assert len(in_first) >= 2
    assert set(in_first) <= set(in_second)
    assert len(in_second) < len(third)

    shop = Exports(chain.exports.shop, tmp_path, [dict(row) for row in chain.exports.rows], [])
    base = elsewhere(shop.shop.config, tmp_path).model_base_path
    shutil.copytree(chain.third, base / "3")
    version = shop.export("3")
    assert {path.stat().st_nlink for path in version.glob("variables/*.data-*")} == {1, 2}
    before = ask(tf.saved_model.load(str(version)), "serving_default", QUERIES, mode="hybrid")
    shutil.rmtree(base / "3")
    after = ask(tf.saved_model.load(str(version)), "serving_default", QUERIES, mode="hybrid")
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)


def test_without_hard_links_the_files_are_copies(chain: Chain, tmp_path: Path, monkeypatch: Any, caplog: Any) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    caplog.set_level("INFO")
    shutil.copytree(chain.third, tmp_path / "copy")
    assert link_shared(tmp_path / "copy", chain.second) == 0
    assert "stays a copy" in caplog.text
    assert {path.stat().st_nlink for path in (tmp_path / "copy").glob("variables/*")} == {1}
    monkeypatch.undo()
    size = link_shared(tmp_path / "copy", chain.second)
    assert size == sum(
        path.stat().st_size for path in (tmp_path / "copy").glob("variables/*") if path.stat().st_nlink > 1
    )
    assert size > 0


def test_many_changes_build_the_index_anew(chain: Chain, tmp_path: Path) -> None:
    """From the float32 vectors of both segments; one item is embedded."""
    shutil.copytree(chain.third.parent, elsewhere(chain.exports.shop.config, tmp_path).model_base_path)
    exports = Exports(chain.exports.shop, tmp_path, [dict(row) for row in chain.exports.rows], [])
    exports.rows[3]["title"] = "red red shoe"
    version = exports.export("3", merge_above=0.0)
    assert exports.embedded == [1]
    manifest = read_manifest(version)
    assert manifest["since"].keys() == {"version", "merged", "embedded"}
    assert "more than index.merge_above = 0.0" in manifest["since"]["merged"]
    assert "segments" not in manifest["searchers"]["dense"]
    loaded = (tf.saved_model.load(str(each)) for each in (version, chain.rebuilt))
    scores = [ask(each, "serving_default", QUERIES, mode="dense")["score"] for each in loaded]
    assert np.isclose(*scores, rtol=1e-5).mean() > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_an_approximate_base(precision: str, tmp_path: Path) -> None:
    exports = exports_of(tmp_path, mode="dense", exact_below=0, precision=precision, fusion=None)
    plan = read_manifest(exports.export())["searchers"]["dense"]
    change(exports.rows)
    segments = read_manifest(exports.export("latest"))["searchers"]["dense"]
    assert segments["kind"] == plan["kind"] == "hashed"
    assert segments["reorder"] == plan["reorder"]
    assert segments["recall"]["serving_default"] >= 0.95
    exports.rows[3]["title"] = "red red shoe"
    exports.export("latest", merge_above=0.0)
    assert exports.embedded == [1 if precision == "float32" else len(exports.rows)]


def test_the_disk_that_is_said_to_be_needed_is_enough(chain: Chain, tmp_path: Path, monkeypatch: Any) -> None:
    base = elsewhere(chain.exports.shop.config, tmp_path).model_base_path
    shutil.copytree(chain.second, base / "2")
    exports = Exports(chain.exports.shop, tmp_path, [dict(row) for row in chain.exports.rows], [])
    exports.rows[3]["title"] = "red red shoe"
    needed, written = [], []
    verify, require = publish_module.verify_in_fresh_process, publish_module.require_free

    def measured(*paths: Any) -> dict[str, float]:
        written.append(sum(path.stat().st_size for path in base.glob(".tmp-*/**/*") if path.is_file()))
        return verify(*paths)

    monkeypatch.setattr(publish_module, "verify_in_fresh_process", measured)
    monkeypatch.setattr(publish_module, "require_free", lambda at, count: needed.append(count) or require(at, count))
    monkeypatch.setattr(disk, "_FIXED", 1 << 20)
    exports.export("2")
    assert written[0] <= needed[0] <= 10 * written[0]


@pytest.fixture
def published(chain: Chain, tmp_path: Path) -> Iterator[Callable[..., Exports]]:
    """A shop with version 1 as an export left it, but for changes of its manifest; nothing may be added to it."""
    exports = Exports(chain.exports.shop, tmp_path, [dict(row) for row in chain.exports.rows], [])
    base = elsewhere(exports.shop.config, tmp_path).model_base_path
    shutil.copytree(chain.first / "assets.extra", base / "1" / "assets.extra")

    def with_manifest(**changes: Any) -> Exports:
        path = base / "1" / MANIFEST_FILE
        manifest = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in manifest.items() if value is not None}))
        return exports

    yield with_manifest
    assert {path.name for path in base.iterdir()} == {"1"}
    assert exports.embedded == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_fingerprint": None}, "published by an older release"),
        ({"model_fingerprint": "abc123"}, r"published with model abc123, but this run has model [0-9a-f]{32}"),
        ({"tokenizer_fingerprint": "abc123"}, r"with tokenizer abc123, but this run has tokenizer [0-9a-f]+"),
        ({"item_id_type": "string"}, "item ids of type string, but this run has item ids of type int64"),
        ({"dimension": 99}, "vectors of dimension 99, but this run has vectors of dimension 16"),
    ],
)
def test_a_version_of_another_model_is_refused(
    changes: dict[str, Any], message: str, published: Callable[..., Exports]
) -> None:
    with pytest.raises(ExportError, match=message):
        published(**changes).export("1")


def test_another_model_is_refused(published: Callable[..., Exports]) -> None:
    exports = published()
    config, dataset = elsewhere(exports.shop.config, exports.folder), exports.shop.dataset
    with pytest.raises(ExportError, match=r"with model [0-9a-f]{32}, but this run has model [0-9a-f]{32}"):
        export(config, dataset, TwoTower(config.model, dataset.schema, seed=99), since="1", progress=False)


@pytest.mark.parametrize("since", ["7", "0", "-1", "newest"])
def test_a_version_that_is_gone_is_named(since: str, published: Callable[..., Exports]) -> None:
    with pytest.raises(ExportError, match=rf"has no version {since} \(found: 1; index.keep_versions"):
        published().export(since)


def test_a_version_without_its_files_is_refused(published: Callable[..., Exports]) -> None:
    exports = published()
    version = elsewhere(exports.shop.config, exports.folder).model_base_path / "1"
    (version / ITEMS_FILE).write_bytes(b"ARROW1")
    with pytest.raises(ExportError, match=r"items\.arrow: not the items of a version"):
        exports.export("1")
    (version / MANIFEST_FILE).unlink()
    with pytest.raises(ExportError, match="not the manifest of a version"):
        exports.export("1")


def test_doubled_ids_are_refused(published: Callable[..., Exports]) -> None:
    exports = published()
    exports.rows.append(exports.rows[0])
    with pytest.raises(DatasetError, match="occur more than once"):
        exports.export("1")


def test_without_any_version_there_is_no_latest(string_shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"has no version latest \(found: none"):
        export(elsewhere(string_shop.config, tmp_path), string_shop.dataset, string_shop.model, since="latest")


def test_the_command_passes_the_version(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(config: Config, dataset: Any, model: Any, **options: Any) -> Path:
        asked.append(options)
        return chain.third

    monkeypatch.setattr(publish_module, "export", run)
    monkeypatch.setattr("dpsr.model.trained.load_model", lambda *_: None)
    monkeypatch.setattr("dpsr.cli.options.load_config", lambda *_: chain.exports.shop.config)
    done = CliRunner().invoke(export_command, ["-c", "shop.toml", "--items", "today.parquet", "--since", "2"])
    assert done.exit_code == 0, done.output
    assert asked == [{"items": "today.parquet", "log": None, "since": "2"}]
    assert done.output.endswith(f"servable: {chain.third}\n")


@pytest.mark.parametrize(
    ("ids", "scores", "message"),
    [
        ([1, 2], [0.5, 0.4], None),
        ([1, -1], [0.5, tf.float32.min], None),
        ([1, 7], [0.5, 0.4], "item 7 is found, which is none of the catalogue"),
        ([1, -1], [0.5, 0.4], "item -1 is found, which is none of the catalogue"),
        ([2, 2], [0.5, 0.4], "query 'red': an item is found twice"),
    ],
)
def test_answers_with_tombstones_or_doubled_items_do_not_verify(
    ids: list[int], scores: list[float], message: str | None
) -> None:
    heads = np.zeros((1, 1, 4), np.float32)
    examples = ParityExamples(pa.array([1, 2]), {"query": strings(["red"])}, heads)
    answer = {"item_id": np.array([ids]), "score": np.array([scores], np.float32)}
    if message is None:
        assert _item_rows(answer, examples).tolist() == [[ids.index(1), 1 if 2 in ids else -1]]
    else:
        with pytest.raises(VerificationError, match=message):
            _item_rows(answer, examples)
