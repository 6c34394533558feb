"""Joins of records with the tables of a dataset, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from dpsr.data.batches.batch import Batch, BatchMaker
from dpsr.data.batches.features import TITLE_TOKENS, FeatureTables
from dpsr.data.batches.steps import LogBatches, epoch_batches
from dpsr.data.dataset.schema import INTERACTION, split_file
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare

from .conftest import random_raw

HISTORY = 5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    raw = random_raw(tmp_path_factory.mktemp("raw"))
    raw.write()
    return Dataset.load(prepare(raw.config(), progress=False))


@pytest.fixture(scope="module")
def tables(dataset: Dataset) -> FeatureTables:
    return FeatureTables(dataset, HISTORY)


def test_the_join_equals_numpy(dataset: Dataset, tables: FeatureTables) -> None:
    records = np.concatenate([dataset.interactions(split) for split in ("train", "valid", "test")])
    assert (records["user"] < 0).any()
    assert (records["history_end"] > HISTORY).any()
    fields = tf.constant(np.stack([records[name] for name in INTERACTION.names or ()], axis=1))
    queries = tf.function(tables.queries)(fields)
    assert queries.tokens.to_list() == [dataset.query_tokens[row].tolist() for row in records["query"]]
    genders = [dataset.user_profile["gender"][user] if user >= 0 else 0 for user in records["user"]]
    assert queries.profile["gender"].numpy().tolist() == genders
    histories = [
        dataset.history[user][:end][-HISTORY:].tolist() if user >= 0 else []
        for user, end in zip(records["user"], records["history_end"], strict=True)
    ]
    assert queries.history.to_list() == histories
    items = tf.function(tables.items)(tf.constant(records["item"].copy()))
    assert items.tokens.to_list() == [dataset.item_tokens[row].tolist() for row in records["item"]]
    np.testing.assert_array_equal(items.categorical["brand"], dataset.item_categorical["brand"][records["item"]])
    for ragged in (queries.tokens, queries.history, items.tokens):
        assert ragged.dtype == tf.int32


def test_batches_are_joined_records_with_shared_negatives(dataset: Dataset, tables: FeatureTables) -> None:
    maker = BatchMaker(tables, batch_size=32, random_negatives=16, num_items=dataset.schema.num_items)
    source = LogBatches(maker, dataset.directory / split_file("train"))
    batch = next(epoch_batches(source, seed=1, epoch=0))
    assert batch.query_rows.shape == (32,)
    assert batch.item_rows.shape == (48,)
    assert batch.items.tokens.to_list() == [dataset.item_tokens[row].tolist() for row in batch.item_rows.numpy()]
    assert batch.queries.tokens.to_list() == [dataset.query_tokens[row].tolist() for row in batch.query_rows.numpy()]
    pairs = {(record["query"], record["item"]) for record in dataset.interactions("train")}
    assert set(zip(batch.query_rows.numpy(), batch.item_rows.numpy(), strict=False)) <= pairs

    def first(plan: object) -> Batch:
        return source.batches(plan)(tf.zeros([], tf.int64))

    traced = tf.function(first).get_concrete_function(source.spec).structured_outputs
    assert traced.query_rows.shape == (32,)  # the graph knows B
    assert traced.item_rows.shape == (48,)


def test_titles_of_the_last_items_of_the_history(dataset: Dataset) -> None:
    records = dataset.interactions("test")
    fields = tf.constant(np.stack([records[name] for name in INTERACTION.names or ()], axis=1))
    found = FeatureTables(dataset, HISTORY, 2).queries(fields).history_titles
    assert found is not None
    expected = []
    for record in records:
        past = dataset.history[record["user"]][: record["history_end"]] if record["user"] >= 0 else []
        expected.append([token for item in past[-2:] for token in dataset.item_tokens[item].tolist()[:TITLE_TOKENS]])
    assert found.to_list() == expected
    assert max(map(len, expected)) == 2 * TITLE_TOKENS
    assert FeatureTables(dataset, HISTORY).queries(fields).history_titles is None


def test_no_history_where_its_length_is_zero(dataset: Dataset) -> None:
    records = dataset.interactions("test")
    fields = tf.constant(np.stack([records[name] for name in INTERACTION.names or ()], axis=1))
    history = FeatureTables(dataset, 0).queries(fields).history
    assert history.shape[0] == len(records)
    assert history.flat_values.shape == (0,)
