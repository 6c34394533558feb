"""Clicks of each query, decayed by their age: counted over a raw log."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from dpsr.config import Config, InteractionsConfig
from dpsr.data.dataset.schema import SKIP, DatasetError
from dpsr.data.prepare.log import FOREVER, UNKNOWN_ITEM, RowReader
from dpsr.data.prepare.privacy import UserIds
from dpsr.data.prepare.vocabulary import RowIndex
from dpsr.data.raw.files import find_files
from dpsr.data.raw.readers import Source
from dpsr.data.raw.rejected import CollectedRows, RejectedRows
from dpsr.data.raw.timestamps import Clock
from dpsr.data.raw.values import Kind, id_strings, whole_ids
from dpsr.tokenizer_cc.terms import query_keys

_MICROSECONDS_PER_DAY = 86_400_000_000
_LEAST_MERGED = 1 << 20
_MOST_ITEMS = 256
_LEAST_COUNT = 1e-6


class ClickBlock(NamedTuple):
    """Some clicks of a log, n of them."""

    keys: np.ndarray
    """int64 [n], of the queries; see ``tokenizer_cc.terms.query_keys``."""
    items: np.ndarray
    """int32 [n], item rows."""
    times: np.ndarray
    """int64 [n]."""


class Clicks(NamedTuple):
    """Decayed clicks of Q queries on P items altogether."""

    keys: np.ndarray
    """int64 [Q], ascending."""
    row_splits: np.ndarray
    """int64 [Q + 1]; query i has the items ``rows[row_splits[i]:row_splits[i + 1]]``."""
    rows: np.ndarray
    """int32 [P], item rows; those of a query by descending count."""
    counts: np.ndarray
    """float32 [P], above 0."""


@dataclass
class ClickLog:
    """A raw log, read from its beginning by every method."""

    source: Source
    times: Source
    """The same files with their times alone, where they have any."""
    reader: RowReader
    has_item: np.ndarray
    """bool [items], False for a row without an item."""
    max_rejected_share: float
    unknown_items: int = 0
    """Rows of the last pass whose item is none of the given ones."""

    @classmethod
    def open(cls, config: Config, item_ids: np.ndarray, path: str | None) -> ClickLog:
        """Opens a log of clicks on given items.

        Args:
            config: ``data.interactions`` maps the columns.
            item_ids: str or int64 [items], whose places are the rows of ``ClickBlock.items``; clicks on other items are
                passed over.
            path: file or glob; None for that of the configuration.

        Raises:
            DatasetError: no log is configured, or it cannot be read.
        """
        given = config.data.interactions
        if path is None:
            if given is None:
                raise DatasetError(
                    "index.memory: the run has no log of clicks; set data.interactions, or name a log with --log"
                )
            path = given.path
        else:
            find_files(path, "--log")  # so that its error names what was asked for
        columns = given.columns if given else {}
        given = InteractionsConfig(path=path, columns={name: columns[name] for name in columns if name != "user_id"})
        optional = {"timestamp": Kind.TIME, "event": Kind.EVENT}
        source = Source("interactions", given, {"query": Kind.TEXT, "item_id": Kind.ID}, optional)
        numeric = item_ids.dtype.kind == "i"
        reader = RowReader(RowIndex(item_ids.tolist()), whole_ids if numeric else id_strings, None, UserIds(), Clock())
        times = source
        if "timestamp" in source.columns:
            column = {"timestamp": given.columns["timestamp"]} if "timestamp" in given.columns else {}
            times = Source("interactions", given.model_copy(update={"columns": column}), {"timestamp": Kind.TIME})
        log = cls(source, times, reader, item_ids != (-1 if numeric else ""), config.data.max_rejected_share)
        for chunk in source.chunks(unusable := CollectedRows()):
            reader.read(chunk, 0, unusable)
            if reader.clock.known or "timestamp" not in source.columns:
                break
        return log

    @property
    def unit(self) -> str:
        """Of its times; see ``Clock.unit``."""
        return self.reader.clock.unit

    def last_time(self) -> int:
        """The latest time of a row; without times the number of the last row."""
        if "timestamp" not in self.source.columns:
            return sum(len(chunk.rows) for chunk in self.source.chunks(CollectedRows())) - 1
        latest = -FOREVER
        for chunk in self.times.chunks(CollectedRows()):
            found, known = self.reader.clock.read(chunk.columns["timestamp"])
            latest = max(latest, int(found.max(initial=-FOREVER, where=known)))
        return latest

    def ticks(self, half_life: float) -> float:
        """A half-life of ``index.memory`` as the times of the log count."""
        return half_life * (_MICROSECONDS_PER_DAY if self.unit == "timestamp" else 1)

    def clicks(self, until: int = FOREVER) -> Iterator[ClickBlock]:
        """Streams the clicks and purchases before a time.

        Raises:
            DatasetError: as ``_batches``.
        """
        for batch in self._batches():
            times, events = batch.column("time").to_numpy(), batch.column("event").to_numpy()
            keys = query_keys(batch.column("query").to_pylist())
            items = batch.column("item").to_numpy()
            taken = (keys != 0) & self.has_item[items] & (times < until) & (events != SKIP)
            yield ClickBlock(keys[taken], items[taken], times[taken])

    def times_between(self, first: int, end: int) -> np.ndarray:
        """The times, from ``first`` on and before ``end``, of all usable rows; ascending, int64 [n].

        Raises:
            DatasetError: as ``_batches``.
        """
        found = [np.zeros(0, np.int64)]
        for batch in self._batches():
            times = batch.column("time").to_numpy()
            found.append(times[(times >= first) & (times < end)])
        return np.sort(np.concatenate(found))

    def _batches(self) -> Iterator[pa.RecordBatch]:
        """The usable rows; see ``RowReader.read``.

        Raises:
            DatasetError: a file is damaged, or more rows than ``data.max_rejected_share`` cannot be used; a row of an
                unknown item is passed over, and counted in ``unknown_items``.
        """
        rows = 0
        with tempfile.TemporaryDirectory() as scratch:
            rejected = _Unusable(Path(scratch), "interactions")
            with rejected:
                for chunk in self.source.chunks(rejected):
                    yield self.reader.read(chunk, rows, rejected)
                    rows += len(chunk.rows)
            # The list goes with the scratch directory; the error names the reasons and the first row.
            rejected.check(max(rows + rejected.malformed, 1), self.max_rejected_share, Path(self.source.files[0]))
        self.unknown_items = rejected.unknown_items


class _Unusable(RejectedRows):
    """Rejected rows without those of unknown items: items come and go, and a log remembers those that went."""

    unknown_items = 0

    def add(
        self, file: str, row: int, reason: str, value: Any = None, *, line: int | None = None, lines: int = 1
    ) -> None:
        if reason == UNKNOWN_ITEM:
            self.unknown_items += 1
        else:
            super().add(file, row, reason, value, line=line, lines=lines)


def count_clicks(blocks: Iterable[ClickBlock], half_lives: Sequence[float], now: int) -> list[Clicks]:
    """Counts the clicks of every query on every item, each as ``(1 + (sqrt(2) - 1) * age / half-life) ** -2``.

    Interest fades by a power of the time, as memory does (Anderson and Schooler, 1991): faster than by halves at
    first, and more slowly later. Memory grows with the distinct pairs of query and item, not with the clicks. A query
    keeps its 256 items of the highest counts; counts below 0.000001 are left out.

    Args:
        blocks: the log, in any order.
        half_lives: ages at which a click counts half, in the unit of the times; infinity counts every click as one.
        now: the time that ages are counted back from, that of the last click or later.

    Returns:
        The counts by each half-life.
    """
    pairs = _Pairs(np.array(half_lives), now)
    waiting: list[ClickBlock] = []
    for block in blocks:
        waiting.append(block)
        # A merge costs as much as all distinct pairs, so it waits for as many new ones.
        if sum(len(part.keys) for part in waiting) >= max(_LEAST_MERGED, len(pairs.keys)):
            pairs.add(waiting)
            waiting = []
    if waiting:
        pairs.add(waiting)
    return [pairs.clicks(number) for number in range(len(half_lives))]


class _Pairs:
    """Distinct pairs of query and item, ascending, with their counts by each half-life."""

    def __init__(self, half_lives: np.ndarray, now: int) -> None:
        self._scales = (np.sqrt(2) - 1) / half_lives
        self._now = now
        self.keys, self._items = np.zeros(0, np.int64), np.zeros(0, np.int32)
        self._counts = np.zeros((0, len(half_lives)))

    def add(self, blocks: Sequence[ClickBlock]) -> None:
        """Counts more clicks."""
        keys, items, times = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        if not len(keys):
            return
        fresh = (1 + np.outer(self._now - times, self._scales)) ** -2
        keys, items = np.concatenate([self.keys, keys]), np.concatenate([self._items, items])
        order = np.lexsort((items, keys))
        keys, items = keys[order], items[order]
        new = np.ones(len(keys), bool)
        new[1:] = (np.diff(keys) != 0) | (np.diff(items) != 0)
        first = np.flatnonzero(new)
        self.keys, self._items = keys[first], items[first]
        self._counts = np.add.reduceat(np.concatenate([self._counts, fresh])[order], first, axis=0)

    def clicks(self, number: int) -> Clicks:
        """The counts by one half-life."""
        counts = self._counts[:, number]
        kept = np.flatnonzero(counts >= _LEAST_COUNT)
        kept = kept[np.lexsort((self._items[kept], -counts[kept], self.keys[kept]))]
        queries, begins = np.unique(self.keys[kept], return_index=True)
        sizes = np.diff(begins, append=len(kept))
        place = np.arange(len(kept)) - np.repeat(begins, sizes)
        kept = kept[place < _MOST_ITEMS]
        row_splits = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.minimum(sizes, _MOST_ITEMS))])
        return Clicks(queries, row_splits, self._items[kept], counts[kept].astype(np.float32))
