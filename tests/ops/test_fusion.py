from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from dpsr.ops_cc.fusion import ClickPrior, Combine, fuse
from dpsr.ops_cc.head_merge import NO_ROW, NO_SCORE


def drawn(rng: np.random.Generator, batch: int, size: int, items: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows with scores of few values, and rows that are crossed out in between."""
    rows = np.stack([rng.permutation(items)[:size] for _ in range(batch)]).astype(np.int32)
    scores = rng.integers(-4, 9, rows.shape).astype(np.float32) / 8
    crossed_out = rng.random(rows.shape) < 0.2
    return np.where(crossed_out, -1, rows), np.where(crossed_out, np.float32(np.nan), scores)


def oracle(lists: list[tuple[np.ndarray, np.ndarray]], query: int, combine: Combine) -> dict[int, tuple[float, int]]:
    joined: dict[int, tuple[float, int]] = {}
    for number, (rows, scores) in enumerate(lists):
        for row, score in zip(rows[query].tolist(), scores[query].tolist(), strict=True):
            if row < 0:
                continue
            old, holders = joined.get(row, (0.0, 0))
            new = old if combine == "first" and holders else old + score
            joined[row] = new, holders | 1 << number
    return joined


@pytest.mark.parametrize("combine", ["sum", "first"])
@pytest.mark.parametrize("seed", range(5))
def test_lists_are_joined_as_the_oracle_says(seed: int, combine: Combine) -> None:
    rng = np.random.default_rng(seed)
    lists = [drawn(rng, 4, int(rng.integers(1, 30)), 30) for _ in range(int(rng.integers(1, 4)))]
    k = int(rng.integers(1, 40))
    fused = fuse([(tf.constant(rows), tf.constant(scores)) for rows, scores in lists], k, combine=combine)
    for query in range(4):
        ranked = sorted(
            ((row, score, holders) for row, (score, holders) in oracle(lists, query, combine).items()),
            key=lambda found: (-found[1], found[0]),
        )
        expected = (ranked + [(NO_ROW, float(NO_SCORE), 0)] * k)[:k]
        found = [tensor.numpy()[query].tolist() for tensor in fused]
        assert list(zip(*found[:3], strict=True)) == expected
        for row, _, holders, place in zip(*found, strict=True):
            first = (holders & -holders).bit_length() - 1
            assert place == -1 if row == NO_ROW else lists[first][0][query, place] == row


def test_clicks_count_with_the_joined_scores_as_their_prior() -> None:
    rng = np.random.default_rng(1)
    rows, scores = drawn(rng, 3, 20, 30)
    clicked = np.stack([rng.permutation(30)[:6] for _ in range(3)]).astype(np.int32)
    counts = rng.random((3, 6), np.float32) * 5
    fused = fuse([(rows, scores)], 20, combine="sum", clicks=ClickPrior(clicked, counts, weight=2.0, temperature=0.2))
    for query in range(3):
        prior = np.exp(np.where(rows[query] >= 0, scores[query], -np.inf) / 0.2)
        prior /= prior.sum()
        count = dict(zip(clicked[query].tolist(), counts[query].tolist(), strict=True))
        expected = {
            row: np.log(count.get(row, 0.0) + 2.0 * p)
            for row, p in zip(rows[query].tolist(), prior, strict=True)
            if row >= 0
        }
        found = fused.rows.numpy()[query]
        assert sorted(found[found >= 0].tolist()) == sorted(expected)
        assert np.all(np.diff(fused.scores.numpy()[query]) <= 0)
        for row, score in zip(found.tolist(), fused.scores.numpy()[query].tolist(), strict=True):
            assert row < 0 or score == pytest.approx(expected[row], abs=1e-4)


def test_shapes_are_known_in_a_graph() -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, 7], tf.int32), tf.TensorSpec([None, 7], tf.float32)])
    def joined(rows: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        fused = fuse([(rows, scores)], 5, combine="sum")
        assert [tensor.shape.as_list() for tensor in fused] == [[None, 5]] * 4
        return fused.rows

    assert joined(np.zeros((0, 7), np.int32), np.zeros((0, 7), np.float32)).shape == (0, 5)


@pytest.mark.parametrize(
    ("lists", "clicks", "message"),
    [
        ([(np.zeros((2, 3), np.int32), np.full((2, 3), np.nan, np.float32))], None, "query 0, list 0 is NaN"),
        ([(np.zeros((2, 3), np.int32), np.zeros((2, 4), np.float32))], None, "list 0: rows have shape"),
        (
            [(np.zeros((2, 3), np.int32), np.zeros((2, 3), np.float32))],
            (np.zeros((1, 3), np.int32), np.zeros((1, 3), np.float32), 1.0, 1.0),
            "clicks: rows have shape",
        ),
        (
            [(np.zeros((1, 3), np.int32), np.zeros((1, 3), np.float32))],
            (np.zeros((1, 3), np.int32), np.zeros((1, 3), np.float32), 0.0, 1.0),
            "prior_weight",
        ),
    ],
)
def test_unusable_input_is_named(
    lists: list[tuple[np.ndarray, np.ndarray]], clicks: tuple[np.ndarray, np.ndarray, float, float] | None, message: str
) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        fuse(lists, 2, combine="sum", clicks=None if clicks is None else ClickPrior(*clicks))
