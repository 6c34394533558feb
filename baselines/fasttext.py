"""Averages of fastText's vectors (Bojanowski et al., TACL 2017): a word is the mean of its letter n-grams' vectors.

Unknown and misspelt words have a vector too. Skip-gram with negative sampling by gensim, over the words of items and
clicked queries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gensim.models import FastText
from gensim.models.fasttext import ft_ngram_hashes

from dpsr.baselines.fitting.learner import TrainingSet
from dpsr.baselines.word_vectors import DIMENSION, VocabularyAverageRetriever

_WINDOW, _NEGATIVES, _EPOCHS, _SUBSAMPLE = 5, 5, 10, 1e-3
_LENGTHS = 3, 6  # letters of an n-gram, the marks of the word's ends included
_BUCKETS = 100_000  # of n-grams, by hash


class FastTextRetriever(VocabularyAverageRetriever):
    """Skip-gram vectors of letter n-grams, averaged."""

    name = "fasttext"
    settings = (1, DIMENSION, _WINDOW, _NEGATIVES, _EPOCHS, _SUBSAMPLE, _LENGTHS, _BUCKETS)

    def __init__(self, data: TrainingSet) -> None:
        """As ``WordAverageRetriever``; no n-gram has a vector yet."""
        super().__init__(data)
        self._ngrams = np.zeros((_BUCKETS, DIMENSION), np.float32)

    def fit(self, *, progress: bool) -> None:
        """As ``Learner.fit``; one thread, so that the same seed gives the same vectors."""
        model = FastText(
            self.sentences(),
            vector_size=DIMENSION,
            window=_WINDOW,
            negative=_NEGATIVES,
            epochs=_EPOCHS,
            sample=_SUBSAMPLE,
            sg=1,
            min_count=1,
            min_n=_LENGTHS[0],
            max_n=_LENGTHS[1],
            bucket=_BUCKETS,
            workers=1,
            seed=self._data.seed,
        )
        self.assign([np.array(model.wv.index_to_key, np.str_), model.wv.vectors, model.wv.vectors_ngrams])

    def weights(self) -> list[np.ndarray]:
        """As ``Learner.weights``: words, their vectors, and those of the n-grams by bucket."""
        return [*super().weights(), self._ngrams]

    def assign(self, weights: list[np.ndarray]) -> None:
        """As ``Learner.assign``."""
        *words, self._ngrams = weights
        super().assign(words)

    def word_vectors(self, words: Sequence[str]) -> np.ndarray:
        """As ``WordAverageRetriever.word_vectors``; zeros only for a word too short for an n-gram."""
        found = super().word_vectors(words)
        for row, word in enumerate(words):
            if word not in self._row_of and (hashes := ft_ngram_hashes(word, *_LENGTHS, _BUCKETS)):
                found[row] = self._ngrams[hashes].mean(axis=0)
        return found
