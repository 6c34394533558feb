"""What the page's JSON API takes and answers; its OpenAPI file is made from these classes.

Item ids are text on the page, also where the shop's are numbers.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dpsr.data.judgements.records import (
    Column,
    Count,
    Grade,
    Message,
    Name,
    Query,
)

# ----------------------------------------------------------------------------------------- search, compare


class User(Message):
    """Whom the results are for: a user of the dataset, or a profile and a history as typed."""

    user_id: str | None = None
    profile: dict[str, str] = {}
    history: Annotated[tuple[str, ...], Field(max_length=1000)] = ()
    """Item ids, oldest first."""


class Range(Message):
    """Bounds of a numeric column, inclusive; None leaves one open."""

    least: float | None = None
    most: float | None = None


class SearchRequest(Message):
    """A query for one to three columns."""

    query: Query
    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=3)] = (Column(),)
    count: Count = 50
    filters: dict[str, str | Range] = {}
    user: User | None = None


class Found(Message):
    """An item of a list."""

    item_id: str
    score: float
    head: int | None = None
    sources: tuple[str, ...] = ()
    """Of a hybrid: ``dense``, ``lexical``, ``memory``."""
    anonymous_rank: int | None = None
    """With a user: its rank, from 1, for the same query without one; None where it is not in that list."""
    grade: Grade | None = None
    """By the judge who asks, or else the mean of the others, rounded."""


class Item(Message):
    """What a card shows."""

    item_id: str
    title: str
    image: str | None = None
    """An http or https URL, where the catalogue has a column of them."""
    fields: dict[str, str] = {}
    """Column -> value: price, brand and the others of the catalogue."""


class ColumnResult(Message):
    """The list of a column."""

    column: Column
    title: str
    """What the column is called on the page."""
    items: tuple[Found, ...] = ()
    version: int | None = None
    milliseconds: float = 0.0
    """From the request to the server up to its answer."""
    error: str | None = None
    """In place of items: what the server or the baseline said."""
    figures: dict[str, float] = {}
    """``ndcg@10``, ``precision@10``, ``err@10`` and ``judged@10`` of this query, where it has judgements."""


class Agreement(Message):
    """How two columns agree on a query."""

    columns: tuple[int, int]
    overlap_10: float
    """Share of the ten best of either that are in the ten best of both."""
    rank_biased_overlap: float
    """RBO with p = 0.9 (Webber et al., 2010), extrapolated."""


class FacetValue(Message):
    """A value of a column among the items found."""

    value: str
    count: int


class SearchAnswer(Message):
    """Lists, and the items in any of them."""

    results: tuple[ColumnResult, ...]
    items: dict[str, Item]
    facets: dict[str, tuple[FacetValue, ...]] = {}
    """Filter column -> its most frequent values among the items of the first column."""
    agreement: tuple[Agreement, ...] = ()


class FilterColumn(Message):
    """A column that results can be filtered by."""

    column: str
    kind: Literal["category", "number"]


class Shop(Message):
    """What the page has to know before the first query."""

    name: str
    version: str
    """Of dpsr."""
    target: str
    """``host:port`` of the server."""
    items: int
    filters: tuple[FilterColumn, ...] = ()
    profile: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    """Some user ids, for the picker."""
    columns: tuple[Column, ...] = ()
    """What can be compared: modes, heads, versions, labels, variants, baselines."""
    column_titles: tuple[str, ...] = ()
    """Of ``columns``."""
    queries: tuple[str, ...] = ()
    """Some frequent queries of the log, as examples."""


# ----------------------------------------------------------------------------------------- explain


class ExplainRequest(Message):
    """Why an item stands where it stands."""

    query: Query
    item_id: str
    columns: Annotated[tuple[Column, ...], Field(max_length=3)] = ()
    """In whose lists its rank is looked up, among the best 1,000."""
    user: User | None = None


class TokenPart(Message):
    """A token of the query, and its part of a score."""

    token: str
    kind: str
    """``word``, ``bigram``, ``trigram``, ``subword``, ``term``; ``rest`` for what no token has, as a bias."""
    matched: bool
    """Whether the item's text has it too."""
    value: float
    """Its part; the parts of a score sum up to it."""


class HeadScore(Message):
    """The dense score of a head and what it is made of."""

    head: int
    score: float
    tokens: tuple[TokenPart, ...] = ()
    method: str
    """``exact`` or ``integrated gradients``."""


class Near(Message):
    """An item near the explained one."""

    item_id: str
    score: float


class Clicks(Message):
    """What the log says of a query and an item."""

    event: str
    count: int


class Explanation(Message):
    """Everything that is known of a pair."""

    item: Item
    heads: tuple[HeadScore, ...] = ()
    best_head: int | None = None
    lexical_score: float | None = None
    terms: tuple[TokenPart, ...] = ()
    """BM25 by term."""
    ranks: tuple[int | None, ...] = ()
    """From 1, in the list of every column."""
    near: tuple[Near, ...] = ()
    items: dict[str, Item] = {}
    """Those in ``near``."""
    log: tuple[Clicks, ...] = ()
    notes: tuple[str, ...] = ()
    """What cannot be said of this model, and why."""


# ----------------------------------------------------------------------------------------- judge, bad cases


class NewBook(Message):
    """A book by its queries, or sampled from the log."""

    name: Name
    queries: Annotated[tuple[Query, ...], Field(max_length=10_000)] = ()
    sample: Literal["frequency", "disagreement"] | None = None
    """``frequency``: of the log's queries by their clicks; ``disagreement``: those on which two columns agree least."""
    count: Annotated[int, Field(ge=1, le=1000)] = 50
    columns: Annotated[tuple[Column, ...], Field(max_length=2)] = ()
    """For ``disagreement``."""
    seed: int = 1


class BookFigures(Message):
    """Quality of a column over the judged queries of a book."""

    title: str
    queries: int
    values: dict[str, tuple[float, float, float]] = {}
    """Measure -> mean and its 95 % interval by a bootstrap over queries."""
    refused: tuple[str, ...] = ()
    """Queries that the server took for too long; they count as without results."""


class BookReport(Message):
    """How columns do on a book, and how judges agree."""

    figures: tuple[BookFigures, ...] = ()
    alpha: float | None = None
    """Krippendorff's alpha, ordinal; None with fewer than two judges of the same pair."""
    pairs: int = 0
    """Judged pairs."""
    judges: dict[str, int] = {}
    """Judge -> judgements."""


class NewSnapshot(Message):
    """Asks for the results of a book's queries to be kept."""

    name: Name
    book: Name
    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=3)] = (Column(),)
    count: Count = 50


class SnapshotDifference(Message):
    """A query of two snapshots, in one column."""

    query: str
    column: int
    overlap_10: float
    entered: tuple[str, ...] = ()
    """Items in the ten best of the second snapshot alone."""
    left: tuple[str, ...] = ()
    moved: dict[str, tuple[int, int]] = {}
    """Item -> its ranks, of those in both lists at different ranks."""
