"""Fingerprints of items: equal exactly where texts and categories are the same."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest

from dpsr.data.dataset.tables import Bags
from dpsr.indexing import fingerprints
from dpsr.indexing.catalogue import Catalogue
from dpsr.indexing.fingerprints import row_fingerprints
from dpsr.indexing.item_texts import EncodedTexts

Item = tuple[str | None, str | None, int]
CONTENTS: list[Item] = [
    ("red shoe", "", 0),
    ("red shoe", None, 0),
    ("red shoe", "", 1),
    ("", "red shoe", 0),
    (None, "red shoe", 0),
    ("red", " shoe", 0),
    ("red ", "shoe", 0),
    ("", "", 0),
    (None, None, 0),
    ("\0", "", 0),
    ("\0\0", "", 0),
    ("手机 case of nine bytes", "a", 1),
    ("手机 case of nine bytez", "a", 1),
    ("12345678", "", 0),
    ("12345678\0", "", 0),
]


def catalogue(items: list[Item], chunks: int = 1) -> Catalogue:
    titles, brands, categories = zip(*items, strict=True)
    columns = {"title": pa.array(titles, pa.string()), "brand": pa.array(brands, pa.string())}
    cuts = np.linspace(0, len(items), chunks + 1).astype(int)
    parts = [pa.table(columns).slice(first, end - first) for first, end in itertools.pairwise(cuts)]
    ids = np.arange(len(items))
    none = EncodedTexts(Bags(np.empty(0, np.int32), np.zeros(len(items) + 1, np.int64)))
    return Catalogue(ids, pa.concat_tables(parts), none, {"kind": np.array(categories, np.int32)})


@pytest.mark.parametrize("at_once", [1, 3, 1 << 16])
@pytest.mark.parametrize("chunks", [1, 7])
def test_equal_contents_have_equal_fingerprints_and_others_have_not(
    at_once: int, chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "_ROWS_AT_ONCE", at_once)
    drawn = [CONTENTS[place] for place in np.random.default_rng(1).integers(len(CONTENTS), size=200)]
    seen: dict[Item, set[int]] = {}
    found = row_fingerprints(catalogue(drawn, chunks), ["title", "brand"])
    for item, fingerprint in zip(drawn, found.tolist(), strict=True):
        seen.setdefault(item, set()).add(fingerprint)
    assert all(len(each) == 1 for each in seen.values())
    assert len(set.union(*seen.values())) == len(seen) == len(CONTENTS)


def test_columns_that_are_not_read_do_not_count() -> None:
    found = row_fingerprints(catalogue([("red", "a", 0), ("red", "b", 0), ("blue", "a", 0)]), ["title"])
    assert found[0] == found[1] != found[2]


def test_a_catalogue_has_few_collisions() -> None:
    items: list[Item] = [(f"item {number}", "a", 0) for number in range(300_000)]
    assert len(np.unique(row_fingerprints(catalogue(items), ["title", "brand"]))) == len(items)
