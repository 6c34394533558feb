"""BM25 over an inverted index in tensors: built once, searched exactly by one operation.

``ops_cc/core/bm25/index.h`` has the layout of the index, ``ops_cc/core/bm25/search.h`` the definition of the scores to
the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from dpsr.errors import DpsrError
from dpsr.ops_cc import library

K1, B = 1.2, 0.75
"""The defaults of Lucene."""
_RANGE_DOCUMENTS = 1 << 14
"""``kRangeDocuments`` of ``ops_cc/core/bm25/index.h``."""


class Bm25Error(DpsrError, ValueError):
    """Documents that cannot be indexed; the message says which and why."""


class Bm25Field(NamedTuple):
    """The terms of one field of all documents, in any order and as often as they occur."""

    offsets: npt.NDArray[np.int64]
    """int64 [N + 1]; the terms of document i are ``terms[offsets[i]:offsets[i + 1]]``."""
    terms: npt.NDArray[np.int32]
    """int32 [nnz], in 0..num_terms - 1."""
    weight: float = 1.0
    """What one occurrence adds to the term frequency, and one term to the length of the document."""


class Bm25Index(NamedTuple):
    """An index as the operations read it; NumPy arrays, tensors, or variables of a servable.

    N documents in R ranges of one length each, V terms, L lists (a term's documents of one term frequency), E entries
    (a list's documents in one range) and P units of 16 bits.
    """

    rows: Any
    """int32 [N], documents in the order of the index."""
    places: Any
    """int32 [N], the inverse."""
    priors: Any
    """float32 [N] in that order, or [0]."""
    range_starts: Any
    """int32 [R + 1]."""
    range_values: Any
    """float32 [R, 2], ``k1 * (1 - b + b * length / average_length)`` and the largest prior."""
    idf: Any
    """float32 [V]."""
    term_lists: Any
    """int32 [V + 1], first list of every term."""
    list_weights: Any
    """float32 [L], the term frequency."""
    list_starts: Any
    """int64 [L + 1, 2], first entry and first unit of every list."""
    entries: Any
    """uint16 [E, 2], a range and the number of its documents - 1."""
    postings: Any
    """uint16 [P], offsets of documents within their range, or bitmaps."""
    range_lengths: Any
    """float32 [R], of the documents; not read by a search."""
    average_length: Any
    """float32 [], of the documents; not read by a search."""

    def map(self, function: Callable[[Any], Any]) -> Bm25Index:
        """The same with a function of every array: ``tf.Variable``, to keep them in a SavedModel of any size."""
        return Bm25Index(*(function(array) for array in self))

    def placed(self, rows: npt.NDArray[np.int32], count: int) -> Bm25Index:
        """The same documents with other row numbers; a row that none of them has is a document without a term.

        Rows without a term change neither ``idf`` nor ``average_length``, and are not found.

        Args:
            rows: int32 [N], ascending: the new row of every document.
            count: rows, N or more.

        Returns:
            NumPy arrays.
        """
        free = np.delete(np.arange(count, dtype=np.int32), rows)
        in_order = np.concatenate([rows[self.rows], free])
        places = np.empty_like(in_order)
        places[in_order] = np.arange(count, dtype=np.int32)
        starts = len(rows) + np.arange(0, len(free), _RANGE_DOCUMENTS)
        starts = np.append(starts, count) if len(free) else starts
        return self._replace(
            rows=in_order,
            places=places,
            priors=np.append(self.priors, np.zeros(len(free) if len(self.priors) else 0, np.float32)),
            range_starts=np.append(self.range_starts, starts[1:]).astype(np.int32),
            range_values=np.append(self.range_values, np.zeros((max(len(starts) - 1, 0), 2), np.float32), axis=0),
            range_lengths=np.append(self.range_lengths, np.zeros(max(len(starts) - 1, 0), np.float32)),
        )


@dataclass(frozen=True)
class Bm25Earlier:
    """An index that another one takes postings from."""

    index: Bm25Index
    """NumPy arrays."""
    documents: npt.NDArray[np.int32]
    """int32 [N of ``index``], for each row the document of the other index, ascending; -1 for none."""
    terms: npt.NDArray[np.int32]
    """int32 [V of the other index], the term of ``index``; -1 for none."""


def build_bm25(
    fields: Sequence[Bm25Field],
    num_terms: int,
    *,
    k1: float = K1,
    b: float = B,
    priors: npt.ArrayLike | None = None,
    whole: Bm25Index | None = None,
    earlier: Bm25Earlier | None = None,
) -> Bm25Index:
    """Indexes documents (Robertson and Zaragoza, 2009, section 3.4, with weighted fields as in section 3.6).

    The score of a document d that has a term of the query q is::

        prior(d) + sum_t q_t * idf_t * tf / (tf + k1 * (1 - b + b * length / average length))

    with ``idf_t = log(1 + (N - df + 0.5) / (df + 0.5))``, as in Lucene; ``tf`` and ``length`` are sums over the fields,
    weighted, and a length is rounded to 12 bits: whole numbers up to 4,096 are exact. Terms are shared out among the
    threads of TensorFlow.

    Args:
        fields: the terms of the documents, at least one field.
        num_terms: V.
        k1: how slowly a term's frequency saturates, at least 0.
        b: how much the length matters, 0 to 1.
        priors: float32 [N], at least 0, added to the score of a document that is found.
        whole: the index of a larger catalogue with the same terms, whose ``idf`` and ``average_length`` hold here too,
            so that scores of both can be merged.
        earlier: has the postings of documents that have no term in ``fields``, which priors are not given with. The
            index has the bits that it would have with their terms in the fields.

    Returns:
        NumPy arrays.

    Raises:
        Bm25Error: a term, weight, prior or parameter out of range, or offsets that do not fit.
    """
    if not fields:
        raise Bm25Error("no field was given; expected at least one")
    none = np.zeros(0, np.float32)
    try:
        built = library.load().dpsr_bm25_build(
            offsets=[np.asarray(field.offsets, np.int64) for field in fields],
            terms=[np.asarray(field.terms, np.int32) for field in fields],
            weights=np.asarray([field.weight for field in fields], np.float32),
            priors=none if priors is None else np.asarray(priors, np.float32),
            idf=none if whole is None else np.asarray(whole.idf, np.float32),
            earlier=[] if earlier is None else [*earlier.index[:-1], earlier.documents, earlier.terms],
            num_terms=num_terms,
            k1=k1,
            b=b,
            average_length=0.0 if whole is None else float(whole.average_length),
        )
    except tf.errors.InvalidArgumentError as error:
        raise Bm25Error(error.message) from error
    return Bm25Index(*(array.numpy() for array in built))


def document_counts(index: Bm25Index, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """How many of some documents have each term.

    Args:
        index: of ``build_bm25``.
        kept: bool [N], by row: the documents that count.

    Returns:
        int32 [V].

    Raises:
        tf.errors.InvalidArgumentError: the index is damaged.
    """
    counts: npt.NDArray[np.int32] = library.load().dpsr_bm25_count(*_searched(index), kept=kept).numpy()
    return counts


def search_bm25(
    index: Bm25Index,
    terms: tf.RaggedTensor,
    k: int | tf.Tensor,
    *,
    weights: tf.Tensor | None = None,
    allowed: tf.Tensor | None = None,
    removed: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The k best documents of each query, exactly: what scoring and sorting all documents gives.

    Ranges and lists whose bounds show that they cannot change the answer are not read (MaxScore: Turtle and Flood,
    1995; bounds of blocks: Ding and Suel, 2011). Scores are rounded such that the order of the terms changes no bit.
    Queries are shared out among the threads of TensorFlow.

    Args:
        index: of ``build_bm25``.
        terms: int32 [B, None], in any order; negative ones are unknown, those of equal terms add up.
        k: documents wanted, at least 1.
        weights: float32 [nnz] of ``terms.values``, at least 0; None for ones.
        allowed: uint8 [B, ceil(N / 8)], or [1, ceil(N / 8)] for all queries: bitmaps of the rows that may be found, as
            ``np.packbits(mask, axis=1, bitorder="little")`` makes them; None for all. Where few rows are allowed,
            ``score_bm25`` of these is faster.
        removed: uint8 [ceil(N / 8)], a bitmap of rows that are not found; None for none.

    Returns:
        rows int32 [B, k] and scores float32 [B, k], by descending score and ascending row. Where fewer documents have
        a term of the query, the rest is -1 and 0.

    Raises:
        tf.errors.InvalidArgumentError: a term that is none of the index, a weight below 0, a bitmap of another size, or
            an index that is damaged.
    """
    found = library.load().dpsr_bm25_search(
        *_searched(index),
        **_query(terms, weights),
        k=k,
        allowed=tf.zeros([0, 0], tf.uint8) if allowed is None else allowed,
        removed=tf.zeros([0], tf.uint8) if removed is None else removed,
    )
    return found.found_rows, found.scores


def score_bm25(
    index: Bm25Index, terms: tf.RaggedTensor, rows: tf.Tensor, *, weights: tf.Tensor | None = None
) -> tf.Tensor:
    """The scores of given documents, with the bits that ``search_bm25`` gives them.

    Args:
        index: of ``build_bm25``.
        terms: int32 [B, None], as for ``search_bm25``.
        rows: int32 [B, n], in any order; -1 for none.
        weights: float32 [nnz] of ``terms.values``; None for ones.

    Returns:
        float32 [B, n]; 0 for a document without a term of the query and for rows of -1.

    Raises:
        tf.errors.InvalidArgumentError: a row that the index does not have, or as ``search_bm25``.
    """
    return library.load().dpsr_bm25_score(*_searched(index), **_query(terms, weights), candidates=rows)


def _searched(index: Bm25Index) -> tuple[Any, ...]:
    """The arrays that operations read."""
    return index[:-2]


def _query(terms: tf.RaggedTensor, weights: tf.Tensor | None) -> dict[str, tf.Tensor]:
    values = terms.values
    return {
        "terms": values,
        "row_splits": tf.cast(terms.row_splits, tf.int64),
        "weights": tf.ones_like(values, tf.float32) if weights is None else weights,
    }
