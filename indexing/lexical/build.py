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
    """The terms and postings of a published version, with the same weights of columns, no bigrams and no priors."""

    tokenizer: TermTokenizer
    index: Bm25Index
    kept: np.ndarray
    """int32, ascending: the rows whose item was the same, in the same row."""


@dataclass(frozen=True)
class ItemTerms:
    """The terms of some items, column by column, from which postings of any weights are built."""

    tokenizer: TermTokenizer
    items: ItemRows
    bags: dict[str, tuple[np.ndarray, np.ndarray]]
    """Text column -> offsets int64 [items + 1] and terms int32 [nnz]; of the rows that have an item."""
    taken: Bm25Earlier | None = None
    """Postings of items without terms here."""

    @classmethod
    def of(
        cls, items: ItemRows, columns: tuple[str, ...], *, bigrams: bool, earlier: EarlierWords | None = None
    ) -> ItemTerms:
        """Counts and encodes the terms of items.

        Args:
            items: a row without one has no terms, and counts as no document.
            columns: text columns.
            bigrams: whether pairs of neighbouring words are terms too.
            earlier: what is not read again; the postings are the same.
        """
        live = items.live_rows
        read = live if earlier is None else np.setdiff1d(live, earlier.kept, assume_unique=True)
        table = items.table.select(list(columns))
        texts = table if len(read) == len(table) else take_rows(table, read)
        builder = TermVocabularyBuilder(bigrams=bigrams)
        if earlier is not None:
            is_kept = np.zeros(len(earlier.index.rows), bool)
            is_kept[earlier.kept] = True
            builder.add_counts(earlier.tokenizer, document_counts(earlier.index, is_kept), len(earlier.kept))
        for fields in column_texts(texts, columns):
            builder.add(*(field.to_pylist() for field in fields))
        tokenizer = builder.build()
        documents = np.searchsorted(live, read)
        bags = {
            column: (_offsets(lengths, documents, len(live)), terms)
            for column, (lengths, terms) in zip(columns, _bags(tokenizer, texts, columns), strict=True)
        }
        return cls(tokenizer, items, bags, None if earlier is None else _taken(earlier, tokenizer, live))

    def postings(self, config: LexicalConfig, clicks: np.ndarray | None = None) -> Bm25Index:
        """Indexes the items.

        Args:
            config: weights of the columns, BM25's parameters, and what ``clicks`` count.
            clicks: int64 [rows] of every item, which are read where ``config.popularity`` is above 0.

        Raises:
            ExportError: a weight is of a column that is none of the text columns, or no item was clicked.
        """
        if unknown := sorted(config.weights.keys() - self.bags.keys()):
            raise ExportError(
                f"index.lexical.weights names column {unknown[0]!r}, which is no text column of the items "
                f"(data.items.text: {', '.join(self.bags)})"
            )
        priors = None
        if config.popularity:
            if clicks is None or not clicks.any():
                raise ExportError(
                    f"index.lexical.popularity = {config.popularity:g}, and no item of the catalogue was clicked in "
                    "the train split; set it to 0"
                )
            priors = (config.popularity * np.log1p(clicks[self.items.live_rows])).astype(np.float32)
        fields = [Bm25Field(*bags, weight=config.weights.get(column, 1.0)) for column, bags in self.bags.items()]
        num_terms = self.tokenizer.num_terms
        index = build_bm25(fields, num_terms, k1=config.k1, b=config.b, priors=priors, earlier=self.taken)
        return index.placed(self.items.live_rows, len(self.items)) if len(self.items.removed) else index


def build_lexical(
    items: ItemRows,
    columns: tuple[str, ...],
    config: LexicalConfig,
    directory: Path,
    *,
    clicks: np.ndarray | None = None,
    earlier: EarlierWords | None = None,
) -> Bm25Index:
    """Writes the term tokenizer of some items as ``terms.model`` and indexes them.

    Args:
        items: a row without one has no postings, and counts as no document.
        columns: text columns, each a field of its own.
        config: as ``ItemTerms.postings``.
        directory: existing, where the model file goes.
        clicks: as ``ItemTerms.postings``.
        earlier: as ``ItemTerms.of``.

    Raises:
        ExportError: as ``ItemTerms.postings``, or no item has a word.
    """
    terms = ItemTerms.of(items, columns, bigrams=config.bigrams, earlier=earlier)
    if not terms.tokenizer.num_terms:
        raise ExportError(
            f"no item has a word in {', '.join(columns)}, and index.mode finds items by words; name other text "
            'columns, or set index.mode = "dense"'
        )
    terms.tokenizer.save(directory / TERMS_FILE)
    return terms.postings(config, clicks)


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
