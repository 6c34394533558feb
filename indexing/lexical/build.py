"""The inverted index of a catalogue: the terms of its items, and their postings."""

from __future__ import annotations

from collections.abc import Iterator
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


def build_lexical(items: ItemRows, columns: tuple[str, ...], config: LexicalConfig, directory: Path) -> Bm25Index:
    """Writes the term tokenizer of some items as ``terms.model`` and indexes them.

    Args:
        items: a row without one has no postings, and counts as no document.
        columns: text columns, each a field of its own.
        config: weights of the columns, and BM25's parameters.
        directory: existing, where the model file goes.

    Raises:
        ExportError: a weight is of a column that is none of the text columns, or no item has a word.
    """
    if unknown := sorted(config.weights.keys() - set(columns)):
        raise ExportError(
            f"index.lexical.weights names column {unknown[0]!r}, which is no text column of the items "
            f"(data.items.text: {', '.join(columns)})"
        )
    builder = TermVocabularyBuilder(bigrams=config.bigrams)
    for column in columns:
        for texts in _texts(items, column):
            builder.add(texts)
    tokenizer = builder.build()
    if not tokenizer.num_terms:
        raise ExportError(
            f'no item has a word in {", ".join(columns)}, and index.mode = "hybrid" finds items by words; name other '
            "text columns, or leave the mode dense"
        )
    tokenizer.save(directory / TERMS_FILE)
    fields = [Bm25Field(*_bags(tokenizer, items, column), weight=config.weights.get(column, 1.0)) for column in columns]
    index = build_bm25(fields, tokenizer.num_terms, k1=config.k1, b=config.b)
    return index.placed(items.live_rows, len(items)) if len(items.removed) else index


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
