"""Lists of items by column: asked of the server or a baseline, all columns of a query at once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from dpsr.data.judgements.records import Column
from dpsr.page.errors import PageError
from dpsr.page.search.baselines import BaselineLists
from dpsr.page.search.columns import modes_asked
from dpsr.page.search.fusion import ServerList, fuse
from dpsr.page.search.model_server import Filters, ModelServer
from dpsr.page.search.users import Profile

QUERIES_AT_ONCE = 64
"""Of a Predict call, where many are asked."""
MOST_ITEMS = 1000
"""Of a baseline's list; that of a server is as long as the servable makes it."""
_THREADS, _CALLS_AT_ONCE = 12, 4


class ColumnList(NamedTuple):
    """What a column answers to a query."""

    found: ServerList | None
    """None where it cannot answer."""
    anonymous: ServerList | None = None
    """For a user: the list without one."""
    error: str | None = None
    milliseconds: float = 0.0
    """Of the call that took longest."""


class Lists:
    """Asks for the lists of columns; thread-safe."""

    def __init__(self, server: ModelServer, baselines: BaselineLists) -> None:
        """Takes both over, to be closed with this."""
        self._server, self._baselines = server, baselines
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="columns")

    def close(self) -> None:
        """Ends the threads and the connection."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._baselines.close()
        self._server.close()

    def of_query(
        self, query: str, columns: Sequence[Column], filters: Filters, profile: Profile | None
    ) -> list[ColumnList]:
        """The list of a query in every column; a column that cannot answer has an error."""
        calls = [
            partial(self._call, query, column, filters, each, mode)
            for column in columns
            for each in _profiles(column, profile)
            for mode in modes_asked(column)
        ]
        if len(calls) == 1:  # without a change of threads
            answers = iter([calls[0]()])
        else:
            answers = iter([future.result() for future in [self._threads.submit(call) for call in calls]])
        return [_joined(column, profile, answers) for column in columns]

    def of_queries(self, queries: Sequence[str], column: Column, count: int) -> list[ServerList | None]:
        """The lists of many queries in one column, without user and filters; a baseline is waited for.

        Args:
            queries: their texts.
            column: where they are asked.
            count: items of each list of a baseline.

        Returns:
            The lists; None for a query that is longer than the server takes.

        Raises:
            PageError: the column cannot answer.
        """
        parts = [queries[start : start + QUERIES_AT_ONCE] for start in range(0, len(queries), QUERIES_AT_ONCE)]
        if column.kind == "baseline":
            name = column.baseline or ""
            return [each for part in parts for each in self._baselines.lists(name, part, {}, count, wait=True)]
        with ThreadPoolExecutor(_CALLS_AT_ONCE) as threads:  # beside those of the searches
            return [each for part in threads.map(partial(self._part, column), parts) for each in part]

    def _part(self, column: Column, queries: Sequence[str]) -> list[ServerList | None]:
        lists = [self._server.lists_of_many(queries, column, mode=mode) for mode in modes_asked(column)]
        by_query = ([each for each in of_modes if each is not None] for of_modes in zip(*lists, strict=True))
        return [_of_modes(column, each) if len(each) == len(lists) else None for each in by_query]

    def _call(
        self, query: str, column: Column, filters: Filters, profile: Profile | None, mode: str | None
    ) -> ColumnList:
        start, found, error = time.perf_counter(), None, None
        try:
            if column.kind == "baseline":
                (found,) = self._baselines.lists(column.baseline or "", [query], filters, MOST_ITEMS, wait=False)
            else:
                (found,) = self._server.lists([query], column, filters, profile, mode=mode)
        except PageError as problem:
            error = str(problem)
        return ColumnList(found, error=error, milliseconds=1000.0 * (time.perf_counter() - start))


def _profiles(column: Column, profile: Profile | None) -> list[Profile | None]:
    """For whom a column is asked; a baseline answers everybody alike."""
    return [None] if profile is None or column.kind == "baseline" else [profile, None]


def _joined(column: Column, profile: Profile | None, answers: Iterator[ColumnList]) -> ColumnList:
    """One answer of the next calls, which are those of a column."""
    parts = [[next(answers) for _ in modes_asked(column)] for _ in _profiles(column, profile)]
    slowest = max(call.milliseconds for calls in parts for call in calls)
    error = next((call.error for calls in parts for call in calls if call.error), None)
    if error is not None:
        return ColumnList(None, error=error, milliseconds=slowest)
    lists = [_of_modes(column, [call.found for call in calls if call.found is not None]) for calls in parts]
    return ColumnList(lists[0], None if profile is None else lists[-1], milliseconds=slowest)


def _of_modes(column: Column, lists: Sequence[ServerList]) -> ServerList:
    """The list of a column, of those of the modes that it asks for."""
    found = lists[0]
    if column.lexical_weight is not None:
        dense, lexical, hybrid = lists
        found = fuse(dense, lexical, hybrid, column.lexical_weight)
    return found if column.head is None else found.take(found.heads == column.head)
