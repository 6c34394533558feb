"""Overlaps of two ranked lists, against their definitions."""

import random
from collections.abc import Sequence

import pytest

from dpsr.evaluation.measures.rank_biased_overlap import overlap, rank_biased_overlap


def summed(first: Sequence[int], second: Sequence[int], p: float) -> float:
    """The sum over 2,000 ranks, with the agreement beyond the lists as section 4.4 of the paper assumes it."""
    short, long = sorted((first, second), key=len)
    at_short = len(set(short) & set(long[: len(short)]))
    total = 0.0
    for depth in range(1, 2001):
        seen = min(depth, len(long))
        common = len(set(short[:seen]) & set(long[:seen]))
        if depth <= len(short):
            agreement = common / depth
        else:
            agreement = (common + at_short * (seen - len(short)) / len(short)) / seen
        total += (1 - p) * p ** (depth - 1) * agreement
    return total


@pytest.mark.parametrize("p", [0.5, 0.9])
@pytest.mark.parametrize("seed", range(10))
def test_it_is_the_sum_over_all_ranks(seed: int, p: float) -> None:
    rng = random.Random(seed)
    first, second = (rng.sample(range(30), rng.randint(1, 20)) for _ in range(2))
    assert rank_biased_overlap(first, second, p=p) == pytest.approx(summed(first, second, p), abs=1e-9)
    assert rank_biased_overlap(second, first, p=p) == pytest.approx(rank_biased_overlap(first, second, p=p))


def test_its_ends() -> None:
    assert rank_biased_overlap([1, 2, 3], [1, 2, 3]) == pytest.approx(1.0)
    assert rank_biased_overlap([1, 2], [3, 4]) == 0.0
    assert rank_biased_overlap([], []) == 1.0
    assert rank_biased_overlap([], [1]) == rank_biased_overlap([1], []) == 0.0
    assert rank_biased_overlap([1, 2, 3], [1, 3, 2]) == pytest.approx(0.955)


def test_the_best_items_have_most_weight() -> None:
    ranked = list(range(10))
    top, bottom = [1, 0, *ranked[2:]], [*ranked[:8], 9, 8]
    assert rank_biased_overlap(ranked, top) < rank_biased_overlap(ranked, bottom) < 1.0


def test_the_overlap_counts_the_best_of_the_longer_list() -> None:
    assert overlap("abcd", "dcba") == 1.0
    assert overlap("abcd", "abxy") == 0.5
    assert overlap("ab", "abxy") == 0.5
    assert overlap("", "") == 1.0
    assert overlap("", "a") == 0.0
    assert overlap("abcd", "dcba", depth=2) == 0.0
