"""The texts of the generated catalogue, composed in columns: ids, titles, and the words that they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.data.demo_shop.catalogue import BRANDS, CHINESE_BRANDS, LARGEST_MODEL, LEAVES, Attribute, Leaf, model_name

_MOST = 1 + max(max(len(leaf.attributes), len(leaf.sizes), len(leaf.nouns)) for leaf in LEAVES)
"""One more than the most attributes, sizes or nouns of a leaf: the place of "none"."""


def row_ids(prefix: str, rows: np.ndarray, total: int) -> pa.Array:
    """Ids as ``I0000042``.

    Args:
        prefix: one ASCII letter.
        rows: integers [n] in 0..total - 1.
        total: the number of rows decides the number of digits, at least seven.

    Returns:
        string [n].
    """
    width = max(7, len(str(total - 1)))
    text = np.empty((len(rows), width + 1), dtype=np.uint8)
    text[:, 0] = ord(prefix)
    rest = rows.astype(np.int32)
    for place in range(width, 0, -1):
        tens = rest // 10
        text[:, place] = rest - 10 * tens + ord("0")
        rest = tens
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * (width + 1)
    return pa.Array.from_buffers(pa.string(), len(rows), [None, pa.py_buffer(offsets), pa.py_buffer(text)])


class Titles:
    """Composes titles from tables of all their parts."""

    def __init__(self) -> None:
        """Writes every part once."""
        models = range(LARGEST_MODEL + 1)
        english = [
            f"{BRANDS[brand]} {model_name(brand, model)}" for brand, model in product(range(len(BRANDS)), models)
        ]
        chinese = [
            f"{CHINESE_BRANDS.get(BRANDS[brand], BRANDS[brand])} {model_name(brand, model)}"
            for brand, model in product(range(len(BRANDS)), models)
        ]
        self._named = _table(english + chinese)
        pairs = [(leaf, _pair(leaf, a, b)) for leaf, a, b in product(LEAVES, range(_MOST), range(_MOST))]
        plain = [" ".join(attribute.title for attribute in pair) for _, pair in pairs]
        self._chinese = _table(
            ["".join(attribute.chinese for attribute in pair) + leaf.chinese for leaf, pair in pairs]
        )
        self._words = pa.concat_arrays([_table([text.title() for text in plain]), _table(plain), self._chinese])
        nouns = [_at(leaf.nouns, place) for leaf, place in product(LEAVES, range(_MOST))]
        self._nouns = _table([noun.title() for noun in nouns] + nouns)
        self._sizes = _table([_at(leaf.sizes, place) for leaf, place in product(LEAVES, range(_MOST))])
        self._chinese_brands = _table([CHINESE_BRANDS.get(brand, "") for brand in BRANDS])
        self._num_nouns = np.array([len(leaf.nouns) for leaf in LEAVES])

    def compose(
        self,
        leaf: np.ndarray,
        brand: np.ndarray,
        attributes: np.ndarray,
        size: np.ndarray,
        model: np.ndarray,
        style: np.ndarray,
        noun: np.ndarray,
    ) -> pa.Array:
        """English, a quarter with a Chinese part, a tenth in Chinese but for brand and model.

        Args:
            leaf, brand, size, model: integers [n].
            attributes: integers [n, 2], -1 for none.
            style, noun: uniform in 0..1, [n]; pick the language and the noun.

        Returns:
            string [n].
        """
        leaf, brand, model = leaf.astype(np.int64), brand.astype(np.int64), model.astype(np.int64)
        chinese, with_chinese = style < 0.1, style > 0.75
        lower = style >= 0.6  # the others are written In Capitals
        named = brand * (LARGEST_MODEL + 1) + model + chinese * (len(self._named) // 2)
        pair = (leaf * _MOST + attributes[:, 0]) * _MOST + np.where(attributes[:, 1] < 0, _MOST - 1, attributes[:, 1])
        words = pair + np.where(chinese, 2, lower) * (len(self._words) // 3)
        place = leaf * _MOST + (noun * self._num_nouns[leaf]).astype(np.int64) + lower * (len(self._nouns) // 2)
        tail = pc.binary_join_element_wise(
            self._chinese_brands.take(pa.array(brand, mask=~with_chinese)),
            self._chinese.take(pa.array(pair, mask=~with_chinese)),
            "",
        )
        return pc.binary_join_element_wise(
            self._named.take(pa.array(named)),
            self._words.take(pa.array(words)),
            self._nouns.take(pa.array(place, mask=chinese)),
            self._sizes.take(pa.array(leaf * _MOST + size)),
            tail,
            " ",
            null_handling="skip",
        )


def _pair(leaf: Leaf, first: int, second: int) -> list[Attribute]:
    return [leaf.attributes[place] for place in (first, second) if place < len(leaf.attributes)]


def _at(texts: Sequence[str], place: int) -> str:
    return texts[place] if place < len(texts) else ""


def _table(texts: Sequence[str]) -> pa.Array:
    return pa.array(texts, pa.string())
