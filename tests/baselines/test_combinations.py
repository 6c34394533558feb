"""Methods made of two others: names, and scores against plain formulas."""

import numpy as np
import pytest

from dpsr.baselines.combinations import combination
from dpsr.baselines.context import Baseline
from dpsr.baselines.examples import QueryExamples, make_examples
from dpsr.baselines.hybrids import ListScores, ListSumRetriever, unit_range
from dpsr.baselines.ranking import best_first
from dpsr.baselines.reranker import Reranker, choose_scorer_weight
from dpsr.data.dataset.schema import INTERACTION

from .test_hybrids import Fixed, examples_of


def entries(*names: str) -> dict[str, Baseline]:
    return {name: Baseline(name, lambda _: pytest.fail("built")) for name in names}


@pytest.mark.parametrize(
    "name",
    ["a+b", "a+b rrf", "a>b", "a>b@7", "a>a+b@7", "a+b>b@7", "a+b>a+b+b@7", "a>a+c@7", "a+a+c rrf", "a+c+a"],
)
def test_two_entries_have_a_name_together(name: str) -> None:
    found = combination(name, entries("a", "b", "c", "a+c"))
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    "name", ["a+", "+a", "a+d", "a rrf", "a>", ">a", "a>d", "d>a", "a>a+d", "a>b@0", "a>b>a", "a>b+c"]
)
def test_other_names_are_no_combination(name: str) -> None:
    assert combination(name, entries("a", "b", "c")) is None


def test_a_list_is_scaled_from_its_lowest_score_to_its_best() -> None:
    scores = np.array([[3.0, -np.inf, 1.0, 2.0], [5, 5, 5, 5], [-np.inf] * 4], np.float32)
    np.testing.assert_allclose(unit_range(scores), [[1, 0, 0, 0.5], [0] * 4, [0] * 4])


@pytest.mark.parametrize("seed", range(3))
def test_a_sum_of_lists_knows_no_scale(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpsr.baselines.hybrids.FUSION_DEPTH", 20)
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, 6, 40))
    asked = examples_of(np.zeros(6, int))

    def listed(row: np.ndarray) -> np.ndarray:
        lowest = sorted(row)[-20]
        return np.array([max(0.0, score - lowest) / (max(row) - lowest) for score in row])

    expected = [listed(one) + 0.7 * listed(other) for one, other in zip(first, second, strict=True)]
    for scale, shift in ((1.0, 0.0), (100.0, -3.0)):
        sides = ListScores(Fixed(first)), ListScores(Fixed(scale * second + shift))
        np.testing.assert_allclose(ListSumRetriever(*sides, 0.7).scores(asked), expected, atol=1e-4)


def clicks_on_the_best_of(target: np.ndarray) -> QueryExamples:
    records = np.zeros(len(target), dtype=INTERACTION)
    records["item"], records["history_end"] = target.argmax(axis=1), np.arange(len(target))
    return make_examples(np.array([f"q{row}" for row in range(len(target))], dtype=object), records, seed=1)


@pytest.mark.parametrize("weight", [0.3, 2.0])
def test_a_reranker_may_keep_the_scores_of_the_first_stage(weight: float) -> None:
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(2, 5, 30)).astype(np.float32)
    asked = examples_of(np.zeros(5, int))
    found, scores = Reranker(Fixed(first), Fixed(second), 10, scorer_weight=weight).retrieve(asked, 10)
    for row in range(5):
        depth = np.argsort(-first[row])[:10]
        sides = [(side[row, depth] - side[row, depth].min()) / np.ptp(side[row, depth]) for side in (first, second)]
        expected = sides[0] + weight * sides[1]
        assert found[row].tolist() == depth[np.argsort(-expected)].tolist()
        np.testing.assert_allclose(scores[row], np.sort(expected)[::-1], rtol=1e-5)


@pytest.mark.parametrize("truth", [0.05, 1.0, 20.0])
def test_the_weight_is_the_one_that_the_clicks_follow(truth: float) -> None:
    rng = np.random.default_rng(5)
    first, second = rng.uniform(size=(2, 400, 12)).astype(np.float32)
    asked = clicks_on_the_best_of(unit_range(first) + truth * unit_range(second))
    weight = choose_scorer_weight(Fixed(first), Fixed(second), 12, (0.02, 0.05, 1.0, 20.0, 50.0), asked)
    assert abs(np.log(weight / truth)) < 1.5
    missing = choose_scorer_weight(Fixed(first), Fixed(second), 1, (0.5, 1.0), asked.take(slice(0, 0)))
    assert missing == 0.5


def test_the_order_of_equal_sums_is_that_of_the_tie_noise() -> None:
    asked = examples_of(np.zeros(3, int))
    flat = Fixed(np.zeros((3, 8)))
    items, scores = Reranker(flat, flat, 8, scorer_weight=1.0).retrieve(asked, 8)
    again, _ = best_first(items[:, ::-1], scores, asked.tie_keys)
    np.testing.assert_array_equal(items, again)
