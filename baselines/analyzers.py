"""Analyzers: text -> words of the dataset's own tokenizer; ``tokenizer_cc.terms.analyze`` is one too, that of BM25."""

from __future__ import annotations

from collections.abc import Callable

from dpsr.tokenizer_cc import Tokenizer

Analyzer = Callable[[str], list[str]]
"""Text -> terms, in the order of the text."""


def words(tokenizer: Tokenizer) -> Analyzer:
    """Analyzer of the tokenizer's words, unchanged."""

    def terms(text: str) -> list[str]:
        return [token.text for token in tokenizer.tokens(text) if token.kind == "word"]

    return terms
