"""Terms of lexical search: words with letters split from digits and plurals removed, in C++; no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dpsr.tokenizer_cc import _tokenizer
from dpsr.tokenizer_cc.model_encoder import ModelEncoder
from dpsr.tokenizer_cc.tokenizer import ModelFileError

__all__ = [
    "ModelFileError",
    "TermToken",
    "TermTokenizer",
    "TermVocabularyBuilder",
    "analyze",
    "query_keys",
    "text_hashes",
]


def analyze(text: str | bytes) -> list[str]:
    """Every term of a text, in its order, whether or not a vocabulary has it."""
    return _tokenizer.analyze(text)


def query_keys(texts: Sequence[str | bytes]) -> npt.NDArray[np.int64]:
    """What stands for each query wherever equal queries are counted together.

    The key is a hash of the terms in their order, without the spaces between them: ``Black-Ops 2`` and ``blackops2``
    are one query, ``5 10`` and ``510`` are two.

    Returns:
        int64 [len(texts)]; 0 for a text without a term.

    Raises:
        TypeError: an element is neither str nor bytes; the message says which.
    """
    return _tokenizer.query_keys(texts)


def text_hashes(offsets: npt.NDArray[np.int64], content: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """64-bit hashes of texts.

    Args:
        offsets: int64 [n + 1]; the bytes of text i are ``content[offsets[i]:offsets[i + 1]]``.
        content: uint8.

    Returns:
        uint64 [n].

    Raises:
        ValueError: offsets descend, or are beyond the bytes.
    """
    return _tokenizer.text_hashes(offsets, content)


class TermToken(NamedTuple):
    """One term of a query."""

    text: str
    """A word or a bigram of the vocabulary: ``sink``, ``steel sink``."""
    id: int
    weight: float
    """In (0, 1]; 1 for a term of the text itself."""
    document_frequency: int
    """Number of the catalogue's items that contain the term."""


class TermTokenizer(ModelEncoder[_tokenizer.TermTokenizer]):
    """Turns texts into ids of the terms of a catalogue, ``0..num_terms - 1`` by descending document frequency.

    ``encode`` and ``encode_batch`` give the terms in the order of the text, as often as they occur, followed by the
    bigrams of neighbours where the vocabulary has bigrams; terms that the vocabulary lacks are left out.
    """

    _core_class = _tokenizer.TermTokenizer
    _file = "term model"
    _writer = "`TermTokenizer.save`"
    _error = ModelFileError

    def encode_queries(
        self, texts: Sequence[str | bytes]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Encodes queries; a word that no item has falls back on those that it may be a misspelling of.

        Returns:
            ``(values, weights, row_splits)``, int32 [nnz], float32 [nnz] and int64 [len(texts) + 1]: the ids of query
            ``i`` are ``values[row_splits[i]:row_splits[i + 1]]``, with weights in (0, 1], 1 for terms of the text.

        Raises:
            TypeError: an element is neither str nor bytes; the message says which.
        """
        return self._core.encode_queries(texts)

    def tokens(self, query: str | bytes) -> list[TermToken]:
        """The terms of a query, as ``encode_queries`` gives them."""
        values, weights, _ = self.encode_queries([query])
        frequencies = self.document_frequencies
        return [
            TermToken(self._core.text(number), number, weight, int(frequencies[number]))
            for number, weight in zip(values.tolist(), weights.tolist(), strict=True)
        ]

    def ids_of(self, other: TermTokenizer) -> npt.NDArray[np.int32]:
        """For each id of another tokenizer the id of the same word here, int32 [V of ``other``]; -1 for none."""
        return self._core.ids_of(other._core)

    def text(self, number: int) -> str:
        """The text of an id; IndexError for what is none."""
        return self._core.text(number)

    @property
    def num_terms(self) -> int:
        """V: one more than the largest id."""
        return self._core.num_terms

    @property
    def num_documents(self) -> int:
        """Number of documents that the vocabulary was counted on."""
        return self._core.num_documents

    @property
    def document_frequencies(self) -> npt.NDArray[np.int32]:
        """int32 [V], by id: number of those documents that contain the term. Read-only."""
        return self._core.document_frequencies

    @property
    def bigrams(self) -> bool:
        """Whether the vocabulary has bigrams."""
        return self._core.bigrams


class TermVocabularyBuilder:
    """Counts the terms of a catalogue's items; the result depends on the multiset of items alone."""

    def __init__(self, *, bigrams: bool = False, min_count: int = 1, min_bigram_count: int = 2) -> None:
        """Starts with no document.

        Args:
            bigrams: whether neighbouring words make terms too.
            min_count: smallest number of documents that contain a word with an id.
            min_bigram_count: smallest number of documents that contain such a bigram.

        Raises:
            ValueError: a number is out of its range.
        """
        for name, least in (("min_count", min_count), ("min_bigram_count", min_bigram_count)):
            if not 1 <= least < 1 << 32:
                raise ValueError(f"{name} = {least}, expected 1 to {(1 << 32) - 1}")
        self._core = _tokenizer.TermVocabularyBuilder(
            bigrams=bigrams, min_count=min_count, min_bigram_count=min_bigram_count
        )

    def add(self, *fields: Sequence[str | bytes]) -> None:
        """Counts a batch of documents of one text or more each: text i of every field is one of document i.

        Raises:
            TypeError: an element is neither str nor bytes; the message says which.
            ValueError: the fields have different numbers of texts.
        """
        self._core.add(*fields)

    def add_counts(self, tokenizer: TermTokenizer, counts: npt.NDArray[np.int32], num_documents: int) -> None:
        """Counts documents of which the terms are known.

        Args:
            tokenizer: has all their terms, as one without bigrams and with ``min_count = 1`` has.
            counts: int32 [V], the number of documents with each of its terms.
            num_documents: how many they are.

        Raises:
            ValueError: there are bigrams, or not one count for each term.
        """
        self._core.add_counts(tokenizer._core, counts, num_documents)

    def build(self) -> TermTokenizer:
        """The tokenizer of all documents so far; more may be added afterwards."""
        return TermTokenizer(self._core.build())
