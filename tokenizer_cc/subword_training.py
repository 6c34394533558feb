"""Trains the vocabularies of subwords, by Hugging Face ``tokenizers``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import tokenizers

from dpsr.tokenizer_cc.hugging_face import SubwordError

_BERT_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_SENTENCEPIECE_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_ALPHABET_SHARE = 0.5
"""Share of the vocabulary that single characters may take: the rarest of a large script become unknown."""


def _word_piece_pipeline(vocabulary: int, lowercase: bool) -> tuple[tokenizers.Tokenizer, Any]:
    pipeline = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    pipeline.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    pipeline.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        special_tokens=_BERT_TOKENS,
        limit_alphabet=int(vocabulary * _ALPHABET_SHARE),
        show_progress=False,
    )
    return pipeline, trainer


def _marked_words(pipeline: tokenizers.Tokenizer, lowercase: bool) -> None:
    """NFKC, and a mark before each word: how the XLM-R family reads texts."""
    steps = [tokenizers.normalizers.NFKC(), *([tokenizers.normalizers.Lowercase()] if lowercase else [])]
    pipeline.normalizer = tokenizers.normalizers.Sequence(steps)
    pipeline.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.WhitespaceSplit(), tokenizers.pre_tokenizers.Metaspace()]
    )


def _unigram_pipeline(vocabulary: int, lowercase: bool) -> tuple[tokenizers.Tokenizer, Any]:
    pipeline = tokenizers.Tokenizer(tokenizers.models.Unigram())
    _marked_words(pipeline, lowercase)
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=vocabulary, special_tokens=_SENTENCEPIECE_TOKENS, unk_token="<unk>", show_progress=False
    )
    return pipeline, trainer


def _bpe_pipeline(vocabulary: int, lowercase: bool) -> tuple[tokenizers.Tokenizer, Any]:
    pipeline = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", fuse_unk=True))
    _marked_words(pipeline, lowercase)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=_SENTENCEPIECE_TOKENS,
        limit_alphabet=int(vocabulary * _ALPHABET_SHARE),
        show_progress=False,
    )
    return pipeline, trainer


_PIPELINES: dict[str, Callable[[int, bool], tuple[tokenizers.Tokenizer, Any]]] = {
    "wordpiece": _word_piece_pipeline,
    "unigram": _unigram_pipeline,
    "bpe": _bpe_pipeline,
}


def train_pipeline(texts: Iterable[str], kind: str, vocabulary: int, lowercase: bool) -> tokenizers.Tokenizer:
    """The pipeline of ``tokenizers`` that ``subwords.train_subwords`` reproduces.

    Raises:
        SubwordError: there is no such kind, or the texts give no vocabulary.
    """
    if kind not in _PIPELINES:
        raise SubwordError(f"kind = {kind!r}, expected one of {', '.join(_PIPELINES)}")
    pipeline, trainer = _PIPELINES[kind](vocabulary, lowercase)
    try:
        pipeline.train_from_iterator(texts, trainer)
    except Exception as error:  # tokenizers raises nothing narrower
        raise SubwordError(f"no vocabulary of {vocabulary} subwords can be learnt from the texts: {error}") from error
    return pipeline
