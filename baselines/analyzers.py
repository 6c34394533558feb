"""Analyzers: text -> terms; ``tokenizer_cc.terms.analyze`` is the one of BM25, and of most baselines."""

from __future__ import annotations

from collections.abc import Callable

Analyzer = Callable[[str], list[str]]
"""Text -> terms, in the order of the text."""
