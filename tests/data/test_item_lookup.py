"""A few items by their ids, against the whole table."""

import re
from pathlib import Path

import pyarrow as pa
import pytest

from dpsr.data.dataset.item_lookup import items_by_id
from dpsr.data.dataset.schema import DatasetError

ITEMS = 1000


def write_items(directory: Path, ids: pa.Array, *, batch_rows: int) -> Path:
    numbers = range(ITEMS)
    titles = pa.array([None if number % 10 == 0 else f"title {number}" for number in numbers])
    table = pa.table({"item_id": ids, "title": titles, "stock": pa.array([2 * number for number in numbers])})
    (directory / "items").mkdir()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(directory / "items/items.arrow", table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=batch_rows)
    return directory


@pytest.mark.parametrize("batch_rows", [7, ITEMS])
@pytest.mark.parametrize("kind", [str, int])
def test_items_are_those_of_the_table(tmp_path: Path, kind: type, batch_rows: int) -> None:
    ids = pa.array([kind(number) for number in range(ITEMS)])
    directory = write_items(tmp_path, ids, batch_rows=batch_rows)
    wanted = [kind(number) for number in (999, 0, 13, 14, 500)]
    found = items_by_id(directory, [*wanted, kind(5000)], ["stock", "title"])
    assert found == {
        kind(number): (str(2 * number), "" if number % 10 == 0 else f"title {number}")
        for number in (0, 13, 14, 500, 999)
    }


def test_no_ids_find_no_items(tmp_path: Path) -> None:
    directory = write_items(tmp_path, pa.array([str(number) for number in range(ITEMS)]), batch_rows=100)
    assert items_by_id(directory, [], ["title"]) == {}


def test_a_missing_column_and_a_damaged_file_are_named(tmp_path: Path) -> None:
    directory = write_items(tmp_path, pa.array([str(number) for number in range(ITEMS)]), batch_rows=100)
    with pytest.raises(DatasetError, match=r"items\.arrow: column 'name' is missing \(found: item_id, title, stock\)"):
        items_by_id(directory, ["1"], ["name"])
    path = directory / "items/items.arrow"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DatasetError, match=re.escape(f"{path}: cannot be read")):
        items_by_id(directory, ["1"], ["title"])
