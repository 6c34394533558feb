"""Judged pairs in the batches of a training, and the loss of wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from dpsr.data.batches.arrays import arrays_in_files
from dpsr.data.batches.batch import BatchMaker
from dpsr.data.batches.judged import JudgedExamples
from dpsr.data.dataset.schema import LABEL
from dpsr.training.wrong_pairs import rivals, wrong_pair_loss

ITEMS, BATCH = 50, 16
SEED = tf.constant([3, 4], tf.int64)


class Rows:
    """Features that are the row numbers themselves."""

    def queries(self, records: tf.Tensor) -> tf.Tensor:
        return records[:, 0]

    def items(self, rows: tf.Tensor) -> tf.Tensor:
        return rows


def pairs(*found: tuple[int, int, float]) -> np.ndarray:
    return np.array(list(found), LABEL)


def judged(labels: np.ndarray, share: float = 0.25) -> JudgedExamples:
    found = JudgedExamples.of_labels(labels, share=share, batch_size=BATCH, num_items=ITEMS)
    assert found is not None
    return found


def batch(examples: JudgedExamples | None, records: np.ndarray | None = None, **options: Any) -> Any:
    maker = BatchMaker(Rows(), batch_size=BATCH, random_negatives=6, num_items=ITEMS, judged=examples)
    records = np.zeros((maker.batch_records, 5), np.int32) if records is None else records
    return maker.of_records(tf.constant(records), SEED, **options)


def test_a_step_has_each_kind_and_no_more_examples_than_pairs() -> None:
    right = [(query, query, 1.0) for query in range(30)]
    wrong = [(query, query + 1, 0.0) for query in range(10)]
    for found, share, expected in (
        (right + wrong, 0.25, (3, 1)),
        (right + wrong[:1], 0.25, (3, 1)),
        (right[:1] + wrong, 0.25, (1, 3)),
        (right[:1] + wrong[:1], 0.9, (1, 1)),
        (right[:2], 0.9, (2, 0)),
        (wrong[:2], 0.25, (0, 2)),
        (right[:1] + wrong[:1], 0.01, (1, 1)),
    ):
        examples = judged(pairs(*found), share)
        assert (examples.right_rows, examples.wrong_rows) == expected
    for labels, share in ((pairs(), 0.25), (pairs(*right), 0.0)):
        assert JudgedExamples.of_labels(labels, share=share, batch_size=BATCH, num_items=ITEMS) is None


def test_right_pairs_are_examples_that_weigh_as_their_labels() -> None:
    found = batch(judged(pairs((7, 8, 3.0), (9, 10, 1.0), (9, 10, 1.5))))
    assert found.query_rows.numpy()[-2:].tolist() == [7, 9]
    assert found.item_rows.numpy()[BATCH - 2 : BATCH].tolist() == [8, 10]
    assert found.weights.numpy().tolist() == [1.0] * (BATCH - 2) + [1.0, 0.5]  # of a pair the last label counts
    assert found.wrong is None
    assert len(found.queries) == BATCH


def test_wrong_pairs_follow_the_examples_and_clicks_on_them_do_not_count() -> None:
    examples = judged(pairs((1, 5, 0.0), (1, 6, -1.0), (2, 5, 2.0)))
    records = np.zeros((BATCH - examples.right_rows, 5), np.int32)
    records[:, 0], records[:, 2] = 1, np.arange(len(records))
    found = batch(examples, records, weights=tf.fill([len(records)], 0.5))
    items = found.item_rows.numpy()
    expected = [0.0 if item in (5, 6) else 0.5 for item in range(len(records))] + [1.0]
    assert found.weights.numpy().tolist() == expected
    assert len(found.query_rows) == BATCH
    assert found.queries.numpy().tolist() == [1] * len(records) + [2] + [1, 1]
    assert found.wrong.item_rows.numpy().tolist() == [5, 6]
    first = {item: place for place, item in reversed(list(enumerate(items.tolist())))}
    rivals_of_1 = [place == first[item] and item not in (5, 6) for place, item in enumerate(items.tolist())]
    assert (~found.wrong.no_rivals.numpy()).tolist() == [rivals_of_1, rivals_of_1]


def test_pairs_are_read_from_files_as_from_memory(tmp_path: Path) -> None:
    labels = pairs((1, 5, 0.0), (1, 6, -1.0), (2, 5, 2.0), (3, 4, 1.0))
    expected = batch(judged(labels))
    with arrays_in_files(tmp_path):
        examples = judged(labels)
        found = tf.function(lambda: batch(examples))()
        assert any(tmp_path.iterdir())
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_more_pairs_than_rows_come_in_turn_and_the_same_for_the_same_seed() -> None:
    labels = pairs(*((query, query % ITEMS, 1.0) for query in range(40)))
    examples = judged(labels)
    seen = set()
    for step in range(200):
        seed = tf.constant([1, step], tf.int64)
        records, _ = examples.draw_right(seed)
        np.testing.assert_array_equal(records, examples.draw_right(seed)[0])
        assert len(set(records.numpy()[:, 0].tolist())) == examples.right_rows == 4
        seen |= set(records.numpy()[:, 0].tolist())
    assert seen == set(range(40))
    assert examples.expected_positives(10).sum() == pytest.approx(10 * examples.right_rows)


def test_rivals_stand_for_the_best_ten_of_the_catalogue() -> None:
    assert [rivals(1000, items) for items in (100, 1000, 2000, 10_000, 10_000_000)] == [10, 10, 5, 1, 1]
    assert rivals(3, 2) == 3


@pytest.mark.parametrize("heads", [1, 3])
def test_the_loss_of_a_wrong_pair_is_its_formula_and_its_gradients_are_numeric(heads: int) -> None:
    random = np.random.default_rng(heads)

    def unit(*shape: int) -> np.ndarray:
        rows = random.normal(size=shape)
        return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)

    queries, wrong, others = unit(4, heads, 6), unit(4, 6), unit(12, 6)
    excluded = random.random((4, 12)) < 0.3
    options = {"rivals": 3, "temperature": 0.2, "rows": tf.constant(64.0)}

    def formula(queries: np.ndarray, wrong: np.ndarray) -> float:
        own = np.einsum("wmd,wd->wm", queries, wrong).max(axis=1)
        scores = np.einsum("wmd,nd->wmn", queries, others).max(axis=1)
        third = np.sort(np.where(excluded, -1.0, scores), axis=1)[:, -3]
        return float(np.log1p(np.exp((own - third) / 0.2)).sum() / 64)

    found = wrong_pair_loss(*map(tf.constant, (queries, wrong, others, excluded)), **options)
    assert float(found.loss) == pytest.approx(formula(queries, wrong), rel=1e-5)
    for gradient, changed in ((found.heads, 0), (found.vectors, 1)):
        step = random.normal(size=gradient.shape) * 1e-3
        ahead, behind = ([queries.astype(float), wrong.astype(float)] for _ in range(2))
        ahead[changed] = ahead[changed] + step
        behind[changed] = behind[changed] - step
        assert (formula(*ahead) - formula(*behind)) / 2 == pytest.approx((gradient.numpy() * step).sum(), rel=2e-2)
