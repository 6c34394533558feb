"""fastText (Bojanowski et al., TACL 2017): word2vec whose words are sums of their letter n-grams, by gensim.

Misspelt words, and words of no text, have a vector by their n-grams. Differs from the article in the number of hash
buckets, 100,000 in place of 2,000,000, so that the table has 51 MB at most.
"""

from __future__ import annotations

from collections.abc import Sequence

from gensim.models import FastText

from dpsr.baselines.word2vec import gensim_lookup, trained
from dpsr.baselines.word_averages import WordLookup

_BUCKETS = 100_000
_LEAST_EPOCHS = 5  # an epoch takes several times as long as word2vec's


def fasttext(texts: Sequence[Sequence[str]], *, seed: int) -> WordLookup:
    """Trains vectors of words and letter n-grams (3 to 6 letters); arguments as of ``word2vec``.

    Returns:
        Vectors of all words.
    """
    return gensim_lookup(
        trained(FastText, texts, seed=seed, min_n=3, max_n=6, bucket=_BUCKETS, least_epochs=_LEAST_EPOCHS)
    )
