"""A few items of a dataset by their ids, in memory that does not grow with the catalogue."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dpsr.data.dataset.directory import standing
from dpsr.data.dataset.schema import ITEMS_FILE, DatasetError


def items_by_id(
    directory: str | Path, item_ids: Collection[str | int], columns: Sequence[str]
) -> dict[str | int, tuple[str, ...]]:
    """Reads some columns of some items.

    All ids are read, a record batch at a time; other columns only of the batches that hold one of the items.

    Args:
        directory: the dataset directory.
        item_ids: str or int, as the ids of the dataset; unknown ones are ignored.
        columns: columns of the items.

    Returns:
        id -> the values of ``columns`` as strings, "" for a missing one.

    Raises:
        DatasetError: the items cannot be read, or lack a column.
    """
    path = standing(Path(directory)) / ITEMS_FILE
    try:
        ids, table = _open(path, ["item_id"]), _open(path, ["item_id", *columns])
        wanted = pa.array(list(item_ids), ids.schema.field("item_id").type)
        found: dict[str | int, tuple[str, ...]] = {}
        for number in range(ids.num_record_batches):
            here = pc.is_in(ids.get_batch(number).column("item_id"), value_set=wanted)
            if here.true_count:
                rows = table.get_batch(number).filter(here)
                texts = [rows.column(column).cast(pa.string()).fill_null("").to_pylist() for column in columns]
                found |= zip(rows.column("item_id").to_pylist(), zip(*texts, strict=True), strict=True)
        return found
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}; run `dpsr prepare` again") from None


def _open(path: Path, columns: Sequence[str]) -> pa.ipc.RecordBatchFileReader:
    """An IPC file of which only the given columns are decompressed."""
    schema = pa.ipc.open_file(pa.memory_map(str(path))).schema
    missing = [column for column in columns if column not in schema.names]
    if missing:
        raise DatasetError(
            f"{path}: column {missing[0]!r} is missing (found: {', '.join(schema.names)}); run `dpsr prepare` again"
        )
    options = pa.ipc.IpcReadOptions(included_fields=sorted({schema.get_field_index(column) for column in columns}))
    return pa.ipc.open_file(pa.memory_map(str(path)), options=options)
