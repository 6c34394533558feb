"""fastText (Bojanowski et al., TACL 2017): word2vec whose words are sums of their letter n-grams, by gensim.

Misspelt words, and words of no text, have a vector by their n-grams. Differs from the article in the number of hash
buckets, 100,000 in place of 2,000,000, so that the table has 51 MB at most.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gensim.models import FastText
from gensim.models.fasttext import FastTextKeyedVectors

from dpsr.baselines.fitting.word_vectors import DIMENSION, WordVectors
from dpsr.baselines.word2vec import SETTINGS, skip_gram

_BUCKETS = 100_000
_SHORTEST, _LONGEST = 3, 6  # n-grams
_LEAST_EPOCHS = 5  # an epoch takes several times as long as word2vec's


class FastTextVectors(WordVectors):
    """Vectors of words and of letter n-grams; O(words + buckets) memory."""

    name = "fasttext"
    settings = ("fasttext", 1, _BUCKETS, _SHORTEST, _LONGEST, _LEAST_EPOCHS, *SETTINGS)

    def __init__(self, texts: Sequence[Sequence[str]], *, seed: int) -> None:
        """As ``WordVectors``."""
        super().__init__(texts, seed=seed)
        self._ngrams = FastTextKeyedVectors(DIMENSION, _SHORTEST, _LONGEST, _BUCKETS)
        self._ngrams.vectors_ngrams = np.zeros((_BUCKETS, DIMENSION), np.float32)

    def __call__(self, words: Sequence[str]) -> np.ndarray:
        """As ``WordVectors``; a word of no text is the mean of its n-grams, and has zeros where it has none."""
        found = super().__call__(words)
        for row, word in enumerate(words):
            if word not in self.ids and len(word) + 2 >= _SHORTEST:  # with the marks of its ends
                found[row] = self._ngrams.get_vector(word)
        return found

    def learn(self, *, progress: bool) -> list[np.ndarray]:
        """As ``WordVectors.learn``: vectors of words and of buckets; gensim shows no progress."""
        trained = skip_gram(
            FastText,
            self.texts,
            seed=self.seed,
            least_epochs=_LEAST_EPOCHS,
            min_n=_SHORTEST,
            max_n=_LONGEST,
            bucket=_BUCKETS,
        ).wv
        return [trained[list(self.ids)], trained.vectors_ngrams]

    def weights(self) -> list[np.ndarray]:
        """As ``Learner.weights``."""
        return [self.vectors, self._ngrams.vectors_ngrams]

    def assign(self, weights: list[np.ndarray]) -> None:
        """As ``Learner.assign``."""
        words, self._ngrams.vectors_ngrams = weights
        super().assign([words])
