"""Fingerprints of models and of items: equal ones give equal item vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.data.dataset.tables import Bags
from dpsr.data.dataset.texts import one_array
from dpsr.indexing.catalogue import Catalogue
from dpsr.model.interface import Model

_VALUES_AT_ONCE = 1 << 18
"""Values that are hashed at a time: their intermediate results stay in the cache."""
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


def row_fingerprints(model: Model, catalogue: Catalogue) -> np.ndarray:
    """64 bits of all that the item tower of a model reads of an item, uint64 [items].

    Two items of different content have equal ones with a probability of 2^-64.
    """
    found = _of_bags(catalogue.tokens)
    if model.config.reads_subwords and catalogue.subwords is not None:
        found = _joined(found, _of_bags(catalogue.subwords))
    for _, ids in sorted(catalogue.categorical.items()):
        found = _joined(found, _mixed(ids.astype(np.uint64)))
    if model.item_encoders is not None:
        for column in model.item_encoders.columns:
            found = _joined(found, _of_texts(catalogue.table.column(column)))
    return found


def _of_texts(column: pa.ChunkedArray) -> np.ndarray:
    """Hashes of the bytes of texts, uint64 [n]; a missing text is unlike an empty one."""
    texts = one_array(column).cast(pa.large_string())
    known = texts.is_valid().to_numpy(zero_copy_only=False)
    texts = pc.fill_null(texts, "")
    _, offsets, content = texts.buffers()
    splits = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    values = np.frombuffer(content or b"", np.uint8)
    return _joined(_of_bags(Bags(values[splits[0] : splits[-1]], splits - splits[0])), known.astype(np.uint64))


def _of_bags(bags: Bags) -> np.ndarray:
    """Hashes of the values of every row and their order, uint64 [rows]."""
    found = np.zeros(len(bags), np.uint64)
    for first, end in _parts(bags.row_splits):
        splits = bags.row_splits[first : end + 1]
        lengths = np.diff(splits)
        place = np.arange(splits[-1] - splits[0]) - np.repeat(splits[:-1] - splits[0], lengths)
        values = bags.values[splits[0] : splits[-1]].astype(np.uint64)
        hashes = _mixed((place.astype(np.uint64) << np.uint64(32)) | values)
        filled = lengths > 0
        sums = np.zeros(end - first, np.uint64)
        if filled.any():
            sums[filled] = np.add.reduceat(hashes, (splits[:-1] - splits[0])[filled])
        found[first:end] = _joined(sums, lengths.astype(np.uint64))
    return found


def _parts(row_splits: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of rows with about ``_VALUES_AT_ONCE`` values and rows each."""
    first, rows = 0, len(row_splits) - 1
    while first < rows:
        end = int(np.searchsorted(row_splits, row_splits[first] + _VALUES_AT_ONCE, side="right")) - 1
        end = min(max(end, first + 1), first + _VALUES_AT_ONCE, rows)
        yield first, end
        first = end


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
