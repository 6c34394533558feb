"""The items of towers of another make: ids, columns and vectors, checked before anything is built on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from tqdm import tqdm

from dpsr.data.dataset.tables import id_array
from dpsr.data.prepare.entities import catalogue_ids
from dpsr.data.raw.values import plain
from dpsr.indexing.errors import ExportError

_BATCH = 4096


@dataclass(frozen=True)
class Items:
    """Items in the order of their vectors."""

    ids: np.ndarray
    """object (str) or int64 [items]."""
    table: pa.Table
    """The columns that are read, without dictionaries and other encodings."""
    origin: str
    """How errors name them: the path of the file, or ``items``."""

    def __len__(self) -> int:
        """The number of items."""
        return len(self.ids)


def read_items(items: Any, id_column: str, columns: Mapping[str, Sequence[str]]) -> Items:
    """Reads ids and columns of items.

    Args:
        items: a pyarrow table, a pandas data frame, or the path of a Parquet file or directory.
        id_column: column of the ids: integers or strings.
        columns: other columns, by the argument that names them.

    Raises:
        ExportError: nothing can be read, a column is missing or nested, or an id is missing or given twice.
    """
    origin = f"{items}" if isinstance(items, str | Path) else "items"
    wanted = {"id_column": [id_column], **columns}
    try:
        if isinstance(items, str | Path):
            file = pq.ParquetDataset(items)
            names = _known(origin, file.schema.names, wanted)
            table = file.read(columns=names)
        else:
            table = items if isinstance(items, pa.Table) else pa.Table.from_pandas(items, preserve_index=False)
            table = table.select(_known(origin, table.column_names, wanted))
    except (OSError, pa.ArrowInvalid) as error:
        raise ExportError(f"{origin}: cannot be read as Parquet ({error})") from None
    except (AttributeError, TypeError) as error:
        raise ExportError(
            f"items are {type(items).__name__} ({error}); expected a pyarrow table, a pandas data frame, or the path "
            "of a Parquet file"
        ) from None
    arrays = {name: _plain(origin, name, table.column(name)) for name in table.column_names}
    return Items(_ids(origin, id_column, arrays[id_column]), pa.table(arrays), origin)


def checked_vectors(vectors: Any, items: Items, dimension: int, argument: str) -> np.ndarray:
    """The vectors of items as an index takes them.

    Args:
        vectors: numbers [items, d].
        items: whose they are, row by row.
        dimension: of the query model's vectors.
        argument: what gave them, for errors.

    Returns:
        float32 [items, d].

    Raises:
        ExportError: they are no matrix, number or width differ, or a number is not finite.
    """
    if vectors is None:
        raise ExportError("expected item_vectors, or candidate_model with candidate_columns")
    found = np.asarray(vectors)
    if found.ndim != 2 or found.dtype.kind not in "fiu":
        raise ExportError(f"{argument}: found {found.dtype} {list(found.shape)}; expected numbers [items, d]")
    if len(found) != len(items):
        raise ExportError(
            f"{argument}: found {len(found):,} vectors for {len(items):,} items ({items.origin}); expected one for "
            "each item, in the order of the items"
        )
    if found.shape[1] != dimension:
        raise ExportError(
            f"{argument}: vectors of items have {found.shape[1]} dimensions, those of the query model {dimension}; "
            "both have to come from towers that were trained together"
        )
    with np.errstate(over="ignore"):  # infinite then, which the error names
        found = np.ascontiguousarray(found, np.float32)
    finite = np.isfinite(found).all(axis=1)
    if not finite.all():
        raise ExportError(
            f"{argument}: the vectors of {np.count_nonzero(~finite):,} items are NaN or infinite in float32, the first "
            f"one that of item {items.ids[int(np.argmin(finite))]!r}; leave these items out, or look at the training"
        )
    return found


def embedded_items(
    model: Callable[..., Any], items: Items, columns: str | Sequence[str], *, progress: bool
) -> np.ndarray:
    """A candidate model over all items, in batches.

    Args:
        model: takes the tensor of one column, or a dict of several.
        items: what it reads.
        columns: the name of that column, or the names of several.
        progress: show a progress bar.

    Returns:
        [items, ...], as the model gives them.

    Raises:
        ExportError: a column holds what is no tensor or has a missing value, or the model cannot be called.
    """
    values = {name: _values(items, name) for name in ([columns] if isinstance(columns, str) else columns)}
    call, found = tf.function(model), []
    with tqdm(total=len(items), desc="embedding items", unit="row", disable=not progress) as bar:
        for start in range(0, len(items), _BATCH):
            batch = {name: tf.constant(array[start : start + _BATCH]) for name, array in values.items()}
            try:
                vectors = tf.convert_to_tensor(call(batch[columns] if isinstance(columns, str) else batch))
            except Exception as error:  # whatever the model raises
                raise ExportError(
                    f"the candidate model cannot be called with {columns!r} of the items; candidate_columns is the "
                    f"name of one column, or a list of those of a dict: {type(error).__name__}: {error}"
                ) from error
            found.append(np.atleast_1d(vectors))
            bar.update(min(_BATCH, len(items) - start))
    return np.concatenate(found)


def _known(origin: str, found: Sequence[str], wanted: Mapping[str, Sequence[str]]) -> list[str]:
    """All columns that are wanted, each once."""
    for argument, names in wanted.items():
        if missing := [name for name in names if name not in found]:
            raise ExportError(
                f"{origin}: column {missing[0]!r}, which {argument} names, is missing (found: {', '.join(found)})"
            )
    return list(dict.fromkeys(name for names in wanted.values() for name in names))


def _plain(origin: str, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_nested(column.type):
        raise ExportError(f"{origin}: column {name!r} is {column.type}; expected one string or number for each item")
    chunks = [plain(chunk) for chunk in column.chunks]
    return pa.chunked_array(chunks) if chunks else pa.chunked_array([plain(pa.array([], column.type))])


def _ids(origin: str, name: str, column: pa.ChunkedArray) -> np.ndarray:
    ids = pa.chunked_array([catalogue_ids(chunk) for chunk in column.chunks])
    if not len(ids):
        raise ExportError(f"{origin}: has no items; nothing can be indexed")
    if ids.null_count:
        row = ids.is_null().to_pylist().index(True)
        raise ExportError(
            f"{origin}: {ids.null_count:,} items have no id in column {name!r}, the first one in row {row}"
        )
    found = id_array(ids, "int64" if pa.types.is_integer(ids.type) else "string")
    if len(set(found.tolist())) < len(found):
        item, times = Counter(found.tolist()).most_common(1)[0]
        raise ExportError(f"{origin}: column {name!r} has id {item!r} {times} times; give every item an id of its own")
    if found.dtype == np.int64 and (found == -1).any():
        raise ExportError(f"{origin}: column {name!r} has id -1, which stands for no item in answers; give another one")
    return found


def _values(items: Items, name: str) -> np.ndarray:
    """A column as the candidate model reads it: objects (str), int64, float32 or bool [items]."""
    column = items.table.column(name)
    if column.null_count:
        raise ExportError(
            f"{items.origin}: column {name!r} misses {column.null_count:,} values, and the candidate model reads it; "
            "fill them in as in training"
        )
    values = column.to_numpy()
    if values.dtype.kind not in "Oifb":
        raise ExportError(
            f"{items.origin}: column {name!r} is {column.type}; the candidate model reads strings and numbers"
        )
    return values.astype(np.float32) if values.dtype == np.float64 else values
