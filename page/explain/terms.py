"""The lexical score of an item by the terms of a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from dpsr.ops_cc.bm25 import score_bm25
from dpsr.page.contract import TokenPart
from dpsr.page.explain.published import Words
from dpsr.tokenizer_cc.terms import TermToken, analyze

_LEAST_REST = 1e-5
"""Share of a score below which what no term has is the rounding of the sum."""


def lexical_parts(words: Words, query: str, row: int) -> tuple[float, tuple[TokenPart, ...]]:
    """BM25 of an item, and its part by every term of the query (``ops_cc.bm25.build_bm25`` has the formula).

    Args:
        words: of the version that is served.
        query: its text.
        row: of the item.

    Returns:
        The score, 0 for an item without a term of the query; and the parts, which sum up to it. A term that stands for
        a misspelt word is ``typed -> term``; the part ``rest`` is the popularity of the item.
    """
    typed, found = analyze(query), _distinct(words.tokenizer.tokens(query))
    names = _corrections(words, typed, found)
    score, of_terms = 0.0, np.zeros(0, np.float32)
    if found:
        ids = tf.constant([term.id for term in found], tf.int32)
        weights = tf.constant([term.weight for term in found], tf.float32)
        rows = tf.fill([len(found), 1], np.int32(row))
        one_each = tf.RaggedTensor.from_uniform_row_length(ids, 1)
        all_in_one = tf.RaggedTensor.from_row_lengths(ids, [len(found)])
        of_terms = score_bm25(words.postings, one_each, rows, weights=weights).numpy()[:, 0]
        score = float(score_bm25(words.postings, all_in_one, rows[:1], weights=weights).numpy()[0, 0])
    matched = of_terms > 0.0
    prior = 0.0
    if len(words.postings.priors):
        prior = float(words.postings.priors[int(words.postings.places[row])])
    values = np.where(matched, of_terms - prior, 0.0)
    parts = [
        TokenPart(token=names.get(term.text, term.text), kind="term", matched=bool(has), value=float(value))
        for term, has, value in zip(found, matched, values, strict=True)
    ]
    explained = {name.split(" -> ")[0] for name in names.values()} | {term.text for term in found}
    unknown = [word for word in dict.fromkeys(typed) if not _is_explained(word, explained)]
    parts += [TokenPart(token=word, kind="term", matched=False, value=0.0) for word in unknown]
    rest = score - float(values.sum())
    if abs(rest) > _LEAST_REST * max(score, 1.0):
        parts.append(TokenPart(token="popularity", kind="rest", matched=True, value=rest))
    return score, tuple(parts)


def _distinct(terms: Sequence[TermToken]) -> list[TermToken]:
    """Each term once, with the sum of its weights, as equal terms of a query add up."""
    found: dict[int, TermToken] = {}
    for term in terms:
        before = found.get(term.id)
        found[term.id] = term if before is None else before._replace(weight=before.weight + term.weight)
    return list(found.values())


def _corrections(words: Words, typed: Sequence[str], found: Sequence[TermToken]) -> Mapping[str, str]:
    """Term -> ``typed -> term``, of the terms that the query does not have as they are."""
    known = {term.text for term in found}
    unknown = [word for word in dict.fromkeys(typed) if word not in known]
    missing = [term.text for term in found if term.text not in typed and not _is_bigram(term.text, known)]
    if not missing:
        return {}
    names: dict[str, str] = {}
    values, _, row_splits = words.tokenizer.encode_queries(unknown)
    for number, word in enumerate(unknown):
        for term in values[row_splits[number] : row_splits[number + 1]].tolist():
            names.setdefault(words.tokenizer.text(term), f"{word} -> {words.tokenizer.text(term)}")
    # Two words that the catalogue writes as one, or a word that a digit parts.
    for count in (2, 3):
        for start in range(len(typed) - count + 1):
            parts = typed[start : start + count]
            for term in missing:
                if term not in names and term.startswith(parts[0]) and parts[-1] in term[len(parts[0]) :]:
                    names[term] = f"{' '.join(parts)} -> {term}"
    return {term: names.get(term, f"{' '.join(unknown)} -> {term}") for term in missing}


def _is_bigram(term: str, known: set[str]) -> bool:
    first, _, second = term.partition(" ")
    return bool(second) and first in known and second in known


def _is_explained(word: str, explained: set[str]) -> bool:
    return word in explained or any(word in name.split(" ") for name in explained)
