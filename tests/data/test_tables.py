"""Bags against lists, and every way in which a dataset directory can be damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dpsr.data.dataset.schema import DatasetError, Schema
from dpsr.data.dataset.tables import Bags, Dataset
from dpsr.data.prepare.job import prepare

from .conftest import Raw


def test_bags_are_lists() -> None:
    random = np.random.default_rng(3)
    lists = [random.integers(0, 99, random.integers(0, 5)).tolist() for _ in range(40)]
    splits = np.cumsum([0, *map(len, lists)])
    bags = Bags(np.concatenate(lists).astype(np.int32), splits)
    assert len(bags) == 40
    assert [bag.tolist() for bag in bags] == lists
    assert bags[-1].tolist() == lists[-1]
    rows = random.integers(0, 40, 100)
    taken = bags.take(rows)
    assert [bag.tolist() for bag in taken] == [lists[row] for row in rows]
    assert taken.values.dtype == np.int32
    assert len(bags.take(np.array([], dtype=int))) == 0
    with pytest.raises(IndexError, match="row 40 of 40 bags"):
        bags[40]


def test_schema_survives_json(raw: Raw) -> None:
    schema = Dataset.load(prepare(raw.config(), progress=False)).schema
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


def _set_format(root: Path) -> None:
    manifest = json.loads((root / "manifest.json").read_text())
    (root / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))


def _swap_dtype(root: Path) -> None:
    values = np.load(root / "items/brand.npy")
    np.save(root / "items/brand.npy", values.view(np.float32))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda root: (root / "manifest.json").unlink(),
            "not a dataset .manifest.json is missing.; run `dpsr prepare`",
        ),
        (lambda root: (root / "manifest.json").write_text("{"), "manifest.json: not JSON"),
        (_set_format, "format 99, but this version reads 2; run `dpsr prepare` again"),
        (lambda root: (root / "users/history.values.npy").unlink(), "history.values.npy: is missing from the dataset"),
        (
            lambda root: (root / "items/items.arrow").write_bytes(b""),
            r"items.arrow: has 0 bytes, the manifest says \d+",
        ),
        (_swap_dtype, r"brand.npy: found float32 \[50\], expected int32 \[50\]"),
    ],
)
def test_a_damaged_dataset_is_an_error(raw: Raw, damage: Callable[[Path], None], message: str) -> None:
    root = prepare(raw.config(), progress=False)
    damage(root)
    with pytest.raises(DatasetError, match=message):
        Dataset.load(root)


def test_an_unknown_split_is_an_error(raw: Raw) -> None:
    with pytest.raises(ValueError, match="'dev' is none of train, valid, test"):
        Dataset.load(prepare(raw.config(), progress=False)).interactions("dev")
