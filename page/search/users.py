"""Whom results are for: the profile and the history of a user of the dataset, or as typed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from dpsr.config import Config
from dpsr.data.dataset.directory import atomic_directory, standing
from dpsr.data.dataset.schema import MANIFEST_FILE, DatasetError, Schema
from dpsr.data.dataset.tables import load_bags
from dpsr.indexing.signature import profile_inputs
from dpsr.page.contract import User
from dpsr.page.errors import PageError
from dpsr.page.search.catalogue import Catalogue
from dpsr.page.search.id_index import IdIndex, whole_number
from dpsr.page.search.row_table import RowTable, cut_texts

FOLDER = "page/users"
"""Of the files, relative to ``work_dir``."""
LONGEST_HISTORY = 1000
"""Items of a history that are sent, the most recent ones; the servable reads fewer."""
_FORMAT = 1
_USERS_FILE = "users/users.arrow"
_KEY_FILE, _TABLE = "key.json", "users.arrow"


class Profile(NamedTuple):
    """What a servable is told of a user."""

    values: dict[str, str]
    """By profile column; "" for no value."""
    history: list[str]
    """Item ids, oldest first."""


class Users:
    """The users of a dataset by id, from files that are made once and mapped into memory; thread-safe.

    A user takes 12 bytes for its id, and its profile, on the disk.
    """

    def __init__(self, config: Config, schema: Schema, catalogue: Catalogue) -> None:
        """Opens the files, which are made where they are missing or of another dataset.

        Raises:
            DatasetError: the users cannot be read, or the files cannot be written.
        """
        self._schema, self._catalogue = schema, catalogue
        self._dataset = standing(config.dataset_dir)
        self._history = load_bags(self._dataset / "users", "history", schema.num_users)
        with pa.memory_map(str(self._dataset / _USERS_FILE)) as file:
            table = pa.ipc.open_file(file)
            self._columns = [name for name in table.schema.names if name != "user_id"]
            whole_numbers = pa.types.is_integer(table.schema.field("user_id").type)
        folder = self._made(Path(config.work_dir) / FOLDER)
        self._index = IdIndex(folder, whole_numbers=whole_numbers)
        self._table = RowTable(folder / _TABLE)

    def examples(self, count: int) -> list[str]:
        """The ids of the users with the longest histories."""
        lengths = np.diff(self._history.row_splits)
        count = min(count, len(lengths))
        if not count:
            return []
        most = np.argpartition(-lengths, count - 1)[:count]
        most = most[np.lexsort((most, -lengths[most]))]
        return [each or "" for each in self._table.cells("user_id", most)]

    def profile(self, user: User) -> Profile:
        """Profile and history of a user of the dataset; what is typed stands in place of either.

        Raises:
            PageError: the dataset lacks the user or a profile column, or an item id of the history is none.
        """
        values, history = dict.fromkeys(self._schema.profile, ""), list(user.history)
        if user.user_id is not None:
            row = int(self._index.rows_of([user.user_id])[0])
            if row < 0:
                raise PageError(f"no user has the id {user.user_id!r}; choose one of the dataset's, or type a profile")
            at = np.array([row])
            values = {column: self._table.cells(column, at)[0] or "" for column in values}
            history = history or self._catalogue.ids(self._history[row][-LONGEST_HISTORY:].astype(np.int64))
        for column, value in user.profile.items():
            if column not in values:
                known = ", ".join(values) or "none"
                raise PageError(f"no profile column is named {column!r} (known: {known}); leave it out")
            values[column] = value
        return Profile(values, history[-LONGEST_HISTORY:])

    def _made(self, final: Path) -> Path:
        manifest = json.loads((self._dataset / MANIFEST_FILE).read_text(encoding="utf-8"))
        key = {"format": _FORMAT, "users": manifest["files"][_USERS_FILE]["sha256"]}
        try:
            if json.loads((standing(final) / _KEY_FILE).read_text(encoding="utf-8")) == key:
                return standing(final)
        except (OSError, ValueError):
            pass
        path = self._dataset / _USERS_FILE
        with atomic_directory(final) as folder, pa.memory_map(str(path)) as file:
            try:
                table = pa.ipc.open_file(file)
                batches = [table.get_batch(number) for number in range(table.num_record_batches)]
            except pa.ArrowException as error:
                raise DatasetError(f"{path}: cannot be read: {error}; run `dpsr prepare` again") from None
            names = ["user_id", *self._columns]
            parts = ({name: cut_texts(batch.column(name)) for name in names} for batch in batches)
            RowTable.write(folder / _TABLE, parts, names)
            IdIndex.write(folder, (batch.column("user_id") for batch in batches), self._schema.num_users)
            (folder / _KEY_FILE).write_text(json.dumps(key), encoding="utf-8")
        return final


def personal_inputs(profile: Profile, schema: Schema, rows: int) -> Mapping[str, Any]:
    """The inputs of the signature ``personalized`` beside the query, the same user in every row.

    Args:
        profile: of the user.
        schema: of the dataset.
        rows: queries of the request.

    Raises:
        PageError: an item id of the history is none.
    """
    inputs: dict[str, Any] = {
        name: [profile.values[column]] * rows for column, name in profile_inputs(profile.values).items()
    }
    ids: list[Any] = list(profile.history)
    dtype: type = object
    if schema.item_id_type == "int64":
        dtype, ids = np.int64, [whole_number(each) for each in ids]
        if None in ids:
            given = profile.history[ids.index(None)]
            raise PageError(f"history: item ids of this shop are whole numbers, and {given!r} is none; leave it out")
    inputs["history"] = np.array([ids] * rows, dtype=dtype).reshape(rows, len(ids))
    return inputs
