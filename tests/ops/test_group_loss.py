"""The loss kernel against stock operations, finite differences, and itself on other numbers of threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from dpsr.config import LossConfig
from dpsr.training.losses import batch_loss

from . import stock_group_loss
from .threads import outputs_by_threads

KINDS = ["hinge", "softmax", "three_part"]


def draw(
    random: np.random.Generator, rows: int, randoms: int, heads: int, dimension: int, *, hard: int, options: bool
) -> tuple[list[tf.Tensor], dict[str, Any]]:
    """Heads, vectors, query rows and item rows with collisions; and the optional arguments."""
    lengths = random.integers(0, hard + 1, rows)
    count = rows + randoms
    head_vectors = random.normal(size=(rows, heads, dimension))
    vectors = random.normal(size=(count + lengths.sum(), dimension))
    named = [
        tf.constant(head_vectors / np.linalg.norm(head_vectors, axis=-1, keepdims=True), tf.float32),
        tf.constant(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), tf.float32),
        tf.constant(random.integers(-2, max(rows // 2, 2), rows), tf.int32),
        tf.constant(random.integers(0, 2 * count, count), tf.int32),
    ]
    optional = {
        "occurrences": tf.constant(random.uniform(0.1, 3.0, 2 * count), tf.float32) if options else None,
        "clicked": tf.constant(random.random((rows, count)) < 0.2) if options else None,
        "row_weights": tf.constant(random.uniform(0.0, 3.0, rows), tf.float32) if options else None,
        "hard": tf.RaggedTensor.from_row_lengths(tf.zeros(lengths.sum()), lengths) if hard else None,
    }
    return named, optional


def check(named: list[tf.Tensor], optional: dict[str, Any], config: LossConfig, beta: float) -> None:
    heads, vectors, *rows = named
    if config.kind != "softmax":
        optional = optional | {"occurrences": None}
    with tf.GradientTape() as tape:
        tape.watch([heads, vectors])
        expected = stock_group_loss.batch_loss(heads, vectors, *rows, config, beta, **optional)
    gradients = tape.gradient(expected, [heads, vectors])
    found = batch_loss(heads, vectors, *rows, config, beta, **optional)
    np.testing.assert_allclose(found.loss, expected, rtol=1e-5, atol=1e-6)
    for one, other in zip((found.heads, found.vectors), gradients, strict=True):
        largest = float(tf.reduce_max(tf.abs(other)))
        np.testing.assert_allclose(one, tf.convert_to_tensor(other), rtol=1e-4, atol=2e-6 * max(largest, 1.0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [False, True])
@pytest.mark.parametrize("hard", [0, 3])
@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize(
    ("rows", "group", "alpha"),
    [(12, 4, 0.5), (64, 64, 0.5), (200, 100, 0.3), (192, 16, 0.9), (300, 300, 0.5), (70, 7, 1.0), (150, 150, 0.0)],
)
def test_loss_and_gradients_equal_the_stock_operations(
    rows: int, group: int, alpha: float, heads: int, hard: int, options: bool, kind: str
) -> None:
    random = np.random.default_rng(rows + heads)
    config = LossConfig(
        kind=kind, mixing_ratio=alpha, group_size=group, margin=0.3, temperature=0.1, thresholds=(0.9, 0.1, -0.1)
    )
    randoms = 0 if alpha == 0.0 else 37
    check(*draw(random, rows, randoms, heads, 24, hard=hard, options=options), config, 0.3)


@pytest.mark.parametrize("dimension", [1, 5, 16, 64, 100])
def test_any_dimension(dimension: int) -> None:
    config = LossConfig(kind="softmax", group_size=32, temperature=0.3)
    check(*draw(np.random.default_rng(1), 64, 63, 2, dimension, hard=0, options=False), config, 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_differences(kind: str) -> None:
    random = np.random.default_rng(3)
    config = LossConfig(kind=kind, group_size=8, margin=0.3, temperature=0.5, thresholds=(0.9, 0.2, -0.1))
    (heads, vectors, *rows), optional = draw(random, 16, 7, 2, 6, hard=2, options=False)
    found = batch_loss(heads, vectors, *rows, config, 0.5, **optional)
    for place, gradient in enumerate([found.heads, found.vectors]):
        # One entry at a time: a longer way would cross too many of the hinges' kinks.
        for entry in np.argwhere(np.ones(gradient.shape))[::7]:
            losses = []
            for step in (-2e-3, 2e-3):
                moved = [heads, vectors]
                moved[place] = tf.tensor_scatter_nd_add(moved[place], [entry], [step])
                losses.append(float(batch_loss(*moved, *rows, config, 0.5, **optional).loss))
            expected = (losses[1] - losses[0]) / 4e-3
            assert float(gradient[tuple(entry)]) == pytest.approx(expected, rel=0.05, abs=5e-3)


def test_no_number_stays_no_number() -> None:
    named, optional = draw(np.random.default_rng(0), 16, 15, 2, 8, hard=0, options=False)
    for place in (0, 1):
        for kind in KINDS:
            spoilt = list(named)
            spoilt[place] = tf.tensor_scatter_nd_update(named[place], [[3]], named[place][3:4] * np.nan)
            config = LossConfig(kind=kind, group_size=16)
            assert np.isnan(batch_loss(*spoilt, config, 1.0, **optional).loss)


def test_shapes_that_do_not_fit_are_refused() -> None:
    (heads, vectors, query_rows, item_rows), _ = draw(np.random.default_rng(0), 8, 7, 1, 4, hard=0, options=False)
    config = LossConfig(kind="softmax", group_size=4)
    errors = (ValueError, tf.errors.InvalidArgumentError)
    with pytest.raises(errors, match="a batch of 8 rows is not a multiple of the group size 3"):
        batch_loss(heads, vectors, query_rows, item_rows, LossConfig(group_size=3), 1.0)
    with pytest.raises(errors, match=r"expected \[B, m, d\], \[B \+ R \+ H, d\], \[B\] and \[B \+ R\]"):
        batch_loss(heads, vectors[:, :3], query_rows, item_rows, config, 1.0)
    with pytest.raises(errors, match="there are 8 rows, 15 item_rows and 14 vectors"):
        batch_loss(heads, vectors[:14], query_rows, item_rows, config, 1.0)
    with pytest.raises(errors, match=r"clicked has shape \[8,3\]; expected \[8,15\] or \[0,0\]"):
        batch_loss(heads, vectors, query_rows, item_rows, config, 1.0, clicked=tf.zeros([8, 3], tf.bool))
    with pytest.raises(errors, match="there are 7 row_weights for 8 rows; expected one for each, or none"):
        batch_loss(heads, vectors, query_rows, item_rows, config, 1.0, row_weights=tf.ones(7))
    more = tf.concat([vectors, vectors[:2]], axis=0)
    hard = tf.RaggedTensor.from_row_lengths(tf.zeros(5), [5, 0, 0, 0, 0, 0, 0, 0])
    with pytest.raises(errors, match="hard_splits go from 0 to 5; expected to rise from 0 to 2"):
        batch_loss(heads, more, query_rows, item_rows, config, 1.0, hard=hard)


def test_the_shape_is_known_before_it_runs() -> None:
    @tf.function
    def step(heads: tf.Tensor, vectors: tf.Tensor, query_rows: tf.Tensor, item_rows: tf.Tensor) -> tf.Tensor:
        found = batch_loss(heads, vectors, query_rows, item_rows, LossConfig(group_size=4), 1.0)
        assert found.loss.shape.as_list() == []
        assert found.heads.shape.as_list() == [8, 1, 4]
        assert found.vectors.shape.as_list() == [15, 4]
        return found.loss

    named, _ = draw(np.random.default_rng(0), 8, 7, 1, 4, hard=0, options=False)
    assert np.isfinite(step(*named))


_DIGEST = """
import hashlib, sys
import numpy as np
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
from dpsr.config import LossConfig
from dpsr.training.losses import batch_loss
random = np.random.default_rng(1)
digest = hashlib.sha256()
for group, heads in ((512, 1), (64, 2), (200, 2)):
    rows = 1000 // group * group
    names = [tf.constant(random.integers(0, 500, n), tf.int32) for n in (rows, rows + 300)]
    vectors = [tf.constant(random.normal(size=n), tf.float32) for n in ((rows, heads, 64), (rows + 300, 64))]
    found = batch_loss(*vectors, *names, LossConfig(kind="softmax", group_size=group, temperature=1.0), 1.0)
    for values in found:
        digest.update(values.numpy().tobytes())
print(digest.hexdigest())
"""


def test_the_number_of_threads_does_not_change_a_bit(tmp_path: Path) -> None:
    assert len(outputs_by_threads(_DIGEST, tmp_path)) == 1
