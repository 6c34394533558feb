"""Synthetic queries: parts of texts in their order, and texts one edit away from others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.data.batches.augmentation import ItemTexts, QueryTexts, one_edit, random_words
from dpsr.data.batches.batch import Batch, BatchMaker
from dpsr.data.batches.features import FeatureTables
from dpsr.data.batches.steps import CatalogueBatches, LogBatches, epoch_batches
from dpsr.data.dataset.schema import split_file
from dpsr.data.dataset.tables import Bags, Dataset
from dpsr.data.prepare.job import prepare
from dpsr.tokenizer_cc import Tokenizer

from .conftest import random_raw

WORDS = ["steel", "sink", "33x22", "höher", "東京", "タワー", "a", "1/2", "--", "ß"]
HISTORY = 3


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    raw = random_raw(tmp_path_factory.mktemp("raw"))
    raw.write()
    return Dataset.load(prepare(raw.config(), progress=False))


def seed_of(*numbers: int) -> tf.Tensor:
    return tf.constant(numbers, tf.int64)


def some_texts(random: np.random.Generator, rows: int) -> list[str]:
    return [" ".join(random.choice(WORDS, random.integers(0, 9))) for _ in range(rows)]


def decoded(texts: tf.Tensor) -> list[str]:
    return [text.decode() for text in texts.numpy()]


def is_subsequence(part: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(word in rest for word in part)


def single_edits(text: str, letters: set[str]) -> set[str]:
    """Everything that one slip at a letter or digit makes of a text."""
    found = set()
    for at, here in enumerate(text):
        if not here.isalnum():
            continue
        head, tail = text[:at], text[at + 1 :]
        found |= {head + tail, head + tail[:1] + here + tail[1:]}
        found |= {head + new + middle + tail for new in letters for middle in ("", here)}
    return found - {text}


@pytest.mark.parametrize(("least", "most"), [(1, 1), (2, 4), (3, 20)])
def test_random_words_are_a_part_in_order(least: int, most: int) -> None:
    texts = some_texts(np.random.default_rng(most), 200)
    sizes = set()
    for draw in range(5):
        for part, text in zip(
            decoded(random_words(tf.constant(texts), seed_of(1, draw), least, most)), texts, strict=True
        ):
            words = text.split()
            assert is_subsequence(part.split(), words)
            assert min(least, len(words)) <= len(part.split()) <= min(most, len(words))
            sizes.add(len(part.split()))
    assert sizes >= set(range(least, min(most, 8) + 1))


def test_every_word_is_as_likely() -> None:
    text = " ".join("abcdefgh")
    drawn = " ".join(decoded(random_words(tf.fill([4000], text), seed_of(3, 4), 1, 3)))
    counts = np.array([drawn.count(letter) for letter in "abcdefgh"])
    assert abs(counts - counts.mean()).max() < 5 * np.sqrt(counts.mean())


def test_a_typo_is_one_edit_away() -> None:
    texts = some_texts(np.random.default_rng(2), 300)
    letters = {letter for text in texts for letter in text if letter.isalnum()}
    changed = 0
    for draw in range(3):
        for edited, text in zip(decoded(one_edit(tf.constant(texts), seed_of(5, draw))), texts, strict=True):
            if sum(map(str.isalnum, text)) < 2:
                assert edited == text
            else:
                assert edited in single_edits(text, letters), (text, edited)
                changed += 1
    assert changed > 600


def test_all_kinds_of_typo_and_all_places_occur() -> None:
    edited = decoded(one_edit(tf.fill([2000], "abcd"), seed_of(7, 8)))
    assert {len(text) for text in edited} == {3, 4, 5}
    assert {"bacd", "acbd", "abdc"} < set(edited)
    assert {"bcd", "acd", "abd", "abc"} < set(edited)


def test_nothing_to_edit() -> None:
    assert decoded(one_edit(tf.constant(["", "--", "x", "- y -"]), seed_of(1, 2))) == ["", "--", "x", "- y -"]
    assert decoded(one_edit(tf.zeros([0], tf.string), seed_of(1, 2))) == []
    assert decoded(random_words(tf.constant(["", "  "]), seed_of(1, 2), 1, 3)) == ["", ""]


def test_texts_without_spaces_are_cut_into_ideographs(tmp_path: Path) -> None:
    raw = random_raw(tmp_path)
    for item in raw.items:
        item["title"] = "不锈钢水槽ステンレス"
    raw.write()
    dataset = Dataset.load(prepare(raw.config(), progress=False))
    texts = ItemTexts(dataset, columns=None, words=(2, 3), typo_share=0.0)
    parts = [part.split() for part in decoded(texts.query_texts(tf.range(20), seed_of(1, 1)))]
    assert {len(part) for part in parts} == {2, 3}
    assert all(is_subsequence(part, list("不锈钢水槽ステンレス")) for part in parts)


def bags_of(tokens: tf.RaggedTensor) -> list[list[int]]:
    return tokens.to_list()


def of_step(dataset: Dataset, *, share: float, step: int = 2) -> Batch:
    maker = BatchMaker(
        FeatureTables(dataset, HISTORY),
        batch_size=64,
        random_negatives=8,
        num_items=dataset.schema.num_items,
        query_texts=QueryTexts(dataset, share) if share else None,
        item_texts=ItemTexts(dataset, columns=None, words=(1, 2), typo_share=0.0),
        mixed_rows=16,
    )
    source = LogBatches(maker, dataset.directory / split_file("train"))
    return next(epoch_batches(source, seed=1, epoch=0, first_step=step))


def test_some_queries_of_a_batch_have_a_typo(dataset: Dataset) -> None:
    tokenizer, texts = Tokenizer.load(dataset.tokenizer_path), dataset.query_texts().to_pylist()
    letters = {letter for text in texts for letter in text if letter.isalnum()}
    batch, changed = of_step(dataset, share=0.4), 0
    for row, tokens in zip(batch.query_rows[:48].numpy(), bags_of(batch.queries.tokens)[:48], strict=True):
        if tokens != tokenizer.encode(texts[row]).tolist():
            changed += 1
            edits = single_edits(texts[row], letters | set("小手机"))
            assert tokens in [tokenizer.encode(edit).tolist() for edit in edits]
    assert 8 <= changed <= 32
    untouched = of_step(dataset, share=0.0)
    assert np.array_equal(batch.query_rows, untouched.query_rows)
    assert bags_of(untouched.queries.tokens)[:48] == [
        tokenizer.encode(texts[row]).tolist() for row in untouched.query_rows[:48].numpy()
    ]


def test_mixed_rows_ask_for_their_own_item(dataset: Dataset) -> None:
    batch = of_step(dataset, share=0.0)
    assert batch.query_rows.shape == [64]
    assert batch.item_rows.shape == [72]
    assert np.array_equal(-1 - batch.query_rows[48:].numpy(), batch.item_rows[48:64].numpy())
    assert (batch.query_rows[:48].numpy() >= 0).all()
    items = dataset.item_tokens
    for row, tokens in zip(batch.item_rows[48:64].numpy(), bags_of(batch.queries.tokens)[48:], strict=True):
        assert tokens
        assert set(tokens[:1]) <= set(items[row].tolist())
    assert batch.queries.history.row_lengths()[48:].numpy().sum() == 0


def pretraining_epoch(dataset: Dataset, **order: int) -> list[Batch]:
    maker = BatchMaker(
        FeatureTables(dataset, HISTORY),
        batch_size=16,
        random_negatives=4,
        num_items=dataset.schema.num_items,
        item_texts=ItemTexts(dataset, columns=None, words=(1, 3), typo_share=0.3),
    )
    return list(
        epoch_batches(
            CatalogueBatches(maker, np.arange(dataset.schema.num_items, dtype=np.int32)),
            **{"seed": 1, "epoch": 0} | order,
        )
    )


def seen(batches: list[Batch]) -> list[tuple[list[int], list[list[int]]]]:
    return [(batch.item_rows.numpy().tolist(), bags_of(batch.queries.tokens)) for batch in batches]


def test_pretraining_asks_for_every_item_once(dataset: Dataset) -> None:
    items = dataset.schema.num_items
    batches = pretraining_epoch(dataset)
    assert len(batches) == -(-items // 16)
    rows = np.concatenate([batch.item_rows[:16] for batch in batches])
    assert sorted(rows[:items]) == list(range(items))
    assert np.array_equal(rows[items:], rows[: len(rows) - items])  # filled up from the start of the order


def test_pretraining_continues_with_the_same_words(dataset: Dataset) -> None:
    whole = seen(pretraining_epoch(dataset))
    assert seen(pretraining_epoch(dataset)) == whole
    assert seen(pretraining_epoch(dataset, first_step=2)) == whole[2:]
    assert seen(pretraining_epoch(dataset, first_step=len(whole))) == []
    assert seen(pretraining_epoch(dataset, seed=2)) != whole


def test_every_epoch_draws_other_words(dataset: Dataset) -> None:
    def queries(epoch: int) -> dict[int, list[int]]:
        pairs = [
            (row, tokens)
            for batch in pretraining_epoch(dataset, epoch=epoch)
            for row, tokens in zip(batch.item_rows.numpy()[:16].tolist(), bags_of(batch.queries.tokens), strict=True)
        ]
        return dict(pairs)

    first, second = queries(0), queries(1)
    assert first.keys() == second.keys()
    assert sum(first[row] != second[row] for row in first) > len(first) // 2


def test_item_tokens_are_those_of_the_texts(dataset: Dataset) -> None:
    texts = ItemTexts(dataset, columns=["title"], words=(1, 3), typo_share=0.0)
    rows, tokenizer = tf.range(10), Tokenizer.load(dataset.tokenizer_path)
    expected = Bags(*tokenizer.encode_batch(decoded(texts.query_texts(rows, seed_of(4, 5)))))
    found = texts.queries(rows, seed_of(4, 5))
    assert bags_of(found.tokens) == [expected[row].tolist() for row in range(10)]
