"""Ids: rows of the tables by their given id, categorical vocabularies, and the token vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.config import TokenizerConfig
from dpsr.data.dataset.tables import Bags
from dpsr.data.raw.values import numbers, trimmed_strings
from dpsr.tokenizer_cc import Tokenizer, VocabularyBuilder

# The same on every machine: counts that are not exact depend on the distribution of the texts over threads.
_COUNTING_THREADS = 4


class RowIndex:
    """Given ids -> dense rows, by order of arrival; looked up once for each distinct value of a batch."""

    def __init__(self, keys: Iterable[str | int] = ()) -> None:
        """Starts with the rows of some keys, all different."""
        self._rows = {key: row for row, key in enumerate(keys)}

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def keys(self) -> list[str | int]:
        """The given ids, by row."""
        return list(self._rows)

    def find(self, ids: pa.Array) -> np.ndarray:
        """Rows of known ids, int32 [n]; -1 where the id is null or unknown."""
        return self._rows_of(ids, lambda value: self._rows.get(value, -1))

    def add(self, ids: pa.Array) -> np.ndarray:
        """As ``find``, but unknown ids get the next rows in their order."""
        return self._rows_of(ids, lambda value: self._rows.setdefault(value, len(self._rows)))

    @staticmethod
    def _rows_of(ids: pa.Array, row_of: Callable[[str | int], int]) -> np.ndarray:
        encoded = ids.dictionary_encode()
        values = encoded.dictionary.to_pylist()
        # One more entry, at index -1, stands for null.
        rows = np.fromiter((*map(row_of, values), -1), dtype=np.int32, count=len(values) + 1)
        return rows[pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)]


def category_vocabulary(column: pa.Array, min_count: int) -> list[str]:
    """The values of a categorical column by descending count, ties by their bytes.

    Args:
        column: string [n]; null is missing.
        min_count: rarer values are left out.
    """
    counts = pc.value_counts(column.drop_null())
    pairs = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    kept = [(value, count) for value, count in pairs if count >= min_count]
    return [value for value, _ in sorted(kept, key=lambda pair: (-pair[1], pair[0].encode()))]


def category_ids(column: pa.Array, vocabulary: Sequence[str]) -> np.ndarray:
    """Ids of a categorical column, int32 [n]: 0 missing, 1..V the vocabulary, V + 1 out of vocabulary."""
    found = pc.index_in(column, value_set=pa.array(vocabulary, pa.string()), skip_nulls=True)
    ids = pc.add(pc.fill_null(found, len(vocabulary)), 1)
    return pc.if_else(column.is_null(), 0, ids).cast(pa.int32()).to_numpy(zero_copy_only=False)


def build_tokenizer(config: TokenizerConfig, texts: Iterable[pa.Array]) -> Tokenizer:
    """Counts the tokens of texts and makes the tokenizer.

    Args:
        config: size and kinds of the vocabulary.
        texts: batches of strings; every text is one document.
    """
    builder = VocabularyBuilder(
        max_vocabulary=config.max_vocabulary,
        min_count=config.min_count,
        oov_buckets=config.oov_buckets,
        bigrams=config.bigrams,
        trigrams=config.trigrams,
        threads=_COUNTING_THREADS,
        max_words=config.max_words,
        max_bigrams=config.max_bigrams,
        max_trigrams=config.max_trigrams,
    )
    for batch in texts:
        builder.add(batch.to_pylist())
    return builder.build()


class Encoder(Protocol):
    """A tokenizer of words or of subwords."""

    def encode_batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of all texts, int32 [nnz], and where those of each begin, int64 [n + 1]."""


def encoded(tokenizer: Encoder, texts: Iterable[pa.Array]) -> Iterator[Bags]:
    """The ids of the texts of each batch, a bag for each text."""
    for batch in texts:
        values, row_splits = tokenizer.encode_batch(batch.to_pylist())
        yield Bags(np.asarray(values, dtype=np.int32), np.asarray(row_splits, dtype=np.int64))


def token_bags(tokenizer: Encoder, texts: Iterable[pa.Array]) -> Bags:
    """The ids of every text of some batches, a bag for each, in memory."""
    values, lengths = [np.empty(0, dtype=np.int32)], [np.zeros(1, dtype=np.int64)]
    for bags in encoded(tokenizer, texts):
        values.append(bags.values)
        lengths.append(np.diff(bags.row_splits))
    return Bags(np.concatenate(values), np.cumsum(np.concatenate(lengths), dtype=np.int64))


def column_ids(column: pa.Array, vocabulary: Sequence[str], *, numeric: bool) -> np.ndarray:
    """The ids of an item column under a dataset's vocabulary, int32 [n].

    Args:
        column: the values as given, [n].
        vocabulary: ``Dataset.vocabularies``' entry of the column.
        numeric: the column is one of ``Schema.numeric``.
    """
    if numeric:
        return bucket_ids(numbers(column), np.array(vocabulary, dtype=float))
    return category_ids(trimmed_strings(column), vocabulary)


def bucket_edges(values: pa.Array, buckets: int) -> np.ndarray:
    """The lower edges of buckets with equally many values, ascending from -inf, float64 [at most buckets]."""
    known = np.sort(values.drop_null().to_numpy())
    if not len(known):
        return np.array([-np.inf])
    inner = np.unique(known[np.arange(1, buckets) * len(known) // buckets])
    return np.concatenate([[-np.inf], inner[inner > known[0]]])


def bucket_ids(values: pa.Array, edges: np.ndarray) -> np.ndarray:
    """Ids of numbers, int32 [n]: 0 missing, else the place of the bucket, from 1."""
    ids = np.searchsorted(edges, pc.fill_null(values, 0.0).to_numpy(zero_copy_only=False), side="right")
    return np.where(values.is_valid().to_numpy(zero_copy_only=False), ids, 0).astype(np.int32)
