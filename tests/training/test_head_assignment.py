"""Which head a click trains."""

from collections import Counter

import numpy as np
import tensorflow as tf

from dpsr.config import LossConfig, TrainingConfig
from dpsr.data.batches.batch import Batch
from dpsr.data.dataset.schema import INTERACTION
from dpsr.training.head_assignment import HeadAssignment
from dpsr.training.run_optimizers import adagrad
from dpsr.training.step import MatchingStep

from ..model.test_two_tower import SCHEMA, make_model, random_items, random_queries


def clicks(queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    records = np.zeros(len(queries), INTERACTION)
    records["query"], records["item"] = queries, items
    return records


def test_a_head_is_the_rank_of_a_value_among_the_clicks_of_its_query() -> None:
    random = np.random.default_rng(1)
    values = random.integers(0, 6, 40).astype(np.int32)
    weights = 0.5**values
    records = clicks(random.integers(0, 7, 600), random.choice(40, 600, p=weights / weights.sum()))
    choice = HeadAssignment(np.split(records, [10, 300]), values, 3)
    query_rows, item_rows = (array.ravel() for array in np.meshgrid(np.arange(-1, 9), np.arange(40)))
    heads = random.normal(size=(len(query_rows), 3, 4)).astype(np.float32)
    vectors = random.normal(size=(len(query_rows), 4)).astype(np.float32)
    found = choice(tf.constant(heads), tf.constant(vectors), tf.constant(query_rows), tf.constant(item_rows)).numpy()

    kinds = set()
    for row, (query, item) in enumerate(zip(query_rows, item_rows, strict=True)):
        counts = Counter(values[records["item"][records["query"] == query]].tolist())
        ranked = sorted(counts, key=lambda value: (-counts[value], value))
        value = int(values[item])
        if counts[value] and counts[value] >= 0.05 * counts.total():
            expected, kind = min(ranked.index(value), 2), "ranked"
        else:
            expected, kind = int(np.argmax(heads[row] @ vectors[row])), "slip" if counts[value] else "never"
        kinds.add(kind)
        assert found[row] == expected, (query, item, kind)
    assert kinds == {"ranked", "slip", "never"}


def test_a_click_trains_the_table_and_the_layers_of_its_own_head_alone() -> None:
    random = np.random.default_rng(2)
    values = np.arange(SCHEMA.num_items, dtype=np.int32) % 2
    # Every query led to items 0 and 2 most often, and to item 1.
    records = clicks(np.repeat(np.arange(SCHEMA.num_queries), 3), np.tile([0, 2, 1], SCHEMA.num_queries))
    for head, item in enumerate([2, 1]):
        model = make_model(heads=2, head_tables=True, residual=True)
        step = MatchingStep(
            model,
            LossConfig(kind="softmax", group_size=4),
            adagrad(model, TrainingConfig()),
            head_assignment=HeadAssignment([records], values, 2),
        )
        own = [
            [model.tables[f"query_tokens.{each}"].embeddings, *perceptron.trainable_variables]
            for each, perceptron in enumerate([model.query_tower.perceptron, *model.query_tower._others])
        ]
        before = [[variable.numpy() for variable in variables] for variables in own]
        rows = tf.concat([tf.fill([8], item), tf.constant([5, 6, 7])], axis=0)
        for _ in range(2):  # what is below a last layer of zeros stays as it is in the first step
            step(Batch(random_queries(random, 8), random_items(random, 11), tf.range(8), rows))
        changed = [
            [not np.array_equal(old, new) for old, new in zip(*pair, strict=True)]
            for pair in zip(before, own, strict=True)
        ]
        assert all(changed[head])
        assert not any(changed[1 - head])
