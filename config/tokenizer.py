"""Section ``tokenizer``: the vocabularies."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from dpsr.config.section import PathName, Section


class SubwordsConfig(Section):
    """How the subwords of a transformer are made: trained on the catalogue, or those of a published checkpoint."""

    kind: Literal["wordpiece", "unigram", "bpe"] = "wordpiece"
    """What cuts words into pieces: BERT's pipeline, or XLM-R's (``unigram``), or byte-pair encoding."""
    vocabulary: Annotated[int, Field(ge=64, le=1 << 20)] = 30_000
    """Largest number of ids, special tokens included."""
    lowercase: bool = True
    """Whether texts are read in lower case."""
    file: PathName | None = None
    """A Hugging Face ``tokenizer.json``, or a folder with one, instead of training."""

    @pydantic.model_validator(mode="after")
    def _read_or_trained(self) -> SubwordsConfig:
        extra = self.model_fields_set - {"file"}
        if self.file is not None and extra:
            raise ValueError(
                f"file = {self.file!r} brings a vocabulary of its own; leave out {', '.join(sorted(extra))}, or file"
            )
        return self


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
    subwords: SubwordsConfig | None = None
    """Subwords beside the words; a transformer has them without this section too."""
