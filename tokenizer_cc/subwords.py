"""Subwords: WordPiece, Unigram and BPE encoders in C++, with the ids of Hugging Face ``tokenizers``; no TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from dpsr.tokenizer_cc import _tokenizer
from dpsr.tokenizer_cc.hugging_face import ROLES, SubwordError, compile_pipeline, read_tokenizer_json
from dpsr.tokenizer_cc.model_encoder import ModelEncoder
from dpsr.tokenizer_cc.subword_training import train_pipeline

__all__ = ["Kind", "Subword", "SubwordError", "SubwordTokenizer", "train_subwords"]

Kind = Literal["wordpiece", "unigram", "bpe"]


class Subword(NamedTuple):
    """One subword of a text."""

    text: str
    """The piece of the vocabulary: ``sink``, ``##less``, ``▁steel``, ``[UNK]``."""
    id: int


class SubwordTokenizer(ModelEncoder[_tokenizer.SubwordTokenizer]):
    """Turns texts into sequences of subword ids, the same as ``tokenizers`` gives for any bytes.

    Special tokens are neither put before nor behind, and nothing is truncated: sequences are made where they are
    needed. Where a text spells a special token ("[SEP]"), that is its id, as in ``tokenizers``. ``load`` raises a
    ``SubwordError`` for a file that cannot be used.
    """

    _core_class = _tokenizer.SubwordTokenizer
    _file = "subword model"
    _error = SubwordError

    def __init__(self, core: _tokenizer.SubwordTokenizer) -> None:
        """Wraps the C++ object; ``load``, ``from_tokenizer_json`` and ``train_subwords`` are the ways to get one."""
        super().__init__(core)
        roles = dict(zip(ROLES, core.roles, strict=True))
        self.pad_id, self.unk_id = roles["pad"], roles["unk"]
        self.cls_id, self.sep_id, self.mask_id = roles["cls"], roles["sep"], roles["mask"]
        self.kind: Kind = get_args(Kind)[core.kind]
        self.vocabulary: list[str] = core.names
        """The text of each id, "" where a vocabulary has no such id."""

    @classmethod
    def from_tokenizer_json(cls, path: str | os.PathLike[str]) -> SubwordTokenizer:
        """Reads a Hugging Face ``tokenizer.json``, or a folder that has one.

        Raises:
            FileNotFoundError: there is no such file.
            SubwordError: it is no tokenizer, or one that cannot be reproduced; the message names what.
        """
        return cls(read_tokenizer_json(path))

    def tokens(self, text: str | bytes) -> list[Subword]:
        """The subword of each id of ``encode``, in the same order."""
        return [Subword(self.vocabulary[number], number) for number in self.encode(text).tolist()]

    @property
    def num_ids(self) -> int:
        """Rows of a table of subword embeddings: one more than the largest id."""
        return self._core.num_ids

    @property
    def continues_word(self) -> npt.NDArray[np.bool_]:
        """bool [num_ids]: ids that go on with the word before them, as whole-word masking asks. Read-only."""
        return self._core.continues_word.view(np.bool_)


def train_subwords(texts: Iterable[str], *, kind: Kind, vocabulary: int, lowercase: bool) -> SubwordTokenizer:
    """Trains a vocabulary by ``tokenizers``.

    ``wordpiece`` is BERT's pipeline; ``unigram`` and ``bpe`` read NFKC and mark the begin of each word, as the XLM-R
    family does.

    Args:
        texts: the texts to learn from, each read once.
        kind: "wordpiece", "unigram" or "bpe".
        vocabulary: largest number of ids, special tokens included; small sets of texts give fewer.
        lowercase: whether texts are read in lower case (and, by ``wordpiece``, without accents).

    Raises:
        SubwordError: the kind is none of these, or the texts give no vocabulary.
    """
    return SubwordTokenizer(compile_pipeline(train_pipeline(texts, kind, vocabulary, lowercase)))
