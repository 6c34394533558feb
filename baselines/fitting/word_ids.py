"""Texts as rows of word ids, for networks that read words in their order."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from dpsr.baselines.analyzers import Analyzer

BUCKETS = 1000
"""Ids that words outside the vocabulary share by hash, so that an unknown word still equals itself."""
MOST_WORDS = 200_000
"""Words of the vocabulary, the most frequent ones."""


class WordIds:
    """Ids of words: 0 is padding, 1 to V the vocabulary by falling document frequency, then ``BUCKETS`` shared ones."""

    def __init__(self, texts: Iterable[str], analyzer: Analyzer) -> None:
        """Counts the words of some texts; each text is a document."""
        self._analyzer = analyzer
        counts: Counter[str] = Counter()
        documents = 0
        for text in texts:
            counts.update(set(analyzer(text)))
            documents += 1
        ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:MOST_WORDS]
        self.words = [word for word, _ in ordered]
        self._ids = {word: row for row, word in enumerate(self.words, start=1)}
        frequencies = np.zeros(self.rows)
        frequencies[1 : 1 + len(ordered)] = [count for _, count in ordered]
        self.idf = np.log((documents + 1) / (frequencies + 0.5)).astype(np.float32)
        """log((N + 1) / (df + 0.5)) by id, float32 [rows]; 0 for padding."""
        self.idf[0] = 0.0

    @property
    def rows(self) -> int:
        """Rows of an embedding table for the ids."""
        return 1 + len(self.words) + BUCKETS

    def ids(self, texts: Sequence[str], most: int) -> np.ndarray:
        """Looks up the ``most`` first words of texts, int32 [n, most]; 0 fills shorter texts."""
        found = np.zeros((len(texts), most), np.int32)
        for row, text in zip(found, texts, strict=True):
            words = self._analyzer(text)[:most]
            row[: len(words)] = [self._id(word) for word in words]
        return found

    def _id(self, word: str) -> int:
        return self._ids.get(word) or 1 + len(self.words) + zlib.crc32(word.encode()) % BUCKETS
