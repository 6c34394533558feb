"""What people judged, reported and kept, in one SQLite file that many threads and processes share."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dpsr.data.judgements.database import Database
from dpsr.data.judgements.errors import ExistingRecordError, JudgementError, MissingRecordError
from dpsr.data.judgements.pooling import pooled_grades
from dpsr.data.judgements.records import BadCase, Book, BookQuery, Judgement, Snapshot

__all__ = ["JudgementError", "JudgementStore", "SnapshotLists"]

SnapshotLists = Mapping[str, Sequence[Sequence[tuple[str, float]]]]
"""Query -> for each column its list: item ids with their scores, best first."""

_JUDGED = """
    SELECT books.name, judgements.judge, queries.query, judgements.item_id, judgements.grade, judgements.comment,
        judgements.judged_at
    FROM judgements JOIN queries ON queries.id = judgements.query JOIN books ON books.id = queries.book
"""


class JudgementStore:
    """Books, judgements, bad cases and snapshots; every change is on the disk when its call returns.

    All methods may be called from any thread. Each raises ``StoreError`` where the file cannot be read or written.
    """

    def __init__(self, path: str | Path) -> None:
        """Opens the file, which is made with its folder if it is missing.

        Raises:
            StoreError: it cannot be opened or written, is no database of judgements, or is of another release.
        """
        self._database = Database(path)

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    # ------------------------------------------------------------------------------------------- books

    def add_book(self, book: Book) -> Book:
        """Keeps a new book; its time of creation is set, and of a query that it has twice the first stays.

        Raises:
            ExistingRecordError: a book has the name.
        """
        with self._database.writing() as connection:
            added = connection.execute(
                "INSERT INTO books (name, created_at) VALUES (?, ?) ON CONFLICT DO NOTHING", (book.name, time.time())
            )
            if not added.rowcount:
                raise ExistingRecordError(f"book {book.name!r} exists; choose another name, or remove it first")
            connection.executemany(
                "INSERT INTO queries (book, query, weight) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                [(added.lastrowid, query.query, query.weight) for query in book.queries],
            )
            return _books(connection, book.name)[0]

    def books(self) -> list[Book]:
        """All books by name, with how far judges came."""
        with self._database.reading() as connection:
            return _books(connection)

    def book(self, name: str) -> Book:
        """One book.

        Raises:
            MissingRecordError: no book has the name.
        """
        with self._database.reading() as connection:
            _book_id(connection, name)
            return _books(connection, name)[0]

    def remove_book(self, name: str) -> None:
        """Removes a book with its judgements; snapshots and bad cases stay.

        Raises:
            MissingRecordError: no book has the name.
        """
        with self._database.writing() as connection:
            connection.execute("DELETE FROM books WHERE id = ?", (_book_id(connection, name),))

    # ------------------------------------------------------------------------------------------- judgements

    def judge(self, judgement: Judgement) -> Judgement:
        """Keeps a judgement in place of an earlier one of the judge and the pair; a grade of None takes that away.

        A query that is new to the book joins it.

        Returns:
            The judgement with its time.

        Raises:
            MissingRecordError: no book has the name.
        """
        return self.judge_many([judgement])[0]

    def judge_many(self, judgements: Iterable[Judgement]) -> list[Judgement]:
        """Keeps judgements as ``judge`` does, all or none: of the same judge and pair the last one stays."""
        with self._database.writing() as connection:
            now = time.time()
            stamped = [judgement.model_copy(update={"judged_at": now}) for judgement in judgements]
            books = {name: _book_id(connection, name) for name in {each.book for each in stamped}}
            for judgement in stamped:
                _keep(connection, books[judgement.book], judgement)
        return stamped

    def judgements(
        self, book: str | None = None, judge: str | None = None, query: str | None = None
    ) -> list[Judgement]:
        """The judgements of a book, a judge and a query, or of all, by book and query in their order, then by item.

        Raises:
            MissingRecordError: no book has the name.
        """
        with self._database.reading() as connection:
            wanted = {
                "books.id": None if book is None else _book_id(connection, book),
                "judgements.judge": judge,
                "queries.query": query,
            }
            given = {column: value for column, value in wanted.items() if value is not None}
            where = "".join(f" AND {column} = ?" for column in given)
            order = "ORDER BY books.id, queries.id, judgements.item_id, judgements.judge"
            rows = connection.execute(f"{_JUDGED} WHERE TRUE{where} {order}", tuple(given.values())).fetchall()
        # Rows were valid when they were written.
        return [Judgement.model_construct(**dict(zip(_JUDGEMENT_FIELDS, row, strict=True))) for row in rows]

    def grades(
        self, query: str | None = None, book: str | None = None, judge: str | None = None
    ) -> dict[tuple[str, str], int]:
        """One grade for each judged pair: that judge's, else the mean of all judges, rounded half up.

        Args:
            query: whose pairs; None: of all queries.
            book: in which book; None: in all.
            judge: whose own grades come first; None: nobody's.

        Returns:
            (query, item id) -> grade.

        Raises:
            MissingRecordError: no book has the name.
        """
        return pooled_grades(self.judgements(book=book, query=query), judge)

    # ------------------------------------------------------------------------------------------- bad cases

    def report(self, case: BadCase) -> BadCase:
        """Keeps a new bad case; its id and its time are set."""
        with self._database.writing() as connection:
            kept = case.model_copy(update={"reported_at": time.time(), "withdrawn": False})
            added = connection.execute("INSERT INTO bad_cases (record) VALUES (?)", (kept.model_dump_json(),))
        return kept.model_copy(update={"id": added.lastrowid})

    def bad_cases(self, withdrawn: bool = False) -> list[BadCase]:
        """The bad cases in the order of their reports; ``withdrawn`` takes those along that were withdrawn."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT id, record, withdrawn FROM bad_cases ORDER BY id").fetchall()
        return [_bad_case(*row) for row in rows if withdrawn or not row[2]]

    def withdraw(self, id: int) -> BadCase:
        """Marks a bad case as withdrawn.

        Raises:
            MissingRecordError: no bad case has the id.
        """
        with self._database.writing() as connection:
            connection.execute("UPDATE bad_cases SET withdrawn = 1 WHERE id = ?", (id,))
            row = connection.execute("SELECT id, record, withdrawn FROM bad_cases WHERE id = ?", (id,)).fetchone()
            if row is None:
                raise MissingRecordError(f"no bad case has the id {id}")
        return _bad_case(*row)

    # ------------------------------------------------------------------------------------------- snapshots

    def add_snapshot(self, snapshot: Snapshot, lists: SnapshotLists) -> Snapshot:
        """Keeps a snapshot and its lists; its id and its time are set."""
        texts = [(query, json.dumps(columns, separators=(",", ":"))) for query, columns in lists.items()]
        with self._database.writing() as connection:
            kept = snapshot.model_copy(update={"taken_at": time.time()})
            added = connection.execute("INSERT INTO snapshots (record) VALUES (?)", (kept.model_dump_json(),))
            connection.executemany(
                "INSERT INTO snapshot_lists (snapshot, position, query, lists) VALUES (?, ?, ?, ?)",
                [(added.lastrowid, position, *row) for position, row in enumerate(texts)],
            )
        return kept.model_copy(update={"id": added.lastrowid})

    def snapshots(self) -> list[Snapshot]:
        """The snapshots, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT id, record FROM snapshots ORDER BY id").fetchall()
        return [Snapshot.model_validate_json(record).model_copy(update={"id": id}) for id, record in rows]

    def snapshot_lists(self, id: int) -> dict[str, list[list[tuple[str, float]]]]:
        """The lists of a snapshot, in the order of its queries; see ``SnapshotLists``.

        Raises:
            MissingRecordError: no snapshot has the id.
        """
        with self._database.reading() as connection:
            if not connection.execute("SELECT 1 FROM snapshots WHERE id = ?", (id,)).fetchone():
                raise MissingRecordError(f"no snapshot has the id {id}")
            rows = connection.execute(
                "SELECT query, lists FROM snapshot_lists WHERE snapshot = ? ORDER BY position", (id,)
            ).fetchall()
        return {query: [[(item, score) for item, score in each] for each in json.loads(lists)] for query, lists in rows}

    def remove_snapshot(self, id: int) -> None:
        """Removes a snapshot.

        Raises:
            MissingRecordError: no snapshot has the id.
        """
        with self._database.writing() as connection:
            if not connection.execute("DELETE FROM snapshots WHERE id = ?", (id,)).rowcount:
                raise MissingRecordError(f"no snapshot has the id {id}")


_JUDGEMENT_FIELDS = ("book", "judge", "query", "item_id", "grade", "comment", "judged_at")


def _book_id(connection: sqlite3.Connection, name: str) -> int:
    row = connection.execute("SELECT id FROM books WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise MissingRecordError(f"no book is named {name!r}; make it first")
    return int(row[0])


def _books(connection: sqlite3.Connection, name: str | None = None) -> list[Book]:
    """All books by name, or one."""
    where, values = ("", ()) if name is None else ("WHERE books.name = ?", (name,))
    judged: dict[int, dict[str, int]] = {}
    counts = connection.execute(
        "SELECT queries.id, judge, count(*) FROM judgements JOIN queries ON queries.id = judgements.query "
        f"JOIN books ON books.id = queries.book {where} GROUP BY queries.id, judge ORDER BY queries.id, judge",
        values,
    )
    for query_id, judge, count in counts:
        judged.setdefault(query_id, {})[judge] = count
    queries: dict[int, list[BookQuery]] = {}
    rows = connection.execute(
        "SELECT books.id, queries.id, queries.query, queries.weight FROM queries "
        f"JOIN books ON books.id = queries.book {where} ORDER BY queries.id",
        values,
    )
    for book_id, query_id, query, weight in rows:
        kept = BookQuery(query=query, weight=weight, judged=judged.get(query_id, {}))
        queries.setdefault(book_id, []).append(kept)
    found = connection.execute(f"SELECT id, name, created_at FROM books {where} ORDER BY name", values)
    return [
        Book(name=each, queries=tuple(queries.get(book_id, ())), created_at=created)
        for book_id, each, created in found.fetchall()
    ]


def _keep(connection: sqlite3.Connection, book_id: int, judgement: Judgement) -> None:
    """Writes a judgement, or takes one away."""
    pair = (book_id, judgement.query)
    found = connection.execute("SELECT id FROM queries WHERE book = ? AND query = ?", pair).fetchone()
    if judgement.grade is None:
        if found:
            connection.execute(
                "DELETE FROM judgements WHERE query = ? AND item_id = ? AND judge = ?",
                (found[0], judgement.item_id, judgement.judge),
            )
        return
    if not found:
        found = (connection.execute("INSERT INTO queries (book, query, weight) VALUES (?, ?, 1)", pair).lastrowid,)
    connection.execute(
        "INSERT OR REPLACE INTO judgements (query, item_id, judge, grade, comment, judged_at) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (found[0], judgement.item_id, judgement.judge, judgement.grade, judgement.comment, judgement.judged_at),
    )


def _bad_case(id: int, record: str, withdrawn: int) -> BadCase:
    return BadCase.model_validate_json(record).model_copy(update={"id": id, "withdrawn": bool(withdrawn)})
