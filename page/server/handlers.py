"""What each operation of ``dpsr.page.openapi`` does; every method is named as its operation."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from dpsr.data.judgements.formats import Format, export_judgements, import_judgements
from dpsr.data.judgements.records import BadCase, Book, BookQuery, Judgement, NewBadCase
from dpsr.errors import DpsrError
from dpsr.page import openapi
from dpsr.page.contract import ExplainRequest, NewBook, NewSnapshot, SearchRequest
from dpsr.page.server.answers import NO_STORE, file_answer, json_answer
from dpsr.page.server.calls import Call
from dpsr.page.server.parts import Parts
from dpsr.serving.api.http_server import HttpError

if TYPE_CHECKING:
    from dpsr.page.search.searcher import Searcher

Handler = Callable[[Call], Awaitable[web.Response]]

DEPTH = 1000
"""Items of the list in which a reported item's rank is looked up."""
_FILES: dict[Format, tuple[str, str]] = {
    "qrels": ("qrels.txt", "text/plain; charset=utf-8"),
    "csv": ("ratings.csv", "text/csv; charset=utf-8"),
    "workbench": ("judgments.json", "application/json"),
    "labels": ("labels.parquet", "application/vnd.apache.parquet"),
}
"""Format -> what a file of it is called, and its media type."""
_DOTS = (".", "..")
"""Segments that browsers take out of paths."""


class Handlers:
    """Answers calls by the parts; all that blocks runs in their pools."""

    def __init__(self, parts: Parts) -> None:
        """Keeps the parts."""
        self._parts = parts
        self._document = json.dumps(openapi.document(), ensure_ascii=False).encode()

    def of(self, operation: openapi.Operation) -> Handler:
        """The handler of an operation."""
        handler: Handler = getattr(self, operation.name)
        return handler

    async def openapi(self, _: Call) -> web.Response:
        """The OpenAPI document."""
        return web.Response(body=self._document, content_type="application/json", headers=NO_STORE)

    # ------------------------------------------------------------------------------------- search, explain

    async def shop(self, _: Call) -> web.Response:
        """What the page has to know first."""
        return await self._parts.searches.run(lambda: json_answer(self._parts.searcher().shop()))

    async def search(self, call: Call) -> web.Response:
        """Lists of a query."""
        request, judge = call.message(SearchRequest), call.name("judge")
        return await self._parts.searches.run(lambda: json_answer(self._parts.searcher().search(request, judge)))

    async def explain(self, call: Call) -> web.Response:
        """Why an item stands where it stands."""
        request = call.message(ExplainRequest)
        return await self._parts.searches.run(lambda: json_answer(self._parts.explainer().explain(request)))

    async def items(self, call: Call) -> web.Response:
        """What cards show of some items."""
        item_ids = call.message(openapi.ItemsRequest).item_ids
        return await self._parts.reads.run(
            lambda: json_answer(openapi.Items(items=self._parts.searcher().items(item_ids)))
        )

    # ------------------------------------------------------------------------------------- books

    async def books(self, _: Call) -> web.Response:
        """All books."""
        store = self._parts.store
        return await self._parts.reads.run(lambda: json_answer(openapi.Books(books=tuple(store.books()))))

    async def book(self, call: Call) -> web.Response:
        """A book."""
        return await self._parts.reads.run(lambda: json_answer(self._parts.store.book(call.book)))

    async def add_book(self, call: Call) -> web.Response:
        """Makes a book, of given queries or of a sample of the log."""
        new = call.message(NewBook)
        if new.name in _DOTS:
            raise HttpError(400, f"name: {new.name!r} cannot be part of an address; choose another name")
        return await self._parts.jobs.run(lambda: json_answer(self._parts.store.add_book(self._made(new))))

    def _made(self, new: NewBook) -> Book:
        if new.sample is None:
            return Book(name=new.name, queries=tuple(BookQuery(query=query) for query in new.queries))
        from dpsr.page.judging.sampling import sample_book

        return sample_book(new, self._parts.searcher(), self._parts.config)

    async def remove_book(self, call: Call) -> web.Response:
        """Removes a book."""
        await self._parts.writes.run(lambda: self._parts.store.remove_book(call.book))
        return json_answer(openapi.Empty())

    async def report(self, call: Call) -> web.Response:
        """Figures of columns and agreement of judges."""
        wanted, store = call.message(openapi.ReportRequest), self._parts.store

        def report() -> web.Response:
            from dpsr.page.judging.figures import book_report

            book = store.book(call.book)
            return json_answer(book_report(store, self._parts.searcher(), book, wanted.columns, wanted.count))

        return await self._parts.jobs.run(report)

    # ------------------------------------------------------------------------------------- judgements

    async def judgements(self, call: Call) -> web.Response:
        """Judgements of a book."""
        judge, query, store = call.name("judge"), call.query(), self._parts.store
        return await self._parts.reads.run(
            lambda: json_answer(
                openapi.Judgements(judgements=tuple(store.judgements(book=call.book, judge=judge, query=query)))
            )
        )

    async def judge(self, call: Call) -> web.Response:
        """Keeps a judgement before it answers."""
        judgement = call.message(Judgement)
        return await self._parts.writes.run(lambda: json_answer(self._parts.store.judge(judgement)))

    async def export(self, call: Call) -> web.Response:
        """A file of judgements."""
        format, store = call.format(), self._parts.store
        name, media_type = _FILES[format]

        def export() -> web.Response:
            content = export_judgements(format, store.judgements(book=call.book))
            return file_answer(content, f"{call.book}.{name}", media_type)

        return await self._parts.jobs.run(export)

    async def import_file(self, call: Call) -> web.Response:
        """Keeps the judgements of a file, all or none of those that can be read."""
        format, judge, store = call.format(), call.name("judge") or "", self._parts.store

        def import_file() -> web.Response:
            store.book(call.book)  # its absence is an error before the file is read
            found, rejected = import_judgements(format, call.body, call.book, judge)
            kept = store.judge_many(found)
            return json_answer(openapi.Imported(imported=len(kept), rejected=tuple(rejected)))

        return await self._parts.jobs.run(import_file)

    # ------------------------------------------------------------------------------------- bad cases

    async def bad_cases(self, _: Call) -> web.Response:
        """Bad cases that are not withdrawn."""
        store = self._parts.store
        return await self._parts.reads.run(lambda: json_answer(openapi.BadCases(bad_cases=tuple(store.bad_cases()))))

    async def report_bad_case(self, call: Call) -> web.Response:
        """Keeps a bad case, with the version and the rank of now."""
        new = call.message(NewBadCase)
        version, rank = await self._parts.searches.run(lambda: self._seen(new))
        case = BadCase(**dict(new), id=0, version=version, rank=rank)
        return await self._parts.writes.run(lambda: json_answer(self._parts.store.report(case)))

    def _seen(self, new: NewBadCase) -> tuple[int | None, int | None]:
        """Version and rank of a reported item; unknown where no answer can be had, as a report is kept anyway."""
        try:
            searcher = self._parts.searcher()
            version = searcher.version(new.column)
            return version, _rank(searcher, new)
        except DpsrError:
            return None, None

    async def withdraw(self, call: Call) -> web.Response:
        """Withdraws a bad case."""
        number = call.number("id")
        return await self._parts.writes.run(lambda: json_answer(self._parts.store.withdraw(number)))

    # ------------------------------------------------------------------------------------- snapshots

    async def snapshots(self, _: Call) -> web.Response:
        """All snapshots."""
        store = self._parts.store
        return await self._parts.reads.run(lambda: json_answer(openapi.Snapshots(snapshots=tuple(store.snapshots()))))

    async def take_snapshot(self, call: Call) -> web.Response:
        """Keeps lists."""
        new, parts = call.message(NewSnapshot), self._parts

        def take() -> web.Response:
            from dpsr.page.judging.snapshots import take_snapshot

            return json_answer(take_snapshot(new, parts.store, parts.searcher(), parts.config))

        return await parts.jobs.run(take)

    async def remove_snapshot(self, call: Call) -> web.Response:
        """Removes a snapshot."""
        number = call.number("id")
        await self._parts.writes.run(lambda: self._parts.store.remove_snapshot(number))
        return json_answer(openapi.Empty())

    async def differences(self, call: Call) -> web.Response:
        """What changed between two snapshots."""
        first, second = call.number("id"), call.number("other")

        def compare() -> web.Response:
            from dpsr.page.judging.snapshots import difference

            return json_answer(openapi.Differences(differences=tuple(difference(self._parts.store, first, second))))

        return await self._parts.jobs.run(compare)


def _rank(searcher: Searcher, new: NewBadCase) -> int | None:
    """From 1; None where the item is not in the list, or there is none."""
    (found,) = searcher.lists([new.query], new.column, DEPTH)
    return next((rank for rank, each in enumerate(found or (), start=1) if each.item_id == new.item_id), None)
