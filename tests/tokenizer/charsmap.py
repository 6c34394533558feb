"""Compiles character maps of SentencePiece's format, which Precompiled normalizers of ``tokenizer.json`` files hold."""

from __future__ import annotations

import base64
import functools
import struct
import sys
import unicodedata

Trie = dict[int, "Trie | int"]
LEAF = 0  # no key holds a NUL


def compile_map(mapping: dict[str, str]) -> bytes:
    """A size, the units of a double array (Darts), and the strings that its values are places of."""
    root: Trie = {}
    strings = bytearray()
    for key, value in mapping.items():
        node = root
        for byte in key.encode():
            node = node.setdefault(byte, {})  # type: ignore[assignment]
        node[LEAF] = len(strings)
        strings += value.encode() + b"\0"
    units = _double_array(root)
    return struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + bytes(strings)


def _double_array(root: Trie) -> list[int]:
    units: dict[int, int] = {0: 0}
    queue = [(0, root)]
    lowest = 1
    while queue:
        place, node = queue.pop()
        while lowest in units:
            lowest += 1
        base = next(
            base
            for base in range(lowest, sys.maxsize)
            # An offset of 21 bits, or of a multiple of 256.
            if not any(base ^ label in units for label in node) and (base ^ place) < 1 << 21
        )
        units[place] |= (base ^ place) << 10 | (LEAF in node) << 8
        for label, child in node.items():
            if isinstance(child, int):
                units[base] = 1 << 31 | child
            else:
                units[base ^ label] = label
                queue.append((base ^ label, child))
    return [units.get(place, 0) for place in range((max(units) | 255) + 1)]


@functools.cache
def nfkc_map() -> str:
    """A map as those of the XLM-R family: NFKC, white space as spaces, no control characters; in base64."""
    mapping = {}
    for code_point in range(1, sys.maxunicode + 1):
        character = chr(code_point)
        category = unicodedata.category(character)
        if category in ("Cs", "Cn", "Co") or 0xAC00 <= code_point < 0xD7A4:
            continue
        if character.isspace() or category in ("Zs", "Zl", "Zp"):
            mapped = " "
        elif category == "Cc" or code_point in (0x200B, 0x200E, 0x200F, 0xFEFF):
            mapped = ""
        else:
            mapped = unicodedata.normalize("NFKC", character)
            decomposed = unicodedata.normalize("NFD", character)
            if len(decomposed) > 1:
                mapping[decomposed] = mapped
        if mapped != character:
            mapping[character] = mapped
    return base64.b64encode(compile_map(mapping)).decode()
