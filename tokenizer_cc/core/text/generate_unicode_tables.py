"""Writes ``unicode_tables.inc``: everything the core knows of Unicode, taken from Python's ``unicodedata``.

Run it with the Python whose Unicode version the tokenizer shall have::

    python tokenizer_cc/core/text/generate_unicode_tables.py

The tables are two-stage: ``stage1[code_point >> 7]`` is a block number, ``stage2[block * 128 + (code_point & 127)]``
the value. Strings (decompositions, case foldings) live in pools; a value is then the number of a string, and 0 means
"the code point itself".
"""

import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

BLOCK = 128
CODE_POINTS = range(sys.maxunicode + 1)
FIRST_SCRIPT = 6

# The segmenter's classes; scripts are numbered from FIRST_SCRIPT (Latin) on. docs/tokenizer.md explains them.
SEPARATOR, IGNORED, MARK, DIGIT, UNIT, COMMON_LETTER = range(FIRST_SCRIPT)

PICTOGRAPH_BLOCKS = ((0x2300, 0x23FF), (0x2600, 0x27BF), (0x2B00, 0x2BFF), (0x1F000, 0x1FAFF))
VARIATION_SELECTORS = ((0x180B, 0x180D), (0x180F, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
SKIN_TONES = ((0x1F3FB, 0x1F3FF),)
TANGUT = ((0x17000, 0x187F7), (0x18D00, 0x18D08))
HANGUL_VOWELS_AND_TAILS = ((0x1161, 0x1175), (0x11A8, 0x11C2))
HANGUL_SYLLABLES = ((0xAC00, 0xD7A3),)
ZERO_WIDTH_SPACE = 0x200B


def within(code_point: int, ranges: Sequence[tuple[int, int]]) -> bool:
    """Whether a code point lies in one of the closed ranges."""
    return any(first <= code_point <= last for first, last in ranges)


def script(code_point: int) -> str:
    """The script of a letter, which is how its name starts; empty for letters of no script of their own."""
    words = unicodedata.name(chr(code_point), "").split()
    if not words or words[0] == "MODIFIER":
        return ""
    if words[0] in ("OLD", "NEW", "TAI", "MEETEI"):
        return " ".join(words[:2])
    return "LATIN" if words[0] == "TURNED" else words[0]


def is_unit(code_point: int) -> bool:
    """Whether a letter or number is a word by itself: an ideograph or a kana."""
    name = unicodedata.name(chr(code_point), "")
    return (
        "IDEOGRAPH" in name
        or "KANA REPEAT MARK" in name
        or name.startswith(("HIRAGANA", "KATAKANA"))
        or within(code_point, TANGUT)
    )


def segment_class(code_point: int, scripts: dict[str, int]) -> int:
    """The class by which the segmenter cuts; ``scripts`` grows by the scripts that are met."""
    category = unicodedata.category(chr(code_point))
    if within(code_point, VARIATION_SELECTORS) or within(code_point, SKIN_TONES):
        return IGNORED
    if category == "Cf":
        return SEPARATOR if code_point == ZERO_WIDTH_SPACE else IGNORED
    if category[0] == "M":
        return MARK
    if category[0] in "LN" and is_unit(code_point):
        return UNIT
    if category[0] == "N":
        return DIGIT
    if category[0] == "L":
        name = script(code_point)
        return scripts.setdefault(name, FIRST_SCRIPT + len(scripts)) if name else COMMON_LETTER
    return UNIT if category == "So" and within(code_point, PICTOGRAPH_BLOCKS) else SEPARATOR


def compositions() -> dict[tuple[int, int], int]:
    """Pairs that NFC composes, Hangul apart."""
    pairs = {}
    for code_point in CODE_POINTS:
        fields = unicodedata.decomposition(chr(code_point)).split()
        canonical = len(fields) == 2 and not fields[0].startswith("<")
        if canonical and unicodedata.normalize("NFC", chr(code_point)) == chr(code_point):
            pairs[int(fields[0], 16), int(fields[1], 16)] = code_point
    return pairs


class Pool:
    """Distinct strings, numbered from 1."""

    def __init__(self) -> None:
        """Starts with no string."""
        self.strings: dict[str, int] = {}

    def number(self, string: str) -> int:
        """The number of a string."""
        return self.strings.setdefault(string, 1 + len(self.strings))

    def flat(self, encode: Callable[[str], Sequence[int]]) -> tuple[list[int], list[int]]:
        """All strings one after the other, and where each begins; string 0 is empty."""
        values: list[int] = []
        begins = [0, 0]
        for string in self.strings:
            values.extend(encode(string))
            begins.append(len(values))
        return values, begins


def two_stage(values: Sequence[int]) -> tuple[list[int], list[int]]:
    """Splits a table over all code points into block numbers and distinct blocks."""
    blocks: dict[tuple[int, ...], int] = {}
    stage1 = [
        blocks.setdefault(tuple(values[begin : begin + BLOCK]), len(blocks)) for begin in range(0, len(values), BLOCK)
    ]
    return stage1, [value for block in blocks for value in block]


def array(kind: str, name: str, values: Sequence[int]) -> str:
    """One C++ array."""
    lines, line = [], ""
    for value in values:
        item = f"{value},"
        if len(line) + len(item) > 118:
            lines.append(line)
            line = ""
        line += item
    return f"inline constexpr {kind} {name}[] = {{\n" + "\n".join([*lines, line]) + "\n};\n"


def tables() -> str:
    """The whole of ``unicode_tables.inc``."""
    pairs = compositions()
    composing_second = {second for _, second in pairs}
    folded, decomposed, casefolded = Pool(), Pool(), Pool()
    fold, decomposition, casefold, combining, classes = [], [], [], [], []
    scripts = {"LATIN": FIRST_SCRIPT}
    for code_point in CODE_POINTS:
        character = chr(code_point)
        full = unicodedata.normalize("NFKD", character)
        first = ord(full[0])
        starts_cluster = (
            not unicodedata.combining(full[0])
            and first not in composing_second
            and not within(first, HANGUL_VOWELS_AND_TAILS)
        )
        normalized = unicodedata.normalize("NFKC", character).casefold()
        same = normalized == character
        fold.append(0xFFFF if not starts_cluster else 0 if same else folded.number(normalized))
        keep = full == character or within(code_point, HANGUL_SYLLABLES)
        decomposition.append(0 if keep else decomposed.number(full))
        casefold.append(0 if character.casefold() == character else casefolded.number(character.casefold()))
        combining.append(unicodedata.combining(character))
        classes.append(segment_class(code_point, scripts))
    if FIRST_SCRIPT + len(scripts) > 255 or len(folded.strings) >= 0xFFFF:
        raise SystemExit("the tables do not fit their types any more; widen them")

    parts = [
        "// Generated by generate_unicode_tables.py; do not edit.\n",
        f'inline constexpr char kUnicodeVersion[] = "{unicodedata.unidata_version}";\n',
    ]
    for name, kind, values in (
        ("Fold", "uint16_t", fold),
        ("Decomposition", "uint16_t", decomposition),
        ("Casefold", "uint16_t", casefold),
        ("CombiningClass", "uint8_t", combining),
        ("SegmentClass", "uint8_t", classes),
    ):
        stage1, stage2 = two_stage(values)
        parts.append(array("uint16_t", f"k{name}Stage1", stage1))
        parts.append(array(kind, f"k{name}Stage2", stage2))
    for name, pool, kind, encode in (
        ("Fold", folded, "uint8_t", lambda string: list(string.encode())),
        ("Decomposition", decomposed, "uint32_t", lambda string: list(map(ord, string))),
        ("Casefold", casefolded, "uint32_t", lambda string: list(map(ord, string))),
    ):
        values, begins = pool.flat(encode)
        parts.append(array(kind, f"k{name}Pool", values))
        parts.append(array("uint32_t", f"k{name}Begin", begins))
    ordered = sorted(pairs.items())
    parts.append(array("uint64_t", "kCompositionPair", [first << 21 | second for (first, second), _ in ordered]))
    parts.append(array("uint32_t", "kComposition", [composed for _, composed in ordered]))
    return "\n".join(parts)


if __name__ == "__main__":
    target = Path(__file__).with_name("unicode_tables.inc")
    target.write_text(tables(), encoding="ascii")
    print(f"{target}: Unicode {unicodedata.unidata_version}, {target.stat().st_size} bytes")
