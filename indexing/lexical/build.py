"""The inverted index of a catalogue: the terms of its items, and their postings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from dpsr.config import LexicalConfig
from dpsr.data.dataset.texts import column_texts, take_rows
from dpsr.indexing.catalogue import ItemRows
from dpsr.indexing.errors import ExportError
from dpsr.ops_cc.bm25 import Bm25Earlier, Bm25Field, Bm25Index, build_bm25, document_counts
from dpsr.tokenizer_cc.terms import TermTokenizer, TermVocabularyBuilder

TERMS_FILE = "terms.model"


@dataclass(frozen=True)
class EarlierWords:
    """The terms and postings of a published version, with the same weights of columns and without bigrams."""

    tokenizer: TermTokenizer
    index: Bm25Index
    kept: np.ndarray
    """int32, ascending: the rows whose item was the same, in the same row."""


def build_lexical(
    items: ItemRows,
    columns: tuple[str, ...],
    config: LexicalConfig,
    directory: Path,
    earlier: EarlierWords | None = None,
) -> Bm25Index:
    """Writes the term tokenizer of some items as ``terms.model`` and indexes them.

    Args:
        items: a row without one has no postings, and counts as no document.
        columns: text columns, each a field of its own.
        config: weights of the columns, and BM25's parameters.
        directory: existing, where the model file goes.
        earlier: what is not read again; the result is the same.

    Raises:
        ExportError: a weight is of a column that is none of the text columns, or no item has a word.
    """
    if unknown := sorted(config.weights.keys() - set(columns)):
        raise ExportError(
            f"index.lexical.weights names column {unknown[0]!r}, which is no text column of the items "
            f"(data.items.text: {', '.join(columns)})"
        )
    live = items.live_rows
    read = live if earlier is None else np.setdiff1d(live, earlier.kept, assume_unique=True)
    table = items.table.select(list(columns))
    texts = table if len(read) == len(table) else take_rows(table, read)
    builder = TermVocabularyBuilder(bigrams=config.bigrams)
    if earlier is not None:
        is_kept = np.zeros(len(earlier.index.rows), bool)
        is_kept[earlier.kept] = True
        builder.add_counts(earlier.tokenizer, document_counts(earlier.index, is_kept), len(earlier.kept))
    for fields in column_texts(texts, columns):
        builder.add(*(field.to_pylist() for field in fields))
    tokenizer = builder.build()
    if not tokenizer.num_terms:
        raise ExportError(
            f'no item has a word in {", ".join(columns)}, and index.mode = "hybrid" finds items by words; name other '
            "text columns, or leave the mode dense"
        )
    tokenizer.save(directory / TERMS_FILE)
    documents = np.searchsorted(live, read)
    bags = zip(columns, _bags(tokenizer, texts, columns), strict=True)
    weighted = [
        Bm25Field(_offsets(lengths, documents, len(live)), terms, weight=config.weights.get(column, 1.0))
        for column, (lengths, terms) in bags
    ]
    taken = None if earlier is None else _taken(earlier, tokenizer, live)
    index = build_bm25(weighted, tokenizer.num_terms, k1=config.k1, b=config.b, earlier=taken)
    return index.placed(live, len(items)) if len(items.removed) else index


def _bags(
    tokenizer: TermTokenizer, texts: pa.Table, columns: tuple[str, ...]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each column the number of terms of every row, int64 [rows], and the terms, int32 [nnz]."""
    for column in columns:
        values, lengths = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
        for (field,) in column_texts(texts, [column]):
            terms, row_splits = tokenizer.encode_batch(field.to_pylist())
            values.append(terms)
            lengths.append(np.diff(row_splits))
        yield np.concatenate(lengths), np.concatenate(values)


def _offsets(lengths: np.ndarray, documents: np.ndarray, count: int) -> np.ndarray:
    """Where the terms of ``count`` documents begin, int64 [count + 1], of which some have ``lengths`` terms."""
    offsets = np.zeros(count + 1, np.int64)
    offsets[documents + 1] = lengths
    return np.cumsum(offsets)


def _taken(earlier: EarlierWords, tokenizer: TermTokenizer, live: np.ndarray) -> Bm25Earlier:
    documents = np.full(len(earlier.index.rows), -1, np.int32)
    documents[earlier.kept] = np.searchsorted(live, earlier.kept)
    now = tokenizer.ids_of(earlier.tokenizer)
    terms = np.full(tokenizer.num_terms, -1, np.int32)
    terms[now[now >= 0]] = np.flatnonzero(now >= 0)
    return Bm25Earlier(earlier.index, documents, terms)
