"""Slices: assignment of examples."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dpsr.baselines.examples import QueryExamples, make_examples
from dpsr.data.dataset.schema import CLICK, INTERACTION, LABEL, SKIP, DatasetError
from dpsr.evaluation.measures.slices import frequency_bands, script_of, slices_of


def log(queries: list[str], train: list[tuple[int, int]], labelled: list[int] | None = None) -> Any:
    """A dataset of queries, a train split, (query, event), in two blocks, and the queries of labelled pairs."""
    labels = np.zeros(len(labelled or ()), LABEL)
    labels["query"] = labelled or []
    records = np.zeros(len(train), dtype=INTERACTION)
    records["query"], records["event"] = zip(*train, strict=True)
    return SimpleNamespace(
        interaction_blocks=lambda split: np.array_split(records, 2),
        query_texts=lambda: pa.array(queries),
        labels=lambda: labels,
        schema=SimpleNamespace(num_queries=len(queries)),
    )


def examples(texts: list[str], history_end: list[int] | None = None) -> QueryExamples:
    records = np.zeros(len(texts), dtype=INTERACTION)
    records["history_end"] = history_end or 0
    return make_examples(np.array(texts, dtype=object), records, seed=1)


def test_bands_hold_about_a_third_of_the_clicks_each() -> None:
    counts = Counter({f"q{rank}": 3000 // rank for rank in range(1, 400)})
    bands = frequency_bands(counts)
    held = Counter({band: sum(counts[text] for text in counts if bands[text] == band) for band in bands.values()})
    assert list(held) == ["head", "torso", "tail"]
    assert held.total() == counts.total()
    largest = max(counts.values())
    assert all(abs(held[band] - counts.total() / 3) <= largest for band in held)
    for more, fewer in (("head", "torso"), ("torso", "tail")):
        least = min(counts[text] for text in bands if bands[text] == more)
        assert least >= max(counts[text] for text in bands if bands[text] == fewer)


def test_seen_queries_were_clicked_in_the_train_split_up_to_case() -> None:
    dataset = log(["Xbox", "shown only", "halo"], [(0, CLICK)] * 5 + [(1, SKIP)] * 9 + [(2, CLICK)])
    found = slices_of(examples(["xbox ", "shown only", "new", "HALO"]), dataset)
    assert found["seen queries"].tolist() == [True, False, False, True]
    assert found["unseen queries"].tolist() == [False, True, True, False]
    assert found["head"].tolist() == [True, False, False, False]
    assert found["tail"].tolist() == [False, True, True, True]
    assert "torso" not in found
    assert found["all"].all()


def test_partitions_with_all_examples_in_one_slice_are_left_out() -> None:
    dataset = log(["a"], [(0, CLICK)])
    assert slices_of(examples(["a", "b"]), dataset).keys() == {"all", "seen queries", "unseen queries", "head", "tail"}
    found = slices_of(examples(["a", "手机"], [0, 3]), dataset)
    assert found["with history"].tolist() == found["cjk script"].tolist() == [False, True]
    assert found["without history"].tolist() == found["latin script"].tolist() == [True, False]


def test_labelled_queries_are_told_apart_up_to_case() -> None:
    dataset = log(["a", "B", "c"], [(0, CLICK)], labelled=[1, 1, 2])
    found = slices_of(examples(["a", "b", "C ", "new"]), dataset)
    assert found["labelled queries"].tolist() == [False, True, True, False]
    assert found["unlabelled queries"].tolist() == [True, False, False, True]
    assert "labelled queries" not in slices_of(examples(["a"]), dataset)
    assert "unlabelled queries" not in slices_of(examples(["b"]), dataset)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("xbox 360", "latin script"),
        ("老人手机", "cjk script"),
        ("たび", "hiragana script"),
        ("iphone 手机", "several scripts"),
        ("360", "no letters"),
    ],
)
def test_script_is_that_of_the_letters(text: str, script: str) -> None:
    assert script_of(text) == script


def with_columns() -> Any:
    """Three users, with a language each or none, and two items."""
    users = pa.table({"language": ["de", None, "fr"]})
    items = pa.table({"brand": ["x", "y"], "price": ["1", "2"]})
    dataset = log(["a"], [(0, CLICK)])
    dataset.schema = SimpleNamespace(
        num_queries=1, profile={"language": 4}, categorical={"brand": 4, "price": 4}, numeric=("price",)
    )
    dataset.user_table, dataset.item_table = (lambda: users), (lambda: items)
    return dataset


def test_columns_of_users_and_items_make_slices_that_add_up() -> None:
    asked = examples(["a"] * 5)
    asked.records["user"] = [0, 0, 1, 2, -1]
    asked.records["item"] = [0, 1, 0, 0, 1]
    found = slices_of(asked, with_columns(), columns=["language", "brand"])
    assert found["language: de"].tolist() == [True, True, False, False, False]
    assert found["language: fr"].tolist() == [False, False, False, True, False]
    assert found["language: none"].tolist() == [False, False, True, False, True]
    assert found["brand: x"].tolist() == [True, False, True, True, False]
    for column in ("language", "brand"):
        assert sum(mask.astype(int) for name, mask in found.items() if name.startswith(column)).tolist() == [1] * 5


def test_rare_values_share_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpsr.evaluation.measures.slices._MOST_VALUES", 1)
    asked = examples(["a"] * 4)
    asked.records["user"] = [0, 2, 2, 1]
    found = slices_of(asked, with_columns(), columns=["language"])
    assert found["language: fr"].tolist() == [False, True, True, False]
    assert found["language: others"].tolist() == [True, False, False, True]


def test_a_column_that_is_not_there_is_an_error_that_names_those_that_are() -> None:
    for column in ("country", "price"):
        with pytest.raises(DatasetError, match=rf"slice_by: '{column}'.*brand, language"):
            slices_of(examples(["a"]), with_columns(), columns=[column])


def test_long_queries_have_five_words_or_more() -> None:
    asked = examples(["one two three four", " one  two three four five ", "手机手机手机手机手机"])
    assert slices_of(asked, log(["a"], [(0, CLICK)]))["long queries"].tolist() == [False, True, False]
