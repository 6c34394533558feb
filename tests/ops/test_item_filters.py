from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from dpsr.ops_cc.item_filters import CategoryColumn, FilterRequest, NumberColumn

QUERIES = 5


class Drawn:
    """Columns, what queries ask of them, and which items match, bool [QUERIES, items], in NumPy."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        items = int(rng.integers(1, 3000))
        categories, numbers = int(rng.integers(0, 3)), int(rng.integers(0, 3))
        ids = [rng.integers(-1, 6, items).astype(np.int32) for _ in range(max(categories, 1 - numbers))]
        values = [rng.integers(0, 40, items).astype(np.float32) for _ in range(numbers)]
        for column in ids:
            column[column <= 0] = -2
        for column in values:
            column[rng.random(items) < 0.1] = np.nan
            column[rng.random(items) < 0.05] = rng.choice([-np.inf, np.inf])
        wanted = [rng.choice([0, 0, -1, 1, 2, 5, 6, 9], QUERIES).astype(np.int32) for _ in ids]
        low, high = (
            [
                np.where(rng.random(QUERIES) < 0.4, open_, rng.integers(-1, 42, QUERIES)).astype(np.float32)
                for _ in values
            ]
            for open_ in (-np.inf, np.inf)
        )
        self.items = items
        self.request = FilterRequest(
            [CategoryColumn.of_ids(column, 5) for column in ids],
            [NumberColumn.of_values(column) for column in values],
            wanted,
            low,
            high,
        )
        self.active = np.zeros(QUERIES, bool)
        self.matches = np.ones((QUERIES, items), bool)
        for column, value in zip(ids, wanted, strict=True):
            self.active |= value != 0
            self.matches &= (value[:, None] == 0) | (column == value[:, None])
        for column, least, most in zip(values, low, high, strict=True):
            unlimited = np.isneginf(least) & np.isposinf(most)
            self.active |= ~unlimited
            self.matches &= unlimited[:, None] | ((column >= least[:, None]) & (column <= most[:, None]))


@pytest.mark.parametrize("seed", range(25))
def test_lists_bits_and_checks_are_those_of_numpy(seed: int) -> None:
    drawn = Drawn(seed)
    rng = np.random.default_rng(seed)
    counts = drawn.matches.sum(axis=1)
    most = int(rng.integers(0, drawn.items + 1))
    for limit in (most, drawn.items):
        rows, matching = drawn.request.matching_rows(limit)
        for query in range(QUERIES):
            listed = drawn.active[query] and counts[query] <= limit
            expected = np.flatnonzero(drawn.matches[query]).tolist() if listed else []
            assert rows[query].numpy().tolist() == expected
            if listed or not drawn.active[query]:
                assert matching[query] == counts[query]
            else:
                assert limit < matching[query] <= drawn.items
    bits = np.packbits(drawn.matches, axis=1, bitorder="little")
    np.testing.assert_array_equal(drawn.request.matching_bits(), bits)
    given = rng.integers(-3, drawn.items, (QUERIES, 2, 50)).astype(np.int32)
    kept = np.where((given >= 0) & drawn.matches[np.arange(QUERIES)[:, None, None], np.maximum(given, 0)], given, -1)
    np.testing.assert_array_equal(drawn.request.keep_matching(tf.constant(given)), kept)


def test_an_estimate_looks_at_the_whole_list() -> None:
    """Items in the order of both columns: those that match stand together, at the end of the list of either filter."""
    items = 50_000
    number = NumberColumn.of_values(np.arange(items, dtype=np.float32))
    request = FilterRequest([], [number, number], [], [[-np.inf], [20_000]], [[29_999], [np.inf]])
    _, matching = request.matching_rows(100)
    assert matching.numpy().tolist() == pytest.approx([10_000], rel=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda request: request._replace(categories=[], wanted=[]), "no column to filter by"),
        (
            lambda request: request._replace(categories=[request.categories[0]._replace(splits=[])]),
            "id_splits of column 0 are empty",
        ),
        (
            lambda request: request._replace(
                categories=[*request.categories, CategoryColumn([1], [0, 1], [0])], wanted=[[1], [1]]
            ),
            "ids of column 1 have shape",
        ),
        (
            lambda request: request._replace(categories=[*request.categories] * 2, wanted=[[1], [1, 2]]),
            "wanted_ids of column 1 have shape",
        ),
    ],
)
def test_unusable_columns_are_named(change: Callable[[FilterRequest], FilterRequest], message: str) -> None:
    column = CategoryColumn.of_ids(np.array([1, 2], np.int32), 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        change(FilterRequest([column], [], [np.array([1], np.int32)], [], [])).matching_rows(5)
