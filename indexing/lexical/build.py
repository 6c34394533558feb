"""The inverted index of a catalogue: the terms of its items, and their postings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from dpsr.config import LexicalConfig
from dpsr.data.dataset.texts import joined_texts
from dpsr.indexing.catalogue import ItemRows
from dpsr.indexing.errors import ExportError
from dpsr.ops_cc.bm25 import Bm25Field, Bm25Index, build_bm25
from dpsr.tokenizer_cc.terms import TermTokenizer, TermVocabularyBuilder

TERMS_FILE = "terms.model"


@dataclass(frozen=True)
class ItemTerms:
    """The terms of some items, column by column, from which postings of any weights are built."""

    tokenizer: TermTokenizer
    items: ItemRows
    bags: dict[str, tuple[np.ndarray, np.ndarray]]
    """Text column -> offsets int64 [items + 1] and terms int32 [nnz]; of the rows that have an item."""

    @classmethod
    def of(cls, items: ItemRows, columns: tuple[str, ...], *, bigrams: bool) -> ItemTerms:
        """Counts and encodes the terms of items.

        Args:
            items: a row without one has no terms, and counts as no document.
            columns: text columns.
            bigrams: whether pairs of neighbouring words are terms too.
        """
        builder = TermVocabularyBuilder(bigrams=bigrams)
        for column in columns:
            for texts in _texts(items, column):
                builder.add(texts)
        tokenizer = builder.build()
        return cls(tokenizer, items, {column: _bags(tokenizer, items, column) for column in columns})

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
        index = build_bm25(fields, self.tokenizer.num_terms, k1=config.k1, b=config.b, priors=priors)
        return index.placed(self.items.live_rows, len(self.items)) if len(self.items.removed) else index


def build_lexical(
    items: ItemRows,
    columns: tuple[str, ...],
    config: LexicalConfig,
    directory: Path,
    *,
    clicks: np.ndarray | None = None,
) -> Bm25Index:
    """Writes the term tokenizer of some items as ``terms.model`` and indexes them.

    Args:
        items: a row without one has no postings, and counts as no document.
        columns: text columns, each a field of its own.
        config: as ``ItemTerms.postings``.
        directory: existing, where the model file goes.
        clicks: as ``ItemTerms.postings``.

    Raises:
        ExportError: as ``ItemTerms.postings``, or no item has a word.
    """
    terms = ItemTerms.of(items, columns, bigrams=config.bigrams)
    if not terms.tokenizer.num_terms:
        raise ExportError(
            f"no item has a word in {', '.join(columns)}, and index.mode finds items by words; name other text "
            'columns, or set index.mode = "dense"'
        )
    terms.tokenizer.save(directory / TERMS_FILE)
    return terms.postings(config, clicks)


def _bags(tokenizer: TermTokenizer, items: ItemRows, column: str) -> tuple[np.ndarray, np.ndarray]:
    """The offsets and terms of a column of the items, int64 [items + 1] and int32 [nnz]."""
    values, splits = [np.zeros(0, np.int32)], [np.zeros(1, np.int64)]
    for texts in _texts(items, column):
        terms, row_splits = tokenizer.encode_batch(texts)
        values.append(terms)
        splits.append(row_splits[1:] + splits[-1][-1])
    return np.concatenate(splits), np.concatenate(values)


def _texts(items: ItemRows, column: str) -> Iterator[list[str]]:
    """The texts of the items, without the rows that have none, in batches; a missing text is empty."""
    has_item = np.ones(len(items), bool)
    has_item[items.removed] = False
    start = 0
    for texts in joined_texts(items.table, [column]):
        yield texts.filter(pa.array(has_item[start : start + len(texts)])).to_pylist()
        start += len(texts)
