"""Terms: those of the analyzers in plain Python, from every face, and spelling corrections within their bounds."""

from __future__ import annotations

import os
import random
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from dpsr.tokenizer_cc import ModelFileError, Tokenizer, VocabularyBuilder
from dpsr.tokenizer_cc.terms import TermTokenizer, TermVocabularyBuilder, analyze, text_hashes

from .analyzers import stemmed_words, with_bigrams
from .texts import HARD, SHOP, as_bytes, batches, texts_or_bytes

Analyzer = Callable[[str | bytes], list[str]]
CATALOGUE = [
    "Stainless-Steel Sinks 33x22 in. 18 Gauge",
    "Stainless steel door handles, doorknobs",
    "Steel doors for the garage",
    "Glass door boards, 2 deck boards",
    "Kühlschränke Gefriertruhe",
    "防摔 手机壳 iPhone 13",
]


def build(texts: list[str | bytes], **options: bool | int) -> TermTokenizer:
    builder = TermVocabularyBuilder(**options)
    builder.add(texts)
    return builder.build()


@pytest.fixture(scope="module")
def terms() -> TermTokenizer:
    return build(CATALOGUE)


@pytest.fixture(scope="module")
def oracle() -> Analyzer:
    builder = VocabularyBuilder(max_vocabulary=1, min_count=1, oov_buckets=1, bigrams=False, trigrams=False)
    return stemmed_words(builder.build())


def weights_of(terms: TermTokenizer, query: str | bytes) -> dict[str, float]:
    return {token.text: pytest.approx(token.weight, abs=1e-6) for token in terms.tokens(query)}


@settings(max_examples=400, deadline=None)
@given(text=texts_or_bytes)
def test_terms_are_those_of_the_analyzer(oracle: Analyzer, text: str | bytes) -> None:
    assert analyze(text) == oracle(text)


@pytest.mark.parametrize("text", SHOP + HARD, ids=range(len(SHOP + HARD)))
def test_known_texts(oracle: Analyzer, text: str | bytes) -> None:
    assert analyze(text) == oracle(text)


def test_characters_of_every_category(oracle: Analyzer) -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    letters = [character for character in characters if character.isalpha()]
    others = [character for character in characters if unicodedata.category(character)[0] in "MNPSZ"]
    chosen = others + letters[::31]
    for begin in range(0, len(chosen), 100):
        text = " ".join(f"a{character}s 1{character}2" for character in chosen[begin : begin + 100])
        assert analyze(text) == oracle(text)


@pytest.mark.parametrize(
    ("file", "column"),
    [
        ("homedepot/queries.parquet", "query"),
        ("chorus_icecat/items.parquet", "title"),
        ("multicpr_ecom/queries.parquet", "query"),
    ],
)
def test_real_texts(oracle: Analyzer, file: str, column: str) -> None:
    folder = os.environ.get("DPSR_DATA")
    if not folder or not Path(folder, file).exists():
        pytest.skip(f"needs {file} in DPSR_DATA")
    table = pq.read_table(Path(folder, file))
    name = column if column in table.column_names else table.column_names[-1]
    for text in random.Random(1).sample([str(text) for text in table[name].to_pylist()], 500):
        assert analyze(text) == oracle(text)


@settings(max_examples=25, deadline=None)
@given(texts=batches)
@pytest.mark.parametrize("bigrams", [False, True])
def test_the_vocabulary_counts_documents(oracle: Analyzer, bigrams: bool, texts: list[str | bytes]) -> None:
    texts = texts + SHOP[:3] + SHOP[:2]
    analyzer = with_bigrams(oracle) if bigrams else oracle
    counts = Counter(term for text in texts for term in set(analyzer(text)))
    counts = Counter({term: count for term, count in counts.items() if count > 1 or " " not in term})
    built = build(texts, bigrams=bigrams)
    order = sorted(counts, key=lambda term: (-counts[term], term.encode()))
    assert [built.text(number) for number in range(built.num_terms)] == order
    assert built.document_frequencies.tolist() == [counts[term] for term in order]
    assert (built.num_documents, built.bigrams) == (len(texts), bigrams)
    ids = {term: number for number, term in enumerate(order)}
    values, row_splits = built.encode_batch(texts)
    found = [values[begin:end].tolist() for begin, end in pairwise(row_splits)]
    assert found == [[ids[term] for term in analyzer(text) if term in ids] for text in texts]
    # Words of the catalogue are left alone.
    queries, weights, splits = built.encode_queries(texts)
    np.testing.assert_array_equal(queries, values)
    np.testing.assert_array_equal(splits, row_splits)
    assert set(weights.tolist()) == {1.0}


def test_order_and_batches_do_not_matter() -> None:
    source = random.Random(7)
    texts = [" ".join(source.choices([str(text) for text in SHOP], k=2))[source.randrange(9) :] for _ in range(300)]
    expected = build(texts, bigrams=True).fingerprint
    source.shuffle(texts)
    builder = TermVocabularyBuilder(bigrams=True)
    for begin in range(0, 300, 70):
        builder.add(texts[begin : begin + 70])
    assert builder.build().fingerprint == expected != build(texts).fingerprint


def test_fewest_documents() -> None:
    texts = ["red door", "red door", "red lamp"]
    built = build(texts, min_count=2, min_bigram_count=2, bigrams=True)
    assert [built.text(number) for number in range(built.num_terms)] == ["red", "door", "red door"]
    with pytest.raises(ValueError, match="min_count = 0, expected 1 to"):
        TermVocabularyBuilder(min_count=0)
    with pytest.raises(ValueError, match="min_bigram_count = -1, expected 1 to"):
        TermVocabularyBuilder(min_bigram_count=-1)
    with pytest.raises(IndexError, match="id 3, expected 0 to 2"):
        built.text(3)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("steel sink", {"steel": 1, "sink": 1}),
        ("stel", {"steel": 1}),  # a letter left out
        ("steeel", {"steel": 1}),  # put in
        ("stewl", {"steel": 1}),  # replaced
        ("setel", {"steel": 1}),  # swapped
        ("boadrs", {"board": 1}),  # in a plural
        ("glas", {"glass": 1}),  # which is none
        ("stianlses", {"stainless": 0.7}),  # two
        ("garagedoor", {"garage": 1, "door": 1}),  # no space
        ("door knob", {"door": 1, "doorknob": 1}),  # one too many
        ("gla ss", {"glass": 1}),
        ("st3el", {"steel": 1}),  # a digit
        ("boa7rds", {"board": 1}),
        ("kühlschränk", {"kühlschränke": 1}),
        ("gefrirtruhe", {"gefriertruhe": 1}),
        ("手几", {"手": 1}),  # ideographs have no letters
        ("99 👍 q9z zz", {}),
    ],
)
def test_misspelt_words(terms: TermTokenizer, query: str, expected: dict[str, float]) -> None:
    assert weights_of(terms, query) == expected


def test_more_frequent_words_weigh_more() -> None:
    built = build(["cat"] * 9 + ["car"] * 4 + ["can"] + ["cap"] + ["cab"])
    assert weights_of(built, "caz") == {
        "cat": 1,
        "car": pytest.approx(2 / 3, abs=1e-6),
        "cab": pytest.approx(1 / 3, abs=1e-6),
        "can": pytest.approx(1 / 3, abs=1e-6),
    }


def test_bigrams_of_corrected_words() -> None:
    built = build(["steel doors", "steel doors"], bigrams=True)
    assert weights_of(built, "stel dors") == {"steel": 1, "door": 1, "steel door": 1}


def test_corrections_are_bounded(terms: TermTokenizer) -> None:
    assert weights_of(terms, "d" * 10_000) == {}
    assert weights_of(terms, "steel" * 2000 + " sink") == {"sink": 1}
    assert weights_of(terms, "q") == {}
    # Of a text of unknown words only the first ones are looked for.
    values, _, _ = terms.encode_queries([" ".join(["stewl"] * 10_000)])
    assert len(values) == 8


def test_save_and_load_give_the_same(terms: TermTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "terms.model"
    terms.save(path)
    loaded = TermTokenizer.load(path)
    assert loaded.fingerprint == terms.fingerprint
    for found, expected in zip(loaded.encode_queries(CATALOGUE), terms.encode_queries(CATALOGUE), strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="read-only"):
        loaded.document_frequencies[0] = 1


def test_bad_files_are_named(terms: TermTokenizer, tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "terms.model"
    with pytest.raises(FileNotFoundError, match="no such term model"):
        TermTokenizer.load(path)
    tokenizer.save(path)
    with pytest.raises(ModelFileError, match=r"terms\.model: not a term model.*give the terms\.model"):
        TermTokenizer.load(path)
    terms.save(path)
    content = path.read_bytes()
    for size in range(0, len(content), 97):
        path.write_bytes(content[:size])
        with pytest.raises(ModelFileError, match=r"terms\.model: (the file is empty|truncated)"):
            TermTokenizer.load(path)
    for offset in range(0, len(content), 53):
        path.write_bytes(content[:offset] + bytes([content[offset] ^ 4]) + content[offset + 1 :])
        with pytest.raises(ModelFileError, match=r"term model|truncated|corrupt|newer"):
            TermTokenizer.load(path)


def test_wrong_types_are_named(terms: TermTokenizer) -> None:
    with pytest.raises(TypeError, match=r"texts\[1\] is a int; expected str or bytes"):
        terms.encode_queries(["a", 3])
    with pytest.raises(TypeError, match="text is a NoneType; expected str or bytes"):
        analyze(None)


def test_no_text_is_a_vocabulary_too() -> None:
    empty = build([])
    assert (empty.num_terms, empty.num_documents, empty.document_frequencies.tolist()) == (0, 0, [])
    assert (empty.encode("steel sink").tolist(), empty.tokens("steel sink")) == ([], [])


def test_threads_share_a_tokenizer(terms: TermTokenizer) -> None:
    queries = (SHOP + HARD + ["stel sinc", "boadrs"]) * 10
    expected = [array.tolist() for array in terms.encode_queries(queries)]
    found: list[list[list[float]]] = []

    def encode() -> None:
        found.append([array.tolist() for array in terms.encode_queries(queries)])

    threads = [threading.Thread(target=encode) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


def test_damaged_texts_of_any_kind(terms: TermTokenizer) -> None:
    for seed in range(200):
        source = random.Random(seed)
        text = bytearray(as_bytes(source.choice(CATALOGUE)))
        for _ in range(source.randrange(4)):
            text[source.randrange(len(text))] = source.randrange(256)
        _, weights, _ = terms.encode_queries([bytes(text)])
        assert np.all((weights > 0) & (weights <= 1))


TEXTS = ["steel sinks", "Steel door 手机", "", "door knobs 5x10", "doors", "naïve café sink"]


@pytest.mark.parametrize("counted", range(len(TEXTS) + 1))
def test_counts_stand_for_the_texts_that_they_were_made_of(counted: int) -> None:
    """Of a tokenizer that knows more than these texts, as one of an earlier catalogue does."""
    known = build([*TEXTS, "gone", "door"])
    counts = np.zeros(known.num_terms, np.int32)
    for text in TEXTS[:counted]:
        counts[np.unique(known.encode(text))] += 1
    builder = TermVocabularyBuilder()
    builder.add(TEXTS[counted:])
    builder.add_counts(known, counts, counted)
    found, expected = builder.build(), build(TEXTS)
    assert found.fingerprint == expected.fingerprint
    assert found.num_documents == len(TEXTS)
    ids = found.ids_of(known)
    for number, now in enumerate(ids.tolist()):
        text = known.text(number)
        assert (found.text(now) == text) if now >= 0 else (text == "gone")


def test_counts_that_do_not_fit_are_refused() -> None:
    known, builder = build(TEXTS), TermVocabularyBuilder()
    with pytest.raises(ValueError, match=rf"1 counts, expected {known.num_terms}, one for each term"):
        builder.add_counts(known, np.ones(1, np.int32), 1)
    with pytest.raises(ValueError, match="counts of a vocabulary with bigrams, of which it has not all"):
        TermVocabularyBuilder(bigrams=True).add_counts(known, np.ones(known.num_terms, np.int32), 1)


def test_the_fields_of_a_document_count_once_and_bigrams_stay_inside() -> None:
    builder = TermVocabularyBuilder(bigrams=True, min_bigram_count=1)
    builder.add(["steel sink", "door"], ["sink steel", "steel"])
    tokenizer = builder.build()
    assert tokenizer.num_documents == 2
    frequencies = {
        tokenizer.text(term): int(tokenizer.document_frequencies[term]) for term in range(tokenizer.num_terms)
    }
    assert frequencies == {"steel": 2, "sink": 1, "door": 1, "steel sink": 1, "sink steel": 1}
    with pytest.raises(ValueError, match="fields of 2 and 1 texts, expected as many of each"):
        builder.add(["a", "b"], ["c"])


def test_hashes_are_those_of_the_bytes() -> None:
    texts = ["", "a", "\0", "\0\0", "12345678", "123456789", "a", "手机", "12345678\0"]
    content = [text.encode() for text in texts]
    offsets = np.cumsum([3, *map(len, content)])
    found = text_hashes(offsets, np.frombuffer(b"xyz" + b"".join(content), np.uint8))
    assert found.dtype == np.uint64
    assert found[1] == found[6]
    assert len(set(found.tolist())) == len(texts) - 1
    assert len(text_hashes(np.zeros(1, np.int64), np.empty(0, np.uint8))) == 0
    for bad, message in (
        ([0, 2, 1], "offsets descend at text 1"),
        ([0, 4], "beyond"),
        ([-1, 1], "beyond"),
        ([], "beyond"),
    ):
        with pytest.raises(ValueError, match=message):
            text_hashes(np.array(bad, np.int64), np.zeros(3, np.uint8))
