"""Lists of candidates and their mean average precision, against values by hand."""

import numpy as np
import pytest

from dpsr.baselines.examples import anonymous_examples
from dpsr.baselines.fitting.candidates import candidate_lists, mean_average_precision

QUERIES = anonymous_examples(np.array(["a", "b"], dtype=object), seed=1)


def test_relevant_items_join_those_that_were_found() -> None:
    lists = candidate_lists(QUERIES, np.array([[3, 1, -1], [5, 6, 7]], np.int32), [np.array([1, 8]), np.array([9])])
    np.testing.assert_array_equal(lists.items, [[3, 1, 8, -1], [5, 6, 7, 9]])
    np.testing.assert_array_equal(lists.relevant, [[False, True, True, False], [False, False, False, True]])


def test_mean_average_precision_is_that_of_the_definition() -> None:
    lists = candidate_lists(QUERIES, np.array([[3, 1, 8], [5, 6, -1]], np.int32), [np.array([1, 8]), np.array([6])])
    scores = np.array([[0.9, 0.5, 0.1], [0.1, 0.2, 5.0]], np.float32)  # the filled place never comes first
    assert mean_average_precision(lists, scores) == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1.0) / 2)


def test_equal_scores_are_no_order() -> None:
    queries = anonymous_examples(np.array(["a"] * 4000, dtype=object), seed=1)
    items = np.broadcast_to(np.array([1, 2], np.int32), (4000, 2))
    lists = candidate_lists(queries, items, [np.array([1])] * 4000)
    assert mean_average_precision(lists, np.zeros((4000, 2), np.float32)) == pytest.approx(0.75, abs=0.02)
