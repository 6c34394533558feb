"""Amazon SPS: network and loss against plain numpy, and its negatives."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.baselines.amazon_sps import RANDOM_ITEMS, RANDOM_WEIGHT, SHOWN_ITEMS, WIDTH, SpsNetwork, SpsRetriever
from dpsr.baselines.context import BuildContext
from dpsr.baselines.fitting.towers import ragged, splits
from dpsr.baselines.registry import ENTRIES
from dpsr.data.dataset.tables import Dataset

from .coded_shop import make_shop


def test_the_network_is_the_one_of_the_article() -> None:
    network = SpsNetwork(20, seed=3)
    rng = np.random.default_rng(3)
    for variable in (*network.dense, *network.statistics):
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    gamma, beta = (variable.numpy() for variable in network.dense)
    centre, variance = (variable.numpy() for variable in network.statistics)
    texts = [[3], [1, 1, 7], [], [19, 2, 5, 5]]
    ids = ragged(np.concatenate([np.array(each, np.int32) for each in texts]), splits([len(each) for each in texts]))
    table = network.table.embeddings.numpy()
    means = np.stack([table[each].mean(axis=0) if each else np.zeros(WIDTH) for each in texts])

    def unit(normalised: np.ndarray) -> np.ndarray:
        hidden = np.tanh(gamma * normalised + beta)
        return hidden / np.linalg.norm(hidden, axis=1, keepdims=True)

    np.testing.assert_allclose(network(ids), unit((means - centre) / np.sqrt(variance + 1e-3)), atol=1e-4)
    # A step of training normalises by the batch, and moves the statistics towards it.
    expected = unit((means - means.mean(axis=0)) / np.sqrt(means.var(axis=0) + 1e-3))
    np.testing.assert_allclose(network.vectors(network.table.lookup(ids), ids, training=True), expected, atol=1e-4)
    np.testing.assert_allclose(network.statistics[0], 0.9 * centre + 0.1 * means.mean(axis=0), atol=1e-5)


def test_the_loss_is_a_squared_hinge_in_three_parts() -> None:
    rng = np.random.default_rng(4)
    clicks, listed = 6, 1 + RANDOM_ITEMS + SHOWN_ITEMS
    queries = rng.normal(size=(clicks, 4))
    items = queries[:, None] + rng.normal(size=(clicks, listed, 4))
    queries, items = (each / np.linalg.norm(each, axis=-1, keepdims=True) for each in (queries, items))
    rows = np.arange(clicks * listed).reshape(clicks, listed)
    rows[0, 1 + RANDOM_ITEMS :] = -1  # nothing was shown
    rows[2, 1] = rows[1, 0]  # the clicked item of row 1 is a random item of row 2
    expected, shares = 0.0, []
    for row in range(clicks):
        expected += max(0.0, 0.9 - queries[row] @ items[row, 0]) ** 2
        for place in range(1 + RANDOM_ITEMS, listed):
            if row != 0:
                expected += max(0.0, queries[row] @ items[row, place] - 0.55) ** 2
        excesses = []
        for other in range(clicks):
            for place in range(1, 1 + RANDOM_ITEMS):
                if (row, other, place) != (1, 2, 1):
                    excesses.append(max(0.0, queries[row] @ items[other, place] - 0.2))
        above = max(1, np.count_nonzero(excesses))
        expected += RANDOM_WEIGHT * np.square(excesses).sum() / above
        shares.append(above / len(excesses))
    assert min(shares) < 1.0
    arguments = (tf.constant(queries, tf.float32), tf.constant(items, tf.float32), tf.constant(rows, tf.int32))
    found = SpsRetriever.loss(SpsRetriever.__new__(SpsRetriever), *arguments)
    assert float(found) == pytest.approx(expected / clicks, rel=1e-4)


@pytest.mark.parametrize("skips", [True, False])
def test_negatives_are_random_items_and_those_skipped_for_the_query(
    tmp_path: Path, skips: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Dataset.load(make_shop(tmp_path, skips=skips).dataset_dir)
    monkeypatch.setattr(SpsRetriever, "fit", lambda *_, **__: None)
    context = BuildContext(dataset, ENTRIES, seed=1, progress=False)
    retriever, clicks = context.method("amazon sps"), context.train_clicks
    assert isinstance(retriever, SpsRetriever)
    drawn = retriever.negatives(clicks, np.random.default_rng(1))
    assert drawn.shape == (len(clicks), RANDOM_ITEMS + SHOWN_ITEMS * skips)
    assert (drawn != clicks["item"][:, None]).all()
    shown = drawn[:, RANDOM_ITEMS:]
    has = context.training_set.skipped.has(clicks["query"])
    assert has.any() == skips
    assert (shown[~has] == -1).all()
    skipped = {(int(record["query"]), int(record["item"])) for record in dataset.skips()}
    for record, items in zip(clicks[has], shown[has], strict=True):
        assert {(int(record["query"]), int(item)) for item in items} <= skipped
