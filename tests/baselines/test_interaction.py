"""Models of interaction: kernels by hand, gradients, weights that come back, and learning what only clicks contain."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.baselines import interaction
from dpsr.baselines.arc_i import ArcI
from dpsr.baselines.arc_ii import ArcII
from dpsr.baselines.context import BuildContext
from dpsr.baselines.drmm import BINS, Drmm, DrmmIdf, histograms
from dpsr.baselines.duet import Duet
from dpsr.baselines.examples import anonymous_examples
from dpsr.baselines.fitting.learner import TrainedScorer
from dpsr.baselines.interaction import InteractionScorer, hinge, softmax
from dpsr.baselines.knrm import DEVIATIONS, MEANS, Knrm, kernel_pooling
from dpsr.baselines.match_pyramid import MatchPyramid
from dpsr.baselines.pooling import dynamic_pooling
from dpsr.baselines.registry import ENTRIES
from dpsr.baselines.similarity import cosines
from dpsr.data.dataset.tables import Dataset
from dpsr.evaluation.measures.judgements import area_under_curve

from .coded_shop import CODES, COLOURS, make_shop

SCORERS = ["arc-i", "arc-ii", "matchpyramid", "drmm", "drmm-idf", "k-nrm", "duet"]
FROZEN = {"drmm", "drmm-idf"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset.load(make_shop(tmp_path_factory.mktemp("coded"), skips=True).dataset_dir)


@pytest.mark.parametrize("name", SCORERS)
def test_a_scorer_learns_relations_that_only_clicks_contain(
    name: str, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interaction, "_MOST_ROUNDS", 1 if name in FROZEN else 5)
    scorer = BuildContext(dataset, ENTRIES, seed=1, work_dir=tmp_path, progress=False).method(name)
    assert isinstance(scorer, TrainedScorer)
    asked = anonymous_examples(np.array(CODES, dtype=object), seed=1)
    items = np.broadcast_to(np.arange(60, dtype=np.int32), (len(CODES), 60))
    scores = scorer.score(asked, items)
    colour = items % len(COLOURS)
    areas = [
        area_under_curve(row, colours == code) for code, (row, colours) in enumerate(zip(scores, colour, strict=True))
    ]
    assert np.mean(areas) > 0.8 or name in FROZEN, areas
    again = BuildContext(dataset, ENTRIES, seed=1, work_dir=tmp_path, progress=False).method(name)
    assert isinstance(again, TrainedScorer)
    np.testing.assert_array_equal(again.score(asked, items), scores)  # the weights of the file


def test_a_word_and_itself_have_a_cosine_of_exactly_one() -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 7)).astype(np.float32)
    ids = tf.constant(np.arange(1, 51)[None], tf.int32)
    found = cosines(ids, ids, vectors[None], vectors[None]).numpy()[0]
    assert (np.diag(found) == 1.0).all()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(found, unit @ unit.T, atol=1e-6)


def test_kernels_count_similar_words() -> None:
    rng = np.random.default_rng(2)
    matrix = rng.uniform(-1, 1, (2, 3, 5)).astype(np.float32)
    query_words, item_words = np.ones((2, 3), np.float32), np.ones((2, 5), np.float32)
    query_words[1, 2], item_words[0, 3:] = 0.0, 0.0
    expected = np.zeros((2, len(MEANS)))
    for row in range(2):
        for kernel, (mean, deviation) in enumerate(zip(MEANS, DEVIATIONS, strict=True)):
            for query_word in np.flatnonzero(query_words[row]):
                values = matrix[row, query_word][item_words[row] > 0]
                total = np.exp(-((values - mean) ** 2) / (2 * deviation**2)).sum()
                expected[row, kernel] += 0.01 * np.log(max(total, 1e-10))
    found = kernel_pooling(tf.constant(matrix), tf.constant(query_words), tf.constant(item_words))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module", params=SCORERS)
def untrained(request: pytest.FixtureRequest, dataset: Dataset) -> InteractionScorer:
    """A model whose word vectors and weights are as they start."""
    data = BuildContext(dataset, ENTRIES, seed=2, progress=False).pair_training_set
    classes = (ArcI, ArcII, MatchPyramid, Drmm, DrmmIdf, Knrm, Duet)
    return next(made for made in classes if made.name == request.param)(data)


def random_pairs(rows: int, words: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Query and item ids of various lengths; some words stand in both."""
    rng = np.random.default_rng(seed)
    query, item = rng.integers(1, words, (rows, 5)), rng.integers(1, words, (rows, 9))
    item[:, 2] = query[:, 0]
    query[np.arange(5) >= rng.integers(1, 6, rows)[:, None]] = 0
    item[np.arange(9) >= rng.integers(3, 10, rows)[:, None]] = 0
    return query.astype(np.int32), item.astype(np.int32)


def test_filled_places_change_no_score(untrained: InteractionScorer) -> None:
    query, item = random_pairs(20, 70, seed=3)
    expected = untrained.network([query, item]).numpy()
    assert np.ptp(expected) > 1e-4
    wider = np.pad(query, ((0, 0), (0, 4))), np.pad(item, ((0, 0), (0, 11)))
    np.testing.assert_allclose(untrained.network(wider).numpy(), expected, atol=1e-5)
    lengths = (query != 0).sum(axis=1), (item != 0).sum(axis=1)
    alone = [untrained.network([query[[row], : lengths[0][row]], item[[row], : lengths[1][row]]]) for row in range(20)]
    np.testing.assert_allclose(np.concatenate(alone), expected, atol=1e-5)


def test_gradients_are_those_of_finite_differences(untrained: InteractionScorer) -> None:
    query, item = random_pairs(40, 70, seed=4)

    def loss() -> tf.Tensor:
        scores = tf.reshape(untrained.network([query, item]), [8, 5])
        return tf.reduce_mean(softmax(scores))

    variables = [each for each in untrained.network.trainable_variables if "words" not in each.name]
    rng = np.random.default_rng(5)
    for variable in variables:  # away from biases of zero, where relu has no derivative
        variable.assign_add(rng.normal(0.0, 0.1, variable.shape))
    with tf.GradientTape() as tape:
        value = loss()
    gradients = tape.gradient(value, variables)
    for variable, gradient in zip(variables, gradients, strict=True):
        direction = rng.normal(size=variable.shape).astype(np.float32)
        direction /= max(1e-9, np.linalg.norm(direction))
        kept, step, ends = variable.numpy(), 5e-4, []
        for sign in (1, -1):
            variable.assign(kept + sign * step * direction)
            ends.append(float(loss()))
        variable.assign(kept)
        expected = float((gradient.numpy() * direction).sum())
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(expected, abs=3e-3, rel=0.3), variable.name


@pytest.mark.parametrize("loss", [hinge, softmax])
def test_losses_know_no_order_of_negatives(loss: Callable[[tf.Tensor], tf.Tensor]) -> None:
    scores = np.random.default_rng(6).normal(size=(7, 5)).astype(np.float32)
    turned = np.concatenate([scores[:, :1], scores[:, :0:-1]], axis=1)
    np.testing.assert_allclose(loss(tf.constant(scores)), loss(tf.constant(turned)), rtol=1e-6)
    worse = scores.copy()
    worse[:, 0] -= 1.0
    assert (loss(tf.constant(worse)).numpy() > loss(tf.constant(scores)).numpy()).all()


def test_the_histogram_is_that_of_the_article_and_the_survey() -> None:
    # "car" against car, rent, truck, bump, injunction, runway.
    matrix = tf.constant([[[1.0, 0.2, 0.7, 0.3, -0.1, 0.1]]])
    counts = histograms(matrix, tf.ones([1, 6]), 5)
    assert counts.numpy().tolist() == [[[0, 1, 3, 1, 1]]]
    filled = tf.concat([matrix, [[[0.9, 1.0]]]], axis=2)
    words = tf.constant([[1.0] * 6 + [0.0] * 2])
    assert histograms(filled, words, 5).numpy().tolist() == [[[0, 1, 3, 1, 1]]]


def test_exact_matches_are_in_their_bin_in_spite_of_rounding() -> None:
    vectors = np.random.default_rng(7).normal(size=(1, 200, 50)).astype(np.float32)
    ids = tf.constant(np.arange(1, 201)[None], tf.int32)
    counts = histograms(cosines(ids, ids, vectors, vectors), tf.ones([1, 200]), BINS).numpy()[0]
    assert (counts[:, -1] == 1).all()
    assert (counts.sum(axis=1) == 200).all()


@pytest.mark.parametrize("seed", range(3))
def test_dynamic_pooling_reads_the_filled_part(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(6, 7, 11, 2)).astype(np.float32)
    rows, columns = rng.integers(0, 8, 6), rng.integers(0, 12, 6)
    rows[0], columns[1] = 0, 1
    found = dynamic_pooling(
        tf.constant(matrix), tf.constant(rows, tf.int32), tf.constant(columns, tf.int32), (3, 4)
    ).numpy()
    for each, (height, width) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        for i in range(3):
            for j in range(4):
                top, left = i * height // 3, j * width // 4
                cell = matrix[
                    each, top : max(top + 1, -(-(i + 1) * height // 3)), left : max(left + 1, -(-(j + 1) * width // 4))
                ]
                expected = cell.max(axis=(0, 1)) if height and width else np.zeros(2)
                np.testing.assert_array_equal(found[each, i, j], expected)
