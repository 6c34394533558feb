"""What the tokenizer knows of every token id, as arrays over the rows of a token table."""

from __future__ import annotations

import numpy as np

from dpsr.tokenizer_cc import Tokenizer

_HASHED = 3


def token_kinds(tokenizer: Tokenizer) -> np.ndarray:
    """The kind of every id, uint8 [num_ids]: 0 word, 1 bigram, 2 trigram, 3 hashed (of any kind)."""
    kinds = np.full(tokenizer.num_ids, _HASHED, np.uint8)
    kinds[1 : 1 + tokenizer.vocabulary_size] = tokenizer.kinds
    return kinds


def relative_idf(tokenizer: Tokenizer) -> np.ndarray:
    """Inverse document frequency of every id, float32 [num_ids]: ``log(1 + N / df)`` over its root mean square.

    A hashed token counts as one that occurs in a single document.
    """
    frequencies = np.ones(tokenizer.num_ids)
    frequencies[1 : 1 + tokenizer.vocabulary_size] = tokenizer.document_frequencies
    idf = np.log1p(max(tokenizer.num_documents, 1) / frequencies)
    return (idf / np.sqrt(np.mean(idf**2))).astype(np.float32)
