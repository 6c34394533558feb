"""Python interface of the C++ tokenizer; needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from dpsr.errors import DpsrError
from dpsr.ops_cc.library import LibraryError
from dpsr.tokenizer_cc.model_encoder import ModelEncoder

try:
    from dpsr.tokenizer_cc import _tokenizer
except ImportError as error:
    raise LibraryError(
        f"the C++ module of the tokenizer cannot be imported: {error}; build it: pip install --no-build-isolation -e ."
    ) from error

Kind = Literal["word", "bigram", "trigram"]
_KINDS: tuple[Kind, ...] = ("word", "bigram", "trigram")


class Token(NamedTuple):
    """One token of a text."""

    text: str
    """The normalized text: ``sink``, ``steel sink``, ``#si``."""
    kind: Kind
    id: int
    document_frequency: int
    """Number of vocabulary texts that contain the token; 0 for a token hashed into a bucket."""


class ModelFileError(DpsrError, ValueError):
    """A tokenizer or term model that cannot be used: empty, truncated, corrupt, newer, or of another format."""


class Tokenizer(ModelEncoder[_tokenizer.Tokenizer]):
    """Turns texts into bags of token ids: words, bigrams of neighbours, letter trigrams of Latin words.

    Id 0 is padding and never emitted; ``1..V`` is the vocabulary by descending document frequency; ``V+1..V+B`` are the
    buckets that all other tokens are hashed into. The ids of a text are those of its words, then of its bigrams, then
    of its trigrams. ``load`` and ``VocabularyBuilder.build`` are the ways to get a tokenizer.
    """

    _core_class = _tokenizer.Tokenizer
    _file = "tokenizer model"
    _error = ModelFileError

    def tokens(self, text: str | bytes) -> list[Token]:
        """The token of each id of ``encode``, in the same order."""
        return [
            Token(token, _KINDS[kind], token_id, frequency)
            for token, kind, token_id, frequency in self._core.tokens(text)
        ]

    @property
    def vocabulary_size(self) -> int:
        """V: the number of tokens with an id of their own."""
        return self._core.vocabulary_size

    @property
    def num_ids(self) -> int:
        """1 + V + B: rows of a table of token embeddings."""
        return self._core.num_ids

    @property
    def num_documents(self) -> int:
        """Number of texts that the vocabulary was counted on."""
        return self._core.num_documents

    @property
    def document_frequencies(self) -> npt.NDArray[np.int64]:
        """int64 [V], by id - 1: number of those texts that contain the token. Read-only."""
        return self._core.document_frequencies

    @property
    def kinds(self) -> npt.NDArray[np.uint8]:
        """uint8 [V], by id - 1: 0 a word, 1 a bigram, 2 a trigram. Read-only."""
        return self._core.kinds


class VocabularyBuilder:
    """Counts the tokens of texts, and makes a tokenizer of the commonest.

    The result depends on the multiset of texts alone, neither on their order nor on batches or threads, as long as
    counting is exact: ``bigram_undercount`` is 0.
    """

    def __init__(
        self,
        *,
        max_vocabulary: int,
        min_count: int,
        oov_buckets: int,
        bigrams: bool,
        trigrams: bool,
        threads: int = 1,
        max_counted_bigrams: int = 100_000_000,
        max_words: int | None = None,
        max_bigrams: int | None = None,
        max_trigrams: int | None = None,
    ) -> None:
        """Starts with no text.

        Args:
            max_vocabulary: largest number of tokens with an id of their own, the most frequent first.
            min_count: smallest number of texts that contain such a token.
            oov_buckets: ids that all other tokens are hashed into.
            bigrams: whether neighbouring words make tokens.
            trigrams: whether Latin words are also cut into letter trigrams.
            threads: how many threads count large batches.
            max_counted_bigrams: beyond this number of distinct bigrams the rarest are forgotten, to bound memory (up to
                108 bytes each); ``bigram_undercount`` bounds the error.
            max_words: largest number of words among these tokens; None: only ``max_vocabulary``. A bigram is
                left out with either of its words.
            max_bigrams: largest number of bigrams among them.
            max_trigrams: largest number of trigrams among them.

        Raises:
            ValueError: a number is out of its range.
        """
        for name, limit in (("max_words", max_words), ("max_bigrams", max_bigrams), ("max_trigrams", max_trigrams)):
            if limit is not None and limit < 0:
                raise ValueError(f"{name} = {limit}, expected at least 0, or None for no limit")
        self._core = _tokenizer.VocabularyBuilder(
            max_vocabulary=max_vocabulary,
            min_count=min_count,
            oov_buckets=oov_buckets,
            bigrams=bigrams,
            trigrams=trigrams,
            threads=threads,
            max_counted_bigrams=max_counted_bigrams,
            max_words=max_words,
            max_bigrams=max_bigrams,
            max_trigrams=max_trigrams,
        )

    def add(self, texts: Sequence[str | bytes]) -> None:
        """Counts a batch of texts."""
        self._core.add(texts)

    def build(self) -> Tokenizer:
        """The tokenizer of all texts so far; more may be added afterwards."""
        return Tokenizer(self._core.build())

    @property
    def bigram_undercount(self) -> int:
        """By how much the document frequency of a bigram may be too low; 0 while counting is exact."""
        return self._core.bigram_undercount
