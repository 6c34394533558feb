"""The queries of the generated shop: what is asked for, packed into one integer, and how it is written."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dpsr.data.demo_shop.catalogue import BRANDS, LEAVES, model_name

NOUN, ATTRIBUTE, BRAND_NOUN, BRAND, QUERY_NOUN, PHRASE, BRAND_ATTRIBUTE, SIZE, MODEL, CHINESE, BRAND_QUERY_NOUN = range(
    11
)
FORM_SHARES = np.array([0.12, 0.17, 0.13, 0.07, 0.12, 0.13, 0.08, 0.06, 0.03, 0.05, 0.04])
TYPO_SHARE = 0.06
TYPOS = 16
"""Ways to misspell one query."""

_NAMES_BRAND = np.isin(np.arange(11), [BRAND_NOUN, BRAND, BRAND_ATTRIBUTE, MODEL, BRAND_QUERY_NOUN])
_NAMES_ATTRIBUTE = np.isin(np.arange(11), [ATTRIBUTE, PHRASE, BRAND_ATTRIBUTE, SIZE, CHINESE])
_BITS = (("form", 4), ("leaf", 6), ("brand", 8), ("attribute", 3), ("size", 3), ("model", 7), ("word", 4), ("typo", 5))


class Intent(NamedTuple):
    """What people ask for, each an array [n]; 0 or -1 in a field that the form of the query does not name."""

    form: np.ndarray
    leaf: np.ndarray
    brand: np.ndarray
    """-1: any."""
    attribute: np.ndarray
    """Place in the leaf's list; -1: any."""
    size: np.ndarray
    """-1: any."""
    model: np.ndarray
    """0: any."""
    word: np.ndarray
    """Picks among nouns and phrases, 0..15."""
    typo: np.ndarray
    """0 none, else which."""

    def codes(self) -> np.ndarray:
        """Every intent as one int64 [n]."""
        code = np.zeros(len(self.form), dtype=np.int64)
        for name, bits in _BITS:
            code = (code << bits) | (getattr(self, name).astype(np.int64) + (name in ("brand", "attribute", "size")))
        return code

    @classmethod
    def of_codes(cls, codes: np.ndarray) -> Intent:
        """The inverse of ``codes``."""
        fields = {}
        for name, bits in reversed(_BITS):
            fields[name] = (codes & ((1 << bits) - 1)) - (name in ("brand", "attribute", "size"))
            codes = codes >> bits
        return cls(**fields)


def make_intents(
    leaf: np.ndarray,
    brand: np.ndarray,
    attribute: np.ndarray,
    size: np.ndarray,
    model: np.ndarray,
    random: np.random.Generator,
) -> Intent:
    """Names wanted items by some of their properties.

    Args:
        leaf, brand, attribute, size, model: integers [n], the properties of the items that people have in mind.
        random: decides which of them they name.
    """
    form = random.choice(len(FORM_SHARES), len(leaf), p=FORM_SHARES)
    chinese_only_noun = (form == CHINESE) & (random.random(len(leaf)) < 0.5)
    return Intent(
        form=form,
        leaf=leaf,
        brand=np.where(_NAMES_BRAND[form], brand, -1),
        attribute=np.where(_NAMES_ATTRIBUTE[form] & ~chinese_only_noun, attribute, -1),
        size=np.where(form == SIZE, size, -1),
        model=np.where(form == MODEL, model, 0),
        word=np.where(np.isin(form, [BRAND, MODEL, CHINESE]), 0, random.integers(0, 16, len(leaf))),
        typo=np.where(random.random(len(leaf)) < TYPO_SHARE, random.integers(1, TYPOS + 1, len(leaf)), 0),
    )


def query_texts(codes: np.ndarray) -> list[str]:
    """How intents, given by their codes [n], are written."""
    columns = (field.tolist() for field in Intent.of_codes(codes))
    return [_text(*fields) for fields in zip(*columns, strict=True)]


def _text(form: int, leaf_row: int, brand_row: int, place: int, size: int, model: int, word: int, typo: int) -> str:
    leaf = LEAVES[leaf_row]
    brand = BRANDS[brand_row].lower() if brand_row >= 0 else ""
    attribute = leaf.attributes[place] if place >= 0 else None
    noun = leaf.nouns[word % len(leaf.nouns)]
    if form in (QUERY_NOUN, BRAND_QUERY_NOUN) or (form == PHRASE and word >= 8):
        noun = leaf.query_nouns[word % len(leaf.query_nouns)]
    if form == MODEL:
        text = f"{brand} {model_name(brand_row, model).lower()}"
    elif form == BRAND:
        text = brand
    elif form == CHINESE:
        text = (attribute.chinese if attribute else "") + leaf.chinese
    elif attribute and form == PHRASE:
        phrase = attribute.phrases[word % len(attribute.phrases)]
        follows = phrase.split()[0] in ("for", "with", "without", "that", "to", "in")
        text = f"{noun} {phrase}" if follows else f"{phrase} {noun}"
    else:
        text = f"{brand} {attribute.title.lower() if attribute else ''} {noun}"
        if size >= 0:
            text += " " + leaf.sizes[size].lower()
    text = " ".join(text.split())
    return misspell(text, typo) if typo else text


def misspell(text: str, typo: int) -> str:
    """One slip of the finger in the longest word: a letter left out, doubled, swapped with the next or replaced."""
    words = text.split()
    longest = max(range(len(words)), key=lambda place: len(words[place]))
    word = words[longest]
    if len(word) < 4 or not word.isascii():
        return text
    kind, place = typo % 4, 1 + (typo * 7) % (len(word) - 2)
    before, letter, after = word[:place], word[place], word[place + 1 :]
    slips = (
        before + after,
        before + letter + letter + after,
        before + after[0] + letter + after[1:],
        before + "etaoinsr"[typo % 8] + after,
    )
    words[longest] = slips[kind]
    return " ".join(words)


def grades(
    intent: Intent,
    item_leaf: np.ndarray,
    item_brand: np.ndarray,
    item_attributes: np.ndarray,
    item_size: np.ndarray,
    item_model: np.ndarray,
) -> np.ndarray:
    """How well items are what is asked for; all arguments broadcast to [...].

    Returns:
        0 another category (or, for a bare brand, another brand), 1 the category only, 2 some of what was named, 3 all.
    """
    brand_fits = item_brand == intent.brand
    named = np.zeros(np.broadcast(intent.leaf, item_leaf).shape, dtype=np.int8)
    fits = np.zeros_like(named)
    for asked, met in (
        (intent.brand >= 0, brand_fits),
        (intent.attribute >= 0, (item_attributes == intent.attribute[..., None]).any(axis=-1)),
        (intent.size >= 0, item_size == intent.size),
        (intent.model > 0, item_model == intent.model),
    ):
        named += asked
        fits += asked & met
    in_leaf = item_leaf == intent.leaf
    grade = np.where(in_leaf, np.where(fits == named, 3, np.where(fits > 0, 2, 1)), 0)
    of_brand = np.where(brand_fits, np.where(in_leaf, 3, 2), 0)
    return np.where(intent.form == BRAND, of_brand, grade).astype(np.int8)
