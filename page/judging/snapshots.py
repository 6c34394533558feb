"""Snapshots: the lists of a book's queries with version and settings, and how two of them differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dpsr.config import Config
from dpsr.data.judgements.records import Snapshot
from dpsr.data.judgements.store import JudgementStore
from dpsr.evaluation.measures.rank_biased_overlap import overlap
from dpsr.page.contract import NewSnapshot, SnapshotDifference
from dpsr.page.errors import PageError
from dpsr.page.judging.lists import ListSource

_DEPTH = 10


def take_snapshot(new: NewSnapshot, store: JudgementStore, source: ListSource, config: Config) -> Snapshot:
    """Asks the queries of a book in every column and keeps the lists.

    Raises:
        PageError: the book has no query, or a column cannot answer.
        JudgementError: the store has no such book, or cannot be written.
    """
    queries = [each.query for each in store.book(new.book).queries]
    if not queries:
        raise PageError(f"book {new.book!r} has no query; add some before a snapshot")
    answers = [source.lists(queries, column, new.count) for column in new.columns]
    columns = [[[(each.item_id, each.score) for each in found or ()] for found in lists] for lists in answers]
    by_query = zip(queries, zip(*answers, strict=True), strict=True)
    snapshot = Snapshot(
        id=0,
        name=new.name,
        book=new.book,
        taken_at=0.0,
        columns=new.columns,
        versions=tuple(source.version(column) for column in new.columns),
        settings=dict(_settings(config.model_dump(mode="json"))),
        refused=tuple(query for query, lists in by_query if None in lists),
    )
    return store.add_snapshot(snapshot, dict(zip(queries, zip(*columns, strict=True), strict=True)))


def difference(store: JudgementStore, first: int, second: int) -> list[SnapshotDifference]:
    """Compares the queries that two snapshots have, column by column; a column that one of them lacks is left out.

    Moved items are those in both lists at different ranks, with one rank at least among the ten best.

    Raises:
        MissingRecordError: a snapshot is not kept.
    """
    before, after = store.snapshot_lists(first), store.snapshot_lists(second)
    return [
        list_difference(query, column, [item for item, _ in old], [item for item, _ in new])
        for query, columns in before.items()
        if query in after
        for column, (old, new) in enumerate(zip(columns, after[query], strict=False))
    ]


def list_difference(query: str, column: int, old: list[str], new: list[str]) -> SnapshotDifference:
    """Compares two lists of item ids, best first."""
    ranks = {item: rank for rank, item in enumerate(old, 1)}
    pairs = {item: (ranks[item], rank) for rank, item in enumerate(new, 1) if item in ranks}
    best, best_before = new[:_DEPTH], old[:_DEPTH]
    return SnapshotDifference(
        query=query,
        column=column,
        overlap_10=overlap(best_before, best, _DEPTH),
        entered=tuple(item for item in best if item not in best_before),
        left=tuple(item for item in best_before if item not in best),
        moved={item: pair for item, pair in pairs.items() if pair[0] != pair[1] and min(pair) <= _DEPTH},
    )


def _settings(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The values of a configuration as texts, by dotted name; those that are not set are left out."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", str(value)
