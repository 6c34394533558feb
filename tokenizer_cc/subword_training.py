"""Trains the vocabularies of subwords, by Hugging Face ``tokenizers``.

The same texts give the same vocabulary, which ``tokenizers`` alone does not: it breaks ties by the order of a hash
table that is another one in each run. So the alphabet is chosen here, letters inside words get their ids beforehand,
and the scores of Unigram, whose last digits depend on the order of a sum, are rounded.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from dpsr.tokenizer_cc.hugging_face import SubwordError

_BERT_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_SENTENCEPIECE_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_ALPHABET_SHARE = 0.5
"""Share of the vocabulary that single characters may take: the rarest of a large script become unknown."""
_SCORE_DIGITS = 6
_WORDS_AT_ONCE = 1000


class _Words:
    """Distinct words of texts as a pipeline reads them, and how often each occurs."""

    def __init__(self, pipeline: tokenizers.Tokenizer, texts: Iterable[str]) -> None:
        self._counts: Counter[str] = Counter()
        for text in texts:
            self._counts.update(pipeline.normalizer.normalize_str(text).split())
        split = pipeline.pre_tokenizer.pre_tokenize_str
        self._pieces = {word: [piece for piece, _ in split(word)] for word in self._counts}

    def alphabet(self, most: int) -> list[str]:
        """The most frequent characters, ties by code point."""
        counts: Counter[str] = Counter()
        for word, pieces in self._pieces.items():
            for character in "".join(pieces):
                counts[character] += self._counts[word]
        return sorted(counts, key=lambda character: (-counts[character], character))[:most]

    def inner(self, alphabet: Iterable[str]) -> list[str]:
        """The characters of an alphabet that occur inside words, in its order."""
        found = {character for pieces in self._pieces.values() for piece in pieces for character in piece[1:]}
        return [character for character in alphabet if character in found]

    def texts(self) -> Iterator[str]:
        """Texts with these words, each as often as it occurs."""
        for word, count in self._counts.items():
            for start in range(0, count, _WORDS_AT_ONCE):
                yield " ".join([word] * min(_WORDS_AT_ONCE, count - start))


def _trained(pipeline: tokenizers.Tokenizer, trainer: Any, words: _Words) -> dict[str, Any]:
    """Trains a pipeline; its model as JSON."""
    pipeline.train_from_iterator(words.texts(), trainer)
    model: dict[str, Any] = json.loads(pipeline.to_str())["model"]
    return model


def _word_piece(texts: Iterable[str], vocabulary: int, lowercase: bool) -> tokenizers.Tokenizer:
    def untrained(model: models.WordPiece) -> tokenizers.Tokenizer:
        pipeline = tokenizers.Tokenizer(model)
        pipeline.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        pipeline.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return pipeline

    pipeline = untrained(models.WordPiece(unk_token="[UNK]"))
    words = _Words(pipeline, texts)
    alphabet = words.alphabet(int(vocabulary * _ALPHABET_SHARE))
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        special_tokens=[*_BERT_TOKENS, *(f"##{character}" for character in words.inner(alphabet))],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    found = _trained(pipeline, trainer, words)["vocab"]
    # Of the trained pipeline, letters inside words would be special tokens.
    pipeline = untrained(models.WordPiece(found, unk_token="[UNK]"))
    pipeline.add_special_tokens(_BERT_TOKENS)
    return pipeline


def _marked_words(model: Any, lowercase: bool) -> tokenizers.Tokenizer:
    """NFKC, and a mark before each word: how the XLM-R family reads texts."""
    pipeline = tokenizers.Tokenizer(model)
    steps = [normalizers.NFKC(), *([normalizers.Lowercase()] if lowercase else [])]
    pipeline.normalizer = normalizers.Sequence(steps)
    pipeline.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    return pipeline


def _unigram(texts: Iterable[str], vocabulary: int, lowercase: bool) -> tokenizers.Tokenizer:
    pipeline = _marked_words(models.Unigram(), lowercase)
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary, special_tokens=_SENTENCEPIECE_TOKENS, unk_token="<unk>", show_progress=False
    )
    found = _trained(pipeline, trainer, _Words(pipeline, texts))
    special, pieces = found["vocab"][: len(_SENTENCEPIECE_TOKENS)], found["vocab"][len(_SENTENCEPIECE_TOKENS) :]
    rounded = sorted(
        ((piece, round(score, _SCORE_DIGITS)) for piece, score in pieces), key=lambda pair: (-pair[1], pair[0])
    )
    pipeline.model = models.Unigram([*map(tuple, special), *rounded], found["unk_id"])
    return pipeline


def _bpe(texts: Iterable[str], vocabulary: int, lowercase: bool) -> tokenizers.Tokenizer:
    pipeline = _marked_words(models.BPE(unk_token="<unk>", fuse_unk=True), lowercase)
    words = _Words(pipeline, texts)
    alphabet = words.alphabet(int(vocabulary * _ALPHABET_SHARE))
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=_SENTENCEPIECE_TOKENS,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    _trained(pipeline, trainer, words)
    return pipeline


_KINDS: dict[str, Callable[[Iterable[str], int, bool], tokenizers.Tokenizer]] = {
    "wordpiece": _word_piece,
    "unigram": _unigram,
    "bpe": _bpe,
}


def train_pipeline(texts: Iterable[str], kind: str, vocabulary: int, lowercase: bool) -> tokenizers.Tokenizer:
    """The pipeline of ``tokenizers`` that ``subwords.train_subwords`` reproduces.

    Raises:
        SubwordError: there is no such kind, or the texts give no vocabulary.
    """
    if kind not in _KINDS:
        raise SubwordError(f"kind = {kind!r}, expected one of {', '.join(_KINDS)}")
    try:
        return _KINDS[kind](texts, vocabulary, lowercase)
    except Exception as error:  # tokenizers raises nothing narrower
        raise SubwordError(f"no vocabulary of {vocabulary} subwords can be learnt from the texts: {error}") from error
