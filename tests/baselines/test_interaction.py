"""Models of interaction: kernels by hand, gradients, weights that come back, and learning what only clicks contain."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.baselines.context import BuildContext
from dpsr.baselines.examples import anonymous_examples
from dpsr.baselines.fitting.learner import TrainedScorer
from dpsr.baselines.knrm import DEVIATIONS, MEANS, kernel_pooling
from dpsr.baselines.registry import ENTRIES
from dpsr.baselines.similarity import cosines
from dpsr.data.dataset.tables import Dataset
from dpsr.evaluation.measures.judgements import area_under_curve

from .coded_shop import CODES, COLOURS, make_shop

SCORERS = ["k-nrm"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset.load(make_shop(tmp_path_factory.mktemp("coded"), skips=True).dataset_dir)


@pytest.mark.parametrize("name", SCORERS)
def test_a_scorer_learns_relations_that_only_clicks_contain(name: str, dataset: Dataset, tmp_path: Path) -> None:
    scorer = BuildContext(dataset, ENTRIES, seed=1, work_dir=tmp_path, progress=False).method(name)
    assert isinstance(scorer, TrainedScorer)
    asked = anonymous_examples(np.array(CODES, dtype=object), seed=1)
    items = np.broadcast_to(np.arange(60, dtype=np.int32), (len(CODES), 60))
    scores = scorer.score(asked, items)
    colour = items % len(COLOURS)
    areas = [
        area_under_curve(row, colours == code) for code, (row, colours) in enumerate(zip(scores, colour, strict=True))
    ]
    assert np.mean(areas) > 0.8, areas
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
