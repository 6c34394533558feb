"""Fingerprints of items: equal exactly where the item tower reads the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dpsr.data.dataset.tables import Bags
from dpsr.indexing import fingerprints
from dpsr.indexing.catalogue import Catalogue
from dpsr.indexing.fingerprints import row_fingerprints


def model(*, subwords: bool = False, columns: tuple[str, ...] = ()) -> Any:
    encoders = SimpleNamespace(columns=columns) if columns else None
    return SimpleNamespace(config=SimpleNamespace(reads_subwords=subwords), item_encoders=encoders)


def catalogue(tokens: list[list[int]], brands: list[int], texts: list[str | None] | None = None) -> Catalogue:
    values = np.array([token for bag in tokens for token in bag], np.int32)
    bags = Bags(values, np.cumsum([0, *map(len, tokens)]))
    ids = np.array([f"item-{row}" for row in range(len(tokens))], object)
    table = pa.table({"item_id": ids, "title": pa.array(texts or [None] * len(tokens), pa.string())})
    return Catalogue(ids, table, bags, {"brand": np.array(brands, np.int32)}, bags)


CONTENTS = [([], 0), ([1], 0), ([1], 1), ([1, 2], 0), ([2, 1], 0), ([1, 2, 0], 0), ([0], 0), ([0, 0], 0), ([2], 1)]


@pytest.mark.parametrize("at_once", [1, 3, 1 << 18])
def test_equal_contents_have_equal_fingerprints_and_others_have_not(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    drawn = [CONTENTS[place] for place in rng.integers(len(CONTENTS), size=200)]
    tokens, brands = map(list, zip(*drawn, strict=True))
    whole = row_fingerprints(model(), catalogue(tokens, brands))
    monkeypatch.setattr(fingerprints, "_VALUES_AT_ONCE", at_once)
    np.testing.assert_array_equal(row_fingerprints(model(), catalogue(tokens, brands)), whole)
    seen: dict[str, set[int]] = {}
    for content, found in zip(map(repr, drawn), whole.tolist(), strict=True):
        seen.setdefault(content, set()).add(found)
    assert all(len(found) == 1 for found in seen.values())
    assert len(set.union(*seen.values())) == len(seen) == len(CONTENTS)


def test_texts_count_where_a_teacher_reads_them() -> None:
    texts = ["red", "shoe", "redshoe", "", None, "red", "手机"]
    same = catalogue([[1]] * len(texts), [0] * len(texts), texts)
    assert len(set(row_fingerprints(model(), same).tolist())) == 1
    found = row_fingerprints(model(columns=("title",)), same).tolist()
    assert found[0] == found[5]
    assert len(set(found)) == len(texts) - 1
    sliced = Catalogue(
        same.item_ids[2:],
        same.table.slice(2),
        same.tokens.take(np.arange(2, 7)),
        {"brand": same.categorical["brand"][2:]},
    )
    assert row_fingerprints(model(columns=("title",)), sliced).tolist() == found[2:]


def test_a_catalogue_has_few_collisions() -> None:
    bags = np.random.default_rng(2).integers(1, 50, size=(300_000, 4)).tolist()
    found = row_fingerprints(model(subwords=True), catalogue(bags, [0] * len(bags)))
    assert len(np.unique(found)) == len({tuple(bag) for bag in bags})
