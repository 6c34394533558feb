"""What judging needs of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dpsr.data.judgements.records import Column
from dpsr.page.contract import Found


class ListSource(Protocol):
    """Answers many queries at once; ``page.search.searcher.Searcher`` does."""

    def lists(self, queries: Sequence[str], column: Column, count: int) -> Sequence[list[Found] | None]:
        """The lists of queries in one column, best first; None for a query that is longer than the server takes."""
        ...

    def title(self, column: Column) -> str:
        """What the column is called on the page."""
        ...

    def version(self, column: Column) -> int | None:
        """Of the model that answers; None where there is none."""
        ...
