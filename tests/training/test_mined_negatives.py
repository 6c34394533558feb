"""Hard negatives that the model finds, recall of the catalogue, and the three-part hinge at 1 : 10 : 11."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.config import Config
from dpsr.data.batches.features import FeatureTables
from dpsr.data.dataset.pairs import clicked_items
from dpsr.data.dataset.tables import Dataset
from dpsr.model.run_files import CheckpointError
from dpsr.model.two_tower import TwoTower
from dpsr.training.catalogue_scores import CatalogueScores
from dpsr.training.mined_negatives import MinedNegatives
from dpsr.training.recipes import batch_maker
from dpsr.training.stages import EpochStart
from dpsr.training.trainer import train


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, make_dataset: Callable[..., Dataset]) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("dataset"))


def scores_by_hand(model: TwoTower, tables: FeatureTables, records: np.ndarray, num_items: int) -> np.ndarray:
    heads = model.query_heads(tables.queries(tf.constant(records))).numpy()
    vectors = model.item_vectors(tables.items(tf.range(num_items))).numpy()
    return np.einsum("bmd,nd->bmn", heads, vectors).max(axis=1)


def test_the_best_scored_items_that_are_not_right_are_mined(
    make_config: Callable[..., Config], dataset: Dataset, tmp_path: Path
) -> None:
    config = make_config(loss={"kind": "softmax", "group_size": 8, "mined_negatives": 4})
    model, tables = TwoTower(config.model, dataset.schema, seed=2), FeatureTables(dataset, 4)
    scores = CatalogueScores(model, tables, dataset.schema.num_items)
    config.checkpoint_dir.mkdir(parents=True)
    mined = MinedNegatives.of_run(config, dataset, scores)
    mined.begin_epoch(EpochStart(0, 0))
    queries = np.arange(dataset.schema.num_queries, dtype=np.int32)
    records = np.stack([queries, np.full_like(queries, -1), *3 * [np.zeros_like(queries)]], axis=1)
    expected = scores_by_hand(model, tables, records, dataset.schema.num_items)
    clicked, found = clicked_items(dataset, tmp_path), mined.rows(tf.constant(queries)).to_list()
    for query, items in enumerate(found):
        if not len(clicked[query]):
            assert items == []
            continue
        expected[query, clicked[query]] = -np.inf
        assert items == np.argsort(-expected[query], kind="stable")[:4].tolist()
    assert mined.rows(tf.constant([dataset.schema.num_queries])).to_list() == [[]]
    again = MinedNegatives.of_run(config, dataset, scores)
    for table in model.tables.values():
        table.embeddings.assign(tf.zeros_like(table.embeddings))
    again.begin_epoch(EpochStart(0, 5))
    assert again.rows(tf.constant(queries)).to_list() == found, "an interrupted epoch has the negatives it began with"
    again.begin_epoch(EpochStart(1, 0))
    with pytest.raises(CheckpointError, match=r"mined-0\.npy: the hard negatives .* cannot be read"):
        again.begin_epoch(EpochStart(0, 5))


def test_recall_counts_items_among_the_best_of_the_catalogue(
    make_config: Callable[..., Config], dataset: Dataset
) -> None:
    config = make_config()
    model, tables = TwoTower(config.model, dataset.schema, seed=2), FeatureTables(dataset, 4)
    interactions = np.asarray(dataset.interactions("valid"))
    records = interactions.view(np.int32).reshape(len(interactions), 5)
    expected = scores_by_hand(model, tables, records, dataset.schema.num_items)
    own = np.take_along_axis(expected, records[:, 2:3], axis=1)
    scores = CatalogueScores(model, tables, dataset.schema.num_items)
    for k in (1, 10, 30):
        share = np.mean((expected > own).sum(axis=1) < k)
        assert scores.recall(records, k) == pytest.approx(share)


def test_three_part_hinge_with_one_positive_ten_hard_and_eleven_random_items(
    make_config: Callable[..., Config], dataset: Dataset
) -> None:
    config = make_config(
        loss={"kind": "three_part", "mixing_ratio": 1.0, "group_size": 12, "mined_negatives": 10},
        model={"dimension": 8, "hidden": []},
        training={
            "batch_size": 36,
            "optimizer": "adamw",
            "learning_rate": 0.02,
            "stop_by": "valid_recall_100",
            "patience": 1,
            "epochs": 2,
        },
    )
    assert batch_maker(config, dataset).random_negatives == 11
    first, *_, last = train(config, dataset, progress=False)["epochs"]
    assert last["train_loss"] < first["train_loss"]
    assert last["valid_recall_100"] == 1.0, "the catalogue has fewer than 100 items"
