"""The C++ tokenizer: its Python face and its TensorFlow op.

Example:
    >>> builder = VocabularyBuilder(max_vocabulary=1000, min_count=1, oov_buckets=10, bigrams=True, trigrams=True)
    >>> builder.add(["stainless steel sink", "steel hammer"])
    >>> tokenizer = builder.build()
    >>> [token.text for token in tokenizer.tokens("Steel hammer")][:3]
    ['steel', 'hammer', 'steel hammer']
"""

from dpsr.tokenizer_cc.tokenizer import Token, Tokenizer, VocabularyBuilder

__all__ = ["Token", "Tokenizer", "VocabularyBuilder"]
