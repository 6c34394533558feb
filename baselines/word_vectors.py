"""Averages of word vectors: texts as the mean of their words, weighted by idf, compared by cosine.

How a word gets its vector is what the baselines ``word2vec``, ``glove`` and ``fasttext`` differ in.
"""

from __future__ import annotations

import gzip
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.fitting.learner import TrainedRetriever, TrainingSet
from dpsr.baselines.vectors import VectorRetriever
from dpsr.config import ConfigError
from dpsr.tokenizer_cc.terms import analyze

DIMENSION = 128
"""Width of word vectors that are trained here."""


class WordAverageRetriever(VectorRetriever, TrainedRetriever):
    """A text is the mean of its words' vectors, each weighted by log((N + 1) / (df + 0.5)) over the items."""

    def __init__(self, data: TrainingSet) -> None:
        """Splits the texts of the catalogue and of the clicked queries into words, which the vectors are trained on."""
        super().__init__(len(data.items))
        self._items = [analyze(text) for text in data.items]
        self._frequencies: Counter[str] = Counter()
        for words in self._items:
            self._frequencies.update(set(words))
        self._data = data

    @abstractmethod
    def word_vectors(self, words: Sequence[str]) -> np.ndarray:
        """Looks up words, float32 [words, d]; zeros for an unknown one."""

    def sentences(self) -> list[list[str]]:
        """The words of every item and of every clicked query, in their order."""
        clicked = np.unique(self._data.clicks["query"])
        return self._items + [analyze(self._data.queries[row]) for row in clicked]

    def embed_items(self) -> np.ndarray:
        """As ``VectorRetriever.embed_items``."""
        return self._average(self._items)

    def embed(self, examples: QueryExamples) -> np.ndarray:
        """As ``VectorRetriever.embed``."""
        return self._average([analyze(text) for text in examples.texts])

    def _average(self, texts: Sequence[list[str]]) -> np.ndarray:
        ids: dict[str, int] = {}
        columns = [ids.setdefault(word, len(ids)) for words in texts for word in words]
        splits = np.cumsum([0, *map(len, texts)])
        counts = np.array([self._frequencies[word] for word in ids])
        idf = np.log((len(self._items) + 1) / (counts + 0.5)).astype(np.float32)
        weights = csr_matrix((idf[columns], columns, splits), shape=(len(texts), len(ids)))
        found: np.ndarray = weights @ self.word_vectors(list(ids)) if ids else np.zeros((len(texts), 1), np.float32)
        return found


class VocabularyAverageRetriever(WordAverageRetriever):
    """Word vectors of a fixed vocabulary; other words have none."""

    def __init__(self, data: TrainingSet) -> None:
        """As ``WordAverageRetriever``; no word has a vector yet."""
        super().__init__(data)
        self._words = np.empty(0, np.str_)
        self._vectors = np.empty((0, DIMENSION), np.float32)
        self._row_of: dict[str, int] = {}

    def word_vectors(self, words: Sequence[str]) -> np.ndarray:
        """As ``WordAverageRetriever.word_vectors``."""
        rows = np.array([self._row_of.get(word, -1) for word in words])
        found = np.zeros((len(words), self._vectors.shape[1]), np.float32)
        found[rows >= 0] = self._vectors[rows[rows >= 0]]
        return found

    def weights(self) -> list[np.ndarray]:
        """As ``Learner.weights``: the words, str [words], and their vectors, float32 [words, d]."""
        return [self._words, self._vectors]

    def assign(self, weights: list[np.ndarray]) -> None:
        """As ``Learner.assign``."""
        self._words, self._vectors = weights
        self._row_of = {word: row for row, word in enumerate(self._words.tolist())}
        self.forget_vectors()


def read_word_vectors(path: Path, wanted: set[str]) -> tuple[list[str], np.ndarray]:
    """Reads the vectors of some words from a text file, as GloVe, word2vec and fastText distribute them.

    A line is a word and its numbers, parted by spaces; a first line of two whole numbers, the sizes, is passed over.

    Args:
        path: the file; one whose name ends in ``.gz`` is decompressed.
        wanted: the words to keep.

    Returns:
        Words that were found, and their vectors, float32 [words, d].

    Raises:
        ConfigError: the file is missing, a line is not a word and as many numbers as the first has, or no word is
            wanted; the message names the line.
    """
    words, vectors, width = [], [], 0
    for number, line in enumerate(_lines(path), start=1):
        parts = line.rstrip().split(" ")
        if number == 1 and len(parts) == 2 and all(part.isdecimal() for part in parts):
            continue
        width = width or len(parts) - 1
        if width < 1 or len(parts) != width + 1:
            raise ConfigError(
                f"{path}, line {number}: {len(parts) - 1} numbers; expected a word and {max(width, 1)} numbers"
            )
        if parts[0] not in wanted:
            continue
        try:
            vectors.append(np.array(parts[1:], np.float32))
        except ValueError:
            raise ConfigError(f"{path}, line {number}: a value is no number; expected a word and numbers") from None
        words.append(parts[0])
    if not words:
        raise ConfigError(f"{path}: no word of the catalogue among the {(width and 'vectors') or 'lines'} of the file")
    return words, np.stack(vectors)


def _lines(path: Path) -> Iterator[str]:
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="\n") as file:
                yield from file
        else:
            with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
                yield from file
    except (OSError, EOFError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); expected a text file of word vectors") from None
