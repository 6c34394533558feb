"""What cards show of items: their texts and columns by item id, from files that are made once and mapped."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dpsr.config import Config, SourceConfig
from dpsr.data.dataset.directory import atomic_directory, standing
from dpsr.data.dataset.locks import exclusive
from dpsr.data.dataset.schema import ITEMS_FILE, MANIFEST_FILE, DatasetError, Schema
from dpsr.data.dataset.tables import load_schema
from dpsr.data.raw.files import find_files
from dpsr.data.raw.readers import Source
from dpsr.data.raw.rejected import CollectedRows
from dpsr.data.raw.values import Kind, id_strings, whole_ids
from dpsr.page.contract import Item
from dpsr.page.search.id_index import IdIndex
from dpsr.page.search.row_table import LONGEST, RowTable, cut_texts

FOLDER = "page/catalogue"
"""Of the files, relative to ``work_dir``."""
_FORMAT = 1
_LONGEST_URL = 2000
_URL = re.compile(r"https?://[^\s\x00-\x1f\x7f\\\"'<>]+", re.IGNORECASE)
_KEY_FILE, _ITEMS, _GIVEN, _GIVEN_ROWS = "key.json", "items.arrow", "given.arrow", "given_rows.npy"


class Catalogue:
    """The items of a dataset by id; columns that the dataset lacks come from the raw catalogue.

    An item takes 12 bytes for its id, and its texts, each cut to 1,000 characters; a column of the raw catalogue takes
    4 bytes an item for its place beside that. All of it is on the disk, in ``work_dir``, and mapped into memory.
    Thread-safe.
    """

    def __init__(self, config: Config) -> None:
        """Opens the files, which are made where they are missing or of another dataset.

        Args:
            config: the run; ``[page]`` names the columns of title, image and fields.

        Raises:
            DatasetError: there is no dataset, the raw catalogue lacks a column, or the files cannot be written.
        """
        self.schema = load_schema(config.dataset_dir)
        shown = config.page
        self._title, self._image = shown.title or self.schema.text[0], shown.image
        texts = [column for column in self.schema.text if column != self._title]
        self._fields = tuple(shown.fields or [*self.schema.categorical, *texts])
        files = _Files(config, self.schema, (self._title, *self._fields, *filter(None, [self._image])), self._image)
        folder = files.made()
        self._index = IdIndex(folder, whole_numbers=self.schema.item_id_type == "int64")
        self._items = RowTable(folder / _ITEMS)
        self._given: RowTable | None = None
        if files.from_raw:
            self._given = RowTable(folder / _GIVEN)
            self._given_rows = np.load(folder / _GIVEN_ROWS, mmap_mode="r")

    def rows_of(self, item_ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """The rows of items, as ``IdIndex.rows_of``."""
        return self._index.rows_of(item_ids)

    def ids(self, rows: np.ndarray) -> list[str]:
        """The ids of some rows."""
        return [each or "" for each in self._items.cells("item_id", rows)]

    def texts(self, column: str, rows: np.ndarray) -> list[str | None]:
        """What some rows have in a column of the dataset, or in one that cards show; None for no value.

        Args:
            column: its name.
            rows: int64 [n], 0 <= row < items.
        """
        if column in self._items.columns:
            return self._items.cells(column, rows)
        found: list[str | None] = [None] * len(rows)
        if self._given is not None:
            places = self._given_rows[rows]
            known = np.flatnonzero(places >= 0)
            cells = self._given.cells(column, places[known].astype(np.int64))
            for place, cell in zip(known.tolist(), cells, strict=True):
                found[place] = cell
        return found

    def items(self, item_ids: Collection[str]) -> dict[str, Item]:
        """What cards show of some items; an item that the dataset lacks has its id as its title."""
        given = list(item_ids)
        rows = self.rows_of(given)
        known = np.flatnonzero(rows >= 0)
        found = {given[place]: Item(item_id=given[place], title=given[place]) for place in np.flatnonzero(rows < 0)}
        rows = rows[known]
        titles = self.texts(self._title, rows)
        images = self.texts(self._image, rows) if self._image else [None] * len(rows)
        columns = [(column, self.texts(column, rows)) for column in self._fields]
        for number, place in enumerate(known.tolist()):
            item_id = given[place]
            fields = {column: cells[number] for column, cells in columns}
            found[item_id] = Item(
                item_id=item_id,
                title=titles[number] or item_id,
                image=web_address(images[number]),
                fields={column: value for column, value in fields.items() if value},
            )
        return found


def web_address(text: str | None) -> str | None:
    """The http or https address that a text is; None where it is anything else."""
    if text is None or len(text) > _LONGEST_URL:
        return None
    text = text.strip()
    return text if _URL.fullmatch(text) else None


class _Files:
    """The files below ``FOLDER``, and how they are made."""

    def __init__(self, config: Config, schema: Schema, columns: Sequence[str], image: str | None) -> None:
        self._config, self._schema, self._image = config, schema, image
        self._dataset = standing(config.dataset_dir)
        with pa.memory_map(str(self._dataset / ITEMS_FILE)) as file:
            names = [name for name in pa.ipc.open_file(file).schema.names if name != "item_id"]
        self._from_dataset = names
        self.from_raw = [column for column in dict.fromkeys(columns) if column not in (*names, "item_id")]

    def made(self) -> Path:
        """The folder of the files."""
        final = Path(self._config.work_dir) / FOLDER
        key = self._key()
        final.parent.mkdir(parents=True, exist_ok=True)
        # Of two pages that start together, the second waits for the files of the first.
        with exclusive(final.with_name(f"{final.name}.pages.lock"), wait=True):
            try:
                if json.loads((standing(final) / _KEY_FILE).read_text(encoding="utf-8")) == key:
                    return standing(final)
            except (OSError, ValueError):
                pass
            with atomic_directory(final) as folder:
                self._write(folder)
                (folder / _KEY_FILE).write_text(json.dumps(key), encoding="utf-8")
            return final

    def _key(self) -> dict[str, Any]:
        manifest = json.loads((self._dataset / MANIFEST_FILE).read_text(encoding="utf-8"))
        raw = []
        if self.from_raw:
            for file in find_files(self._config.data.items.path, "data.items.path"):
                found = Path(file.path).stat()
                raw.append([file.path, found.st_size, found.st_mtime_ns])
        items = manifest["files"][ITEMS_FILE]["sha256"]
        given = [self._from_dataset, self.from_raw, self._image, self._config.data.items.columns, raw]
        digest = sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
        return {"format": _FORMAT, "items": items, "columns": digest}

    def _write(self, folder: Path) -> None:
        path = self._dataset / ITEMS_FILE
        try:
            with pa.memory_map(str(path)) as file:
                table = pa.ipc.open_file(file)
                batches = (table.get_batch(number) for number in range(table.num_record_batches))
                columns = ["item_id", *self._from_dataset]
                RowTable.write(folder / _ITEMS, (self._texts(batch) for batch in batches), columns)
                only_ids = pa.ipc.IpcReadOptions(included_fields=[table.schema.get_field_index("item_id")])
                ids = pa.ipc.open_file(file, options=only_ids)
                parts = (ids.get_batch(number).column("item_id") for number in range(ids.num_record_batches))
                IdIndex.write(folder, parts, self._schema.num_items)
        except pa.ArrowException as error:
            raise DatasetError(f"{path}: cannot be read: {error}; run `dpsr prepare` again") from None
        if self.from_raw:
            self._write_given(folder)

    def _texts(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        found = {name: self._cut(name, batch.column(name)) for name in self._from_dataset}
        return {"item_id": batch.column("item_id").cast(pa.string()), **found}

    def _cut(self, column: str, values: pa.Array) -> pa.Array:
        return cut_texts(values, _LONGEST_URL + 1 if column == self._image else LONGEST)

    def _write_given(self, folder: Path) -> None:
        """The columns of the raw catalogue in the order of its rows, and the place of every item among them."""
        config = self._config.data.items
        kinds = {"item_id": Kind.ID, **dict.fromkeys(self.from_raw, Kind.TEXT)}
        mapping = {column: given for column, given in config.columns.items() if column in kinds}
        source = Source("items", SourceConfig(path=config.path, columns=mapping), kinds)
        whole_numbers = self._schema.item_id_type == "int64"
        index, as_ids = IdIndex(folder, whole_numbers=whole_numbers), whole_ids if whole_numbers else id_strings
        places = np.full(self._schema.num_items, -1, np.int32)

        def parts() -> Iterator[dict[str, pa.Array]]:
            start = 0
            for chunk in source.chunks(CollectedRows()):
                ids = as_ids(chunk.columns["item_id"])
                numbers = np.arange(start, start + len(ids), dtype=np.int32)[ids.is_valid().to_numpy(False)]
                ids = ids.drop_null()
                rows = index.rows_of(ids.to_numpy() if whole_numbers else ids.to_pylist())
                places[rows[rows >= 0]] = numbers[rows >= 0]
                start += len(chunk.rows)
                yield {name: self._cut(name, chunk.columns[name]) for name in self.from_raw}

        RowTable.write(folder / _GIVEN, parts(), self.from_raw)
        np.save(folder / _GIVEN_ROWS, places)
