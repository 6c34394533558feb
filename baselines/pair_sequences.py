"""Query and item as one sequence of subwords: ``[CLS] query [SEP] item [SEP]`` (Devlin et al., NAACL 2019, section 3).

Differs for RoBERTa's family, which was trained with two marks between the texts: one is put there for every family.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dpsr.data.dataset.schema import SubwordsSchema
from dpsr.data.dataset.tables import Bags

MARKS = 3
"""Special tokens of a pair."""


class PairSequences(NamedTuple):
    """Sequences of n pairs, one behind another without padding."""

    tokens: np.ndarray
    """Ids of subwords, int32 [T]."""
    segments: np.ndarray
    """0 up to the first ``[SEP]``, 1 from the item on, int32 [T]."""
    row_splits: np.ndarray
    """int64 [n + 1]."""


def pair_lengths(queries: np.ndarray, items: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """How many subwords are kept of both texts of pairs: the longer text loses its end, until the pair fits.

    Args:
        queries: subwords of each query, integers [n].
        items: subwords of each item, integers [n].
        length: most subwords of a pair with its special tokens, at least 5.

    Returns:
        Subwords kept of each query and of each item, integers [n] each; none of a text that has some is cut to nothing.
    """
    room = length - MARKS
    kept = np.minimum(queries, np.maximum(room - items, room - room // 2))
    return kept, np.minimum(items, room - kept)


def pair_sequences(queries: Bags, items: Bags, special: SubwordsSchema, length: int) -> PairSequences:
    """Joins texts to sequences.

    Args:
        queries: subwords of the query of each of n pairs, without special tokens.
        items: those of its item.
        special: ids of the special tokens.
        length: most subwords of a pair, as ``pair_lengths``.
    """
    of_query, of_item = pair_lengths(np.diff(queries.row_splits), np.diff(items.row_splits), length)
    sizes = of_query + of_item + MARKS
    splits = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=splits[1:])
    tokens, segments = np.full(splits[-1], special.sep, np.int32), np.zeros(splits[-1], np.int32)
    tokens[splits[:-1]] = special.cls
    query_starts = splits[:-1] + 1
    item_starts = query_starts + of_query + 1
    tokens[_places(query_starts, of_query)] = queries.values[_places(queries.row_splits[:-1], of_query)]
    tokens[_places(item_starts, of_item)] = items.values[_places(items.row_splits[:-1], of_item)]
    segments[_places(item_starts, of_item + 1)] = 1
    return PairSequences(tokens, segments, splits)


def _places(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """All places start, start + 1, ..., start + length - 1 of some ranges, int64."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - ends + lengths, lengths) + np.arange(lengths.sum())
