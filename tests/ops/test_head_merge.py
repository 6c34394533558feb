from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from dpsr.ops_cc.head_merge import NO_ROW, NO_SCORE, merge_heads

from .stock_merge import stock_merge_heads


def merge_oracle(rows: np.ndarray, scores: np.ndarray, k: int) -> list[tuple[int, float, int]]:
    best: dict[int, tuple[float, int]] = {}
    for head in range(rows.shape[0]):
        for row, score in zip(rows[head].tolist(), scores[head].tolist(), strict=True):
            if row >= 0 and (row not in best or score > best[row][0]):
                best[row] = (score, head)
    ranked = sorted(
        ((row, score, head) for row, (score, head) in best.items()), key=lambda found: (-found[1], found[0])
    )
    return (ranked + [(NO_ROW, float(NO_SCORE), NO_ROW)] * k)[:k]


def head_lists(rng: np.random.Generator, batch: int, heads: int, per_head: int, items: int) -> tuple[np.ndarray, ...]:
    """Sorted lists of distinct rows; few distinct scores, so that there are ties within and between the heads."""
    rows = np.stack([rng.permutation(items)[:per_head] for _ in range(batch * heads)]).reshape(-1, per_head)
    scores = -np.sort(-rng.integers(-6, 7, size=rows.shape).astype(np.float32) / 8, axis=1)
    short = rng.integers(0, per_head + 1, size=len(rows)) * rng.integers(0, 2, size=len(rows))
    missing = np.arange(per_head) >= per_head - short[:, np.newaxis]
    rows, scores = np.where(missing, NO_ROW, rows), np.where(missing, np.float32(NO_SCORE), scores)
    return tuple(array.reshape(batch, heads, per_head) for array in (rows.astype(np.int32), scores))


def assert_is(answer: tuple[tf.Tensor, ...], rows: np.ndarray, scores: np.ndarray, k: int) -> None:
    merged, best, found_by = (tensor.numpy() for tensor in answer)
    for i in range(len(rows)):
        found = list(zip(merged[i].tolist(), best[i].tolist(), found_by[i].tolist(), strict=True))
        assert found == merge_oracle(rows[i], scores[i], k)


@pytest.mark.parametrize("heads", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(10))
def test_merge_equals_the_oracle(seed: int, heads: int) -> None:
    rng = np.random.default_rng(seed)
    per_head = int(rng.integers(1, 30))
    rows, scores = head_lists(rng, 5, heads, per_head, items=per_head + int(rng.integers(0, 20)))
    k = int(rng.integers(1, 2 * per_head * heads))
    assert_is(merge_heads(rows, scores, k), rows, scores, k)


@pytest.mark.parametrize("heads", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_merge_of_full_size_equals_the_stock_ops(seed: int, heads: int) -> None:
    """Continuous scores: the stock ops order ties by where they stand, not by row."""
    rng = np.random.default_rng(seed)
    rows, _ = head_lists(rng, 7, heads, 1000, items=5000)
    scores = -np.sort(-rng.random(rows.shape, np.float32))
    scores = np.where(rows < 0, np.float32(NO_SCORE), scores)
    stock = stock_merge_heads(tf.constant(rows), tf.constant(scores), 1000)
    for found, expected in zip(merge_heads(rows, scores, 1000), stock, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("seed", range(5))
def test_rows_that_are_crossed_out_are_passed_over(seed: int) -> None:
    """Negative rows in the middle of a list, whatever score stands there."""
    rng = np.random.default_rng(seed)
    rows, scores = head_lists(rng, 4, 3, 40, items=50)
    crossed_out = rng.random(rows.shape) < 0.7
    rows = np.where(crossed_out, rng.integers(-9, 0, size=rows.shape), rows).astype(np.int32)
    scores = np.where(crossed_out & (rng.random(rows.shape) < 0.5), np.float32(np.nan), scores)
    assert_is(merge_heads(rows, scores, 25), rows, scores, 25)


def test_more_ties_than_results_are_ordered_by_row() -> None:
    rows = np.random.default_rng(1).permutation(5000).astype(np.int32).reshape(1, 2, 2500)
    merged, _, heads = merge_heads(rows, np.zeros(rows.shape, np.float32), 10)
    assert merged.numpy().tolist() == [list(range(10))]
    assert heads.numpy().tolist() == [[int(row in rows[0, 1]) for row in range(10)]]


def test_of_equal_scores_the_first_head_is_named() -> None:
    _, _, heads = merge_heads([[[4, 9], [9, 4], [9, 4]]], np.full([1, 3, 2], 0.5, np.float32), 2)
    assert heads.numpy().tolist() == [[0, 0]]


def test_a_query_does_not_see_the_rows_of_another() -> None:
    rng = np.random.default_rng(2)
    rows, scores = head_lists(rng, 64, 2, 20, items=30)
    whole = merge_heads(rows, scores, 20)
    for i in range(len(rows)):
        for single, batch in zip(merge_heads(rows[i : i + 1], scores[i : i + 1], 20), whole, strict=True):
            np.testing.assert_array_equal(single[0], batch[i])


@pytest.mark.parametrize("shape", [(0, 2, 7), (3, 2, 0), (3, 0, 5)])
def test_where_nothing_came_in_nothing_is_found(shape: tuple[int, ...]) -> None:
    merged, best, heads = merge_heads(tf.zeros(shape, tf.int32), tf.zeros(shape), 5)
    assert merged.shape == best.shape == heads.shape == (shape[0], 5)
    assert (merged.numpy() == NO_ROW).all()
    assert (heads.numpy() == NO_ROW).all()
    assert (best.numpy() == np.float32(NO_SCORE)).all()


@pytest.mark.parametrize("worst", [0.9, np.nan])
def test_a_list_out_of_order_is_refused(worst: float) -> None:
    scores = np.array([[[0.8, 0.1], [0.7, worst]]], np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="query 0, head 1 are not sorted"):
        merge_heads([[[1, 2], [3, 4]]], scores, 4)


def test_a_list_that_starts_with_nan_is_refused() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="query 0, head 0"):
        merge_heads([[[1, 2]]], np.array([[[np.nan, 0.5]]], np.float32), 2)


def test_rows_and_scores_of_different_shapes_are_refused() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"expected both \[B, m, n\]"):
        merge_heads(tf.zeros([1, 2, 3], tf.int32), tf.zeros([1, 2, 4]), 2)


def test_the_shape_is_known_before_it_runs() -> None:
    graph = tf.function(lambda rows, scores: merge_heads(rows, scores, 9))
    rows, scores = tf.TensorSpec([None, None, None], tf.int32), tf.TensorSpec([3, 2, None], tf.float32)
    for tensor in graph.get_concrete_function(rows, scores).structured_outputs:
        assert tensor.shape == (3, 9)
    with pytest.raises(ValueError, match="must be rank 3"):
        graph.get_concrete_function(rows, tf.TensorSpec([3, 2], tf.float32))


def test_inside_a_graph_of_unknown_sizes_nothing_changes() -> None:
    signature = [tf.TensorSpec([None, 2, None], tf.int32), tf.TensorSpec([None, 2, None], tf.float32)]
    graph = tf.function(lambda rows, scores: merge_heads(rows, scores, 9), input_signature=signature)
    rows, scores = head_lists(np.random.default_rng(3), 4, 2, 12, items=15)
    for inside, outside in zip(graph(rows, scores), merge_heads(rows, scores, 9), strict=True):
        np.testing.assert_array_equal(inside, outside)
