"""Hugging Face ``tokenizer.json`` -> the C++ subword tokenizer; what gives other ids is refused by its name."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers

from dpsr.errors import DpsrError
from dpsr.tokenizer_cc import _tokenizer

# As core/subwords/model_file.h numbers them.
KINDS = ("wordpiece", "unigram", "bpe")
ROLES = ("pad", "unk", "cls", "sep", "mask")
_ROLE_TOKENS = {
    "pad": ("[PAD]", "<pad>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}
_BERT, _FORM, _LOWERCASE, _STRIP_ACCENTS, _STRIP, _REPLACE, _REPLACE_SPACES, _PREPEND, _PRECOMPILED = range(9)
_BERT_WORDS, _WHITESPACE, _WHITESPACE_SPLIT, _PUNCTUATION, _DIGITS, _METASPACE = range(16, 22)

_SPACE_MARK = "▁"
_UNKNOWN_PENALTY = 10.0
"""By how much an unknown character is less likely than the rarest piece; a constant of ``tokenizers``."""

Node = dict[str, Any]


class SubwordError(DpsrError, ValueError):
    """Subwords that cannot be made: a pipeline that cannot be reproduced, or a file that cannot be used."""


class _Step(NamedTuple):
    kind: int
    flags: int = 0
    first: bytes = b""
    second: bytes = b""


def _flags(*wanted: bool) -> int:
    """Bit i for the i-th of these."""
    return sum(bool(flag) << bit for bit, flag in enumerate(wanted))


def _bert(node: Node) -> _Step:
    strip = node["lowercase"] if node["strip_accents"] is None else node["strip_accents"]
    return _Step(_BERT, _flags(node["clean_text"], node["handle_chinese_chars"], strip, node["lowercase"]))


def _replace(node: Node) -> _Step:
    pattern, content = node["pattern"], node["content"].encode()
    if pattern.get("Regex") == " {2,}":
        return _Step(_REPLACE_SPACES, second=content)
    if not pattern.get("String"):
        raise SubwordError(f"normalizer Replace with the pattern {json.dumps(pattern)} cannot be reproduced")
    return _Step(_REPLACE, first=pattern["String"].encode(), second=content)


def _metaspace(node: Node) -> _Step:
    if node["prepend_scheme"] == "first":
        raise SubwordError("pre_tokenizer Metaspace with prepend_scheme 'first' cannot be reproduced")
    flags = _flags(node["prepend_scheme"] == "always", node["split"])
    return _Step(_METASPACE, flags, first=node["replacement"].encode())


def _punctuation(node: Node) -> _Step:
    if node["behavior"] != "Isolated":
        raise SubwordError(f"pre_tokenizer Punctuation with behavior '{node['behavior']}' cannot be reproduced")
    return _Step(_PUNCTUATION)


_NORMALIZERS: dict[str, Callable[[Node], _Step]] = {
    "BertNormalizer": _bert,
    "NFC": lambda node: _Step(_FORM, _flags(False, True)),
    "NFD": lambda node: _Step(_FORM, _flags(False, False)),
    "NFKC": lambda node: _Step(_FORM, _flags(True, True)),
    "NFKD": lambda node: _Step(_FORM, _flags(True, False)),
    "Lowercase": lambda node: _Step(_LOWERCASE),
    "StripAccents": lambda node: _Step(_STRIP_ACCENTS),
    "Strip": lambda node: _Step(_STRIP, _flags(node["strip_left"], node["strip_right"])),
    "Replace": _replace,
    "Precompiled": lambda node: _Step(_PRECOMPILED, first=base64.b64decode(node["precompiled_charsmap"])),
    "Prepend": lambda node: _Step(_PREPEND, first=node["prepend"].encode()),
}
_PRE_TOKENIZERS: dict[str, Callable[[Node], _Step]] = {
    "BertPreTokenizer": lambda node: _Step(_BERT_WORDS),
    "Whitespace": lambda node: _Step(_WHITESPACE),
    "WhitespaceSplit": lambda node: _Step(_WHITESPACE_SPLIT),
    "Punctuation": _punctuation,
    "Digits": lambda node: _Step(_DIGITS, _flags(node["individual_digits"])),
    "Metaspace": _metaspace,
}


def _steps(node: Node | None, part: str, known: dict[str, Callable[[Node], _Step]]) -> list[_Step]:
    """The steps of a normalizer or a pre-tokenizer."""
    if node is None:
        return []
    if node["type"] == "Sequence":
        return [step for inner in node[f"{part.replace('_', '')}s"] for step in _steps(inner, part, known)]
    if node["type"] not in known:
        raise SubwordError(f"{part} {node['type']} cannot be reproduced; known are Sequence, {', '.join(known)}")
    return [known[node["type"]](node)]


class _Model(NamedTuple):
    """What the encoder of a kind wants to know."""

    kind: str
    ids: dict[str, int]
    unknown: int
    scores: list[float]
    merges: list[tuple[int, int, int]]
    prefix: str = ""
    max_word_characters: int = 0
    fuse_unknown: bool = False
    ignore_merges: bool = False


def _unknown_id(node: Node) -> int:
    if node.get("unk_token") not in node["vocab"]:
        raise SubwordError(f"model {node['type']} without a token for the unknown cannot be reproduced")
    return node["vocab"][node["unk_token"]]


def _word_piece(node: Node) -> _Model:
    prefix, most = node["continuing_subword_prefix"], node["max_input_chars_per_word"]
    return _Model("wordpiece", node["vocab"], _unknown_id(node), [], [], prefix, most)


def _unigram(node: Node) -> _Model:
    if node.get("byte_fallback"):
        raise SubwordError("model Unigram with byte_fallback cannot be reproduced")
    if node["unk_id"] is None:
        raise SubwordError("model Unigram without a token for the unknown cannot be reproduced")
    ids = {piece: number for number, (piece, _) in enumerate(node["vocab"])}
    return _Model("unigram", ids, node["unk_id"], [score for _, score in node["vocab"]], [])


def _bpe(node: Node) -> _Model:
    for option in ("byte_fallback", "dropout", "end_of_word_suffix"):
        if node.get(option):
            raise SubwordError(f"model BPE with {option} cannot be reproduced")
    ids, prefix = node["vocab"], node["continuing_subword_prefix"] or ""
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in node["merges"]]
    merges = [(ids[left], ids[right], ids[left + right[len(prefix) :]]) for left, right in pairs]
    return _Model(
        "bpe", ids, _unknown_id(node), [], merges, prefix, 0, node["fuse_unk"], node.get("ignore_merges", False)
    )


_MODELS: dict[str, Callable[[Node], _Model]] = {"WordPiece": _word_piece, "Unigram": _unigram, "BPE": _bpe}


def _role_ids(ids: dict[str, int], added: set[str], unknown: int) -> list[int]:
    """The id of each of ROLES; an added token comes before a piece that is spelt like one."""
    found = {"unk": unknown}
    for role, tokens in _ROLE_TOKENS.items():
        token = next((token for known in (added, ids) for token in tokens if token in known), None)
        if token is None:
            raise SubwordError(f"the vocabulary has no {' or '.join(tokens)}, which models of text need ('{role}')")
        found[role] = ids[token]
    return [found[role] for role in ROLES]


def _added_tokens(nodes: Sequence[Node], pipeline: tokenizers.Tokenizer) -> list[tuple[int, int, bytes]]:
    added = []
    for node in nodes:
        text = node["content"]
        if node["normalized"] and pipeline.normalizer is not None:
            text = pipeline.normalizer.normalize_str(text)
        if not text or "\ufffd" in text:
            raise SubwordError(
                f"added token {node['content']!r} cannot be reproduced: nothing is left of it, or U+FFFD"
            )
        flags = _flags(node["single_word"], node["lstrip"], node["rstrip"], node["normalized"])
        added.append((node["id"], flags, text.encode()))
    return added


def _continues(names: list[str], model: _Model, added: set[int]) -> list[bool]:
    """Whether an id goes on with the word before it."""
    if model.prefix:
        return [name.startswith(model.prefix) for name in names]
    return [number not in added and not name.startswith(_SPACE_MARK) for number, name in enumerate(names)]


def compile_pipeline(pipeline: tokenizers.Tokenizer) -> _tokenizer.SubwordTokenizer:
    """The C++ tokenizer that gives the ids of a pipeline, special tokens, truncation and padding apart.

    Raises:
        SubwordError: a part of the pipeline cannot be reproduced; the message names it.
    """
    node = json.loads(pipeline.to_str())
    if node["model"]["type"] not in _MODELS:
        raise SubwordError(f"model {node['model']['type']} cannot be reproduced; known are {', '.join(_MODELS)}")
    cuts = _steps(node["pre_tokenizer"], "pre_tokenizer", _PRE_TOKENIZERS)
    if sum(step.kind == _METASPACE for step in cuts) > 1:
        raise SubwordError("pre_tokenizer Metaspace twice cannot be reproduced")
    steps = [*_steps(node["normalizer"], "normalizer", _NORMALIZERS), *cuts]
    model = _MODELS[node["model"]["type"]](node["model"])
    ids = model.ids | {added["content"]: added["id"] for added in node["added_tokens"]}
    names = [""] * (1 + max(ids.values()))
    for name, number in ids.items():
        names[number] = name
    scores = model.scores and model.scores + [0.0] * (len(names) - len(model.scores))
    return _tokenizer.SubwordTokenizer.build(
        kind=KINDS.index(model.kind),
        names=names,
        pieces=list(model.ids.items()),
        continues=_continues(names, model, {added["id"] for added in node["added_tokens"]}),
        scores=scores,
        merges=model.merges,
        added=_added_tokens(node["added_tokens"], pipeline),
        steps=steps,
        roles=_role_ids(ids, {added["content"] for added in node["added_tokens"]}, model.unknown),
        prefix=model.prefix,
        max_word_characters=model.max_word_characters,
        fuse_unknown=model.fuse_unknown,
        ignore_merges=model.ignore_merges,
        unknown_score=min(model.scores, default=0.0) - _UNKNOWN_PENALTY,
    )


def read_tokenizer_json(path: str | os.PathLike[str]) -> _tokenizer.SubwordTokenizer:
    """The C++ tokenizer of a ``tokenizer.json``, or of a folder that has one.

    Raises:
        FileNotFoundError: there is no such file.
        SubwordError: it is no tokenizer, or one that cannot be reproduced; the message names what.
    """
    file = Path(path) / "tokenizer.json" if Path(path).is_dir() else Path(path)
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such tokenizer; give a Hugging Face tokenizer.json, or a folder with one")
    try:
        pipeline = tokenizers.Tokenizer.from_file(os.fspath(file))
    except Exception as error:  # tokenizers raises nothing narrower
        raise SubwordError(f"{file}: not a tokenizer of Hugging Face: {error}") from None
    try:
        return compile_pipeline(pipeline)
    except SubwordError as error:
        raise SubwordError(f"{file}: {error}") from None
