"""Reads the senses of polysemous queries from a Parquet file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.evaluation.measures.parquet import column_names, read_columns
from dpsr.evaluation.measures.polysemy import Senses


def load_senses(path: Path, dataset: Dataset) -> tuple[list[Senses], str]:
    """Reads queries and the values of one item column that each may mean.

    Args:
        path: a row for each sense of each query: ``query`` and the name of one categorical item column, as
            ``department``; other columns are ignored.
        dataset: the catalogue with that column.

    Returns:
        The queries with their senses, and the name of the column.

    Raises:
        DatasetError: the file is missing or damaged, or shares no or several columns with the catalogue.
    """
    found = column_names(path, "evaluation.senses")
    of_items = [column for column in dataset.schema.categorical if column not in dataset.schema.numeric]
    shared = [column for column in found if column in of_items]
    if "query" not in found or len(shared) != 1:
        raise DatasetError(
            f"{path}: expected the column query and one categorical item column of the dataset (there are: "
            f"{', '.join(of_items) or 'none'}; found in the file: {', '.join(found)}); name the column that sets an "
            "item's sense in data.items.categorical and run `dpsr prepare` again"
        )
    (column,) = shared
    table = read_columns(path, "evaluation.senses", {"query": pa.string(), column: pa.string()})
    senses: dict[str, list[str]] = {}
    for query, value in zip(*table.to_pydict().values(), strict=True):
        senses.setdefault(query, []).append(value)
    truth = [
        Senses(query, tuple(values), tuple(frozenset({value}) for value in values)) for query, values in senses.items()
    ]
    return truth, column
