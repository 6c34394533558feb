"""Agreement of two lists, against published values."""

from __future__ import annotations

import pytest

from dpsr.evaluation.measures.rank_biased_overlap import overlap
from dpsr.page.search.agreement import agreements


def test_overlap_is_the_share_of_the_ten_best() -> None:
    first = [str(number) for number in range(20)]
    assert overlap(first, first) == 1.0
    assert overlap(first, first[::-1]) == 0.0
    assert overlap(first, first[5:] + first[:5]) == 0.5
    assert overlap(["a", "b"], ["b"]) == 0.5
    assert overlap(["a"], []) == 0.0
    assert overlap([], []) == 1.0


def test_every_two_columns_with_an_answer_are_compared() -> None:
    lists = [["a", "b"], None, ["b", "a"], []]
    found = agreements(lists)
    assert [each.columns for each in found] == [(0, 2), (0, 3), (2, 3)]
    # RBO of "ab" and "ba", extrapolated by hand: A_1 = 0, A_2 = 1; (1 - p) / p * p^2 * 1 + p^2 * 1 = p.
    assert found[0].rank_biased_overlap == pytest.approx(0.9)
    assert found[0].overlap_10 == 1.0
    assert found[1].rank_biased_overlap == 0.0
    assert agreements([["a"]]) == ()


@pytest.mark.parametrize(
    ("first", "second", "published"),
    [
        # The example of the README of github.com/b4ny4n/rankmeasures.
        ("abcde", "bcdae", 0.828),
        ("abcde", "abcde", 1.0),
        ("abcde", "fghij", 0.0),
    ],
)
def test_rank_biased_overlap_has_the_published_values(first: str, second: str, published: float) -> None:
    (found,) = agreements([list(first), list(second)])
    assert found.rank_biased_overlap == pytest.approx(published, abs=5e-4)
