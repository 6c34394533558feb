"""What changed between the items of a published version and a catalogue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.indexing.incremental.item_files import RowContents


@dataclass(frozen=True)
class Difference:
    """Where the items of a catalogue stand in an index in segments, and where their vectors come from."""

    order: np.ndarray
    """int64 [rows], the item of the catalogue in every row of the index; -1 for a tombstone."""
    base_rows: int
    """Rows of the base segment; the others are the fresh segment."""
    carried: np.ndarray
    """int64 [fresh], the row of the earlier fresh segment that has the item's vector; -1 where it is to be embedded."""

    @property
    def num_items(self) -> int:
        """Items of the catalogue."""
        return int(np.count_nonzero(self.order >= 0))

    @property
    def removed(self) -> np.ndarray:
        """The tombstones, int64."""
        return np.flatnonzero(self.order < 0)

    @property
    def kept(self) -> np.ndarray:
        """The other rows of the base segment, int64, ascending."""
        return np.flatnonzero(self.order[: self.base_rows] >= 0)

    @property
    def fresh(self) -> np.ndarray:
        """The items of the fresh segment, int64 [fresh], ascending."""
        return self.order[self.base_rows :]

    @property
    def embedded(self) -> np.ndarray:
        """The items without a vector, int64, ascending."""
        return self.fresh[self.carried < 0]


def difference(base: RowContents, earlier: RowContents, now: RowContents) -> Difference:
    """Compares a catalogue with the segments of a version.

    An item of an id and a fingerprint that a row of the base segment has is in that row, even if it was removed since.

    Args:
        base: the rows of the base segment, as it was built.
        earlier: the rows of the version's fresh segment.
        now: the catalogue; ids are distinct.
    """
    in_base = _places(now, base)
    order = np.full(len(base), -1, np.int64)
    unchanged = np.flatnonzero(in_base >= 0)
    order[in_base[unchanged]] = unchanged
    fresh = np.flatnonzero(in_base < 0)
    return Difference(np.concatenate([order, fresh]), len(base), _places(now.take(fresh), earlier))


def _places(items: RowContents, among: RowContents) -> np.ndarray:
    """The row of ``among`` with the id and the fingerprint of each item, int64 [n]; -1 for none."""
    found = pc.index_in(items.item_ids, value_set=among.item_ids)
    places = pc.fill_null(found.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    same = places >= 0
    same[same] = among.fingerprints[places[same]] == items.fingerprints[same]
    return np.where(same, places, -1)
