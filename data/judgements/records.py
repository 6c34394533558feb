"""What judges say: grades, books of queries, bad cases, snapshots.

Item ids are text here, also where the shop's are numbers.
"""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

GRADES = ("bad", "fair", "good", "perfect")
"""Names of the grades 0 to 3. The gain of a grade is the grade."""

Grade = Annotated[int, Field(ge=0, le=3)]
Query = Annotated[str, Field(max_length=10_000)]
Note = Annotated[str, Field(max_length=10_000)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=1, le=1000)]


class Message(pydantic.BaseModel):
    """A body of a request or an answer; an unknown member is an error."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Column(Message):
    """One list of results: what is asked, and how."""

    kind: Literal["server", "baseline"] = "server"
    model: Name | None = None
    """A model or an alias of the server; None for the shop's own."""
    version: Annotated[int, Field(ge=0)] | None = None
    label: Name | None = None
    """Of a version, in place of its number."""
    variant: Name | None = None
    """Of a fleet's alias: forced by its header."""
    mode: Literal["dense", "lexical", "hybrid", "memory"] | None = None
    """None: as the servable is configured."""
    head: Annotated[int, Field(ge=0)] | None = None
    """Of the query tower: the items that this head found."""
    lexical_weight: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Hybrid only: weight of the lexical scores beside the dense ones, which have the rest; None: the servable's."""
    baseline: str | None = None
    """Name of a method of ``docs/evaluation.md``, with kind ``baseline``."""


class Judgement(Message):
    """A judge's grade of a pair; a later one replaces it, None takes it away."""

    book: Name
    judge: Name
    query: Query
    item_id: str
    grade: Grade | None
    comment: Note = ""
    judged_at: float = 0.0
    """Seconds since the epoch, by the server."""


class BookQuery(Message):
    """A query of a book, and how far judges came."""

    query: str
    weight: float = 1.0
    """How frequent it is, relative to the others."""
    judged: dict[str, int] = {}
    """Judge -> pairs judged."""


class Book(Message):
    """A set of queries to judge."""

    name: Name
    queries: tuple[BookQuery, ...] = ()
    created_at: float = 0.0


class NewBadCase(Message):
    """A wrong answer, as someone reports it."""

    query: Query
    kind: Literal["wrong item", "missing item"]
    item_id: str
    note: Note = ""
    judge: Name
    column: Column = Column()
    """Where it was seen."""


class BadCase(NewBadCase):
    """A report that is kept."""

    id: int
    version: int | None = None
    """Of the model that gave the answer."""
    rank: int | None = None
    """From 1, of the item in that answer."""
    reported_at: float = 0.0
    withdrawn: bool = False


class Snapshot(Message):
    """What was kept."""

    id: int
    name: Name
    book: Name
    taken_at: float
    columns: tuple[Column, ...]
    versions: tuple[int | None, ...]
    """Of the model, by column."""
    settings: dict[str, str] = {}
    """Of the run that was served: the configuration's values, by dotted name."""
    refused: tuple[str, ...] = ()
    """Queries that the server of a column took for too long; their lists there are empty."""
