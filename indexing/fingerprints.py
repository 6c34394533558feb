"""Fingerprints of models and of items: equal ones of both give equal item vectors, and items of equal words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from dpsr.data.dataset.texts import one_array
from dpsr.indexing.catalogue import Catalogue
from dpsr.model.interface import Model
from dpsr.tokenizer_cc.terms import text_hashes

_ROWS_AT_ONCE = 1 << 16
"""Items that are hashed at a time: their intermediate results stay in the cache."""
_MISSING = np.uint64(0x8A5CD789635D2DFF)
"""In place of the hash of a missing text."""
_ODD, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def model_fingerprint(model: Model) -> str:
    """Hex digest of the weights of a model, and of the frozen encoders that its item tower reads."""
    content = hashlib.blake2b(digest_size=16)
    if model.item_encoders is not None:
        content.update(model.item_encoders.fingerprint.encode())
    for variable in model.variables:
        array = variable.numpy()
        content.update(f"{array.dtype}{array.shape}".encode())
        content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


def row_fingerprints(catalogue: Catalogue, columns: Iterable[str]) -> np.ndarray:
    """64 bits of the texts and categories of each item, uint64 [items].

    Two items of different content have equal ones with a probability of 2^-64.

    Args:
        catalogue: the items.
        columns: those with texts that item towers and searchers read.
    """
    columns, parts = list(columns), [np.empty(0, np.uint64)]
    for start in range(0, len(catalogue), _ROWS_AT_ONCE):
        rows = catalogue.table.slice(start, _ROWS_AT_ONCE)
        found = np.zeros(len(rows), np.uint64)
        for column in columns:
            found = _joined(found, _of_texts(rows.column(column)))
        for _, ids in sorted(catalogue.categorical.items()):
            found = _joined(found, ids[start : start + len(rows)].astype(np.uint64))
        parts.append(found)
    return np.concatenate(parts)


def _of_texts(column: pa.ChunkedArray) -> np.ndarray:
    """Hashes of the bytes of texts, uint64 [n]; a missing text is unlike an empty one."""
    texts = one_array(column).cast(pa.large_string())
    _, offsets, content = texts.buffers()
    splits = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    hashes = text_hashes(splits, np.frombuffer(content or b"", np.uint8))
    if texts.null_count:
        hashes[~texts.is_valid().to_numpy(zero_copy_only=False)] = _MISSING
    return hashes


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Hashes of pairs, in this order; uint64."""
    return _mixed(_mixed(first) * _ODD + second)


def _mixed(values: np.ndarray) -> np.ndarray:
    """SplitMix64 (Steele, Lea and Flood, 2014) of each value; uint64, modulo 2^64."""
    mixed = values + _ODD
    mixed ^= mixed >> np.uint64(30)
    mixed *= _FIRST
    mixed ^= mixed >> np.uint64(27)
    mixed *= _SECOND
    mixed ^= mixed >> np.uint64(31)
    return mixed
