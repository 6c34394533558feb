"""Normalization against Python's own, for every code point."""

import random
import runpy
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings

from dpsr.tokenizer_cc import _tokenizer

from .reference import normalize as expected
from .texts import HARD, SHOP, texts_or_bytes

pytestmark = pytest.mark.skipif(
    unicodedata.unidata_version != _tokenizer.UNICODE_VERSION,
    reason=f"the tables are of Unicode {_tokenizer.UNICODE_VERSION}, this Python has {unicodedata.unidata_version}",
)

CODE_POINTS = [chr(code_point) for code_point in range(sys.maxunicode + 1)]
MARKS = [character for character in CODE_POINTS if unicodedata.combining(character)]
COMPOSED = [character for character in CODE_POINTS if unicodedata.normalize("NFD", character) != character]
PARTS = sorted({part for character in COMPOSED for part in unicodedata.normalize("NFD", character)})


def normalized(text: str | bytes) -> str:
    return _tokenizer.normalize(text).decode()


def check(texts: list[str]) -> None:
    """Compares many short texts at once, and one by one where that fails, to name the culprit."""
    joined = "\n".join(texts)
    if normalized(joined) != expected(joined):
        for text in texts:
            assert normalized(text) == expected(text), [hex(ord(character)) for character in text]
        raise AssertionError("the texts are normalized alone, but not together")


def test_the_tables_are_what_the_generator_writes() -> None:
    core = Path(__file__).resolve().parents[2] / "tokenizer_cc" / "core" / "text"
    generator = runpy.run_path(str(core / "generate_unicode_tables.py"))
    assert generator["tables"]() == (core / "unicode_tables.inc").read_text(encoding="ascii")


@pytest.mark.parametrize(
    "frame", ["{}", "a{}", "{}\u0301", "{}\u3099", "\u1100{}", "\uac00{}\u11a8", "é{}\u0323", "{}{}"]
)
def test_every_code_point(frame: str) -> None:
    check([frame.replace("{}", character) for character in CODE_POINTS])


@pytest.mark.parametrize("seed", range(3))
def test_composition_and_reordering(seed: int) -> None:
    source = random.Random(seed)
    texts = []
    for _ in range(30_000):
        base = source.choice(source.choice((COMPOSED, PARTS, "aeo", "\u1100\u1161\uac00\uac01")))
        texts.append(base + "".join(source.choices(MARKS, k=source.randrange(4))) + source.choice(PARTS))
    check(texts)


@pytest.mark.parametrize("seed", range(3))
def test_random_code_points(seed: int) -> None:
    source = random.Random(seed)
    check(["".join(source.choices(CODE_POINTS, k=source.randrange(1, 9))) for _ in range(30_000)])


def test_every_hangul_syllable_composes() -> None:
    syllables = [chr(code_point) for code_point in range(0xAC00, 0xD7A4)]
    check([unicodedata.normalize("NFD", syllable) for syllable in syllables])
    check([syllable + "\u11a8" for syllable in syllables])


@settings(max_examples=500, deadline=None)
@given(text=texts_or_bytes)
def test_any_text(text: str | bytes) -> None:
    assert normalized(text) == expected(text)


@pytest.mark.parametrize("text", SHOP + HARD, ids=range(len(SHOP + HARD)))
def test_known_texts(text: str | bytes) -> None:
    assert normalized(text) == expected(text)


def test_every_pair_of_leading_bytes() -> None:
    """U+FFFD exactly as Python's errors="replace", for all beginnings of sequences."""
    tails = [b"", b"a", b"\x80", b"\xbf\xbf", b"\x80\x80a", b"\xff"]
    for first in range(256):
        for second in range(256):
            for tail in tails:
                text = bytes([first, second]) + tail
                assert normalized(text) == expected(text), text
