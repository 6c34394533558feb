"""The choice of a fusion by clicks: what generated clicks depend on is found, and what they do not is not invented."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from dpsr.config import IndexConfig
from dpsr.indexing.fusion import FusionPlan
from dpsr.indexing.fusion_candidates import Candidates, gains
from dpsr.indexing.fusion_tuning import LEAST_QUERIES, TunedFusion, gain_within, tune_by_made_queries, tune_fusion
from dpsr.indexing.query_weight import FEATURES, LEAST_WEIGHT, MOST_WEIGHT, QueryWeight

CORRECTED = FEATURES.index("corrected")
CLICKS, ITEMS, K = 800, 60, 20


def generated(
    seed: int, weight: Callable[[np.ndarray], np.ndarray], *, words: float = 1.0, queries: int = 400
) -> tuple[Candidates, list[str], np.ndarray]:
    """Clicks on items drawn by the softmax of ``words * lexical / best + weight(features) * dense``."""
    rng = np.random.default_rng(seed)
    query = rng.integers(queries, size=CLICKS)
    dense, lexical = rng.random((2, queries, ITEMS)).astype(np.float32)
    features = rng.random((queries, len(FEATURES))).astype(np.float32)
    features[:, CORRECTED] = rng.random(queries) < 0.5
    near, matching = (np.argsort(-scores, axis=1)[:, :K] for scores in (dense, lexical))
    rows = np.concatenate([near, matching], axis=1)
    joined = words * lexical / lexical.max(axis=1, keepdims=True) + weight(features)[:, np.newaxis] * dense
    chances = np.exp(joined / 0.05 - (joined / 0.05).max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    clicked = np.array([rng.choice(ITEMS, p=chances[of_query]) for of_query in query], np.int32)
    values = (np.take_along_axis(scores, rows, axis=1)[query] for scores in (dense, lexical))
    candidates = Candidates(rows[query].astype(np.int32), *values, features[query])
    return candidates, [f"query {number}" for number in query], clicked


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_weight_that_depends_on_the_query_is_learnt(seed: int) -> None:
    """Corrected queries are clicked by meaning, the others by words."""
    candidates, texts, clicked = generated(seed, lambda features: np.where(features[:, CORRECTED] > 0, 6.0, 0.15))
    tuned = tune_fusion(candidates, texts, clicked, weight="auto")
    assert tuned.tried is not None
    assert tuned.tried.used
    assert tuned.tried.by_query > tuned.tried.constant + 0.02
    assert tuned.mode == "hybrid"
    assert tuned.plan.by_query is not None
    slopes = dict(zip(FEATURES, tuned.plan.by_query.slopes, strict=True))
    assert slopes["corrected"] == pytest.approx(np.log(6.0 / 0.15), rel=0.35)
    assert all(abs(slope) < 1.0 for name, slope in slopes.items() if name != "corrected")
    assert "each query has its own weight" in tuned.notes()[0]
    again = TunedFusion.described(json.loads(json.dumps(tuned.describe())))
    assert again == tuned


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_one_weight_stays_where_queries_do_not_differ(seed: int) -> None:
    candidates, texts, clicked = generated(seed, lambda features: np.ones(len(features)))
    tuned = tune_fusion(candidates, texts, clicked, weight="auto")
    assert tuned.tried is not None
    assert not tuned.tried.used
    assert tuned.plan == tune_fusion(candidates, texts, clicked).plan
    assert tuned.plan.by_query is None
    assert tuned.plan.dense_weight in (0.7, 1.0, 1.4)
    assert "not ahead beyond noise" in tuned.notes()[0]


def test_few_queries_have_one_weight() -> None:
    candidates, texts, clicked = generated(
        1, lambda features: np.where(features[:, CORRECTED] > 0, 6.0, 0.15), queries=LEAST_QUERIES - 1
    )
    assert tune_fusion(candidates, texts, clicked, weight="auto").tried is None


@pytest.mark.parametrize(
    ("weight", "words", "mode"), [(1.0, 0.0, "dense"), (0.0, 1.0, "lexical"), (1.0, 1.0, "hybrid")]
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_side_that_brings_nothing_does_not_answer_by_default(
    seed: int, weight: float, words: float, mode: str
) -> None:
    candidates, texts, clicked = generated(seed, lambda features: np.full(len(features), weight), words=words)
    tuned = tune_fusion(candidates, texts, clicked)
    assert tuned.mode == mode
    assert tuned.describe()["mode"] == mode
    assert len(tuned.notes()) == (mode != "hybrid")
    assert tune_fusion(candidates, texts, clicked, kind="weighted_sum", weight=1.0).mode == "hybrid"


@pytest.mark.parametrize(
    ("weight", "words", "least", "most", "mode"),
    [(8.0, 1.0, 1.0, 1.0, "hybrid"), (0.2, 1.0, 0.1, 0.35, "hybrid"), (0.0, 1.0, 0.01, 0.05, "lexical")],
)
def test_made_queries_lower_the_weight_and_never_raise_it(
    weight: float, words: float, least: float, most: float, mode: str
) -> None:
    """The dense side alone, which they flatter, never answers by default."""
    candidates, texts, clicked = generated(3, lambda features: np.full(len(features), weight), words=words)
    tuned = tune_by_made_queries(candidates, texts, clicked, kind=None)
    assert least <= tuned.plan.dense_weight <= most
    assert tuned.plan.kind == "weighted_sum"
    assert tuned.mode == mode
    assert TunedFusion.described(json.loads(json.dumps(tuned.describe()))) == tuned
    assert "no clicks" in tuned.notes()[0]
    by_ranks = tune_by_made_queries(candidates, texts, clicked, kind="reciprocal_ranks")
    assert by_ranks.plan.kind == "reciprocal_ranks"
    assert by_ranks.plan.dense_weight <= 1.0


def test_gains_are_those_of_the_sorted_list() -> None:
    candidates, _, clicked = generated(6, lambda features: np.ones(len(features)))
    of_plan = candidates.gains(FusionPlan("weighted_sum", 0.7), clicked)
    for query in range(50):
        joined = candidates.lexical[query] / candidates.lexical[query].max() + np.float32(0.7) * candidates.dense[query]
        scores = dict(zip(candidates.rows[query].tolist(), joined.tolist(), strict=True))
        ranked = sorted(scores, key=lambda row: -scores[row])
        place = ranked.index(clicked[query]) if clicked[query] in scores else None
        assert of_plan[query] == pytest.approx(0.0 if place is None else 1 / np.log2(2 + place))


def test_ties_with_the_clicked_item_come_half_before_it() -> None:
    rows = np.array([[3, 5, 7, 3], [1, 2, -1, 2]], np.int32)
    scores = np.array([[0.5, 0.9, 0.5, 0.7], [0.2, 0.1, -np.inf, 0.1]], np.float32)
    counted = Candidates(rows, scores, scores, np.zeros((2, len(FEATURES)))).counted
    assert counted.tolist() == [[True, True, True, False], [True, True, False, False]]
    # Item 3 has its score in the first list: behind item 5, and level with item 7. No list has item 9.
    assert gains(rows, scores, np.array([3, 9]), counted) == pytest.approx([1 / np.log2(1 + 2.5), 0])


def test_clicks_of_one_query_are_drawn_together() -> None:
    """Many clicks of one query are no more evidence than one."""
    difference, others = np.array([1.0] * 50 + [-1.0, -0.5, -1.5]), np.zeros(53)
    assert gain_within(difference, others, np.arange(53))[0] > 0.5
    least, most = gain_within(difference, others, np.array([0] * 50 + [1, 2, 3]))
    assert least == pytest.approx(-1.0, abs=0.3)
    assert most > 0.9


def test_weights_stay_in_their_range() -> None:
    slopes = [0.0] * len(FEATURES)
    slopes[0] = 100.0
    features = np.zeros((3, len(FEATURES)), np.float32)
    features[:, 0] = [-1, 0, 1]
    found = QueryWeight(0.5, tuple(slopes)).weights(features, 2.0).numpy()[:, 0]
    assert found == pytest.approx([LEAST_WEIGHT, 2.0 * np.exp(0.5), MOST_WEIGHT])


def test_ranks_have_one_weight() -> None:
    with pytest.raises(ValueError, match="set fusion = 'weighted_sum', leave it out, or give dense_weight a number"):
        IndexConfig(mode="hybrid", fusion="reciprocal_ranks", dense_weight="auto")
    for wrong in ("learnt", -1.0, 0.0):
        with pytest.raises(ValueError, match="dense_weight"):
            IndexConfig(dense_weight=wrong)
