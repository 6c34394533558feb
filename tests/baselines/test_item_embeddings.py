"""Sequences of clicked items, and prod2vec over them."""

from typing import Any

import numpy as np
import pytest

from dpsr.baselines.examples import QueryExamples, anonymous_examples
from dpsr.baselines.item_sequences import ItemSequences, item_sequences
from dpsr.baselines.prod2vec import Prod2VecRetriever
from dpsr.data.dataset.schema import CLICK, INTERACTION

QUERIES = ["red hat", "Red  HAT", "shoe", "red shoe", "scarf"]


def log(*clicks: tuple[int, int, int, int]) -> np.ndarray:
    """Records of (query, user, item, history_end)."""
    records = np.zeros(len(clicks), dtype=INTERACTION)
    for record, click in zip(records, clicks, strict=True):
        record["query"], record["user"], record["item"], record["history_end"] = click
    records["event"] = CLICK
    return records


def asked(*texts: str) -> QueryExamples:
    return anonymous_examples(np.array(texts, dtype=object), seed=1)


def lists(sequences: ItemSequences) -> list[list[int]]:
    return [items.tolist() for items in sequences.items]


def test_a_users_clicks_are_a_sequence_in_the_order_of_time() -> None:
    clicks = log(
        *((0, 7, 3, 2), (1, 7, 5, 0), (1, 7, 5, 1), (0, 7, 4, 3), (0, 7, 3, 3)),  # of the last moment: by item
        *((0, 2, 1, 0), (0, 2, 1, 1)),  # one item only
        *((0, -1, 1, 0), (0, -1, 2, 0)),  # of nobody
        *((2, 3, 9, 1), (2, 3, 8, 0), (2, 3, 9, 2)),
    )
    found = item_sequences(clicks)
    assert found.of_users
    assert lists(found) == [[8, 9], [5, 3, 4]]
    shuffled = np.random.default_rng(1).permutation(clicks)
    assert lists(item_sequences(shuffled)) == lists(found)


def test_without_users_the_items_of_a_query_are_a_sequence() -> None:
    found = item_sequences(log((4, -1, 2, 0), (1, -1, 3, 0), (4, -1, 1, 0), (4, -1, 1, 0), (2, -1, 1, 0)))
    assert not found.of_users
    assert lists(found) == [[2, 1]]
    assert not item_sequences(log((4, -1, 2, 0), (1, -1, 3, 0))).items
    assert not item_sequences(log()).items


@pytest.fixture(scope="module")
def clicks() -> np.ndarray:
    """Users who click on the hats 0..2 or the shoes 3..5; item 6 has one click, item 7 none."""
    rng = np.random.default_rng(1)
    found: list[Any] = []
    for user in range(1000):
        shoes = user % 2
        found += [
            (2 if shoes else user % 4 // 2, user, item, place)
            for place, item in enumerate(rng.permutation(3) + 3 * shoes)
        ]
    return log(*found, (3, 5000, 6, 0))


def prod2vec(clicks: np.ndarray, seed: int = 1) -> Prod2VecRetriever:
    retriever = Prod2VecRetriever(item_sequences(clicks), QUERIES, clicks, 8, str.split, seed=seed)
    retriever.fit(progress=False)
    return retriever


def test_a_query_is_the_centroid_of_its_clicks_or_of_its_words(clicks: np.ndarray) -> None:
    model = prod2vec(clicks)
    vectors = model._columns.T
    items, _ = model.retrieve(asked("red HAT", "shoe", "shoe hat", "scarf", "new shoe"), 8)
    assert sorted(items[0, :3].tolist()) == [0, 1, 2]
    assert sorted(items[1, :3].tolist()) == [3, 4, 5]
    assert items[4].tolist() == items[1].tolist()  # by its word
    assert items[3].tolist() == [-1] * 8  # nothing was clicked for it or its word
    assert (items[:3, 6:] == -1).all()  # items 6 and 7 are in no sequence
    counts = np.array([250, 250, 250, 250, 250, 250, 0, 0], np.float32)
    hat, shoe = (counts * ([1, 1, 1, 0, 0, 0, 0, 0] if kind else [0, 0, 0, 1, 1, 1, 0, 0]) @ vectors for kind in (1, 0))
    embedded = model.embed(asked("red hat", "shoe", "shoe hat", "red shoe"))
    hat, shoe = (vector / np.linalg.norm(vector) for vector in (hat, shoe))
    np.testing.assert_allclose(embedded[0], hat, atol=1e-5)
    np.testing.assert_allclose(embedded[1], shoe, atol=1e-5)
    both = (hat + shoe) / np.linalg.norm(hat + shoe)
    np.testing.assert_allclose(embedded[2], both, atol=1e-5)
    # Its one click is on an item without a vector: red is a word of clicks on hats.
    np.testing.assert_allclose(embedded[3], both, atol=1e-5)


def test_the_seed_decides_the_vectors(clicks: np.ndarray) -> None:
    first, again, other = (prod2vec(clicks, seed)._columns for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first[:, :6] != other[:, :6]).any()
    stored = Prod2VecRetriever(item_sequences(clicks), QUERIES, clicks, 8, str.split, seed=9)
    assert (stored.retrieve(asked("red hat"), 8)[0] == -1).all()
    stored.assign(prod2vec(clicks).weights())
    np.testing.assert_array_equal(stored._columns, first)
