"""Searches of the page: one query in several columns, or many queries in one."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Mapping, Sequence

import grpc

from dpsr.config import Config
from dpsr.data.judgements.records import Column
from dpsr.data.judgements.store import JudgementStore
from dpsr.indexing.signature import SOURCES
from dpsr.page.contract import ColumnResult, FacetValue, Found, Item, Range, SearchAnswer, SearchRequest, Shop
from dpsr.page.errors import PageError
from dpsr.page.search.agreement import agreements
from dpsr.page.search.baselines import BaselineLists
from dpsr.page.search.catalogue import Catalogue
from dpsr.page.search.columns import checked, title_of
from dpsr.page.search.facets import Facets
from dpsr.page.search.fusion import ServerList
from dpsr.page.search.lists import ColumnList, Lists
from dpsr.page.search.model_server import ModelServer
from dpsr.page.search.shop import ShopDescription
from dpsr.page.search.users import Users

_SOURCES = [tuple(name for bit, name in SOURCES.items() if bits & bit) for bits in range(2 * max(SOURCES))]
Grades = Mapping[tuple[str, str], int]


class Searcher:
    """Asks a model server, and baselines, for lists of items and says what is in them; thread-safe.

    Several columns, and a user's list beside the anonymous one, are asked for at once.
    """

    def __init__(
        self,
        config: Config,
        target: str,
        store: JudgementStore | None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Opens the dataset; the server is asked with the first search.

        Args:
            config: of the run that is served.
            target: ``host:port`` of a model server or of a fleet.
            store: of judgements, whose grades stand beside the items; None: without grades.
            credentials: for a server with TLS.

        Raises:
            DatasetError: the dataset or the raw catalogue cannot be used.
        """
        self.catalogue = Catalogue(config)
        self.schema = self.catalogue.schema
        self.server = ModelServer(config, self.schema, target, credentials)
        self._config, self._store = config, store
        self._facets = Facets(config, self.schema)
        self._baselines = BaselineLists(config, self.catalogue)
        self._lists = Lists(self.server, self._baselines)
        self._shop = ShopDescription(config, self.schema, self.server, target)
        self._opening = threading.Lock()
        self._users: Users | None = None

    def close(self) -> None:
        """Ends the threads and the connection."""
        self._lists.close()

    def shop(self) -> Shop:
        """What the page has to know before the first query; the server is asked what it has.

        Raises:
            PageError: the server refuses, or is not there.
        """
        return self._shop.made(self.users(), self._baselines.names)

    def users(self) -> Users:
        """The users of the dataset, opened at the first call.

        Raises:
            DatasetError: the users cannot be read.
        """
        with self._opening:
            if self._users is None:
                self._users = Users(self._config, self.schema, self.catalogue)
            return self._users

    def title(self, column: Column) -> str:
        """What a column is called on the page."""
        return title_of(column)

    def version(self, column: Column) -> int | None:
        """The version of the model that answers a column now; None for a baseline.

        Raises:
            PageError: the server refuses, or is not there.
        """
        return None if checked(column).kind == "baseline" else self.server.described(column, again=True).version

    def items(self, item_ids: Collection[str]) -> dict[str, Item]:
        """What cards show of some items; one that the dataset lacks has its id as its title."""
        return self.catalogue.items(item_ids)

    def search(self, request: SearchRequest, judge: str | None = None) -> SearchAnswer:
        """The lists of a query, with their items, facets, agreement and grades.

        A column that cannot answer has an error in place of items.

        Args:
            request: query, columns, filters and user.
            judge: whose grades come first.

        Raises:
            PageError: the request is wrong in any column: a column, a range or the user.
        """
        columns = [checked(column) for column in request.columns]
        filters = {column: _checked_range(column, wanted) for column, wanted in request.filters.items()}
        profile = None if request.user is None else self.users().profile(request.user)
        lists = self._lists.of_query(request.query, columns, filters, profile)
        grades = {} if self._store is None else self._store.grades(query=request.query, judge=judge)
        results = tuple(
            self._result(request, column, answer, grades) for column, answer in zip(columns, lists, strict=True)
        )
        found = [None if result.error else [each.item_id for each in result.items] for result in results]
        return SearchAnswer(
            results=results,
            items=self.items(list(dict.fromkeys(item_id for ids in found if ids for item_id in ids))),
            facets=self._facets_of(found[0]),
            agreement=agreements(found),
        )

    def lists(self, queries: Sequence[str], column: Column, count: int) -> list[list[Found] | None]:
        """The lists of many queries in one column, without user, filters and grades.

        Args:
            queries: their texts.
            column: where they are asked.
            count: items of each list, at most.

        Returns:
            The lists, best first; None for a query that is longer than the server takes.

        Raises:
            PageError: the column cannot answer. A baseline that is being made is waited for.
        """
        found = self._lists.of_queries(queries, checked(column), count)
        return [None if each is None else _found(each.take(slice(count))) for each in found]

    def _result(self, request: SearchRequest, column: Column, answer: ColumnList, grades: Grades) -> ColumnResult:
        if answer.found is None:
            return ColumnResult(
                column=column, title=title_of(column), error=answer.error, milliseconds=answer.milliseconds
            )
        ranks: dict[object, int] = {}
        if answer.anonymous is not None:
            ranks = {item: rank for rank, item in enumerate(answer.anonymous.item_ids.tolist(), start=1)}
        found = _found(answer.found.take(slice(request.count)), ranks, request.query, grades)
        return ColumnResult(
            column=column,
            title=title_of(column),
            items=tuple(found),
            version=answer.found.version,
            milliseconds=answer.milliseconds,
            figures=_figures(found, grades),
        )

    def _facets_of(self, item_ids: list[str] | None) -> dict[str, tuple[FacetValue, ...]]:
        if not item_ids:
            return {}
        rows = self.catalogue.rows_of(item_ids)
        return self._facets.count(rows[rows >= 0], self._shop.categories())


def item_text(item: bytes | int) -> str:
    """An element of the output ``item_id`` as the page has it."""
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)


def _found(
    items: ServerList, ranks: Mapping[object, int] | None = None, query: str = "", grades: Grades | None = None
) -> list[Found]:
    """The items of a list, with their ranks in another one and their grades."""
    columns = [array.tolist() for array in (items.item_ids, items.scores, items.heads, items.sources)]
    found = []
    for item, score, head, sources in zip(*columns, strict=True):
        item_id = item_text(item)
        found.append(
            Found(
                item_id=item_id,
                score=score,
                head=head if head >= 0 else None,
                sources=_SOURCES[sources],
                anonymous_rank=ranks.get(item) if ranks else None,
                grade=grades.get((query, item_id)) if grades else None,
            )
        )
    return found


def _checked_range(column: str, wanted: str | Range) -> str | Range:
    if isinstance(wanted, Range):
        least = -math.inf if wanted.least is None else wanted.least
        most = math.inf if wanted.most is None else wanted.most
        if not least <= most:
            raise PageError(f"filter {column}: {least:g} to {most:g} holds no number; expected least <= most")
    return wanted


def _figures(found: Sequence[Found], grades: Grades) -> dict[str, float]:
    """Quality of a list; none for a query without judgements."""
    if not grades:
        return {}
    from dpsr.page.judging.figures import query_figures  # imports the measures, which a search without has no use for

    return query_figures(found, grades)
