"""Writes ``hf_unicode_tables.inc``: Unicode as the installed Hugging Face ``tokenizers`` sees it.

The library mixes several versions of Unicode (of Rust, and of four crates), so its answers are the source: every code
point is given to its normalizers and pre-tokenizers. Only classes of grapheme clusters, which it does not show one by
one, come from ``wcwidth``, as far as the library agrees. Run it with the ``tokenizers`` that the encoders follow::

    python tokenizer_cc/core/text/generate_hf_unicode_tables.py

``generate_unicode_tables.py`` describes the layout of the tables.
"""

import base64
import importlib.metadata
import json
import struct
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

from generate_unicode_tables import Pool, array, two_stage  # type: ignore[import-not-found]
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from wcwidth import table_grapheme

SURROGATES = range(0xD800, 0xE000)
CODE_POINTS = range(sys.maxunicode + 1)
HANGUL_SYLLABLES = range(0xAC00, 0xD7A4)

# Flags of a code point; hf_unicode.h names them alike.
WHITE_SPACE, PUNCTUATION, WORD, NUMERIC, CONTROL, NONSPACING, COMBINING = (1 << bit for bit in range(7))
# Above them: the class of grapheme cluster boundaries, 4 bits, and that of Indic conjuncts, 2 bits.
CLASS_SHIFT, CONJUNCT_SHIFT = 8, 12
CLASSES = (
    "CR", "LF", "CONTROL", "EXTEND", "ZWJ", "SPACINGMARK", "PREPEND", "L", "V", "T", "LV", "LVT",
)  # fmt: skip
EXTENDED_PICTOGRAPHIC = 1 + len(CLASSES)
JOINING = {1 + CLASSES.index(name) for name in ("EXTEND", "ZWJ", "SPACINGMARK")}
CONJUNCTS = ("CONSONANT", "EXTEND", "LINKER")

NFC, NFD, NFKD = (form.normalize_str for form in (normalizers.NFC(), normalizers.NFD(), normalizers.NFKD()))


def bert(**wanted: bool) -> Callable[[str], str]:
    """A BERT normalizer that does only what is wanted."""
    off = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    return normalizers.BertNormalizer(**{**off, **wanted}).normalize_str


def pieces(pre_tokenizer: pre_tokenizers.PreTokenizer, text: str) -> list[str]:
    """The pieces that a pre-tokenizer cuts a text into."""
    return [piece for piece, _ in pre_tokenizer.pre_tokenize_str(text)]


def flags() -> list[int]:
    """Properties of every code point."""
    clean, strip_accents = bert(clean_text=True), bert(strip_accents=True)
    combining = normalizers.StripAccents().normalize_str
    white, punctuation = pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()
    word, digits = pre_tokenizers.Whitespace(), pre_tokenizers.Digits()
    values = []
    for code_point, found in enumerate(boundary_classes()):
        if code_point in SURROGATES:
            values.append(0)
            continue
        character = chr(code_point)
        found |= WHITE_SPACE * (pieces(white, f"a{character}a") == ["a", "a"])
        found |= PUNCTUATION * (len(pieces(punctuation, f"a{character}")) == 2)
        found |= WORD * (pieces(word, f"a{character}") == [f"a{character}"])
        found |= NUMERIC * (len(pieces(digits, f"a{character}")) == 2)
        found |= CONTROL * (clean(character) == "")
        found |= NONSPACING * (strip_accents(character) == "")
        found |= COMBINING * (combining(character) == "")
        values.append(found)
    return values


def one_key_map() -> Callable[[str], str]:
    """A Precompiled normalizer that makes "X" of a cluster that begins with "a"; shorter ones than 6 bytes show it."""
    units = [0] * 512
    units[0] = 256 << 10
    units[256 ^ ord("a")] = ord("a") | 1 << 8 | 128 << 10
    units[256 ^ ord("a") ^ 128] = 1 << 31
    content = struct.pack("<I512I", 4 * len(units), *units) + b"X\0"
    pipeline = json.loads(Tokenizer(models.BPE()).to_str())
    pipeline["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()}
    return Tokenizer.from_str(json.dumps(pipeline)).normalizer.normalize_str


def boundary_classes() -> list[int]:
    """Class and conjunct class of every code point (UAX 29), shifted to their places."""
    values = [0] * len(CODE_POINTS)
    names = [*((f"GRAPHEME_{name}", 1 + i) for i, name in enumerate(CLASSES))]
    for name, value in [("EXTENDED_PICTOGRAPHIC", EXTENDED_PICTOGRAPHIC), *names]:
        for first, last in getattr(table_grapheme, name):
            for code_point in range(first, last + 1):
                values[code_point] = value
    joins = one_key_map()
    for code_point in CODE_POINTS:
        if code_point in SURROGATES:
            continue
        joined = joins("a" + chr(code_point)) == "X"
        if joined and values[code_point] not in JOINING:
            raise SystemExit(f"U+{code_point:04X} joins a cluster, and wcwidth does not know it; use a newer wcwidth")
        if not joined and values[code_point] in JOINING:
            values[code_point] = 0  # newer than the library
    conjuncts = [0] * len(CODE_POINTS)
    for value, name in enumerate(CONJUNCTS, start=1):
        for first, last in getattr(table_grapheme, f"INCB_{name}"):
            for code_point in range(first, last + 1):
                conjuncts[code_point] = value if values[code_point] in JOINING or name == "CONSONANT" else 0
    return [
        value << CLASS_SHIFT | conjunct << CONJUNCT_SHIFT for value, conjunct in zip(values, conjuncts, strict=True)
    ]


def combining_classes() -> list[int]:
    """Canonical combining classes, found by what canonical ordering does beside marks of known classes."""
    by_class: dict[int, str] = {}
    for character in map(chr, CODE_POINTS):
        known = unicodedata.combining(character)
        # A mark that is too new for the library does not move, and stands for no class.
        marks = f"\u0345{character}\u0334"
        if known and NFD(character) == character and NFD(marks) == "".join(sorted(marks, key=unicodedata.combining)):
            by_class.setdefault(known, character)
    lowest, highest = by_class[min(by_class)], by_class[max(by_class)]
    values = []
    for code_point in CODE_POINTS:
        character = chr(code_point)
        if code_point in SURROGATES or NFD(character) != character:
            values.append(0)
            continue
        moves = NFD(highest + character) != highest + character or NFD(character + lowest) != character + lowest
        if not moves:
            values.append(0)
            continue
        equal = [
            number
            for number, mark in by_class.items()
            if NFD(mark + character) == mark + character and NFD(character + mark) == character + mark
        ]
        if len(equal) != 1:
            raise SystemExit(f"U+{code_point:04X} has a combining class that no known mark has")
        values.append(equal[0])
    return values


def compositions() -> dict[tuple[int, int], int]:
    """Pairs that NFC composes, Hangul apart."""
    pairs = {}
    for code_point in CODE_POINTS:
        fields = unicodedata.decomposition(chr(code_point)).split()
        if len(fields) == 2 and not fields[0].startswith("<"):
            first, second = int(fields[0], 16), int(fields[1], 16)
            if NFC(chr(first) + chr(second)) == chr(code_point):
                pairs[first, second] = code_point
    return pairs


def strings(mapping: Callable[[str], str], skip: range) -> tuple[list[int], Pool]:
    """Numbers of the strings that a mapping gives, and the strings; 0 where it changes nothing."""
    pool = Pool()
    numbers = []
    for code_point in CODE_POINTS:
        character = chr(code_point)
        mapped = character if code_point in SURROGATES or code_point in skip else mapping(character)
        numbers.append(0 if mapped == character else pool.number(mapped))
    return numbers, pool


def tables() -> str:
    """The whole of ``hf_unicode_tables.inc``."""
    parts = [
        "// Generated by generate_hf_unicode_tables.py; do not edit.\n",
        f'inline constexpr char kLibraryVersion[] = "{importlib.metadata.version("tokenizers")}";\n',
    ]
    lower = normalizers.Lowercase().normalize_str
    for name, mapping, skip in (
        ("Canonical", NFD, HANGUL_SYLLABLES),
        ("Compatibility", NFKD, HANGUL_SYLLABLES),
        ("Lower", lower, range(0)),
    ):
        numbers, pool = strings(mapping, skip)
        stage1, stage2 = two_stage(numbers)
        values, begins = pool.flat(lambda string: list(map(ord, string)))
        parts.append(array("uint16_t", f"k{name}Stage1", stage1))
        parts.append(array("uint16_t", f"k{name}Stage2", stage2))
        parts.append(array("uint32_t", f"k{name}Pool", values))
        parts.append(array("uint32_t", f"k{name}Begin", begins))
    for name, kind, values in (("CombiningClass", "uint8_t", combining_classes()), ("Flags", "uint16_t", flags())):
        stage1, stage2 = two_stage(values)
        parts.append(array("uint16_t", f"k{name}Stage1", stage1))
        parts.append(array(kind, f"k{name}Stage2", stage2))
    ordered = sorted(compositions().items())
    parts.append(array("uint64_t", "kCompositionPair", [first << 21 | second for (first, second), _ in ordered]))
    parts.append(array("uint32_t", "kComposition", [composed for _, composed in ordered]))
    return "\n".join(parts)


if __name__ == "__main__":
    target = Path(__file__).with_name("hf_unicode_tables.inc")
    target.write_text(tables(), encoding="ascii")
    print(f"{target}: tokenizers {importlib.metadata.version('tokenizers')}, {target.stat().st_size} bytes")
