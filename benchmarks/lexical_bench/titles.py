"""Generated titles and queries as ids of terms, at any size.

A title is of one category: its words are the category's own, common ones, a brand's, and numbers of models, which
hardly any other title has. Lengths of titles, lengths of queries, the share of words that come twice and the document
frequencies of the words of a query are near those of Home Depot's titles and queries.
"""

from __future__ import annotations

import numpy as np

CATEGORIES, CATEGORY_WORDS, COMMON_WORDS, BRANDS, BRANDS_OF_CATEGORY = 4000, 400, 60_000, 20_000, 40
LENGTHS = np.array([4, 7, 9, 12, 14, 19, 25, 30])
"""Words of a title at the quantiles below."""
QUANTILES = np.array([0.0, 0.1, 0.25, 0.5, 0.68, 0.9, 0.99, 1.0])
QUERY_LENGTHS = np.array([0.05, 0.23, 0.31, 0.21, 0.12, 0.05, 0.02, 0.01])
"""Shares of queries of 1, 2, ... words."""
CHUNK = 1 << 19


class Titles:
    """Draws titles and queries of one shop."""

    def __init__(self, count: int) -> None:
        """Draws the words of every category for ``count`` titles."""
        space = np.random.default_rng(99)
        self.count = count
        self._words = _zipf(space, COMMON_WORDS, (CATEGORIES, CATEGORY_WORDS)).astype(np.int32)
        # The first words of a category are its nouns, which other categories seldom have.
        self._words[:, :8] = space.integers(200, COMMON_WORDS, (CATEGORIES, 8))
        self._brands = COMMON_WORDS + _zipf(space, BRANDS, (CATEGORIES, BRANDS_OF_CATEGORY)).astype(np.int32)
        self._models = max(count // 2, 1)
        self.num_terms = COMMON_WORDS + BRANDS + self._models

    def draw(self, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Offsets int64 [count + 1] and terms int32 [nnz] of all titles."""
        random = np.random.default_rng(seed)
        lengths = np.interp(random.random(self.count), QUANTILES, LENGTHS).round().astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        terms = np.empty(offsets[-1], np.int32)
        for start in range(0, self.count, CHUNK):
            part = lengths[start : start + CHUNK]
            begin = offsets[start]
            terms[begin : begin + part.sum()] = self._words_of(random, part)
        return offsets, terms

    def _words_of(self, random: np.random.Generator, lengths: np.ndarray) -> np.ndarray:
        category = np.repeat(_zipf(random, CATEGORIES, len(lengths)), lengths)
        kind = random.random(len(category))
        brand = np.repeat(_zipf(random, BRANDS_OF_CATEGORY, len(lengths)), lengths)
        return np.select(
            [kind < 0.5, kind < 0.88, kind < 0.94],
            [
                self._words[category, _zipf(random, CATEGORY_WORDS, len(category))],
                _zipf(random, COMMON_WORDS, len(category)),
                self._brands[category, brand],
            ],
            COMMON_WORDS + BRANDS + random.integers(0, self._models, len(category)),
        ).astype(np.int32)

    def queries(self, offsets: np.ndarray, terms: np.ndarray, count: int, seed: int = 2) -> list[np.ndarray]:
        """Different words of one title each, int32 [n]."""
        random = np.random.default_rng(seed)
        drawn = []
        shares = QUERY_LENGTHS / QUERY_LENGTHS.sum()
        while len(drawn) < count:
            row = random.integers(0, self.count)
            words = np.unique(terms[offsets[row] : offsets[row + 1]])
            # Models are asked for less often than they stand in titles.
            words = words[(words < COMMON_WORDS + BRANDS) | (random.random(len(words)) < 0.2)]
            length = 1 + random.choice(len(shares), p=shares)
            if length <= len(words):
                drawn.append(random.permutation(words)[:length])
        return drawn


def _zipf(random: np.random.Generator, size: int, shape: int | tuple[int, ...]) -> np.ndarray:
    """Ranks 0..size - 1, the r-th with a probability that is about proportional to 1 / (r + 1)."""
    return (np.exp(random.random(shape) * np.log(size + 1)) - 1).astype(np.int64).clip(0, size - 1)
