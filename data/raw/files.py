"""The files of a raw input: a path, a directory of parts or a pattern, and the Hive keys of their directories."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from dpsr.data.dataset.schema import DatasetError

_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


class InputFile(NamedTuple):
    """One file of an input."""

    path: str
    partition: dict[str, str | None]
    """The ``key=value`` directories that the file is in (Hive, Spark); None is Hive's null."""


def find_files(path: str, key: str) -> list[InputFile]:
    """The files of an input in the order of their names.

    A path that exists is read as it is, also where it holds characters of a pattern. A directory stands for the files
    below it. Names that begin with ``_`` or ``.`` (``_SUCCESS``, checksums) are ignored unless the path names them.

    Args:
        path: a file, a directory or a pattern.
        key: of the configuration that names it.

    Raises:
        DatasetError: there is no file, or the directory is a Delta Lake table.
    """
    if os.path.lexists(path):
        matches = [path]
    else:
        fixed = _fixed(path)
        named = _has_hidden_part(fixed, path)
        matches = [name for name in glob.glob(path, recursive=True) if named or not _has_hidden_part(fixed, name)]
    files: set[str] = set()
    for match in matches:
        if not os.path.exists(match):
            raise DatasetError(f"{match}: is a link to a file that does not exist; mend or remove the link")
        files |= set(_below(match)) if os.path.isdir(match) else {match} if os.path.isfile(match) else set()
    if not files:
        what = "the directory holds no file of data" if os.path.isdir(path) else "no such file"
        raise DatasetError(f"{path}: {what} (working directory {Path.cwd()}); set {key}")
    return [InputFile(file, _partition(file)) for file in sorted(files)]


def _fixed(path: str) -> str:
    """The longest leading folders of a path without a pattern."""
    fixed = Path(path)
    while glob.has_magic(str(fixed)) and not fixed.exists():
        fixed = fixed.parent
    return str(fixed)


def _below(directory: str) -> list[str]:
    if os.path.isdir(os.path.join(directory, "_delta_log")):
        raise DatasetError(
            f"{directory}: is a Delta Lake table, some of whose files may be out of date; export it to plain Parquet"
        )
    found, seen = [], set()
    for folder, folders, names in os.walk(directory, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else [name for name in folders if not _is_hidden(name)]
        if real not in seen:
            found += [os.path.join(folder, name) for name in names if not _is_hidden(name)]
        seen.add(real)
    return found


def _has_hidden_part(folder: str, name: str) -> bool:
    """Whether a file, or a directory below ``folder`` that it is in, is hidden."""
    return any(map(_is_hidden, Path(os.path.relpath(name, folder)).parts))


def _is_hidden(name: str) -> bool:
    base = os.path.basename(name)
    return base[:1] in ("_", ".") and base not in (".", "..")


def _partition(file: str) -> dict[str, str | None]:
    keys: dict[str, str | None] = {}
    for part in Path(file).parts[:-1]:
        name, separator, value = part.partition("=")
        if separator and name:
            keys[unquote(name)] = None if value == _HIVE_NULL else unquote(value)
    return keys
