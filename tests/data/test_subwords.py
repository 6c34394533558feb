"""Subwords of a dataset: what ``prepare`` writes, appends and checks, and the sequences that models read."""

from __future__ import annotations

import re
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from dpsr.config import Config, ConfigError
from dpsr.data.batches.augmentation import ItemTexts, QueryTexts
from dpsr.data.batches.batch import BatchMaker
from dpsr.data.batches.features import FeatureTables
from dpsr.data.batches.sequences import SequenceLengths, truncated
from dpsr.data.batches.steps import LogBatches, epoch_batches
from dpsr.data.dataset import texts
from dpsr.data.dataset.inspect import inspect
from dpsr.data.dataset.schema import DatasetError, split_file
from dpsr.data.dataset.tables import Dataset
from dpsr.data.dataset.verify import verify
from dpsr.data.prepare.job import prepare
from dpsr.tokenizer_cc.subwords import Kind, SubwordError, SubwordTokenizer, train_subwords

from .conftest import Raw, random_raw

COLUMNS = ["title", "description"]
LENGTHS = SequenceLengths(query=6, item=12)


def with_descriptions(raw: Raw) -> Raw:
    """Two text columns; some descriptions are missing."""
    for number, item in enumerate(raw.items):
        item["description"] = None if number % 4 == 0 else f"{item['title']} for {number} things" * (number % 3)
    raw.settings = {"items": {"text": COLUMNS}}
    return raw


def with_subwords(config: Config, **subwords: Any) -> Config:
    section = {"kind": "wordpiece", "vocabulary": 200} | subwords
    tokenizer = config.tokenizer.model_dump() | {"subwords": {key: value for key, value in section.items() if value}}
    return Config.model_validate(config.model_dump(exclude_unset=True) | {"tokenizer": tokenizer})


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Raw:
    built = with_descriptions(random_raw(tmp_path_factory.mktemp("raw"), rows=1500))
    built.write()
    return built


@pytest.fixture(scope="module")
def dataset(raw: Raw) -> Dataset:
    return Dataset.load(prepare(with_subwords(raw.config()), progress=False))


@pytest.fixture(scope="module")
def tokenizer(dataset: Dataset) -> SubwordTokenizer:
    return SubwordTokenizer.load(dataset.subwords_path)


def fields_of(raw: Raw, row: int) -> list[str]:
    return [raw.items[row][column] or "" for column in COLUMNS]


def sequence(tokenizer: SubwordTokenizer, parts: list[str], length: int) -> list[int]:
    inner = [subword for part in parts for subword in tokenizer.encode(part).tolist()]
    return [tokenizer.cls_id, *inner[: length - 2], tokenizer.sep_id]


def test_every_text_column_has_a_row_of_its_own(raw: Raw, dataset: Dataset, tokenizer: SubwordTokenizer) -> None:
    schema = dataset.subwords_schema
    assert (schema.num_ids, schema.fingerprint) == (tokenizer.num_ids, tokenizer.fingerprint)
    assert schema.num_ids <= 200
    special = (schema.pad, schema.unk, schema.cls, schema.sep, schema.mask)
    assert special == tuple(getattr(tokenizer, f"{name}_id") for name in ("pad", "unk", "cls", "sep", "mask"))
    assert len(dataset.item_subwords) == 2 * dataset.schema.num_items
    for row in range(dataset.schema.num_items):
        for field, text in enumerate(fields_of(raw, row)):
            np.testing.assert_array_equal(dataset.item_subwords[2 * row + field], tokenizer.encode(text))
    for row, text in enumerate(dataset.query_texts().to_pylist()):
        np.testing.assert_array_equal(dataset.query_subwords[row], tokenizer.encode(text))
    assert verify(dataset.directory) == []
    assert re.search(r"^item subwords +100 .* 100.0% ", inspect(dataset.directory), re.MULTILINE)


def test_subwords_leave_the_other_files_as_they_are(raw: Raw, dataset: Dataset) -> None:
    plain = Dataset.load(prepare(raw.config("plain"), progress=False))
    assert plain.schema.subwords is None
    both = dataset.manifest["files"]
    assert {name: both[name] for name in plain.manifest["files"]} == plain.manifest["files"]
    assert sorted(set(both) - set(plain.manifest["files"])) == [
        "items/subwords.row_splits.npy",
        "items/subwords.values.npy",
        "queries/subwords.row_splits.npy",
        "queries/subwords.values.npy",
        "subwords.model",
    ]
    with pytest.raises(DatasetError, match=r"was prepared without subwords, .* run `dpsr prepare` again"):
        _ = plain.item_subwords
    with pytest.raises(DatasetError, match="was prepared without subwords"):
        FeatureTables(plain, 0, subwords=LENGTHS)
    found = FeatureTables(plain, 0).items(tf.range(3))
    assert (found.subwords, found.encoded) == (None, None)


def test_the_size_of_the_batches_of_texts_changes_nothing(
    raw: Raw, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "ROWS_AT_ONCE", 7)
    again = Dataset.load(prepare(with_subwords(raw.config("again")), progress=False))
    assert again.manifest["files"] == dataset.manifest["files"]


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "bpe"])
def test_the_same_texts_give_the_same_vocabulary(kind: Kind) -> None:
    random = np.random.default_rng(2)
    words = ["".join(random.choice(list("abcdefgh東京"), random.integers(1, 6))) for _ in range(80)]
    lines = [" ".join(random.choice(words, 4)) for _ in range(200)]
    found = {train_subwords(lines, kind=kind, vocabulary=100, lowercase=True).fingerprint for _ in range(3)}
    assert len(found) == 1


def test_models_read_whole_sequences(raw: Raw, dataset: Dataset, tokenizer: SubwordTokenizer) -> None:
    encoded = np.random.default_rng(1).normal(size=(dataset.schema.num_items, 5)).astype(np.float32)
    tables = FeatureTables(dataset, 0, subwords=LENGTHS, encoded=encoded)
    rows = np.array([3, 0, 49, 3, 17], np.int32)
    items = tf.function(tables.items)(tf.constant(rows))
    assert items.subwords.to_list() == [sequence(tokenizer, fields_of(raw, row), LENGTHS.item) for row in rows]
    np.testing.assert_array_equal(items.encoded, encoded[rows])
    records = dataset.interactions("test")
    fields = tf.constant(records.view(np.int32).reshape(len(records), -1))
    queries = tf.function(tables.queries)(fields)
    written = dataset.query_texts().to_pylist()
    assert queries.subwords.to_list() == [
        sequence(tokenizer, [written[row]], LENGTHS.query) for row in records["query"]
    ]
    with pytest.raises(ValueError, match="3 encoded items, expected 50"):
        FeatureTables(dataset, 0, encoded=encoded[:3])


def test_what_is_cut_off_is_counted(raw: Raw, dataset: Dataset, tokenizer: SubwordTokenizer) -> None:
    sizes = [len(sequence(tokenizer, fields_of(raw, row), 1 << 20)) for row in range(dataset.schema.num_items)]
    longer = sum(size > LENGTHS.item for size in sizes)
    assert 0 < longer < 50
    line = (
        f"{longer} of 50 items have more than {LENGTHS.item} subwords and lose their end (the longest has {max(sizes)})"
    )
    assert truncated(dataset, LENGTHS)[-1] == line
    assert truncated(dataset, SequenceLengths(500, 500)) == []


def test_synthetic_queries_and_typos_have_subwords(dataset: Dataset, tokenizer: SubwordTokenizer) -> None:
    item_texts = ItemTexts(dataset, columns=None, words=(1, 3), typo_share=0.3, query_length=LENGTHS.query)
    query_texts = QueryTexts(dataset, 0.4, query_length=LENGTHS.query)
    maker = BatchMaker(
        FeatureTables(dataset, 0, subwords=LENGTHS),
        batch_size=64,
        random_negatives=8,
        num_items=dataset.schema.num_items,
        query_texts=query_texts,
        item_texts=item_texts,
        mixed_rows=16,
    )
    batch = next(epoch_batches(LogBatches(maker, dataset.directory / split_file("train")), seed=1, epoch=0))
    written, changed = dataset.query_texts().to_pylist(), 0
    for row, found in zip(batch.query_rows[:48].numpy(), batch.queries.subwords.to_list(), strict=False):
        assert len(found) <= LENGTHS.query
        changed += found != sequence(tokenizer, [written[row]], LENGTHS.query)
    assert 5 <= changed <= 32
    seed = tf.constant([7, 8], tf.int64)
    drawn = [text.decode() for text in item_texts.query_texts(tf.range(50), seed).numpy()]
    synthetic = item_texts.queries(tf.range(50), seed).subwords
    assert synthetic is not None
    assert synthetic.to_list() == [sequence(tokenizer, [text], LENGTHS.query) for text in drawn]


def next_day(raw: Raw, tmp_path: Path) -> Raw:
    """A later log, an item with a new word and one with another text."""
    later = random_raw(tmp_path, rows=300, seed=5)
    for row in later.interactions:
        row["timestamp"] += timedelta(days=3)
    later.items = [
        {"item_id": "n0", "title": "brandnew zebra", "brand": "acme"},
        {"item_id": "i7", "title": "another", "brand": "bolt"},
    ]
    later = with_descriptions(later)
    later.write()
    return later


@pytest.fixture
def copied(dataset: Dataset, tmp_path: Path) -> Path:
    """The dataset in the work directory of another run."""
    shutil.copytree(dataset.directory, tmp_path / "work" / "dataset")
    return tmp_path


def test_appended_rows_have_the_same_subwords(raw: Raw, dataset: Dataset, copied: Path) -> None:
    later = next_day(raw, copied)
    # The vocabulary stays, whether or not the configuration asks for one.
    for number, config in enumerate((with_subwords(later.config(), vocabulary=300), later.config())):
        if number:
            shutil.rmtree(copied / "work" / "dataset")
            shutil.copytree(dataset.directory, copied / "work" / "dataset")
        today = Dataset.load(prepare(config, append=True, progress=False))
        assert today.schema.subwords == dataset.schema.subwords
        tokenizer = SubwordTokenizer.load(today.subwords_path)
        assert len(today.item_subwords) == 2 * 51
        np.testing.assert_array_equal(today.item_subwords[2 * 50], tokenizer.encode("brandnew zebra"))
        np.testing.assert_array_equal(today.item_subwords[2 * 7], tokenizer.encode("another"))
        np.testing.assert_array_equal(today.item_subwords[2 * 8], dataset.item_subwords[2 * 8])
        assert verify(today.directory) == []


def test_a_grown_vocabulary_learns_new_words(raw: Raw, copied: Path) -> None:
    later = next_day(raw, copied)
    grown = Dataset.load(prepare(with_subwords(later.config()), append=True, grow_vocabulary=True, progress=False))
    assert "z" in SubwordTokenizer.load(grown.subwords_path).vocabulary
    assert verify(grown.directory) == []


def test_an_increment_takes_no_other_vocabulary(raw: Raw, dataset: Dataset, copied: Path) -> None:
    later = next_day(raw, copied)
    file = other_vocabulary(copied)
    config = with_subwords(later.config(), kind=None, vocabulary=None, file=str(file))
    with pytest.raises(DatasetError, match=r"was prepared with other subwords than those of .*; an increment needs"):
        prepare(config, append=True, progress=False)


def other_vocabulary(folder: Path) -> Path:
    """A ``tokenizer.json`` of BERT's kind over single letters."""
    from tokenizers import BertWordPieceTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    BertWordPieceTokenizer({word: number for number, word in enumerate(words)}).save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def test_a_vocabulary_of_a_file(raw: Raw, tmp_path: Path) -> None:
    other_vocabulary(tmp_path)
    config = with_subwords(raw.config("of_a_file"), kind=None, vocabulary=None, file=str(tmp_path))
    found = Dataset.load(prepare(config, progress=False))
    assert found.subwords_schema.num_ids == 77
    row = next(row for row, item in enumerate(raw.items) if item["title"] == item["title"].lower())
    given = SubwordTokenizer.from_tokenizer_json(tmp_path)
    np.testing.assert_array_equal(found.item_subwords[2 * row], given.encode(raw.items[row]["title"]))


def test_a_file_that_cannot_be_used_ends_the_job_at_once(raw: Raw, tmp_path: Path) -> None:
    config = with_subwords(raw.config("broken"), kind=None, vocabulary=None, file=str(tmp_path))
    with pytest.raises(DatasetError, match=r"tokenizer.json: no such tokenizer; give a Hugging Face tokenizer.json"):
        prepare(config, progress=False)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(SubwordError, match=r"tokenizer\.json: not a tokenizer of Hugging Face"):
        prepare(config, progress=False)
    assert not config.dataset_dir.exists()


def test_a_file_leaves_nothing_to_choose(raw: Raw) -> None:
    with pytest.raises(
        (ConfigError, ValueError),
        match=r"file = 'tokenizer.json' brings a vocabulary of its own; leave out kind, vocabulary",
    ):
        with_subwords(raw.config(), file="tokenizer.json")


def test_damaged_subwords_are_found(dataset: Dataset, tmp_path: Path) -> None:
    root = Path(shutil.copytree(dataset.directory, tmp_path / "dataset"))
    values = np.load(root / "items/subwords.values.npy")
    last = dataset.subwords_schema.num_ids - 1
    values[3] = last + 1
    np.save(root / "items/subwords.values.npy", values)
    found = verify(root)
    assert any("items/subwords.values.npy: its SHA-256" in problem for problem in found)
    assert any(f"items/subwords.values.npy: 1 ids are not in 0..{last}" in problem for problem in found)
    (root / "subwords.model").unlink()
    assert "subwords.model: is missing from the dataset" in verify(root)[0]
