"""What an export takes over from a published version, and when it builds the index anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dpsr.config import IndexConfig
from dpsr.indexing.fusion_tuning import TunedFusion
from dpsr.indexing.incremental.base_version import BaseVersion
from dpsr.indexing.incremental.difference import Difference, difference
from dpsr.indexing.incremental.item_files import RowContents
from dpsr.indexing.lexical.build import EarlierWords
from dpsr.indexing.memory.tuning import TunedMemory
from dpsr.indexing.searchers import Chosen

_CHOOSING_FUSION = ("mode", "fusion", "dense_weight", "lexical")
"""Of ``IndexConfig``."""


@dataclass(frozen=True)
class Takeover:
    """A version, and what of it an export uses."""

    version: BaseVersion
    difference: Difference
    merged: str
    """Why the index is built anew; empty where it is the version's, in segments."""

    @property
    def embedded(self) -> np.ndarray:
        """The items that the item tower has to embed, int64."""
        if self.merged and self.version.precision == "int8":
            return np.arange(self.difference.num_items)
        return self.difference.embedded

    @property
    def rows(self) -> int:
        """Rows of the index."""
        return self.difference.num_items if self.merged else len(self.difference.order)

    def note(self) -> str:
        """One line for the terminal."""
        found, items = self.difference, self.difference.num_items
        line = f"since version {self.version.number}: {len(self.embedded):,} of {items:,} items to embed"
        if not self.merged:
            segments = f"{len(found.fresh):,} in the fresh segment, {len(found.removed):,} of {found.base_rows:,} rows"
            return f"{line}; {segments} of version {self.version.built_in} removed"
        if self.version.precision == "int8":
            line += ", as the version has its vectors in int8 only"
        return f"{line}; the index is built anew: {self.merged}"

    def describe(self) -> dict[str, Any]:
        """Entry ``since`` of the manifest; the sizes of the segments are in that of the dense searcher."""
        built = {"merged": self.merged} if self.merged else {"base": self.version.built_in}
        return {"version": self.version.number, **built, "embedded": len(self.embedded)}

    def chosen(self, config: IndexConfig) -> Chosen:
        """How the version joins lists, where it answers the same configuration, and its words."""
        manifest, now = self.version.manifest, config.model_dump(mode="json")
        before = manifest["config"]["index"]
        if self.merged or any(before[key] != now[key] for key in _CHOOSING_FUSION):
            return Chosen(words=self.words(config))
        fusion = memory = None
        if "fusion" in manifest:
            fusion = TunedFusion.described(manifest["fusion"])
        if "memory" in manifest and before["memory"] == now["memory"]:
            memory = TunedMemory.described(manifest["memory"])
        return Chosen(fusion, memory, self.words(config))

    def words(self, config: IndexConfig) -> EarlierWords | None:
        """The version's words, where the lexical index can be made of them; None where it has to read all texts."""
        before = self.version.manifest["config"]["index"]
        lexical, was = config.lexical, before["lexical"]
        if self.merged or config.mode == "dense" or before["mode"] == "dense" or lexical.bigrams or was["bigrams"]:
            return None
        if lexical.weights != was["weights"] or lexical.popularity or was.get("popularity"):
            return None
        kept = self.difference.kept
        return self.version.read_words(kept[~self.version.removed[kept]].astype(np.int32))

    def vectors(self, embedded: np.ndarray) -> np.ndarray:
        """The vectors of the catalogue's items, of a version that has them in float32.

        Args:
            embedded: float32 [n, d], those of ``self.embedded``.

        Returns:
            float32 [items, d].
        """
        found, base = self.difference, self.version.read_index()
        vectors = np.empty((found.num_items, embedded.shape[1]), np.float32)
        of_base = np.empty((len(found.kept), embedded.shape[1]), np.float32)
        base.read_vectors(found.kept, of_base)
        vectors[found.order[found.kept]] = of_base
        vectors[found.fresh] = self.fresh_vectors(embedded)
        return vectors

    def fresh_vectors(self, embedded: np.ndarray) -> np.ndarray:
        """The vectors of the fresh segment, float32 [fresh, d]; ``embedded`` as for ``vectors``."""
        carried = self.difference.carried
        vectors = np.empty((len(carried), embedded.shape[1]), np.float32)
        known = carried >= 0
        vectors[known] = self.version.read_fresh()[carried[known]]
        vectors[~known] = embedded
        return vectors


def take_over(config: IndexConfig, version: BaseVersion, contents: RowContents) -> Takeover:
    """Compares a version with the contents of a catalogue.

    Args:
        config: ``merge_above`` decides whether the index is built anew.
        version: what the export starts from.
        contents: of the catalogue.
    """
    found = difference(version.contents_of_base, version.contents_of_fresh, contents)
    return Takeover(version, found, _reason_to_merge(config, version, found))


def _reason_to_merge(config: IndexConfig, version: BaseVersion, found: Difference) -> str:
    shares = {
        "of the items are fresh": (len(found.fresh), found.num_items),
        f"of the rows of version {version.built_in} are removed": (len(found.removed), found.base_rows),
    }
    for what, (count, of) in shares.items():
        if count > config.merge_above * of:
            return f"{count / of:.1%} {what}, more than index.merge_above = {config.merge_above}"
    if config.precision != version.precision and version.is_approximate:
        return (
            f"version {version.built_in} has precision {version.precision}, and index.precision is {config.precision}"
        )
    return ""
