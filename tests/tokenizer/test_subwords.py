"""The law of subwords: whatever the bytes, the ids are those of Hugging Face ``tokenizers``."""

from __future__ import annotations

import itertools
import os
import random
import sys
import unicodedata
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsr.tokenizer_cc.hugging_face import compile_pipeline
from dpsr.tokenizer_cc.subwords import Kind, SubwordError, SubwordTokenizer, train_subwords

from .pipelines import PIPELINES, expected_ids, replaced
from .texts import HARD, SHOP, shuffled, texts_or_bytes

Texts = list[str | bytes]
MARKS = [
    number for number in range(sys.maxunicode + 1) if unicodedata.category(chr(number)) in ("Mn", "Mc", "Me", "Cf")
]


def check(name: str, texts: Texts) -> None:
    pipeline, ours = PIPELINES[name].get()
    values, row_splits = ours.encode_batch(texts)
    for text, (begin, end) in zip(texts, itertools.pairwise(row_splits.tolist()), strict=True):
        assert values[begin:end].tolist() == expected_ids(pipeline, text), text


@pytest.mark.parametrize("name", PIPELINES)
def test_known_texts(name: str) -> None:
    check(name, SHOP + HARD)
    check(name, [])


@pytest.mark.parametrize("name", PIPELINES)
@settings(max_examples=100, deadline=None)
@given(texts=st.lists(texts_or_bytes, max_size=6))
def test_any_batch(name: str, texts: Texts) -> None:
    check(name, texts)


@pytest.mark.parametrize("name", PIPELINES)
def test_mixtures(name: str) -> None:
    check(name, [shuffled(400, seed) for seed in range(200)])


def clusters(seed: int) -> str:
    """Letters, marks, jamo, conjuncts, joiners and pictographs in any order."""
    source = random.Random(seed)
    pools = (MARKS, MARKS, range(0x1100, 0x1200), range(0x900, 0x980), range(0xAC00, 0xAC40), range(0x1F3F0, 0x1F470))
    pools = (
        *pools,
        (0x200D, 0xFE0F, 0xAD, 0x0D, 0x0A, 0x20),
        range(0x41, 0x7B),
        range(0xC0, 0x250),
        range(0x600, 0x700),
    )
    return "".join(chr(source.choice(source.choice(pools))) for _ in range(source.randrange(1, 12)))


@pytest.mark.parametrize("name", ["BERT uncased", "NFKD, words and digits", "NFC, punctuation", "our Unigram", "XLM-R"])
def test_marks_and_clusters_are_normalized_alike(name: str) -> None:
    pipeline, ours = PIPELINES[name].get()
    # Marks that the library does not drop, parted by one that it does.
    for text in ["\U0001e005\U000e012b\u0a81\U0001d16e", *map(clusters, range(4000))]:
        assert ours._core.normalize(text).decode() == pipeline.normalizer.normalize_str(text), ascii(text)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["BERT uncased", "BERT cased", "NFKD, words and digits", "NFC, punctuation", "XLM-R"])
def test_every_code_point_is_normalized_alike(name: str) -> None:
    pipeline, ours = PIPELINES[name].get()
    for code_point in (*range(0xD800), *range(0xE000, sys.maxunicode + 1)):
        for text in (chr(code_point), f"a{chr(code_point)}\u0301"):
            assert ours._core.normalize(text).decode() == pipeline.normalizer.normalize_str(text), ascii(text)


@pytest.mark.parametrize("name", ["BERT uncased", "our Unigram", "our BPE", "XLM-R"])
def test_real_texts(name: str) -> None:
    folder = Path(os.environ.get("DPSR_DATA", "nowhere"))
    if not folder.is_dir():
        pytest.skip("DPSR_DATA names no real texts")
    sources = (("homedepot/items", "title"), ("chorus_icecat/items", "title"), ("multicpr_ecom/queries", "query"))
    for file, column in sources:
        texts = pq.read_table(folder / f"{file}.parquet", columns=[column])[column].to_pylist()
        check(name, [str(text) for text in texts[::10]])


def test_format_1_stays_readable() -> None:
    """``subwords_format_1`` was saved from SHOP when the format was new, and is never written again."""
    kept = Path(__file__).with_name("subwords_format_1.model")
    pipeline = tokenizers.Tokenizer.from_file(str(kept.with_suffix(".json")))
    loaded = SubwordTokenizer.load(kept)
    assert loaded.fingerprint == SubwordTokenizer.from_tokenizer_json(kept.with_suffix(".json")).fingerprint
    for text in [*SHOP, *HARD, "a new <mask> text, 手机"]:
        assert loaded.encode(text).tolist() == expected_ids(pipeline, text)


def test_bad_input_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such tokenizer"):
        SubwordTokenizer.from_tokenizer_json(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(SubwordError, match=r"tokenizer.json: not a tokenizer"):
        SubwordTokenizer.from_tokenizer_json(tmp_path)
    with pytest.raises(SubwordError, match="kind = 'words'"):
        train_subwords(SHOP, kind="words", vocabulary=100, lowercase=True)  # type: ignore[arg-type]


REFUSED = {
    "normalizer ByteLevel": {"normalizer": {"type": "ByteLevel"}},
    "normalizer Replace with the pattern": {
        "normalizer": {"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""}
    },
    "pre_tokenizer ByteLevel": {
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    },
    "pre_tokenizer Split": {
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "a+"}, "behavior": "Isolated", "invert": False}
    },
    "pre_tokenizer Metaspace with prepend_scheme 'first'": {
        "pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first", "split": True}
    },
    "model WordLevel": {"model": {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"}},
    "model Unigram with byte_fallback": {
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0]], "byte_fallback": True}
    },
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_reproduced_is_refused_by_name(what: str, tmp_path: Path) -> None:
    pipeline, _ = PIPELINES["BERT uncased"].get()
    replaced(pipeline, added_tokens=[], **REFUSED[what]).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(SubwordError, match=what):
        SubwordTokenizer.from_tokenizer_json(tmp_path)


def test_roles_are_added_tokens_first() -> None:
    """As in the MPNet family, whose vocabulary has BERT's names as well."""
    ids = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "[UNK]", "<mask>", "[PAD]", "[CLS]"])}
    pipeline = tokenizers.Tokenizer(tokenizers.models.WordPiece(ids, unk_token="[UNK]"))
    pipeline.add_special_tokens(["<s>", "<pad>", "</s>", "<mask>"])
    ours = SubwordTokenizer(compile_pipeline(pipeline))
    assert (ours.pad_id, ours.unk_id, ours.cls_id, ours.sep_id, ours.mask_id) == (1, 3, 0, 2, 4)
    nameless = tokenizers.Tokenizer(tokenizers.models.WordPiece({"[UNK]": 0, "[PAD]": 1}, unk_token="[UNK]"))
    with pytest.raises(SubwordError, match=r"no \[CLS\] or <s>"):
        compile_pipeline(nameless)


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "bpe"])
def test_saved_and_loaded_it_is_the_same(kind: Kind, tmp_path: Path) -> None:
    trained = train_subwords(SHOP, kind=kind, vocabulary=300, lowercase=True)
    trained.save(tmp_path / "subwords.model")
    loaded = SubwordTokenizer.load(tmp_path / "subwords.model")
    assert (loaded.kind, loaded.fingerprint, loaded.vocabulary) == (kind, trained.fingerprint, trained.vocabulary)
    roles = [loaded.pad_id, loaded.unk_id, loaded.cls_id, loaded.sep_id, loaded.mask_id]
    assert len(set(roles)) == 5
    assert len(loaded.vocabulary) == loaded.num_ids <= 300
    for text in SHOP:
        tokens = loaded.tokens(text)
        assert [token.id for token in tokens] == trained.encode(text).tolist()
        assert [token.text for token in tokens] == [loaded.vocabulary[token.id] for token in tokens]
        words = [token for token in tokens if not loaded.continues_word[token.id]]
        assert len(words) >= len(text.split())
    assert not loaded.continues_word[roles].any()
