"""Fusion on the page, against the sum that a servable makes of all scores."""

from __future__ import annotations

import numpy as np
import pytest

from dpsr.page.search.fusion import ServerList, fuse

ITEMS, K = 400, 150


def best(scores: np.ndarray, source: int, k: int = K) -> ServerList:
    """The k best items, of those with a score above minus infinity."""
    order = [row for row in np.argsort(-scores, kind="stable")[:k] if np.isfinite(scores[row])]
    ids = np.array([f"item-{row}".encode() for row in order], object)
    heads = np.full(len(order), 0 if source == 1 else -1, np.int32)
    return ServerList(ids, scores[order].astype(np.float32), heads, np.full(len(order), source, np.int32), 7)


def servable(
    meaning: np.ndarray, words: np.ndarray, dense_weight: float, k: int = K
) -> tuple[ServerList, ServerList, ServerList]:
    """Lists of the modes dense, lexical and hybrid, the last of k items; those without words have minus infinity."""
    dense, lexical = best(meaning, 1), best(words, 2)
    found = [int(item.split(b"-")[1]) for item in {*dense.item_ids.tolist(), *lexical.item_ids.tolist()}]
    sums = np.full(ITEMS, -np.inf)
    sums[found] = np.maximum(words[found], 0.0) / max(words.max(), 1e-9) + dense_weight * meaning[found]
    return dense, lexical, best(sums, 3, k)


@pytest.mark.parametrize("with_words", [400, 20, 0])
@pytest.mark.parametrize("dense_weight", [0.5, 3.0])
def test_any_weight_orders_as_a_servable_of_that_weight(with_words: int, dense_weight: float) -> None:
    random = np.random.default_rng(4)
    meaning = random.uniform(-0.2, 1.0, ITEMS)
    words = np.where(np.arange(ITEMS) < with_words, random.uniform(1.0, 20.0, ITEMS), -np.inf)
    for lexical_weight in (0.2, 0.5, 0.8):
        other = servable(meaning, words, (1.0 - lexical_weight) / lexical_weight)[2]
        # Exactly so, where the servable's own list has all items of both.
        fused = fuse(*servable(meaning, words, dense_weight, k=ITEMS), lexical_weight=lexical_weight)
        assert fused.item_ids.tolist() == other.item_ids.tolist()
        np.testing.assert_allclose(fused.scores, lexical_weight * other.scores, atol=1e-5)
        assert fused.version == 7
        cut = fuse(*servable(meaning, words, dense_weight), lexical_weight=lexical_weight)
        assert len({*cut.item_ids[:20].tolist()} & {*other.item_ids[:20].tolist()}) >= 16


def test_the_ends_are_the_lists_themselves() -> None:
    random = np.random.default_rng(5)
    dense, lexical, hybrid = servable(random.uniform(0, 1, ITEMS), random.uniform(1, 9, ITEMS), 1.0)
    assert fuse(dense, lexical, hybrid, 0.0).item_ids[: K - 1].tolist() == dense.item_ids[: K - 1].tolist()
    assert fuse(dense, lexical, hybrid, 1.0).item_ids[:20].tolist() == lexical.item_ids[:20].tolist()


def test_ranks_in_place_of_sums_leave_bounds() -> None:
    """The scores of reciprocal ranks are no sums of the lists' scores: an item of one list has the other's least."""
    dense = ServerList(np.array([b"a", b"b"], object), np.float32([0.9, 0.4]), *np.int32([[0, 1], [1, 1]]))
    lexical = ServerList(np.array([b"b", b"c"], object), np.float32([8.0, 3.2]), *np.int32([[-1, -1], [2, 2]]))
    ranks = ServerList(
        np.array([b"b", b"a", b"c"], object), np.float32([0.0325, 0.0164, 0.0161]), *np.int32([[1, 0, -1], [3, 1, 2]])
    )
    fused = fuse(dense, lexical, ranks, 0.5)
    assert fused.item_ids.tolist() == [b"b", b"a"]  # b: (1 + 0.4) / 2, a: 0.9 / 2, c: (0.4 + 0.4) / 2
    np.testing.assert_allclose(fused.scores, [0.7, 0.45])
    assert (fused.sources.tolist(), fused.heads.tolist()) == ([3, 1], [1, 0])


def test_empty_lists_join() -> None:
    nothing = best(np.full(ITEMS, -np.inf), 2)
    some = best(np.linspace(1, 0, ITEMS), 1)
    assert fuse(some, nothing, some, 0.5).item_ids.tolist() == some.item_ids.tolist()
    assert fuse(nothing, nothing, nothing, 0.5).item_ids.tolist() == []
