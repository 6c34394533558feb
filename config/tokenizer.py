"""Section ``tokenizer``: the vocabulary."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dpsr.config.section import Section


class TokenizerConfig(Section):
    """How the vocabulary is made; the outcome is ``tokenizer.model``."""

    max_vocabulary: Annotated[int, Field(ge=1, le=1 << 30)] = 500_000
    """At most so many tokens get an id of their own, the commonest first."""
    max_words: Annotated[int, Field(ge=0)] | None = None
    """At most so many of them are words; without it, ``max_vocabulary`` is the only limit. So with the next two."""
    max_bigrams: Annotated[int, Field(ge=0)] | None = None
    max_trigrams: Annotated[int, Field(ge=0)] | None = None
    min_count: Annotated[int, Field(ge=1)] = 2
    """They are in at least so many texts."""
    oov_buckets: Annotated[int, Field(ge=1, le=1 << 24)] = 10_000
    """Ids that all other tokens share, by their hash."""
    bigrams: bool = True
    trigrams: bool = True
