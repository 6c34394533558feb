"""What queries of several meanings may mean, and which item column tells the meaning of an item."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.evaluation.measures.polysemy import Senses


def load_senses(path: Path, dataset: Dataset) -> tuple[list[Senses], str]:
    """Reads a Parquet file of queries and, in a column named as one of the items', the values that each may mean.

    Args:
        path: a row for each meaning of each query: ``query`` and, say, ``department``; other columns are ignored.
        dataset: whose items have that column.

    Returns:
        The queries with their meanings, and the name of the column.

    Raises:
        DatasetError: there is no such file, or no such column in both.
    """
    if not path.is_file():
        raise DatasetError(f"evaluation.senses: {path}: no such file")
    found = pq.read_schema(path).names
    of_items = [column for column in dataset.schema.categorical if column not in dataset.schema.numeric]
    shared = [column for column in found if column in of_items]
    if "query" not in found or len(shared) != 1:
        raise DatasetError(
            f"{path}: expected the column query and one categorical item column of the dataset (there are: "
            f"{', '.join(of_items) or 'none'}; found in the file: {', '.join(found)}); name the column that tells an "
            "item's meaning in data.items.categorical and run `dpsr prepare` again"
        )
    (column,) = shared
    meanings: dict[str, list[str]] = {}
    for query, value in zip(*pq.read_table(path).select(["query", column]).to_pydict().values(), strict=True):
        meanings.setdefault(query, []).append(str(value))
    truth = [
        Senses(query, tuple(values), tuple(frozenset({value}) for value in values))
        for query, values in meanings.items()
    ]
    return truth, column
