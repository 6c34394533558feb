"""The published version that an export starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpsr.config import Config
from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.checkpoint import keys_before, read_variables
from dpsr.indexing.dense.ann import Index
from dpsr.indexing.dense.segments import BASE
from dpsr.indexing.dense.state import state_keys, stored_vectors
from dpsr.indexing.errors import ExportError
from dpsr.indexing.incremental.item_files import RowContents
from dpsr.indexing.lexical.build import TERMS_FILE, EarlierWords
from dpsr.indexing.manifest import read_manifest
from dpsr.indexing.versions import find_version
from dpsr.model.interface import Model
from dpsr.ops_cc.bm25 import Bm25Index
from dpsr.tokenizer_cc.terms import TermTokenizer

_CHECKPOINT = "variables/variables"


@dataclass(frozen=True)
class BaseVersion:
    """A version, its manifest and the contents of its index's rows."""

    directory: Path
    manifest: dict[str, Any]
    contents: RowContents

    @property
    def number(self) -> int:
        """The version."""
        return int(self.directory.name)

    @property
    def built_in(self) -> int:
        """The version whose export built the base segment."""
        return int(self.manifest.get("since", {}).get("base", self.number))

    @property
    def contents_of_base(self) -> RowContents:
        """Those of the rows of the base segment."""
        return self.contents.slice(0, self._base_rows)

    @property
    def contents_of_fresh(self) -> RowContents:
        """Those of the rows of the fresh segment."""
        return self.contents.slice(self._base_rows, len(self.contents))

    @property
    def precision(self) -> str:
        """Of the vectors of the base segment."""
        return str(self._dense["precision"])

    @property
    def is_approximate(self) -> bool:
        """Whether the base segment is searched approximately."""
        return bool(self._dense["kind"] != "exact")

    def read_index(self) -> Index:
        """The base segment with its tuned parameters, as it was built."""
        described = self._segments["base"] if self._segments else self._dense
        return Index.restored(self._checkpoint, self._state_keys()[0], described, name=BASE)

    def read_fresh(self) -> np.ndarray:
        """The vectors of the fresh segment, float32 [n, d]."""
        if not len(self.contents_of_fresh):
            return np.empty((0, self.manifest["dimension"]), np.float32)
        return stored_vectors(self._checkpoint, self._state_keys()[1])

    @property
    def removed(self) -> np.ndarray:
        """The rows of the base segment that had no item, bool [rows]."""
        if not self._segments:
            return np.zeros(self._base_rows, bool)
        (key,) = keys_before(self._checkpoint, "/_removed")
        removed: np.ndarray = read_variables(self._checkpoint, key, ["_removed"])[0].numpy()
        return removed

    def read_words(self, kept: np.ndarray) -> EarlierWords:
        """The terms and postings; ``kept`` are the rows that have the same item still, int32, ascending."""
        (key,) = keys_before(self._checkpoint, "/_index/postings")
        arrays = read_variables(self._checkpoint, f"{key}/_index", Bm25Index._fields)
        tokenizer = TermTokenizer.load(self.directory / "assets" / TERMS_FILE)
        return EarlierWords(tokenizer, Bm25Index(*(np.asarray(memoryview(array)) for array in arrays)), kept)

    @property
    def _dense(self) -> dict[str, Any]:
        dense: dict[str, Any] = self.manifest["searchers"]["dense"]
        return dense

    @property
    def _segments(self) -> dict[str, Any]:
        segments: dict[str, Any] = self._dense.get("segments", {})
        return segments

    @property
    def _base_rows(self) -> int:
        return int(self._segments["base"]["items"]) if self._segments else len(self.contents)

    @property
    def _checkpoint(self) -> str:
        return str(self.directory / _CHECKPOINT)

    def _state_keys(self) -> list[str]:
        """The checkpoint's keys of the base segment and, where there is one, of the fresh segment."""
        return state_keys(self._checkpoint)


def read_base_version(config: Config, dataset: Dataset, since: str, model: Model, fingerprint: str) -> BaseVersion:
    """Opens a version that was published with the same model.

    Args:
        config: the run.
        dataset: what its model was trained on.
        since: the number of a version, or ``latest``.
        model: will be served.
        fingerprint: of ``model``; see ``model_fingerprint``.

    Raises:
        ExportError: there is no such version, an older release published it, or its vectors are not comparable with
            those of the model.
    """
    directory = find_version(config.model_base_path, since)
    manifest = read_manifest(directory)
    if "dense" not in manifest["searchers"]:
        raise ExportError(
            f'{directory}: answers by words alone (index.mode = "lexical"), and has no vectors to take over; run '
            "`dpsr export` without --since"
        )
    if "model_fingerprint" not in manifest:
        raise ExportError(
            f"{directory}: was published by an older release, without the fingerprints that tell which items changed; "
            "run `dpsr export` once without --since"
        )
    for key, name, now in (
        ("tokenizer_fingerprint", "tokenizer", dataset.schema.tokenizer_fingerprint),
        ("item_id_type", "item ids of type", dataset.schema.item_id_type),
        ("dimension", "vectors of dimension", model.config.dimension),
        ("model_fingerprint", "model", fingerprint),
    ):
        if manifest[key] != now:
            raise ExportError(
                f"{directory}: was published with {name} {manifest[key]}, but this run has {name} {now}: the vectors "
                "of its items cannot be used; run `dpsr export` without --since"
            )
    return BaseVersion(directory, manifest, RowContents.read(directory))
