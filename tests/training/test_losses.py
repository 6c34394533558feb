"""Score, negatives and losses against brute-force loops over rows, heads and negatives."""

import math

import numpy as np
import pytest
import tensorflow as tf

from dpsr.config import LossConfig
from dpsr.training.losses import batch_loss
from dpsr.training.negatives import count_random_negatives, expected_occurrences

from ..ops import stock_group_loss

SEEDS = range(6)


def unit(random: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = random.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def soft_score(heads: np.ndarray, item: np.ndarray, beta: float) -> float:
    products = [float(np.dot(head, item)) for head in heads]
    weights = [math.exp(product / beta) for product in products]
    return sum(weight * product for weight, product in zip(weights, products, strict=True)) / sum(weights)


def loss_of_scores(kind: str, positive: float, negatives: list[float], **settings: float) -> float:
    """The kernel's loss of one row with one head: vectors of two dimensions that have just these scores."""
    heads = tf.constant([[[1.0, 0.0]]])
    vectors = tf.constant([[score, 0.5] for score in [positive, *negatives]], tf.float32)
    rows = tf.range(1 + len(negatives))
    config = LossConfig(kind=kind, mixing_ratio=1.0, group_size=2, **settings)
    return float(batch_loss(heads, vectors, tf.zeros([1], tf.int32), rows, config, 1.0).loss)


def test_heads_tend_to_the_best_one() -> None:
    random = np.random.default_rng(0)
    queries, items = unit(random, 5, 3, 8), unit(random, 5 + 7, 8)
    scores = np.einsum("bmd,nd->bmn", queries, items).max(axis=1)
    expected = np.mean([sum(max(0.0, 0.5 - scores[i, i] + scores[i, j]) for j in range(5, 12)) for i in range(5)])
    config = LossConfig(kind="hinge", mixing_ratio=1.0, group_size=2, margin=0.5)
    found = batch_loss(tf.constant(queries), tf.constant(items), tf.range(5), tf.range(12), config, 1e-4)
    np.testing.assert_allclose(found.loss, expected, rtol=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_hinge_and_softmax_of_given_scores(seed: int) -> None:
    random = np.random.default_rng(seed)
    positive, *negatives = random.normal(size=1 + seed)
    hinge = sum(max(0.0, 0.1 - positive + negative) for negative in negatives)
    softmax = -math.log(math.exp(positive / 0.3) / sum(math.exp(score / 0.3) for score in [positive, *negatives]))
    assert loss_of_scores("hinge", positive, negatives, margin=0.1) == pytest.approx(hinge, rel=1e-5)
    assert loss_of_scores("softmax", positive, negatives, temperature=0.3) == pytest.approx(softmax, rel=1e-5, abs=1e-7)


def test_softmax_without_negatives_is_flat() -> None:
    heads, vectors = tf.constant([[[0.2, 0.1]], [[0.4, 0.3]]]), tf.constant([[0.5, 0.5], [0.1, 0.2]])
    config = LossConfig(kind="softmax", mixing_ratio=0.0, group_size=2, temperature=0.01)
    same = tf.zeros([2], tf.int32)
    found = batch_loss(heads, vectors, tf.range(2), same, config, 1.0)
    assert float(found.loss) == 0.0
    assert not np.any(found.heads)
    assert not np.any(found.vectors)


@pytest.mark.parametrize(
    ("alpha", "group", "expected"),
    [(0.0, 64, 0), (0.5, 64, 63), (0.75, 64, 189), (1.0, 64, 63), (0.25, 64, 21), (0.5, 2, 1)],
)
def test_count_random_negatives(alpha: float, group: int, expected: int) -> None:
    assert count_random_negatives(alpha, group) == expected


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.5, 0.9])
def test_random_negatives_are_the_wanted_share(alpha: float) -> None:
    count = count_random_negatives(alpha, 64)
    assert count / (count + 63) == pytest.approx(alpha, abs=0.01)


def test_popularity_correction_is_refused_for_the_hinge() -> None:
    with pytest.raises(ValueError, match="popularity_correction is for kind = 'softmax', not for kind = 'hinge'"):
        LossConfig(kind="hinge", popularity_correction=True)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_expected_occurrences_are_what_drawing_gives(alpha: float) -> None:
    random, group = np.random.default_rng(0), 8
    clicks = np.array([100_000, 400_000, 0, 200_000, 300_000])
    drawn, rounds = np.zeros(5), 4000
    for _ in range(rounds):
        if alpha < 1:
            drawn += np.bincount(random.choice(5, group - 1, p=clicks / clicks.sum()), minlength=5)
        drawn += np.bincount(random.integers(0, 5, count_random_negatives(alpha, group)), minlength=5)
    expected = expected_occurrences(clicks, alpha, group)
    assert (expected > 0).all()
    np.testing.assert_allclose(drawn / rounds, expected, atol=0.1)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_negatives_over_their_expected_occurrences_sum_to_the_whole_catalogue(alpha: float) -> None:
    """What the correction is for: the sampled denominator of the softmax is right on average."""
    random, group = np.random.default_rng(1), 16
    clicks, scores = np.array([500_000, 300_000, 100_000, 60_000, 40_000]), np.array([0.1, -0.4, 0.9, 0.5, 1.2])
    weights = np.exp(scores) / expected_occurrences(clicks, alpha, group)
    sums = []
    for _ in range(4000):
        drawn = random.integers(0, 5, count_random_negatives(alpha, group))
        if alpha < 1:
            drawn = np.concatenate([drawn, random.choice(5, group - 1, p=clicks / clicks.sum())])
        sums.append(weights[drawn].sum())
    np.testing.assert_allclose(np.mean(sums), np.exp(scores).sum(), rtol=0.03)


@pytest.mark.parametrize(
    ("kind", "corrected"), [("hinge", False), ("softmax", False), ("softmax", True), ("three_part", False)]
)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("hardest", [None, 0, 3])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(2))
def test_batch_loss_is_the_loop_over_every_row_and_negative(
    seed: int, alpha: float, hardest: int | None, masked: bool, kind: str, corrected: bool
) -> None:
    random = np.random.default_rng(seed)
    config = LossConfig(kind=kind, mixing_ratio=alpha, group_size=4, temperature=0.2, thresholds=(0.6, 0.2, -0.1))
    rows, drawn, beta = 12, count_random_negatives(alpha, 4), 0.5
    lengths = random.integers(0, hardest + 1, rows) if hardest is not None else np.zeros(rows, int)
    heads, vectors = unit(random, rows, 2, 8), unit(random, rows + drawn + lengths.sum(), 8)
    query_rows = random.integers(0, 6, rows).astype(np.int32)
    item_rows = random.integers(0, 9, rows + drawn).astype(np.int32)
    occurrences = random.uniform(0.1, 3.0, 9).astype(np.float32) if corrected else None
    clicked = random.random((rows, rows + drawn)) < (0.3 if masked else 0.0)
    losses = []
    for i in range(rows):
        group = range(i // 4 * 4, i // 4 * 4 + 4) if alpha < 1 else []
        negatives = [
            (soft_score(heads[i], vectors[j], beta), item_rows[j])
            for j in [*group, *range(rows, rows + drawn)]
            if item_rows[j] != item_rows[i] and (j >= rows or query_rows[j] != query_rows[i]) and not clicked[i, j]
        ]
        first = rows + drawn + lengths[:i].sum()
        hard = [soft_score(heads[i], vector, beta) for vector in vectors[first : first + lengths[i]]]
        positive = soft_score(heads[i], vectors[i], beta)
        if kind == "three_part":
            loss = max(0.0, 0.6 - positive)
            loss += float(np.mean([max(0.0, score - 0.2) for score in hard])) if hard else 0.0
            loss += float(np.mean([max(0.0, score + 0.1) for score, _ in negatives])) if negatives else 0.0
        elif kind == "hinge":
            scores = [score for score, _ in negatives] + hard
            loss = sum(max(0.0, config.margin - positive + negative) for negative in scores)
        else:
            # Every candidate weighs as much as it is rare among the drawn ones; hard ones are not drawn.
            rarity = 1 / occurrences if corrected else np.ones(9)
            terms = [
                math.exp((negative - positive) / config.temperature) * rarity[item] / rarity[item_rows[i]]
                for negative, item in negatives
            ]
            terms += [math.exp((score - positive) / config.temperature) / rarity[item_rows[i]] for score in hard]
            loss = math.log(1 + sum(terms))
        losses.append(loss)
    arguments = tf.constant(query_rows), tf.constant(item_rows), config, beta
    options = {
        "occurrences": tf.constant(occurrences) if corrected else None,
        "clicked": tf.constant(clicked) if masked else None,
        "hard": None if hardest is None else tf.RaggedTensor.from_row_lengths(tf.zeros(lengths.sum()), lengths),
    }
    found = batch_loss(tf.constant(heads), tf.constant(vectors), *arguments, **options)
    np.testing.assert_allclose(found.loss, np.mean(losses), rtol=1e-5)
    stock = stock_group_loss.batch_loss(tf.constant(heads), tf.constant(vectors), *arguments, **options)
    np.testing.assert_allclose(stock, np.mean(losses), rtol=1e-5)


def test_three_part_thresholds_fall() -> None:
    with pytest.raises(ValueError, match="have to fall"):
        LossConfig(kind="three_part", thresholds=(0.2, 0.5, 0.9))
