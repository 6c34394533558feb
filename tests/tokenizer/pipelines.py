"""Pipelines of Hugging Face ``tokenizers``, each beside our encoder of it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import tokenizers
from tokenizers import AddedToken, models, normalizers, pre_tokenizers, trainers

from dpsr.tokenizer_cc.hugging_face import compile_pipeline
from dpsr.tokenizer_cc.subword_training import train_pipeline
from dpsr.tokenizer_cc.subwords import SubwordTokenizer

from .charsmap import nfkc_map
from .texts import HARD, SHOP, as_bytes

BERT_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def expected_ids(pipeline: tokenizers.Tokenizer, text: str | bytes) -> list[int]:
    """The ids of ``tokenizers``, which reads str only."""
    return pipeline.encode(as_bytes(text).decode(errors="replace"), add_special_tokens=False).ids


def corpus() -> list[str]:
    return [as_bytes(text).decode(errors="replace") for text in SHOP + HARD]


class Pipeline:
    """A pipeline, made when it is first asked for."""

    def __init__(self, make: Callable[[], tokenizers.Tokenizer]) -> None:
        self._make = make

    @functools.cache  # noqa: B019
    def get(self) -> tuple[tokenizers.Tokenizer, SubwordTokenizer]:
        pipeline = self._make()
        return pipeline, SubwordTokenizer(compile_pipeline(pipeline))


def word_piece(
    normalizer: normalizers.Normalizer | None,
    pre_tokenizer: pre_tokenizers.PreTokenizer | None,
    added: tuple[AddedToken, ...] = (),
    **model: Any,
) -> tokenizers.Tokenizer:
    pipeline = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]", **model))
    if normalizer is not None:
        pipeline.normalizer = normalizer
    if pre_tokenizer is not None:
        pipeline.pre_tokenizer = pre_tokenizer
    trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=BERT_TOKENS, show_progress=False)
    pipeline.train_from_iterator(corpus(), trainer)
    pipeline.add_tokens(list(added))
    return pipeline


def bert(**options: Any) -> tokenizers.Tokenizer:
    return word_piece(normalizers.BertNormalizer(**options), pre_tokenizers.BertPreTokenizer())


ADDED = (
    AddedToken("steel sink", normalized=True),
    AddedToken("DRILL", normalized=True, single_word=True),
    AddedToken("é", normalized=True),
    AddedToken("Pro", normalized=False, single_word=True, lstrip=True),
    AddedToken("x", normalized=False, single_word=True, rstrip=True),
)


def prefixed_bpe(**model: Any) -> tokenizers.Tokenizer:
    pipeline = tokenizers.Tokenizer(models.BPE(unk_token="[UNK]", continuing_subword_prefix="##", **model))
    pipeline.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=BERT_TOKENS,
        limit_alphabet=120,
        continuing_subword_prefix="##",
        show_progress=False,
    )
    pipeline.train_from_iterator(corpus(), trainer)
    return pipeline


def replaced(pipeline: tokenizers.Tokenizer, **parts: Any) -> tokenizers.Tokenizer:
    """The pipeline with other parts of its JSON."""
    return tokenizers.Tokenizer.from_str(json.dumps(json.loads(pipeline.to_str()) | parts))


SPACES = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}


def xlm_r(*more: dict[str, Any], split: bool = True) -> tokenizers.Tokenizer:
    """A pipeline as the XLM-R family has it: a character map, marked words, Unigram, and a mask that takes spaces."""
    pipeline = train_pipeline(corpus(), "unigram", 300, False)
    marks = pre_tokenizers.Metaspace(prepend_scheme="always", split=split)
    cuts = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), marks])
    pipeline.pre_tokenizer = marks if more else cuts
    pipeline.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    charsmap = {"type": "Precompiled", "precompiled_charsmap": nfkc_map()}
    return replaced(pipeline, normalizer={"type": "Sequence", "normalizers": [charsmap, *more]})


PIPELINES = {
    "BERT uncased": Pipeline(lambda: bert(lowercase=True)),
    "BERT cased": Pipeline(lambda: bert(lowercase=False)),
    "BERT, accents kept": Pipeline(lambda: bert(lowercase=True, strip_accents=False)),
    "BERT, only accents": Pipeline(lambda: bert(lowercase=False, strip_accents=True)),
    "BERT, not clean": Pipeline(lambda: bert(clean_text=False, handle_chinese_chars=False)),
    "BERT with added tokens": Pipeline(
        lambda: word_piece(normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), ADDED)
    ),
    "short words": Pipeline(lambda: word_piece(None, pre_tokenizers.Whitespace(), max_input_chars_per_word=4)),
    "NFKD, words and digits": Pipeline(
        lambda: word_piece(
            normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Strip()]),
            pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=False)]),
        )
    ),
    "NFC, punctuation": Pipeline(
        lambda: word_piece(
            normalizers.Sequence([normalizers.NFC(), normalizers.Replace("e", "12"), normalizers.Prepend("1")]),
            pre_tokenizers.Sequence(
                [
                    pre_tokenizers.WhitespaceSplit(),
                    pre_tokenizers.Punctuation(),
                    pre_tokenizers.Digits(individual_digits=True),
                ]
            ),
        )
    ),
    "our WordPiece": Pipeline(lambda: train_pipeline(corpus(), "wordpiece", 500, True)),
    "our Unigram": Pipeline(lambda: train_pipeline(corpus(), "unigram", 300, True)),
    "our Unigram, cased": Pipeline(lambda: train_pipeline(corpus(), "unigram", 300, False)),
    "our BPE": Pipeline(lambda: train_pipeline(corpus(), "bpe", 400, True)),
    "BPE with a prefix": Pipeline(lambda: prefixed_bpe(fuse_unk=False)),
    "BPE, whole words first": Pipeline(lambda: prefixed_bpe(fuse_unk=True, ignore_merges=True)),
    "XLM-R": Pipeline(xlm_r),
    "XLM-R, runs of spaces": Pipeline(lambda: xlm_r(SPACES)),
    "XLM-R, spaces stripped": Pipeline(
        lambda: xlm_r({"type": "Strip", "strip_left": False, "strip_right": True}, {**SPACES, "content": "▁"})
    ),
    "XLM-R, whole texts": Pipeline(lambda: xlm_r(SPACES, split=False)),
}
