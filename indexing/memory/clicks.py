"""Clicks of each query, decayed by their age: counted in one pass over a raw log."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dpsr.config import Config, InteractionsConfig
from dpsr.data.dataset.schema import SKIP, DatasetError
from dpsr.data.prepare.log import FOREVER, UNKNOWN_ITEM, RowReader
from dpsr.data.prepare.privacy import UserIds
from dpsr.data.prepare.vocabulary import RowIndex
from dpsr.data.raw.readers import Source
from dpsr.data.raw.rejected import CollectedRows, RejectedRows
from dpsr.data.raw.timestamps import Clock
from dpsr.data.raw.values import Kind, id_strings, whole_ids
from dpsr.indexing.catalogue import Catalogue
from dpsr.tokenizer_cc.terms import query_keys

_MICROSECONDS_PER_DAY = 86_400_000_000
_LEAST_MERGED = 1 << 20
_MOST_ITEMS = 256
_LEAST_COUNT = 1e-4


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
    """A raw log, read as often as ``blocks`` is called."""

    source: Source
    reader: RowReader
    max_rejected_share: float
    unknown_items: int = 0
    """Rows of the last pass whose item the catalogue does not have."""

    @classmethod
    def open(cls, config: Config, catalogue: Catalogue, path: str | None) -> ClickLog:
        """Opens a log over the items of a catalogue.

        Args:
            config: ``data.interactions`` maps the columns.
            catalogue: clicks on other items are passed over.
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
        columns = given.columns if given else {}
        given = InteractionsConfig(path=path, columns={name: columns[name] for name in columns if name != "user_id"})
        optional = {"timestamp": Kind.TIME, "event": Kind.EVENT}
        source = Source("interactions", given, {"query": Kind.TEXT, "item_id": Kind.ID}, optional)
        numeric = catalogue.item_ids.dtype.kind == "i"
        reader = RowReader(
            RowIndex(catalogue.item_ids.tolist()), whole_ids if numeric else id_strings, None, UserIds(), Clock()
        )
        log = cls(source, reader, config.data.max_rejected_share)
        for chunk in source.chunks(unusable := CollectedRows()):
            reader.read(chunk, 0, unusable)
            if reader.clock.known or "timestamp" not in source.columns:
                break
        return log

    @property
    def unit(self) -> str:
        """Of its times; see ``Clock.unit``."""
        return self.reader.clock.unit

    def ticks(self, half_life: float) -> float:
        """A half-life of ``index.memory`` as the times of the log count."""
        return half_life * (_MICROSECONDS_PER_DAY if self.unit == "timestamp" else 1)

    def blocks(self, until: int = FOREVER) -> Iterator[ClickBlock]:
        """Streams the clicks and purchases before a time.

        Raises:
            DatasetError: a file is damaged, or more rows than ``data.max_rejected_share`` cannot be used; a row of an
                item that the catalogue does not have is passed over, and counted in ``unknown_items``.
        """
        rows, self.unknown_items = 0, 0
        with (
            tempfile.TemporaryDirectory() as scratch,
            _Unusable(Path(scratch), "interactions") as rejected,
        ):
            for chunk in self.source.chunks(rejected):
                batch = self.reader.read(chunk, rows, rejected)
                rows += len(chunk.rows)
                times, events = batch.column("time").to_numpy(), batch.column("event").to_numpy()
                keys = query_keys(batch.column("query").to_pylist())
                taken = (keys != 0) & (times < until) & (events != SKIP)
                yield ClickBlock(keys[taken], batch.column("item").to_numpy()[taken], times[taken])
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


def count_clicks(blocks: Iterable[ClickBlock], half_lives: Sequence[float]) -> list[Clicks]:
    """Counts the clicks of every query on every item, each as ``2 ** -(age / half-life)`` at the time of the last one.

    Memory grows with the distinct pairs of query and item, not with the clicks. A query keeps its 256 items of the
    highest counts; counts below 0.0001 are left out.

    Args:
        blocks: the log, in any order.
        half_lives: in the unit of the times; infinity counts every click as one.

    Returns:
        The counts by each half-life.
    """
    pairs = _Pairs(np.array(half_lives))
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

    def __init__(self, half_lives: np.ndarray) -> None:
        self._half_lives = half_lives
        self._last = 0
        self.keys, self._items = np.zeros(0, np.int64), np.zeros(0, np.int32)
        self._counts = np.zeros((0, len(half_lives)))

    def add(self, blocks: Sequence[ClickBlock]) -> None:
        """Counts more clicks; what was counted before ages by the time between."""
        keys, items, times = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        if not len(keys):
            return
        last = int(times.max())
        last = max(last, self._last) if len(self.keys) else last
        aged = self._counts * self._decay(np.array([last - self._last])) if len(self.keys) else self._counts
        keys, items = np.concatenate([self.keys, keys]), np.concatenate([self._items, items])
        counts = np.concatenate([aged, self._decay(last - times)])
        order = np.lexsort((items, keys))
        keys, items = keys[order], items[order]
        new = np.ones(len(keys), bool)
        new[1:] = (np.diff(keys) != 0) | (np.diff(items) != 0)
        first = np.flatnonzero(new)
        self._last = last
        self.keys, self._items = keys[first], items[first]
        self._counts = np.add.reduceat(counts[order], first, axis=0)

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

    def _decay(self, ages: np.ndarray) -> np.ndarray:
        """float64 [n, half-lives]."""
        return np.exp2(-ages[:, np.newaxis] / self._half_lives)
