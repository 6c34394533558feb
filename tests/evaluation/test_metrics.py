"""Measures against plain Python, over seeds."""

import math

import numpy as np
import pytest

from dpsr.evaluation.measures.metrics import ranked_values, sample_candidates, top_k_values


def oracle(ranked: list[int], relevant: dict[int, int]) -> dict[str, float]:
    """The measures written out from their definitions."""
    ranked = [item for item in ranked if item >= 0]
    hits = [item in relevant for item in ranked]
    precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
    gains = [relevant.get(item, 0) for item in ranked[:10]]
    ideal = sorted(relevant.values(), reverse=True)[:10]
    return {
        "MAP@5": sum(p for p, hit in zip(precision[:5], hits[:5], strict=True) if hit) / len(relevant),
        "MRR@10": next((1 / (i + 1) for i, hit in enumerate(hits[:10]) if hit), 0.0),
        "nDCG@10": dcg(gains) / dcg(ideal),
        "Hit@10": float(any(hits[:10])),
        **{f"Recall@{k}": sum(hits[:k]) / len(relevant) for k in (10, 100, 1000)},
    }


def dcg(gains: list[int]) -> float:
    return sum(gain / math.log2(i + 2) for i, gain in enumerate(gains))


@pytest.mark.parametrize("seed", range(6))
def test_ranked_values_equal_their_definitions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_items, depth, lists = 150, int(rng.integers(1, 140)), 300
    ranked = np.stack([rng.permutation(num_items)[:depth] for _ in range(lists)]).astype(np.int32)
    ranked[:, depth // 2 :][rng.random(lists) < 0.2] = -1  # short lists
    relevant = [
        {int(item): int(rng.integers(1, 4)) for item in rng.choice(num_items, rng.integers(1, 8), replace=False)}
        for _ in range(lists)
    ]
    values = ranked_values(ranked, relevant)
    for row in range(lists):
        expected = oracle(ranked[row].tolist(), relevant[row])
        assert values.keys() == expected.keys()
        for name, value in expected.items():
            assert values[name][row] == pytest.approx(value, abs=1e-9), (name, row)


@pytest.mark.parametrize("rank", [1, 2, 5, 6, 10, 11, 100, 101])
def test_one_relevant_item_makes_every_measure_a_function_of_its_rank(rank: int) -> None:
    ranked = np.arange(200, dtype=np.int32)[None]
    values = {name: value[0] for name, value in ranked_values(ranked, [{rank - 1: 1}]).items()}
    assert values["MAP@5"] == pytest.approx(1 / rank if rank <= 5 else 0)
    assert values["MRR@10"] == pytest.approx(1 / rank if rank <= 10 else 0)
    assert values["nDCG@10"] == pytest.approx(1 / math.log2(rank + 1) if rank <= 10 else 0)
    assert values["Hit@10"] == values["Recall@10"] == float(rank <= 10)
    assert values["Recall@100"] == float(rank <= 100)


def test_an_empty_list_scores_zero() -> None:
    values = ranked_values(np.full((2, 3), -1, dtype=np.int32), [{0: 1}, {1: 1}])
    assert all((value == 0).all() for value in values.values())


def test_an_item_twice_in_a_list_is_refused() -> None:
    with pytest.raises(ValueError, match="list 1 has item 7 twice"):
        ranked_values(np.array([[1, 2, 3], [7, 2, 7]], dtype=np.int32), [{1: 1}, {7: 1}])


@pytest.mark.parametrize(("num_items", "count"), [(1, 1024), (2, 1024), (50, 1024), (1024, 1024), (3000, 64)])
def test_candidates_are_the_clicked_item_and_distinct_others(num_items: int, count: int) -> None:
    clicked = np.random.default_rng(0).integers(0, num_items, 40).astype(np.int32)
    candidates = sample_candidates(clicked, num_items, count, seed=3)
    assert candidates.shape == (40, min(count, num_items))
    assert (candidates[:, 0] == clicked).all()
    assert candidates.min() >= 0
    assert candidates.max() < num_items
    assert all(len(set(row)) == len(row) for row in candidates.tolist())
    assert (candidates == sample_candidates(clicked, num_items, count, seed=3)).all()


def test_candidates_are_uniform_over_the_other_items() -> None:
    clicked = np.full(20_000, 2, dtype=np.int32)
    drawn = np.bincount(sample_candidates(clicked, 6, 3, seed=1)[:, 1:].ravel(), minlength=6)
    assert drawn[2] == 0
    # 40,000 draws of five items: 8,000 each, standard deviation 69 (two of five without repetition).
    assert np.abs(np.delete(drawn, 2) - 8000).max() < 5 * 69


def test_top_k_counts_ranks_up_to_k() -> None:
    values = top_k_values(np.array([1, 2, 10, 11]))
    assert values["Top-1"].tolist() == [1, 0, 0, 0]
    assert values["Top-10"].tolist() == [1, 1, 1, 0]
