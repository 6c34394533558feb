"""Masks over some tokens of a sequence, inside a graph: single tokens, whole words or spans.

Devlin et al., BERT, NAACL 2019, section 3.1; spans as Joshi et al., SpanBERT, TACL 2020, section 3.1, and Muhamed et
al., Web-scale Semantic Product Search with Large Language Models, PAKDD 2023.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dpsr.data.dataset.schema import SubwordsSchema

MOST_SPAN = 10
"""Longest span."""
SPAN_P = 0.2
"""p of the geometric distribution of the spans' lengths, cut at ``MOST_SPAN``."""
_MASKED, _RANDOM = 0.8, 0.1


class MaskedBatch(NamedTuple):
    """One step of a masked language model."""

    tokens: tf.RaggedTensor
    """int32 [B, None] sequences with the masks put in."""
    places: tf.Tensor
    """int32 [M], ascending positions in ``tokens.values`` whose subword is to be found."""
    labels: tf.Tensor
    """int32 [M], the subwords that stood there."""


class Choice(NamedTuple):
    """Chosen tokens, and which were chosen together."""

    places: tf.Tensor
    """int32 [M] positions in the sequences' values, ascending."""
    draws: tf.Tensor
    """float32 [M] in [0, 1): decides between [MASK], a random subword and the same one; equal within a span."""


def random_tokens(
    candidates: tf.RaggedTensor, share: float, seed: tf.Tensor, *, word_starts: tf.Tensor | None = None
) -> Choice:
    """Chooses a share of the candidates of each row, at least one, uniformly.

    Args:
        candidates: int32 [B, None] ascending positions.
        share: of the candidates of a row.
        seed: int64 [2].
        word_starts: bool [candidates], the tokens that begin a word; words are then chosen whole, until the share is
            reached. The first candidate of a row begins one.
    """
    row, size = candidates.value_rowids(), tf.size(candidates.values)
    order, draws = tf.unstack(tf.random.stateless_uniform([2, size], seed))
    if word_starts is None:
        rank = _rank(row, order, candidates)
    else:
        # A word has the order of its first token, and is chosen where that token is.
        word = tf.cumsum(tf.cast(word_starts, tf.int32)) - 1
        first = tf.gather(tf.boolean_mask(tf.range(size), word_starts), word)
        rank = tf.gather(_rank(row, tf.gather(order, first), candidates), first)
    chosen = rank < tf.gather(_targets(candidates, share), row)
    return Choice(tf.boolean_mask(candidates.values, chosen), tf.boolean_mask(draws, chosen))


def random_spans(candidates: tf.RaggedTensor, share: float, seed: tf.Tensor, longest: int) -> Choice:
    """Chooses spans of each row until a share of its candidates is reached, at least one; the last span is cut there.

    Lengths are geometric (``SPAN_P``), at most ``MOST_SPAN``; starts are uniform.

    Args:
        candidates: int32 [B, None] ascending positions.
        share: of the candidates of a row.
        seed: int64 [2].
        longest: most candidates of a row.
    """
    rows, sizes = candidates.nrows(tf.int32), tf.cast(candidates.row_lengths(), tf.int32)
    spans = 2 + math.ceil(share * longest)
    draws = tf.random.stateless_uniform([rows, spans, 3], seed)
    # The inverse of the distribution function; a span of all candidates ends every list of spans.
    reached = 1 - (1 - SPAN_P) ** MOST_SPAN
    lengths = 1 + tf.cast(tf.math.log1p(-draws[:, :, 0] * reached) / math.log(1 - SPAN_P), tf.int32)
    starts = tf.cast(draws[:, :, 1] * tf.cast(sizes, tf.float32)[:, tf.newaxis], tf.int32)
    row = candidates.value_rowids()
    position = tf.range(tf.size(row)) - tf.cast(tf.gather(candidates.row_splits, row), tf.int32)
    from_start = position[:, tf.newaxis] - tf.gather(starts, row)
    covered = (from_start >= 0) & (from_start < tf.gather(lengths, row))
    covered = tf.concat([covered, tf.ones([tf.size(row), 1], tf.bool)], axis=1)
    span = tf.argmax(tf.cast(covered, tf.int32), axis=1, output_type=tf.int32)
    chosen = _rank(row, tf.cast(span, tf.float32) / (spans + 1), candidates) < tf.gather(
        _targets(candidates, share), row
    )
    of_span = tf.pad(draws[:, :, 2], [[0, 0], [0, 1]])
    of_token = tf.gather_nd(of_span, tf.stack([tf.cast(row, tf.int32), span], axis=1))
    return Choice(tf.boolean_mask(candidates.values, chosen), tf.boolean_mask(of_token, chosen))


def masked(tokens: tf.RaggedTensor, choice: Choice, special: SubwordsSchema, seed: tf.Tensor) -> MaskedBatch:
    """Puts [MASK] at 80 % of the chosen places, a random subword at 10 %, and leaves the others.

    Args:
        tokens: int32 [B, None] sequences.
        choice: M places of ``tokens.values``.
        special: the vocabulary.
        seed: int64 [2] of the random subwords.
    """
    labels = tf.gather(tokens.values, choice.places)
    random = tf.random.stateless_uniform(tf.shape(labels), seed, maxval=special.num_ids, dtype=tf.int32)
    marks = tf.constant([special.pad, special.unk, special.cls, special.sep, special.mask])
    random = tf.where(tf.reduce_any(random[:, tf.newaxis] == marks, axis=1), special.mask, random)
    put = tf.where(choice.draws < _MASKED, special.mask, tf.where(choice.draws < _MASKED + _RANDOM, random, labels))
    values = tf.tensor_scatter_nd_update(tokens.values, choice.places[:, tf.newaxis], put)
    return MaskedBatch(tokens.with_values(values), choice.places, labels)


def starts_of_words(subwords: tf.Tensor, row: tf.Tensor, continues_word: tf.Tensor) -> tf.Tensor:
    """The subwords that begin a word, bool [n].

    Args:
        subwords: int32 [n].
        row: integers [n] ascending; the first subword of a row begins a word.
        continues_word: uint8 [ids], 1 for the subwords that go on with the word before them.
    """
    new_row = tf.concat([tf.ones([tf.minimum(tf.size(row), 1)], tf.bool), row[1:] != row[:-1]], axis=0)
    return new_row | (tf.gather(continues_word, subwords) == 0)


def _targets(candidates: tf.RaggedTensor, share: float) -> tf.Tensor:
    """How many candidates of each row are to be chosen, int32 [B]."""
    sizes = candidates.row_lengths()
    wanted = tf.cast(tf.round(tf.cast(sizes, tf.float32) * share), tf.int32)
    return tf.where(sizes > 0, tf.maximum(wanted, 1), 0)


def _rank(row: tf.Tensor, order: tf.Tensor, candidates: tf.RaggedTensor) -> tf.Tensor:
    """The place of each candidate in its row by ``order`` (float32 in [0, 1), ties by position), int32."""
    by_row = tf.argsort(tf.cast(row, tf.float64) + tf.cast(order, tf.float64), stable=True)
    rank = tf.math.invert_permutation(by_row)
    return rank - tf.cast(tf.gather(candidates.row_splits, row), tf.int32)


def as_continues(continues_word: np.ndarray) -> np.ndarray:
    """``SubwordTokenizer.continues_word`` as graphs read it, uint8 [ids]."""
    return np.asarray(continues_word).astype(np.uint8)
