"""Whether two datasets hold the same items."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dpsr.data.dataset.texts import one_array


def catalogue_difference(there: pa.Table, here: pa.Table, columns: Sequence[str]) -> str | None:
    """What distinguishes two catalogues; None where their items are the same, in the same order.

    Args:
        there: one of them, with ``item_id`` and ``columns``.
        here: the other.
        columns: that are compared beside ``item_id``.
    """
    missing = [column for column in columns if column not in here.column_names]
    if missing:
        return f"column {missing[0]!r} is there and not here (here: {', '.join(here.column_names)})"
    if len(there) != len(here):
        return f"{len(there):,} items there, {len(here):,} here"
    for column in ("item_id", *columns):
        old, new = (one_array(table.column(column).cast(pa.large_string())) for table in (there, here))
        differ = pc.or_(pc.fill_null(pc.not_equal(old, new), False), pc.xor(old.is_null(), new.is_null()))
        row = pc.index(differ, True).as_py()
        if row >= 0:
            item = here.column("item_id")[row].as_py()
            count = pc.sum(differ).as_py()
            return (
                f"column {column!r} differs in {count:,} of {len(here):,} items, first in row {row} (item {item!r}): "
                f"{old[row].as_py()!r} there, {new[row].as_py()!r} here"
            )
    return None
