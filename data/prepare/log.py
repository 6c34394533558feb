"""The interaction log: raw rows to records of dense ids, cut into splits by time, each with its past.

The work on the rows of one batch; ``streamed`` runs it in this process, ``spark`` in executors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.data.dataset.schema import EVENTS, INTERACTION, SKIP, DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.vocabulary import RowIndex
from dpsr.data.raw.readers import Chunk
from dpsr.data.raw.rejected import RejectsRows
from dpsr.data.raw.timestamps import Clock
from dpsr.data.raw.values import trimmed_strings

TIMED = np.dtype([*[(name, "<i4") for name in INTERACTION.names or ()], ("time", "<i8"), ("row", "<i8")])
"""An interaction with its time and its place in the log, which orders equal times."""

FOREVER = np.iinfo(np.int64).max

TIME_BINS = 1 << 16

_DAY = 86_400_000_000_000
"""In nanoseconds."""

UNKNOWN_ITEM = "unknown item_id"
"""Why a row of an item that the catalogue does not have cannot be used."""

_SHUFFLE_SEED = np.uint64(20200425)


@dataclass(frozen=True)
class RowReader:
    """Checks raw rows and turns their ids into rows of the tables; needs nothing but the rows and the tables."""

    items: RowIndex
    """The catalogue's ids."""
    item_ids_as: Callable[[pa.Array], pa.Array]
    """Casts ids of the log to the catalogue's type; null where that cannot be."""
    users: RowIndex | None
    """The ids of the users table, where there is one."""
    user_ids_as: Callable[[pa.Array], pa.Array]
    """Turns ids of the log into those of ``users``."""
    clock: Clock
    latest: int = field(default_factory=lambda: (time.time_ns() + _DAY) // 1000)
    """Time in microseconds since 1970 beyond which a timestamp cannot be: a day from now."""

    def read(self, chunk: Chunk, first: int, rejected: RejectsRows) -> pa.RecordBatch:
        """The usable rows of a chunk.

        Args:
            chunk: raw rows.
            first: how many rows were read before; the time of the first row where the log has no times.
            rejected: takes the rows that cannot be used, in their order.

        Returns:
            ``query`` string; ``user_id`` string, null is anonymous; ``user`` int32, -1 is not in the users table;
            ``item`` int32; ``event`` int32; ``time`` int64.
        """
        columns, size = chunk.columns, len(chunk.rows)
        query = trimmed_strings(columns["query"])
        item = self.items.find(self.item_ids_as(columns["item_id"]))
        event = event_codes(columns["event"]) if "event" in columns else np.full(size, EVENTS["click"], np.int32)
        if "timestamp" in columns:
            times, timed = self.clock.read(columns["timestamp"])
        else:
            times, timed = np.arange(first, first + size), np.ones(size, dtype=bool)
        passed = (times <= self.latest) if self.clock.unit == "timestamp" else np.ones(size, dtype=bool)
        usable = np.ones(size, dtype=bool)
        reasons: dict[int, tuple[str, str]] = {}
        for reason, column, good in (
            ("empty query", "query", query.is_valid().to_numpy(zero_copy_only=False)),
            (UNKNOWN_ITEM, "item_id", item >= 0),
            ("unknown event", "event", event > 0),
            ("unreadable timestamp", "timestamp", timed),
            ("timestamp in the future", "timestamp", passed),
        ):
            reasons |= dict.fromkeys(np.flatnonzero(usable & ~good).tolist(), (reason, column))
            usable &= good
        for position, (reason, column) in sorted(reasons.items()):
            chunk.reject(rejected, position, reason, column)
        kept = pa.array(usable)
        user_id = pa.nulls(int(usable.sum()), pa.string())
        if "user_id" in columns:
            user_id = self.user_ids_as(columns["user_id"]).filter(kept)
        user = self.users.find(user_id) if self.users is not None else np.full(len(user_id), -1, np.int32)
        return pa.RecordBatch.from_pydict(
            {
                "query": query.filter(kept),
                "user_id": user_id,
                "user": user,
                "item": item[usable],
                "event": event[usable],
                "time": times[usable].astype(np.int64, copy=False),
            }
        )


def event_codes(column: pa.Array) -> np.ndarray:
    """Event codes, int32 [n]; without a value a click, 0 where there is no such event."""
    names = pc.fill_null(pc.utf8_lower(trimmed_strings(column)), "click")
    found = pc.index_in(names, value_set=pa.array(list(EVENTS)))
    codes = np.array([*EVENTS.values(), 0], dtype=np.int32)
    return codes[pc.fill_null(found, len(EVENTS)).to_numpy(zero_copy_only=False)]


class SortedRecords(Protocol):
    """The records of a log in the orders of the dataset's files, TIMED [n] at a time."""

    def by_user(self) -> Iterator[np.ndarray]:
        """All, by (user, time, place in the log), those of user -1 last; to be read to the end before the others."""
        ...

    def train(self) -> Iterator[np.ndarray]:
        """The train split by ``shuffle_keys``; those of the dataset before have places behind the log's."""
        ...

    def skips(self) -> Iterator[np.ndarray]:
        """The skips of the train period by (time, place in the log)."""
        ...

    def later(self, split: str) -> Iterator[np.ndarray]:
        """The ``valid`` or ``test`` split by (time, place in the log)."""
        ...


class Records(Protocol):
    """The records of a log, wherever they are."""

    def count_times(self, low: int, high: int, width: int) -> np.ndarray:
        """How many clicks and purchases of low..high are in each bin ``(time - low) // width``, int64 [TIME_BINS]."""
        ...

    def queries_before(self, time: int) -> Iterator[np.ndarray]:
        """The queries of the records before a time, integers [n]; each at least once."""
        ...

    def sorted(
        self, log: Log, boundaries: Boundaries, num_users: int, before: Dataset | None
    ) -> AbstractContextManager[SortedRecords]:
        """Gives every record its ``history_end`` and sorts them.

        Args:
            log: what is known of these records.
            boundaries: what cuts them.
            num_users: users of the table; a record's user is below it, or -1.
            before: the dataset that is appended to: its clicks and purchases come to the train split.
        """
        ...

    def close(self) -> None:
        """Removes the records."""
        ...


@dataclass
class Log:
    """What one pass over the log has found."""

    records: Records
    queries: RowIndex
    clock: Clock = field(default_factory=Clock)
    rows: int = 0
    """Rows read, usable or not."""
    accepted: int = 0
    events: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EVENTS, 0))
    unknown_users: int = 0
    """Interactions whose user the users table does not have."""
    first_time: int = FOREVER
    last_time: int = -FOREVER


@dataclass(frozen=True)
class Boundaries:
    """The first times of the valid and of the test period."""

    valid: int
    test: int

    def of(self, time: np.ndarray) -> np.ndarray:
        """The split of each time, integers [n]: 0 train, 1 valid, 2 test."""
        return (time >= self.valid).astype(np.int64) + (time >= self.test)


def find_boundaries(log: Log, valid_share: float, test_share: float) -> Boundaries:
    """Cuts the log by time, so that the latest clicks and purchases are the test split and those before it the valid.

    Equal times are never parted; where many are equal, the later split gets them all.

    Raises:
        DatasetError: nothing is left to train on.
    """
    total = log.accepted - log.events["skip"]
    if not total:
        raise DatasetError(f"interactions: no click and no purchase among {log.rows:,} rows; nothing to train on")
    num_test, num_valid = round(total * test_share), round(total * valid_share)
    test = _time_at(log, total - num_test)
    valid = min(test, _time_at(log, total - num_test - num_valid))
    boundaries = Boundaries(valid, test)
    if valid <= _time_at(log, 0):
        raise DatasetError(
            f"interactions: nothing is left to train on: of {total:,} clicks and purchases the valid and test shares "
            f"take all from {log.clock.text(valid)} on, the earliest time; use finer timestamps or lower "
            "data.valid_share and data.test_share"
        )
    return boundaries


def _time_at(log: Log, rank: int) -> int:
    """The time of the click or purchase of this rank by time, from 0; ``FOREVER`` behind the last."""
    if rank >= log.accepted - log.events["skip"]:
        return FOREVER
    low, high = log.first_time, log.last_time  # the time is in low..high, and ``rank`` counts from low
    while low < high:
        width = (high - low) // TIME_BINS + 1
        counts = log.records.count_times(low, high, width)
        ends = np.cumsum(counts)
        position = int(np.searchsorted(ends, rank, side="right"))
        rank -= int(ends[position] - counts[position])
        low, high = low + position * width, min(high, low + (position + 1) * width - 1)
    return low


def history_ends(records: np.ndarray) -> np.ndarray:
    """How many clicks and purchases of the same user are strictly before each record.

    Args:
        records: TIMED [n], all of some users, by (user, time).

    Returns:
        Integers [n]; 0 for user -1.
    """
    if not len(records):
        return np.zeros(0, dtype=np.int64)
    user, time = records["user"], records["time"]
    seen = (records["event"] != SKIP) & (user >= 0)
    before = np.cumsum(seen) - seen  # over all users
    new_user = np.diff(user, prepend=user[0] - 1) != 0
    new_moment = new_user | (np.diff(time, prepend=time[0]) != 0)
    start_of_user = np.maximum.accumulate(np.where(new_user, before, 0))
    start_of_moment = np.maximum.accumulate(np.where(new_moment, before, 0))
    return start_of_moment - start_of_user


def shuffle_keys(rows: np.ndarray) -> np.ndarray:
    """The keys whose order is the order of the train split: a hash of the place in the log (SplitMix64), int64 >= 0.

    A key depends on nothing but the place, so that any number of processes can shuffle.

    Args:
        rows: integers [n].
    """
    key = rows.astype(np.uint64) + _SHUFFLE_SEED
    key *= np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((key ^ (key >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)
