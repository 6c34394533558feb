"""What the page has to know before the first query."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

import dpsr
from dpsr.config import Config
from dpsr.data.dataset.directory import standing
from dpsr.data.dataset.records import record_blocks
from dpsr.data.dataset.schema import Schema, split_file
from dpsr.data.judgements.records import Column
from dpsr.indexing.signature import filter_input
from dpsr.page.contract import FilterColumn, Shop
from dpsr.page.search.columns import comparable, title_of
from dpsr.page.search.model_server import ModelServer
from dpsr.page.search.users import Users

_EXAMPLES = 50
_LONGEST_QUERY = 200


class ShopDescription:
    """Describes a shop by its dataset and its server."""

    def __init__(self, config: Config, schema: Schema, server: ModelServer, target: str) -> None:
        """Reads nothing yet.

        Args:
            config: of the run that is served.
            schema: of its dataset.
            server: what is served.
            target: its address.
        """
        self._config, self._schema, self._server, self._target = config, schema, server, target

    def made(self, users: Users, baselines: list[str]) -> Shop:
        """The description; the server is asked what it has.

        Raises:
            PageError: the server refuses, or is not there.
        """
        columns = tuple(comparable(self._config, self._server, baselines))
        return Shop(
            name=self._config.name,
            version=dpsr.__version__,
            target=self._target,
            items=self._schema.num_items,
            filters=tuple(self.filters()),
            profile=tuple(self._schema.profile),
            users=tuple(users.examples(_EXAMPLES)),
            columns=columns,
            column_titles=tuple(title_of(column) for column in columns),
            queries=self._frequent_queries,
        )

    def filters(self) -> list[FilterColumn]:
        """The columns of the dataset that the version filters by which answers by default.

        Raises:
            PageError: the server refuses, or is not there.
        """
        signatures = self._server.described(Column()).signatures
        offered = signatures["filtered"].inputs if "filtered" in signatures else {}
        found = []
        for column in dict.fromkeys([*self._schema.categorical, *self._config.index.filter_range]):
            if filter_input(column) in offered:
                found.append(FilterColumn(column=column, kind="category"))
            elif filter_input(f"min_{column}") in offered:
                found.append(FilterColumn(column=column, kind="number"))
        return found

    def categories(self) -> list[str]:
        """Those of ``filters`` that are filtered by a value."""
        return [each.column for each in self.filters() if each.kind == "category"]

    @cached_property
    def _frequent_queries(self) -> tuple[str, ...]:
        """The most frequent queries of the log, by its first million records, which are a sample of all."""
        folder = standing(self._config.dataset_dir)
        records = next(record_blocks(folder / split_file("train")), None)
        if records is None or not len(records):
            return ()
        rows, counts = np.unique(records["query"], return_counts=True)
        frequent = rows[np.lexsort((rows, -counts))][: 2 * _EXAMPLES]
        texts = _query_texts(folder, frequent)
        return tuple(text for text in texts if text.strip() and len(text) <= _LONGEST_QUERY)[:_EXAMPLES]


def _query_texts(dataset: Path, rows: np.ndarray) -> list[str]:
    """The texts of some queries (integers [n]), a part of the table in memory at a time."""
    found, start = {}, 0
    with pa.memory_map(str(dataset / "queries/queries.arrow")) as file:
        table = pa.ipc.open_file(file)
        for number in range(table.num_record_batches):
            texts = table.get_batch(number).column("query")
            for row in rows[(rows >= start) & (rows < start + len(texts))].tolist():
                found[row] = texts[row - start].as_py()
            start += len(texts)
    return [found[row] for row in rows.tolist()]
