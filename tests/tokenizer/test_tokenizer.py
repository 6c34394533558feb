"""The C++ tokenizer against its oracle in plain Python."""

import random
import threading
from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from dpsr.config import TokenizerConfig
from dpsr.data.prepare.vocabulary import build_tokenizer
from dpsr.tokenizer_cc import Tokenizer, VocabularyBuilder

from .reference import ReferenceTokenizer, words_of
from .texts import HARD, SHOP, batches, texts_or_bytes


def tokens_of(tokenizer: Tokenizer, text: str | bytes) -> list[tuple[str, str, int, int]]:
    return [tuple(token) for token in tokenizer.tokens(text)]


@pytest.mark.parametrize("text", SHOP + HARD, ids=range(len(SHOP + HARD)))
def test_known_texts(tokenizer: Tokenizer, reference: ReferenceTokenizer, text: str | bytes) -> None:
    assert tokens_of(tokenizer, text) == reference.tokens(text)
    assert tokenizer.encode(text).tolist() == reference.encode(text)


@settings(max_examples=600, deadline=None)
@given(text=texts_or_bytes)
def test_tokens_are_those_of_the_reference(
    tokenizer: Tokenizer, reference: ReferenceTokenizer, text: str | bytes
) -> None:
    assert tokens_of(tokenizer, text) == reference.tokens(text)


@settings(max_examples=200, deadline=None)
@given(texts=batches)
def test_a_batch_is_its_texts_one_by_one(
    tokenizer: Tokenizer, reference: ReferenceTokenizer, texts: list[str | bytes]
) -> None:
    values, row_splits = tokenizer.encode_batch(texts)
    assert (values.dtype, row_splits.dtype) == (np.int32, np.int64)
    assert (values.tolist(), row_splits.tolist()) == reference.encode_batch(texts)
    for i, text in enumerate(texts):
        assert tokenizer.encode(text).tolist() == values[row_splits[i] : row_splits[i + 1]].tolist()


@settings(max_examples=60, deadline=None)
@given(texts=batches)
@pytest.mark.parametrize(
    "options",
    [
        {"bigrams": False, "trigrams": True},
        {"bigrams": True, "trigrams": False, "min_count": 2},
        {"max_vocabulary": 3, "oov_buckets": 1},
        {"max_words": 5, "max_bigrams": 3, "max_trigrams": 7},
        {"max_words": 9, "max_trigrams": 0, "max_vocabulary": 12},
    ],
    ids=str,
)
def test_the_vocabulary_is_that_of_the_reference(
    build: Callable[..., Tokenizer], options: dict, texts: list[str | bytes]
) -> None:
    settings_ = {"max_vocabulary": 40, "min_count": 1, "oov_buckets": 7, "bigrams": True, "trigrams": True} | options
    texts = texts + SHOP[:3]
    built, oracle = build(texts, **settings_), ReferenceTokenizer.build(texts, **settings_)
    assert built.vocabulary_size == len(oracle.vocabulary)
    assert built.num_ids == 1 + len(oracle.vocabulary) + settings_["oov_buckets"]
    assert built.document_frequencies.tolist() == oracle.document_frequencies
    assert built.num_documents == len(texts)
    for text in texts:
        assert tokens_of(built, text) == oracle.tokens(text)


def test_long_random_bytes(tokenizer: Tokenizer, reference: ReferenceTokenizer) -> None:
    texts = [random.Random(seed).randbytes(20_000) for seed in range(3)]
    assert tokenizer.encode_batch(texts)[0].tolist() == reference.encode_batch(texts)[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Stainless-Steel sink", ["stainless", "steel", "sink"]),
        ("1.9 3/4 1-1/2 2x4", ["1.9", "3/4", "1", "1/2", "2x4"]),
        ("½ inch", ["1/2", "inch"]),
        ("xl-2000 mw3", ["xl", "2000", "mw3"]),
        ("1.5Ah 50мл 10㎡ 20℃", ["1.5ah", "50мл", "10m2", "20", "c"]),
        ("iphone13手机 abcпривет", ["iphone13", "手", "机", "abc", "привет"]),
        ("ＡＢＣ　ﾜｲﾔ", ["abc", "ワ", "イ", "ヤ"]),
        ("무선 이어폰", ["무선", "이어폰"]),
        ("👍🏽❤️👨‍👩", ["👍", "❤", "👨", "👩"]),
        ("e\u0301 soft\u00adware men's", ["é", "software", "men", "s"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
    ],
)
def test_examples_of_the_manual(tokenizer: Tokenizer, text: str, words: list[str]) -> None:
    assert [token.text for token in tokenizer.tokens(text) if token.kind == "word"] == words
    assert words_of(text) == words


def test_kinds_are_apart(build: Callable[..., Tokenizer]) -> None:
    built = build(["foo food", "foo food"])
    ids = {(token.kind, token.text): token.id for token in built.tokens("foo food")}
    assert ids["word", "foo"] != ids["trigram", "foo"]
    assert all(0 < token_id <= built.vocabulary_size for token_id in ids.values())


def test_wrong_types_are_named(tokenizer: Tokenizer) -> None:
    with pytest.raises(TypeError, match=r"texts\[1\] is a int; expected str or bytes"):
        tokenizer.encode_batch(["a", 3])
    with pytest.raises(TypeError, match="text is a NoneType; expected str or bytes"):
        tokenizer.encode(None)
    with pytest.raises(TypeError):
        tokenizer.encode_batch(7)


def test_other_sequences_work(tokenizer: Tokenizer) -> None:
    expected = tokenizer.encode_batch(["steel", "sink"])[0].tolist()
    for texts in (("steel", "sink"), np.array(["steel", "sink"], dtype=object), np.array(["steel", "sink"])):
        assert tokenizer.encode_batch(texts)[0].tolist() == expected
    assert tokenizer.encode_batch(iter([b"steel", "sink"]))[0].tolist() == expected


def test_document_frequencies_outlive_the_tokenizer(build: Callable[..., Tokenizer]) -> None:
    frequencies = build(["a b", "a"]).document_frequencies
    assert frequencies.tolist()[0] == 2
    with pytest.raises(ValueError, match="read-only"):
        frequencies[0] = 1


def test_threads_share_a_tokenizer(tokenizer: Tokenizer) -> None:
    texts = (SHOP + HARD) * 20
    expected = tokenizer.encode_batch(texts)[0].tolist()
    found: list[list[int]] = []

    def encode() -> None:
        found.append(tokenizer.encode_batch(texts)[0].tolist())

    threads = [threading.Thread(target=encode) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


def test_order_batches_and_threads_do_not_matter(build: Callable[..., Tokenizer]) -> None:
    source = random.Random(7)
    texts = [" ".join(source.choices([str(text) for text in SHOP], k=2))[source.randrange(9) :] for _ in range(3000)]
    expected = build(texts, max_vocabulary=5000, min_count=2).fingerprint
    for threads in (1, 2, 5):
        source.shuffle(texts)
        builder = VocabularyBuilder(
            max_vocabulary=5000, min_count=2, oov_buckets=13, bigrams=True, trigrams=True, threads=threads
        )
        cuts = sorted(source.sample(range(len(texts)), 3))
        for begin, end in zip([0, *cuts], [*cuts, len(texts)], strict=True):
            builder.add(texts[begin:end])
        assert builder.build().fingerprint == expected


def test_limits_of_kinds_select_and_do_not_change_the_format(build: Callable[..., Tokenizer]) -> None:
    texts = [text for text in SHOP if isinstance(text, str)] * 2
    limits = {"max_words": 30, "max_bigrams": 10, "max_trigrams": 20}
    built = build(texts, max_vocabulary=1000, **limits)
    known = {token for text in texts for token in built.tokens(text) if token.id <= built.vocabulary_size}
    by_kind = Counter(token.kind for token in known)
    assert (by_kind["word"], by_kind["trigram"]) == (30, 20)
    assert 0 < by_kind["bigram"] <= 10
    words = {token.text for token in known if token.kind == "word"}
    assert all(words.issuperset(token.text.split(" ")) for token in known if token.kind == "bigram")
    unlimited = build(texts, max_vocabulary=1000)
    wide = build(texts, max_vocabulary=1000, max_words=1000, max_bigrams=1000, max_trigrams=1000)
    assert wide.fingerprint == unlimited.fingerprint != built.fingerprint
    # What has no id of its own is hashed, not dropped.
    assert [len(built.encode(text)) for text in texts] == [len(unlimited.encode(text)) for text in texts]


def test_the_limits_of_a_configuration_reach_the_vocabulary(build: Callable[..., Tokenizer]) -> None:
    texts = [text for text in SHOP if isinstance(text, str)]
    settings_ = {"max_vocabulary": 80, "min_count": 1, "oov_buckets": 3, "max_words": 9, "max_bigrams": 4}
    configured = build_tokenizer(TokenizerConfig(**settings_, max_trigrams=5), [pa.array(texts)])
    assert configured.fingerprint == build(texts, **settings_, max_trigrams=5).fingerprint
    assert configured.vocabulary_size == 9 + 4 + 5


def test_forgetting_bigrams_states_its_error(build: Callable[..., Tokenizer]) -> None:
    source = random.Random(3)
    texts = [" ".join(f"w{source.randrange(60)}" for _ in range(8)) for _ in range(500)]
    options = {"max_vocabulary": 10_000, "min_count": 1, "oov_buckets": 1, "bigrams": True, "trigrams": False}
    builder = VocabularyBuilder(**options, max_counted_bigrams=800)
    builder.add(texts)
    oracle = ReferenceTokenizer.build(texts, **options)
    assert 0 < builder.bigram_undercount < 20
    built = builder.build()
    tokens = (token for text in texts for token in built.tokens(text))
    found = {(token.kind, token.text): token.document_frequency for token in tokens}
    for token, token_id in oracle.vocabulary.items():
        documents = oracle.document_frequencies[token_id - 1]
        slack = builder.bigram_undercount if token[0] == "bigram" else 0
        assert documents - slack <= found[token] <= documents


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("max_vocabulary", 0, "max_vocabulary = 0, expected 1 to 1073741824"),
        ("min_count", 0, "min_count = 0, expected at least 1"),
        ("oov_buckets", 1 << 25, "oov_buckets = 33554432, expected 1 to 16777216"),
        ("max_counted_bigrams", 0, "max_counted_bigrams = 0, expected at least 1"),
        ("threads", 0, "threads = 0, expected at least 1"),
        ("max_words", -1, "max_words = -1, expected at least 0, or None for no limit"),
    ],
)
def test_bad_settings_are_named(build: Callable[..., Tokenizer], option: str, value: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(["a"], **{option: value})


def test_no_text_is_a_tokenizer_too(build: Callable[..., Tokenizer]) -> None:
    built = build([], oov_buckets=5)
    assert (built.vocabulary_size, built.num_ids, built.num_documents) == (0, 6, 0)
    assert set(built.encode("steel sink 手机").tolist()) <= set(range(1, 6))
