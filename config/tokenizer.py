"""Section ``tokenizer``: the vocabulary."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dpsr.config.section import Section


class TokenizerConfig(Section):
    """How the vocabulary of ``tokenizer.model`` is built."""

    max_vocabulary: Annotated[int, Field(ge=1, le=1 << 30)] = 500_000
    """Largest number of tokens with an id of their own, the most frequent first."""
    max_words: Annotated[int, Field(ge=0)] | None = None
    """Largest number of words among them; without it ``max_vocabulary`` is the only limit. ``max_bigrams`` and
    ``max_trigrams`` limit bigrams and trigrams alike."""
    max_bigrams: Annotated[int, Field(ge=0)] | None = None
    max_trigrams: Annotated[int, Field(ge=0)] | None = None
    min_count: Annotated[int, Field(ge=1)] = 2
    """Smallest number of texts that contain such a token."""
    oov_buckets: Annotated[int, Field(ge=1, le=1 << 24)] = 10_000
    """Ids that all other tokens share, by their hash."""
    bigrams: bool = True
    trigrams: bool = True
