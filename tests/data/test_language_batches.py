"""Batches of the language-model stages: sequences against plain Python, masks in one side, held-out examples."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from dpsr.data.batches import language_batches
from dpsr.data.batches.arrays import arrays_in_files
from dpsr.data.batches.language_batches import InteractionBatches, InteractionPairBatches, MaskedItemBatches, PairBatch
from dpsr.data.batches.masking import MaskedBatch
from dpsr.data.batches.sequences import SequenceLengths
from dpsr.data.batches.steps import epoch_batches, plan_tensors
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.tokenizer_cc.subwords import SubwordTokenizer

from .conftest import random_raw
from .test_steps import assert_same_batches, flat
from .test_subwords import COLUMNS, with_descriptions, with_subwords

LONG = SequenceLengths(query=100, item=200)
SHORT = SequenceLengths(query=5, item=9)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    raw = with_descriptions(random_raw(tmp_path_factory.mktemp("raw"), rows=1500))
    raw.items[11] |= {"title": None, "description": None}
    raw.write()
    return Dataset.load(prepare(with_subwords(raw.config()), progress=False))


@pytest.fixture(scope="module")
def tokenizer(dataset: Dataset) -> SubwordTokenizer:
    return SubwordTokenizer.load(dataset.subwords_path)


def unmasked(batch: MaskedBatch) -> list[list[int]]:
    values = batch.tokens.values.numpy().copy()
    values[batch.places.numpy()] = batch.labels.numpy()
    return batch.tokens.with_values(tf.constant(values)).to_list()


def product(dataset: Dataset, tokenizer: SubwordTokenizer, row: int, length: int, order: Iterable[int]) -> list[int]:
    """The subwords of an item's fields behind their names."""
    found: list[int] = []
    for field in order:
        text = dataset.item_subwords[len(COLUMNS) * row + field].tolist()
        found += [*tokenizer.encode(COLUMNS[field]).tolist(), *text] if text else []
    return found[:length]


@pytest.mark.parametrize("lengths", [LONG, SHORT])
def test_items_stand_behind_the_names_of_their_fields(
    dataset: Dataset, tokenizer: SubwordTokenizer, lengths: SequenceLengths
) -> None:
    source = MaskedItemBatches(dataset, lengths, batch_size=8)
    expected = {
        (tokenizer.cls_id, *product(dataset, tokenizer, row, lengths.item - 2, (0, 1)), tokenizer.sep_id)
        for row in range(50)
        if row not in source.held_out_rows and row != 11
    }
    found = [tuple(row) for batch in epoch_batches(source, seed=1, epoch=0) for row in unmasked(batch)]
    assert set(found) == expected


def test_masks_cover_a_share_of_the_texts_only(dataset: Dataset, tokenizer: SubwordTokenizer) -> None:
    source = MaskedItemBatches(dataset, LONG, batch_size=8, mask_share=0.3)
    names = {subword for column in COLUMNS for subword in tokenizer.encode(column).tolist()}
    names -= set(dataset.item_subwords.values.tolist())
    assert names
    for batch in epoch_batches(source, seed=1, epoch=0):
        assert not set(batch.labels.numpy().tolist()) & (names | {tokenizer.cls_id, tokenizer.sep_id})
        texts = sum(subword not in names for row in unmasked(batch) for subword in row[1:-1])
        assert 0.2 < len(batch.labels) / texts < 0.4


def test_words_are_masked_whole(tmp_path: Path) -> None:
    raw, random = random_raw(tmp_path, rows=300), np.random.default_rng(1)
    for item in raw.items:
        item["title"] = " ".join("".join(random.choice(list("abcdefgh"), 6)) for _ in range(3))
    raw.write()
    of_letters = Dataset.load(prepare(with_subwords(raw.config(), vocabulary=64), progress=False))
    continues = SubwordTokenizer.load(of_letters.subwords_path).continues_word
    name = len(SubwordTokenizer.load(of_letters.subwords_path).encode("title"))
    source, pieces = MaskedItemBatches(of_letters, LONG, batch_size=8, whole_words=True), 0
    for batch in epoch_batches(source, seed=1, epoch=0):
        masked = np.zeros(len(batch.tokens.values), bool)
        masked[batch.places.numpy()] = True
        for number, tokens in enumerate(unmasked(batch)):
            of_row = masked[slice(*batch.tokens.row_splits.numpy()[number : number + 2])]
            inside = name + 2 + np.flatnonzero(continues[tokens[name + 2 :]])
            pieces += len(inside)
            np.testing.assert_array_equal(of_row[inside], of_row[inside - 1])
    assert pieces > 50


def sides(batch: MaskedBatch, tokenizer: SubwordTokenizer) -> list[tuple[list[int], list[int], list[str]]]:
    """Query and product of every row, and the sides with masks."""
    found, row = [], batch.tokens.value_rowids().numpy()
    places = batch.places.numpy()
    for number, tokens in enumerate(unmasked(batch)):
        assert (tokens[0], tokens[-1]) == (tokenizer.cls_id, tokenizer.sep_id)
        middle = tokens.index(tokenizer.sep_id)
        inside = places[row[places] == number] - batch.tokens.row_splits.numpy()[number]
        assert not {0, middle, len(tokens) - 1} & set(inside.tolist())
        masked = sorted({"query" if place < middle else "product" for place in inside.tolist()})
        found.append((tokens[1:middle], tokens[middle + 1 : -1], masked))
    return found


@pytest.mark.parametrize("lengths", [LONG, SHORT])
def test_spans_hide_one_side_of_a_clicked_pair(
    dataset: Dataset, tokenizer: SubwordTokenizer, lengths: SequenceLengths
) -> None:
    source = InteractionBatches(dataset, lengths, batch_size=32)
    pairs = set()
    for record in dataset.interactions("train"):
        query = tuple(dataset.query_subwords[record["query"]].tolist()[: lengths.query - 2])
        for order in ((0, 1), (1, 0)):
            pairs.add((query, tuple(product(dataset, tokenizer, record["item"], lengths.item - 2, order))))
    counts = {"query": 0, "product": 0}
    orders = set()
    for batch in epoch_batches(source, seed=1, epoch=0):
        for words, item, masked in sides(batch, tokenizer):
            assert (tuple(words), tuple(item)) in pairs
            assert len(masked) == 1
            counts[masked[0]] += 1
            orders.add(item[0] if item else None)
    share = counts["query"] / sum(counts.values())
    assert share == pytest.approx(0.5, abs=0.06)
    assert orders >= {tokenizer.encode(column)[0] for column in COLUMNS}
    assert max(len(row) for batch in source.held_out for row in unmasked(batch)) <= lengths.pair


@pytest.mark.parametrize("negatives", ["random", "skipped"])
def test_pairs_to_classify_are_clicked_ones_and_others(
    dataset: Dataset, tokenizer: SubwordTokenizer, tmp_path: Path, negatives: Any
) -> None:
    source = InteractionPairBatches(dataset, LONG, batch_size=32, negatives=negatives, folder=tmp_path)
    records = dataset.interactions("train")
    assert source.steps == -(-len(records) // 16)
    texts: dict[tuple[int, ...], set[int]] = {}
    for row in range(50):
        for order in ((0, 1), (1, 0)):
            texts.setdefault(tuple(product(dataset, tokenizer, row, 198, order)), set()).add(row)
    queries = {tuple(dataset.query_subwords[row].tolist()): row for row in range(dataset.schema.num_queries)}
    clicked = set(zip(records["query"].tolist(), records["item"].tolist(), strict=True))
    skips = dataset.skips()
    skipped = set(zip(skips["query"].tolist(), skips["item"].tolist(), strict=True)) - clicked
    with_skips, hits, others = {query for query, _ in skipped}, 0, 0
    for batch in epoch_batches(source, seed=1, epoch=0):
        assert batch.labels.numpy().tolist() == [1.0] * 16 + [0.0] * 16
        found = []
        for tokens in batch.tokens.to_list():
            middle = tokens.index(tokenizer.sep_id)
            found.append((queries[tuple(tokens[1:middle])], texts[tuple(tokens[middle + 1 : -1])]))
        assert [query for query, _ in found[:16]] == [query for query, _ in found[16:]]
        assert all(any((query, item) in clicked for item in items) for query, items in found[:16])
        for query, items in found[16:]:
            if query in with_skips:
                others += 1
                hits += any((query, item) in skipped for item in items)
    assert others
    assert hits == others if negatives == "skipped" else hits < others / 2


def sources(dataset: Dataset, folder: Path) -> list[Any]:
    return [
        MaskedItemBatches(dataset, SHORT, batch_size=16, whole_words=True),
        InteractionBatches(dataset, SHORT, batch_size=64),
        InteractionPairBatches(dataset, SHORT, batch_size=64, negatives="skipped", folder=folder),
    ]


def test_any_worker_makes_the_same_batches(dataset: Dataset, tmp_path: Path) -> None:
    expected = [list(epoch_batches(source, seed=4, epoch=2)) for source in sources(dataset, tmp_path / "bags")]
    with arrays_in_files(tmp_path / "arrays"):
        others = sources(dataset, tmp_path / "bags")
    for source, batches in zip(others, expected, strict=True):
        assert_same_batches(source, 4, 2, batches, [1, 2, 3, 100])


def test_seed_epoch_and_step_decide_the_masks(dataset: Dataset) -> None:
    source = InteractionBatches(dataset, LONG, batch_size=64)
    make = tf.function(lambda plan: source.batches(plan)(tf.zeros([], tf.int64)), input_signature=[source.spec])

    def first(seed: int, epoch: int) -> list[np.ndarray]:
        return flat(make(plan_tensors(source.epoch(seed, epoch).steps(0, 1))))

    for other in (first(1, 1), first(2, 0)):
        assert not all(np.array_equal(ours, theirs) for ours, theirs in zip(first(1, 0), other, strict=True))


def test_held_out_examples_are_fixed_and_not_trained_on(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_batches, "HELD_OUT", 40)
    source = MaskedItemBatches(dataset, LONG, batch_size=16)
    assert len(source.held_out_rows) == 49 // 20
    again = MaskedItemBatches(dataset, LONG, batch_size=16)
    for ours, theirs in zip(flat(source.held_out), flat(again.held_out), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    trained = {tuple(row) for batch in epoch_batches(source, seed=1, epoch=0) for row in unmasked(batch)}
    assert not trained & {tuple(row) for batch in source.held_out for row in unmasked(batch)}
    pairs = InteractionBatches(dataset, LONG, batch_size=16)
    assert sum(batch.tokens.nrows().numpy() for batch in pairs.held_out) == 40
    classified = InteractionPairBatches(dataset, LONG, batch_size=16)
    assert sum(int(batch.labels.numpy().sum()) for batch in classified.held_out) == 40
    assert all(isinstance(batch, PairBatch) for batch in classified.held_out)


def test_a_stage_without_its_data_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    raw = random_raw(tmp_path, rows=400)
    raw.interactions = [row for row in raw.interactions if row["event"] != "skip"]
    raw.write()
    plain = Dataset.load(prepare(raw.config("plain"), progress=False))
    for source in (MaskedItemBatches, InteractionBatches, InteractionPairBatches):
        with pytest.raises(DatasetError, match="was prepared without subwords"):
            source(plain, LONG, batch_size=4)
    no_skips = Dataset.load(prepare(with_subwords(raw.config("no_skips")), progress=False))
    with pytest.raises(DatasetError, match="holds no skip, and skipped items are asked for"):
        InteractionPairBatches(no_skips, LONG, batch_size=4, negatives="skipped", folder=tmp_path)
    assert InteractionPairBatches(no_skips, LONG, batch_size=4).steps > 1
    with pytest.raises(ValueError, match="batch_size = 5 is odd"):
        InteractionPairBatches(no_skips, LONG, batch_size=5)
    config = with_subwords(raw.config("no_log"))
    tree = config.model_dump(exclude_unset=True)
    del tree["data"]["interactions"]
    tree |= {"training": {"epochs": 0}, "pretraining": {"epochs": 1}}
    no_log = Dataset.load(prepare(type(config).model_validate(tree), progress=False))
    for of_log in (InteractionBatches, InteractionPairBatches):
        with pytest.raises(DatasetError, match=r"the train split holds no click, .* data.interactions"):
            of_log(no_log, LONG, batch_size=4)
    assert MaskedItemBatches(no_log, LONG, batch_size=4).steps > 1
