"""Averages of word2vec's vectors (Mikolov et al., "Distributed Representations of Words and Phrases", NIPS 2013).

Skip-gram with negative sampling by gensim, over the words of items and clicked queries.
"""

from __future__ import annotations

import numpy as np
from gensim.models import Word2Vec

from dpsr.baselines.word_vectors import DIMENSION, VocabularyAverageRetriever

_WINDOW, _NEGATIVES, _EPOCHS, _SUBSAMPLE = 5, 5, 10, 1e-3


class Word2VecRetriever(VocabularyAverageRetriever):
    """Skip-gram vectors, averaged."""

    name = "word2vec"
    settings = (1, DIMENSION, _WINDOW, _NEGATIVES, _EPOCHS, _SUBSAMPLE)

    def fit(self, *, progress: bool) -> None:
        """As ``Learner.fit``; one thread, so that the same seed gives the same vectors."""
        model = Word2Vec(
            self.sentences(),
            vector_size=DIMENSION,
            window=_WINDOW,
            negative=_NEGATIVES,
            epochs=_EPOCHS,
            sample=_SUBSAMPLE,
            sg=1,
            min_count=1,
            workers=1,
            seed=self._data.seed,
        )
        self.assign([np.array(model.wv.index_to_key, np.str_), model.wv.vectors])
