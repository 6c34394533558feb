"""Word ids: order, unknown words, idf by hand."""

import numpy as np
import pytest

from dpsr.baselines.fitting.word_ids import BUCKETS, WordIds


def test_words_are_numbered_by_falling_document_frequency() -> None:
    words = WordIds(["red shoe shoe", "red hat", "a red shoe"], str.split)
    assert words.words == ["red", "shoe", "a", "hat"]
    np.testing.assert_array_equal(words.ids(["hat red", "", "shoe red hat a"], 3), [[4, 1, 0], [0, 0, 0], [2, 1, 4]])
    assert words.rows == 5 + BUCKETS


def test_an_unknown_word_has_one_id_of_its_own_range() -> None:
    words = WordIds(["red shoe"], str.split)
    first, other = words.ids(["zebra red", "red zebra"], 2)
    assert first[0] == other[1] > 2
    assert first[0] < words.rows


def test_idf_falls_with_the_document_frequency() -> None:
    words = WordIds(["red shoe", "red hat"], str.split)
    assert words.idf[0] == 0.0
    assert words.idf[1] == pytest.approx(np.log(3 / 2.5))
    assert words.idf[2] == pytest.approx(np.log(3 / 1.5))
    assert words.idf[-1] == pytest.approx(np.log(3 / 0.5))
