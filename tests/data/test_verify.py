"""A dataset's summary, and its check: whatever is corrupted is found and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from dpsr.cli import main
from dpsr.data.dataset import verify as verify_module
from dpsr.data.dataset.records import Layout, read_records, write_records
from dpsr.data.dataset.schema import SKIPS_FILE, ages_file, split_file
from dpsr.data.dataset.verify import verify
from dpsr.data.prepare.job import prepare, sha256

from .conftest import Raw, random_raw


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = random_raw(tmp_path_factory.mktemp("raw"))
    raw.write()
    labels = [{"query": f"red {number}", "item_id": f"i{number}", "label": number} for number in range(20)]
    pq.write_table(pa.Table.from_pylist(labels), raw.directory / "labels.parquet")
    return prepare(raw.config(supervision={"path": str(raw.directory / "labels.parquet")}), progress=False)


@pytest.fixture
def root(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "dataset"))


def test_a_fresh_dataset_has_no_problem(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify(root) == []
    monkeypatch.setattr(verify_module, "_EVENTS_AT_ONCE", 50)
    assert verify(root) == []
    raw = random_raw(tmp_path, rows=500, with_users=False)
    raw.write()
    assert verify(prepare(raw.config("other"), progress=False)) == []


def listed_anew(root: Path) -> None:
    """Lets the manifest agree with the bytes that are there, as if they had been written so."""
    path = root / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in manifest["files"]:
        manifest["files"][name] = {"bytes": (root / name).stat().st_size, "sha256": sha256(root / name)}
    path.write_text(json.dumps(manifest))


def test_every_changed_byte_is_found(root: Path) -> None:
    for name in json.loads((root / "manifest.json").read_text())["files"]:
        path = root / name
        whole = path.read_bytes()
        broken = bytearray(whole)
        broken[len(whole) // 2] ^= 1
        path.write_bytes(broken)
        assert any(name in problem for problem in verify(root)), name
        path.write_bytes(whole)
    assert verify(root) == []


def change_records(name: str, change: Callable[[np.ndarray], Any]) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        records = read_records(root / name)
        changed = change(records)
        write_records(root / name, Layout((20, 20, 20, 20)), [records if changed is None else changed])

    return apply


def change_array(name: str, change: Callable[[np.ndarray], Any]) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        array = np.load(root / name)
        changed = change(array)
        np.save(root / name, array if changed is None else changed)

    return apply


def change_manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        path = root / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return apply


def setter(field: str, value: int) -> Callable[[np.ndarray], None]:
    def apply(records: np.ndarray) -> None:
        records[field][7] = value

    return apply


def see_the_future(records: np.ndarray) -> None:
    place = np.flatnonzero((records["user"] >= 0) & (records["history_end"] < 3))[0]
    records["history_end"][place] += 1


def swap_items(values: np.ndarray) -> None:
    place = np.flatnonzero(values[1:] != values[:-1])[3]
    values[place], values[place + 1] = values[place + 1], values[place]


def repeat_an_id(root: Path) -> None:
    path = root / "queries/queries.arrow"
    texts = pa.ipc.open_file(path).read_all().column("query").to_pylist()
    texts[3] = texts[4]
    table = pa.table({"query": texts})
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


def cut_off(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:-size])


def overlap(manifest: dict[str, Any]) -> None:
    manifest["time"]["train"][1] = manifest["time"]["valid"][1]


TRAIN, TEST = split_file("train"), split_file("test")
CORRUPTIONS: list[tuple[str, Callable[[Path], None], str]] = [
    ("query", change_records(TRAIN, setter("query", 9999)), "1 records whose query is out of range"),
    ("item", change_records(TEST, setter("item", 50)), f"{TEST}: 1 records whose item is out of range"),
    ("user", change_records(TRAIN, setter("user", 30)), "1 records whose user is out of range"),
    ("event", change_records(TRAIN, setter("event", 3)), "1 records whose event is out of range"),
    ("skip", change_records(SKIPS_FILE, setter("event", 1)), f"{SKIPS_FILE}: 1 records whose event is out of range"),
    ("past", change_records(TRAIN, see_the_future), "history_end is not the number of events before"),
    ("far past", change_records(TRAIN, setter("history_end", 5000)), "1 records whose history_end is out of range"),
    ("lost record", change_records(TRAIN, lambda records: records[1:]), "the manifest says"),
    (
        "other item",
        change_records(TRAIN, lambda records: records["item"].put(9, (records["item"][9] + 1) % 50)),
        "not where",
    ),
    ("history", change_array("users/history.values.npy", swap_items), "not where the interactions have them"),
    (
        "history id",
        change_array("users/history.values.npy", lambda values: values.put(5, 50)),
        "1 ids are not in 0..49",
    ),
    ("splits", change_array("items/tokens.row_splits.npy", lambda splits: splits.put(5, 10**6)), "goes down"),
    ("token", change_array("items/tokens.values.npy", lambda values: values.put(5, 0)), "1 ids are not in 1.."),
    ("category", change_array("items/brand.npy", lambda ids: ids.put(5, 5)), "items/brand.npy: 1 ids are not in 0..4"),
    ("vocabulary", lambda root: (root / "vocabularies/items.brand.json").write_text("[]") and None, "items.brand.json"),
    ("label", change_array("supervision/labels.npy", setter("item", 50)), "labels.npy (item): 1 ids are not in 0..49"),
    ("texts", repeat_an_id, "queries.arrow: has the same value in more than one row"),
    ("times", change_manifest(overlap), "they overlap"),
    (
        "fingerprint",
        change_manifest(lambda tree: tree["schema"].update(tokenizer_fingerprint="0")),
        "tokenizer.model: is",
    ),
    ("lost age", lambda root: cut_off(root / ages_file("train"), 2), "ages for"),
    ("counts", change_manifest(lambda tree: tree["counts"]["events"].update(click=1)), "do not add up"),
    ("more files", lambda root: (root / "items/more").touch(), "items/more: is not in the manifest"),
    ("fewer files", lambda root: (root / TEST).unlink(), "is missing from the dataset"),
]


@pytest.mark.parametrize(("corrupt", "message"), [pytest.param(c, m, id=name) for name, c, m in CORRUPTIONS])
def test_every_broken_invariant_is_found(root: Path, corrupt: Callable[[Path], None], message: str) -> None:
    corrupt(root)
    if (root / TEST).exists():
        listed_anew(root)
    problems = verify(root)
    assert any(message in problem for problem in problems), problems


def test_splits_that_mix_the_times_of_a_user_are_found(root: Path) -> None:
    train, test = read_records(root / TRAIN), read_records(root / TEST)
    late = np.flatnonzero(test["user"] >= 0)[-1]
    early = np.flatnonzero((train["user"] == test["user"][late]) & (train["history_end"] == 0))[0]
    train[early], test[late] = test[late].copy(), train[early].copy()
    for name, records in ((TRAIN, train), (TEST, test)):
        write_records(root / name, Layout((20, 20, 20, 20)), [records])
    listed_anew(root)
    assert any("events of an earlier split come after" in problem for problem in verify(root))


def test_the_commands(root: Path) -> None:
    result = CliRunner().invoke(main, ["data", "verify", str(root)])
    assert (result.exit_code, "no problem found" in result.output) == (0, True)
    result = CliRunner().invoke(main, ["data", "inspect", str(root)])
    assert result.exit_code == 0
    (root / "items/more").touch()
    result = CliRunner().invoke(main, ["data", "verify", str(root)])
    assert result.exit_code == 1
    assert "items/more: is not in the manifest" in result.output
    result = CliRunner().invoke(main, ["data", "inspect", str(root / "nowhere")])
    assert (result.exit_code, "not a dataset" in result.output) == (1, True)


def test_the_summary_tells_what_is_there(raw: Raw) -> None:
    raw.interactions[5]["item_id"] = "nope"
    raw.write()
    root = prepare(raw.config(), progress=False)
    text = CliRunner().invoke(main, ["data", "inspect", str(root)]).output
    counts = json.loads((root / "manifest.json").read_text())["counts"]
    for expected in (
        f"{counts['train']:,}",
        f"{counts['events']['click']:,} clicks",
        "unknown item_id (1)",
        "items.brand",
    ):
        assert expected in text
    query = read_records(root / TEST)["query"][0]
    assert pa.ipc.open_file(root / "queries/queries.arrow").read_all().column("query")[query].as_py() in text
