"""Hybrids against a plain Python oracle, and LSA on related words."""

from collections.abc import Callable

import numpy as np
import pytest

from dpsr.baselines.combinations import edge_note
from dpsr.baselines.examples import QueryExamples, make_examples
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.baselines.hybrids import (
    ListScores,
    ReciprocalRankFusionRetriever,
    ReciprocalRanks,
    WeightedSumRetriever,
    reciprocal_ranks,
)
from dpsr.baselines.lsa import LSARetriever
from dpsr.baselines.tuning import HYBRID_WEIGHTS, choose_weight
from dpsr.data.dataset.schema import INTERACTION


class Fixed(ExhaustiveRetriever):
    """The scores of a table whose row is the record's ``history_end``; counts the calls of ``score_all``."""

    def __init__(self, table: np.ndarray) -> None:
        super().__init__(table.shape[1])
        self.table = table.astype(np.float32)
        self.asked = 0

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        self.asked += 1
        return self.table[examples.records["history_end"]]


def examples_of(clicked: np.ndarray) -> QueryExamples:
    records = np.zeros(len(clicked), dtype=INTERACTION)
    records["item"] = clicked
    records["history_end"] = np.arange(len(clicked))
    return make_examples(np.array([f"q{row}" for row in range(len(clicked))], dtype=object), records, seed=1)


def tables(seed: int, n: int = 6, items: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Scores like BM25's (mostly 0, with ties; none at all for the last query) and like cosines."""
    rng = np.random.default_rng(seed)
    lexical = np.where(rng.random((n, items)) < 0.4, rng.integers(1, 5, (n, items)) * 1.5, 0.0)
    lexical[-1] = 0
    return lexical, rng.uniform(-1, 1, (n, items))


@pytest.mark.parametrize("seed", range(3))
def test_weighted_sum_equals_its_formula(seed: int) -> None:
    lexical, dense = tables(seed)
    hybrid = WeightedSumRetriever(Fixed(lexical), Fixed(dense), 0.7)
    expected = [
        [score / (max(row) or 1.0) + 0.7 * cosine for score, cosine in zip(row, cosines, strict=True)]
        for row, cosines in zip(lexical.tolist(), dense.tolist(), strict=True)
    ]
    np.testing.assert_allclose(hybrid.scores(examples_of(np.zeros(6, int))), expected, atol=1e-6)


def fusion(lexical: ExhaustiveRetriever, dense: ExhaustiveRetriever, weight: float) -> ExhaustiveRetriever:
    return ReciprocalRankFusionRetriever(ReciprocalRanks(lexical), ReciprocalRanks(dense), weight)


def plain_reciprocal_ranks(row: list[float]) -> list[float]:
    found = []
    for score in row:
        before, tied = sum(other > score for other in row), sum(other == score for other in row)
        found.append(1 / (60 + before + (tied + 1) / 2) if score > min(row) else 0.0)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_fusion_equals_its_formula(seed: int) -> None:
    lexical, dense = tables(seed)
    hybrid = fusion(Fixed(lexical), Fixed(dense), 2.0)
    expected = [
        np.add(plain_reciprocal_ranks(row), np.multiply(2.0, plain_reciprocal_ranks(cosines)))
        for row, cosines in zip(lexical.tolist(), dense.astype(np.float32).tolist(), strict=True)
    ]
    np.testing.assert_allclose(hybrid.scores(examples_of(np.zeros(6, int))), expected, atol=1e-6)


def test_an_item_without_a_score_changes_no_other_items_place_in_a_mixture() -> None:
    scores = np.array([[0.2, 0.9, 0.4, -np.inf, -np.inf]])
    found = ListScores(Fixed(scores)).scores(examples_of(np.zeros(1, int)))
    np.testing.assert_allclose(found, [[0, 1, 2 / 7, 0, 0]], atol=1e-6)
    assert found.dtype == np.float32
    items, listed = Fixed(scores).retrieve(examples_of(np.zeros(1, int)), 5)
    assert items.tolist() == [[1, 2, 0, -1, -1]]
    assert np.isneginf(listed[0, 3:]).all()


def test_fusion_stops_at_its_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpsr.baselines.hybrids.FUSION_DEPTH", 3)
    found = reciprocal_ranks(np.array([[5.0, 1.0, 4.0, 3.0, 2.0]], dtype=np.float32))
    np.testing.assert_allclose(found, [[1 / 61, 0, 1 / 62, 1 / 63, 0]])


@pytest.mark.parametrize("hybrid", [WeightedSumRetriever, fusion])
def test_the_chosen_weight_favours_the_side_that_ranks_the_click_first(
    hybrid: Callable[..., ExhaustiveRetriever],
) -> None:
    rng = np.random.default_rng(2)
    clicked = rng.integers(0, 50, 30)
    right, wrong = rng.uniform(0.1, 0.5, (2, 30, 50))
    right[np.arange(30), clicked] = 0.9
    examples = examples_of(clicked)
    for lexical, dense, expected in ((right, wrong, min(HYBRID_WEIGHTS)), (wrong, right, max(HYBRID_WEIGHTS))):
        sides = Fixed(lexical), Fixed(dense)
        chosen = choose_weight(lambda weight, sides=sides: hybrid(*sides, weight), HYBRID_WEIGHTS, examples)
        best = hybrid(*sides, chosen).retrieve(examples, 1)[0][:, 0]
        extreme = hybrid(*sides, expected).retrieve(examples, 1)[0][:, 0]
        assert (best == clicked).sum() >= (extreme == clicked).sum()
        assert (chosen < 1) == (expected < 1)


def test_the_ends_of_the_grid_are_the_two_sides_alone() -> None:
    lexical, dense = tables(4)
    lexical[:] = np.random.default_rng(4).random(lexical.shape)  # no ties, which the other side would order
    sides, examples = (Fixed(lexical), Fixed(dense)), examples_of(np.zeros(6, int))
    for weight, side in ((HYBRID_WEIGHTS[0], 0), (HYBRID_WEIGHTS[-1], 1)):
        found = WeightedSumRetriever(*sides, weight).retrieve(examples, 10)[0]
        alone = sides[side].retrieve(examples, 10)[0]
        assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, alone, strict=True)]) > 0.9


@pytest.mark.parametrize(
    ("weight", "note"), [(HYBRID_WEIGHTS[0], "dpsr hardly"), (1.0, ""), (HYBRID_WEIGHTS[-1], "bm25 hardly")]
)
def test_a_weight_at_the_end_of_the_grid_is_noted(weight: float, note: str) -> None:
    notes = edge_note("dpsr+bm25", weight, "bm25", "dpsr")
    assert (note in notes[0] and "dpsr+bm25" in notes[0]) if note else not notes


def test_the_grid_is_even_on_a_logarithmic_scale() -> None:
    ratios = np.divide(HYBRID_WEIGHTS[1:], HYBRID_WEIGHTS[:-1])
    assert 1.3 < ratios.min() <= ratios.max() <= 2.5
    assert HYBRID_WEIGHTS[0] <= 0.01 < 100 <= HYBRID_WEIGHTS[-1]


def test_the_same_examples_are_scored_once() -> None:
    lexical, dense = tables(0)
    sides = Fixed(lexical), Fixed(dense)
    examples = examples_of(np.zeros(6, int))
    for hybrid in (WeightedSumRetriever(*sides, 1.0), fusion(*sides, 1.0)):
        hybrid.retrieve(examples, 5)
        hybrid.score(examples, np.zeros((6, 2), dtype=np.int32))
    assert sides[0].asked == sides[1].asked == 1
    sides[0].retrieve(examples.take(slice(0, 3)), 5)
    assert sides[0].asked == 2


def test_lsa_relates_words_of_common_neighbours() -> None:
    shelves = ["sofa couch seat", "couch sofa", "sofa seat", "phone mobile cell", "mobile phone", "cell phone"]
    lsa = LSARetriever([*shelves, "seat", "cell"], str.split, seed=1, dimension=2)
    scores = lsa.scores(
        QueryExamples(np.array(["couch", "mobile", "unheard"], dtype=object), np.zeros(3, INTERACTION), None)
    )
    assert scores[0, 6] > 0.9 > 0.1 > scores[0, 7]  # "seat" has no word in common with "couch"
    assert scores[1, 7] > 0.9 > 0.1 > scores[1, 6]
    assert np.isneginf(scores[2]).all()


def test_lsa_with_all_dimensions_is_the_cosine_of_tf_idf() -> None:
    texts = ["red shoe", "blue shoe red", "green hat", "hat red hat"]
    lsa = LSARetriever(texts, str.split, seed=1, dimension=99)
    assert lsa.scores(examples_of(np.zeros(1, int))).shape == (1, 4)
    vocabulary = sorted({word for text in texts for word in text.split()})
    idf = {word: np.log(5 / (1 + sum(word in text.split() for text in texts))) + 1 for word in vocabulary}

    def vector(text: str) -> np.ndarray:
        counts = [text.split().count(word) for word in vocabulary]
        weights = np.array(
            [(1 + np.log(count)) * idf[word] if count else 0.0 for count, word in zip(counts, vocabulary, strict=True)]
        )
        return weights / np.linalg.norm(weights)

    queries = make_examples(np.array(texts, dtype=object), np.zeros(4, dtype=INTERACTION), seed=1)
    expected = [[vector(query) @ vector(text) for text in texts] for query in texts]
    np.testing.assert_allclose(lsa.scores(queries), expected, atol=1e-5)
