"""The terms of lexical search in plain Python, built on the words of the dataset's own tokenizer."""

from __future__ import annotations

import re
from itertools import pairwise

from dpsr.baselines.analyzers import Analyzer, words
from dpsr.tokenizer_cc import Tokenizer

# "4ft" and "xbox360" are written apart as often as together; fractions and decimals stay whole, as in the tokenizer.
_RUNS = re.compile(r"\d+(?:[./]\d+)*|[^\W\d]+")


def light_stem(word: str) -> str:
    """Removes a plural s; on product titles stronger than Porter's and Snowball's stemmers (docs/evaluation.md)."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us")) else word


def stemmed_words(tokenizer: Tokenizer) -> Analyzer:
    """Analyzer of the tokenizer's words with letters split from digits and plurals removed."""
    unstemmed = words(tokenizer)

    def terms(text: str) -> list[str]:
        return [light_stem(run) for word in unstemmed(text) for run in _RUNS.findall(word) or [word]]

    return terms


def with_bigrams(analyzer: Analyzer) -> Analyzer:
    """Analyzer of the terms of another one, followed by each pair of neighbouring terms as one more term."""

    def terms(text: str) -> list[str]:
        found = analyzer(text)
        return found + [f"{first} {second}" for first, second in pairwise(found)]

    return terms
