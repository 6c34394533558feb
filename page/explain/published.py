"""What a published version has of its items: their vectors and their postings, read from its files."""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from dpsr.indexing.checkpoint import keys_before, read_variables
from dpsr.indexing.errors import ExportError
from dpsr.indexing.incremental.base_version import BaseVersion
from dpsr.indexing.incremental.item_files import RowContents
from dpsr.indexing.lexical.build import TERMS_FILE
from dpsr.indexing.manifest import read_manifest
from dpsr.ops_cc.bm25 import Bm25Index
from dpsr.tokenizer_cc.terms import TermTokenizer

_CHECKPOINT = "variables/variables"
_ITEM_IDS = "_item_ids/.ATTRIBUTES/VARIABLE_VALUE"
_INDEX = "_index"


class Words(NamedTuple):
    """The lexical side of a version."""

    tokenizer: TermTokenizer
    postings: Bm25Index
    """Of tensors, each made once."""


class PublishedVersion:
    """The items of a version by the rows of its index; thread-safe.

    What is asked for is read once, and kept: 4 bytes for each component of each vector, and the postings as they are.
    """

    def __init__(self, directory: Path) -> None:
        """Opens a version.

        Raises:
            ExportError: the directory holds no version.
        """
        self.directory = directory
        self.manifest: dict[str, Any] = read_manifest(directory)
        self._checkpoint = str(directory / _CHECKPOINT)
        self._lock = threading.RLock()

    @property
    def model_fingerprint(self) -> str | None:
        """Of the towers that are served; None where they were trained elsewhere, or there are none."""
        return self.manifest.get("model_fingerprint")

    @property
    def encoder_precision(self) -> str:
        """Of the matrices of the transformer that reads queries; ``float32`` where none does."""
        return str(self.manifest.get("text_encoder", {}).get("precision", "float32"))

    @property
    def has_vectors(self) -> bool:
        """Whether items are found by their vectors."""
        return "dense" in self.manifest["searchers"]

    @property
    def has_words(self) -> bool:
        """Whether items are found by their words."""
        return "lexical" in self.manifest["searchers"]

    def row_of(self, item_id: str) -> int | None:
        """The row of an item; None for an id that the version does not serve."""
        ids = self._contents.item_ids
        if pa.types.is_integer(ids.type):
            try:
                wanted = pa.scalar(int(item_id), ids.type)
            except (ValueError, pa.ArrowInvalid, OverflowError):
                return None
        else:
            wanted = pa.scalar(item_id, ids.type)
        # A changed item has a tombstone before its row.
        start = 0
        while (found := pc.index(ids.slice(start), wanted).as_py()) >= 0:
            if not self._is_removed(start + found):
                return int(start + found)
            start += found + 1
        return None

    def is_fresh(self, row: int) -> bool:
        """Whether an item came or changed after the export that built the base segment."""
        with self._lock:
            return self.has_vectors and row >= len(self._base_version.contents_of_base)

    def vector(self, row: int) -> np.ndarray:
        """The vector of an item, float32 [d]."""
        vector: np.ndarray = self._vectors[row]
        return vector

    def nearest(self, row: int, count: int) -> list[tuple[str, float]]:
        """The items with the largest inner products with an item's vector, without itself, best first."""
        scores = self._vectors @ self._vectors[row]
        scores[: len(self._removed)][self._removed] = -np.inf
        scores[row] = -np.inf
        count = min(count, int(np.isfinite(scores).sum()))
        rows = np.argpartition(-scores, count - 1)[:count] if count else np.zeros(0, np.int64)
        rows = rows[np.lexsort((rows, -scores[rows]))]
        ids = self._contents.item_ids.take(pa.array(rows)).to_pylist()
        return [(str(item), float(score)) for item, score in zip(ids, scores[rows], strict=True)]

    @property
    def words(self) -> Words:
        """Terms and postings."""
        with self._lock:
            return self._words

    def _is_removed(self, row: int) -> bool:
        return bool(row < len(self._removed) and self._removed[row])

    @property
    def _vectors(self) -> np.ndarray:
        with self._lock:
            return self._read_vectors

    @property
    def _removed(self) -> np.ndarray:
        with self._lock:
            return self._tombstones

    @property
    def _contents(self) -> RowContents:
        with self._lock:
            return self._base_version.contents

    @cached_property
    def _base_version(self) -> BaseVersion:
        try:
            contents = RowContents.read(self.directory)
        except ExportError:  # of words alone, or of towers that were trained elsewhere
            ids = tf.train.load_checkpoint(self._checkpoint).get_tensor(_ITEM_IDS)
            texts = ids if ids.dtype == np.int64 else [each.decode() for each in ids]
            kind = pa.int64() if ids.dtype == np.int64 else pa.large_string()
            contents = RowContents(pa.array(texts, kind), np.zeros(len(ids), np.uint64))
        return BaseVersion(self.directory, self.manifest, contents)

    @cached_property
    def _tombstones(self) -> np.ndarray:
        """bool [rows of the base segment], or [0] where an index has no segments."""
        if self.has_vectors and "segments" in self.manifest["searchers"]["dense"]:
            return self._base_version.removed
        return np.zeros(0, bool)

    @cached_property
    def _read_vectors(self) -> np.ndarray:
        """float32 [rows, d], of base and fresh segment."""
        version, rows = self._base_version, len(self._base_version.contents)
        vectors = np.empty((rows, self.manifest["dimension"]), np.float32)
        index = version.read_index()
        index.read_vectors(np.arange(index.items), vectors[: index.items])
        if rows > index.items:
            vectors[index.items :] = version.read_fresh()
        return vectors

    @cached_property
    def _words(self) -> Words:
        (key,) = keys_before(self._checkpoint, f"/{_INDEX}/postings")
        arrays = read_variables(self._checkpoint, f"{key}/{_INDEX}", Bm25Index._fields)
        return Words(TermTokenizer.load(self.directory / "assets" / TERMS_FILE), Bm25Index(*arrays))
