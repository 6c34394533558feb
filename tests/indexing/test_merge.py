from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from dpsr.indexing.merge import NO_ROW, NO_SCORE, merge_heads


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
    rows = np.stack([rng.permutation(items)[:per_head] for _ in range(batch * heads)])
    scores = -np.sort(-rng.integers(-6, 7, size=rows.shape).astype(np.float32) / 8, axis=1)
    short = rng.integers(0, per_head + 1, size=len(rows)) * rng.integers(0, 2, size=len(rows))
    missing = np.arange(per_head) >= per_head - short[:, np.newaxis]
    rows, scores = np.where(missing, NO_ROW, rows), np.where(missing, np.float32(NO_SCORE), scores)
    return tuple(array.reshape(batch, heads, per_head) for array in (rows.astype(np.int32), scores))


@pytest.mark.parametrize("heads", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_merge_equals_the_oracle(seed: int, heads: int) -> None:
    rng = np.random.default_rng(seed)
    per_head = int(rng.integers(1, 30))
    rows, scores = head_lists(rng, 5, heads, per_head, items=per_head + int(rng.integers(0, 20)))
    k = int(rng.integers(1, 2 * per_head * heads))

    merged, best, found_by = (tensor.numpy() for tensor in merge_heads(rows, scores, k))

    for i in range(len(rows)):
        expected = merge_oracle(rows[i], scores[i], k)
        assert list(zip(merged[i].tolist(), best[i].tolist(), found_by[i].tolist(), strict=True)) == expected


def test_an_empty_batch_merges_to_an_empty_batch() -> None:
    merged, best, heads = merge_heads(tf.zeros([0, 2, 7], tf.int32), tf.zeros([0, 2, 7]), 5)
    assert merged.shape == best.shape == heads.shape == (0, 5)


def test_inside_a_graph_of_unknown_sizes_nothing_changes() -> None:
    signature = [tf.TensorSpec([None, 2, None], tf.int32), tf.TensorSpec([None, 2, None], tf.float32)]
    graph = tf.function(lambda rows, scores: merge_heads(rows, scores, 9), input_signature=signature)
    rows, scores = head_lists(np.random.default_rng(3), 4, 2, 12, items=15)
    for inside, outside in zip(graph(rows, scores), merge_heads(rows, scores, 9), strict=True):
        np.testing.assert_array_equal(inside, outside)


def test_an_unknown_number_of_heads_is_refused() -> None:
    graph = tf.function(lambda rows, scores: merge_heads(rows, scores, 9))
    with pytest.raises(ValueError, match="number of heads"):
        graph.get_concrete_function(
            tf.TensorSpec([None, None, None], tf.int32), tf.TensorSpec([None, None, None], tf.float32)
        )
