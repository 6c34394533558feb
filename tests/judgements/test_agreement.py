"""Krippendorff's alpha against published figures, and against its definition in plain Python."""

import random

import numpy as np
import pytest

from dpsr.data.judgements.agreement import alpha_of_counts, krippendorff_alpha
from dpsr.data.judgements.records import Judgement

# The reliability data of Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section C: four observers,
# twelve units, values 1 to 5; its ordinal alpha is given as 0.815.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


def judgements(*judges: list[int | None]) -> list[Judgement]:
    return [
        Judgement(book="b", judge=f"judge {number}", query="q", item_id=str(item), grade=grade)
        for number, grades in enumerate(judges)
        for item, grade in enumerate(grades)
    ]


def plain_alpha(*judges: list[int | None]) -> float:
    """By the definition: the disagreement of values within units over that of all values that have a partner."""
    units = [[value for value in unit if value is not None] for unit in zip(*judges, strict=True)]
    units = [unit for unit in units if len(unit) > 1]
    values = sorted(value for unit in units for value in unit)

    def squared(first: int, second: int) -> float:
        low, high = sorted((first, second))
        between = sum(low <= value <= high for value in values)
        return (between - (values.count(low) + values.count(high)) / 2) ** 2

    observed = sum(
        squared(first, second) / (len(unit) - 1)
        for unit in units
        for place, first in enumerate(unit)
        for other, second in enumerate(unit)
        if place != other
    )
    expected = sum(squared(first, second) for first in values for second in values)
    return 1 - (len(values) - 1) * observed / expected


def test_the_published_example() -> None:
    units = [[value for value in unit if value is not None] for unit in zip(*OBSERVERS, strict=True)]
    counts = np.array([np.bincount(unit, minlength=6)[1:] for unit in units if len(unit) > 1], np.float64)
    assert alpha_of_counts(counts) == pytest.approx(0.815, abs=5e-4)
    assert plain_alpha(*OBSERVERS) == pytest.approx(0.815, abs=5e-4)


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_definition(seed: int) -> None:
    rng = random.Random(seed)
    judges = [[rng.choice([0, 1, 2, 3, None]) for _ in range(rng.randint(8, 8))] for _ in range(rng.randint(2, 6))]
    assert krippendorff_alpha(judgements(*judges)) == pytest.approx(plain_alpha(*judges), abs=1e-12)


def test_perfect_agreement_is_one_and_reversed_grades_are_below_zero() -> None:
    assert krippendorff_alpha(judgements([0, 1, 2, 3], [0, 1, 2, 3])) == pytest.approx(1.0)
    reversed_ = krippendorff_alpha(judgements([0, 1, 2, 3], [3, 2, 1, 0]))
    assert reversed_ is not None
    assert reversed_ < 0


def test_near_grades_disagree_less_than_distant_ones() -> None:
    near, far = (krippendorff_alpha(judgements([0, 1, 2, 3, 0], [0, 1, 2, 3, last])) for last in (1, 3))
    assert near is not None
    assert far is not None
    assert near > far


def test_pairs_of_one_judge_count_for_nothing() -> None:
    both = judgements([0, 1, 3], [0, 2, 3])
    alone = [Judgement(book="b", judge="x", query="other", item_id=str(item), grade=3) for item in range(50)]
    assert krippendorff_alpha([*both, *alone]) == krippendorff_alpha(both)


def test_pairs_of_different_books_are_different_units() -> None:
    first = judgements([0, 1, 2])
    other = [each.model_copy(update={"book": "other", "judge": "x"}) for each in first]
    assert krippendorff_alpha([*first, *other]) is None


@pytest.mark.parametrize("judges", [[], [[1, 2, 3]], [[1, None], [None, 2]], [[2, 2], [2, 2]]])
def test_without_two_judges_of_a_pair_or_two_grades_there_is_none(judges: list[list[int | None]]) -> None:
    assert krippendorff_alpha(judgements(*judges)) is None
