"""The interaction log: raw rows to records of dense ids, cut into splits by time, each with its past."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.data.readers import Chunk, Source, trimmed_strings
from dpsr.data.rejected import RejectedRows
from dpsr.data.schema import EVENTS, INTERACTION, SKIP, DatasetError
from dpsr.data.spill import BUCKET_RECORDS, Buckets, Spill, num_buckets
from dpsr.data.timestamps import Clock
from dpsr.data.vocabulary import RowIndex

TIMED = np.dtype([*[(name, "<i4") for name in INTERACTION.names or ()], ("time", "<i8"), ("row", "<i8")])
"""An interaction with its time and its place in the log, which orders equal times."""

FOREVER = np.iinfo(np.int64).max


@dataclass
class Log:
    """What one pass over the log has found; the records themselves are spilled to disk."""

    records: Spill
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


def read_log(
    source: Source,
    items: RowIndex,
    item_ids_as: Callable[[pa.Array], pa.Array],
    users: RowIndex,
    queries: RowIndex,
    *,
    users_are_known: bool,
    user_ids_as: Callable[[pa.Array], pa.Array],
    rejected: RejectedRows,
    scratch: Path,
    advance: Callable[[int], object],
) -> Log:
    """Streams the log once: checks every row, turns ids into rows of the tables, spills the records.

    Args:
        source: the raw log.
        items: the catalogue's ids.
        item_ids_as: casts ids of the log to the catalogue's type; null where that cannot be.
        users: the users' ids; grows where there is no users table.
        users_are_known: there is a users table: others are counted and become user -1.
        user_ids_as: turns ids of the log into those of ``users``.
        queries: the query texts; grows by those of the log.
        rejected: takes the rows that cannot be used.
        scratch: a directory for the spilled records.
        advance: told the number of rows after each chunk.
    """
    log = Log(Spill(scratch / "log", TIMED), queries)
    for chunk in source.chunks(rejected):
        if "user_id" in chunk.columns:
            chunk.columns["user_id"] = user_ids_as(chunk.columns["user_id"])
        _read_chunk(chunk, log, items, item_ids_as, users, users_are_known, rejected)
        advance(len(chunk.rows))
    return log


def _read_chunk(
    chunk: Chunk,
    log: Log,
    items: RowIndex,
    item_ids_as: Callable[[pa.Array], pa.Array],
    users: RowIndex,
    users_are_known: bool,
    rejected: RejectedRows,
) -> None:
    columns, size = chunk.columns, len(chunk.rows)
    log.rows += size
    query = trimmed_strings(columns["query"])
    item = items.find(item_ids_as(columns["item_id"]))
    event = _events(columns["event"]) if "event" in columns else np.full(size, EVENTS["click"], np.int32)
    if "timestamp" in columns:
        time, timed = log.clock.read(columns["timestamp"])
    else:
        time, timed = np.arange(log.rows - size, log.rows), np.ones(size, dtype=bool)
    usable = np.ones(size, dtype=bool)
    for reason, column, good in (
        ("empty query", "query", query.is_valid().to_numpy(zero_copy_only=False)),
        ("unknown item_id", "item_id", item >= 0),
        ("unknown event", "event", event > 0),
        ("unreadable timestamp", "timestamp", timed),
    ):
        for position in np.flatnonzero(usable & ~good):
            value = columns[column][position].as_py()
            rejected.add(chunk.file, int(chunk.rows[position]), reason, value)
        usable &= good

    records = np.zeros(int(usable.sum()), dtype=TIMED)
    records["query"] = log.queries.add(query.filter(pa.array(usable)))
    records["user"] = _users(columns.get("user_id"), usable, users, users_are_known, log)
    records["item"], records["event"], records["time"] = item[usable], event[usable], time[usable]
    records["row"] = np.arange(log.accepted, log.accepted + len(records))
    log.records.append(records)
    log.accepted += len(records)
    for name, code in EVENTS.items():
        log.events[name] += int((records["event"] == code).sum())
    if len(records):
        log.first_time = min(log.first_time, int(records["time"].min()))
        log.last_time = max(log.last_time, int(records["time"].max()))


def _events(column: pa.Array) -> np.ndarray:
    """Event codes, int32 [n]; 0 where there is no such event."""
    names = pc.utf8_lower(trimmed_strings(column))
    found = pc.index_in(names, value_set=pa.array(list(EVENTS)))
    codes = np.array([*EVENTS.values(), 0], dtype=np.int32)
    return codes[pc.fill_null(found, len(EVENTS)).to_numpy(zero_copy_only=False)]


def _users(column: pa.Array | None, usable: np.ndarray, users: RowIndex, are_known: bool, log: Log) -> np.ndarray:
    if column is None:
        return np.full(int(usable.sum()), -1, dtype=np.int32)
    ids = column.filter(pa.array(usable))
    if not are_known:
        return users.add(ids)
    rows = users.find(ids)
    log.unknown_users += int((rows[ids.is_valid().to_numpy(zero_copy_only=False)] < 0).sum())
    return rows


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
    bins = 1 << 16
    while low < high:
        width = (high - low) // bins + 1
        counts = np.zeros(bins, dtype=np.int64)
        for records in log.records.blocks():
            time = records["time"][records["event"] != SKIP]
            time = time[(time >= low) & (time <= high)]
            counts += np.bincount((time - low) // width, minlength=bins)
        ends = np.cumsum(counts)
        position = int(np.searchsorted(ends, rank, side="right"))
        rank -= int(ends[position] - counts[position])
        low, high = low + position * width, min(high, low + (position + 1) * width - 1)
    return low


def with_histories(log: Log, num_users: int, scratch: Path) -> Iterator[np.ndarray]:
    """Gives every record its ``history_end``, a block of users at a time.

    Args:
        log: the spilled records.
        num_users: users of the table; a record's user is below it, or -1.
        scratch: a directory for the buckets.

    Yields:
        TIMED records [n], in the order of (user, time, place in the log); those of user -1 come last.
    """
    counts = np.zeros(num_users + 1, dtype=np.int64)  # user -1 counts at the end
    for records in log.records.blocks():
        counts += np.bincount(records["user"] % (num_users + 1), minlength=num_users + 1)
    bucket_of_user = (np.cumsum(counts[:-1]) - counts[:-1]) // BUCKET_RECORDS
    known_buckets = int(bucket_of_user[-1]) + 1 if num_users else 0
    unknown_buckets = num_buckets(int(counts[-1]))
    with Buckets(scratch, "users", known_buckets + unknown_buckets, TIMED) as buckets:
        for records in log.records.blocks():
            user = records["user"]
            bucket = known_buckets + records["row"] * unknown_buckets // max(log.accepted, 1)
            bucket[user >= 0] = bucket_of_user[user[user >= 0]]
            buckets.append(bucket, records)
        for records in buckets.read():
            records = records[np.lexsort((records["row"], records["time"], records["user"]))]
            if len(records) and records["user"][0] >= 0:
                records["history_end"] = _history_ends(records)
            yield records


def _history_ends(records: np.ndarray) -> np.ndarray:
    """For records by (user, time): the clicks and purchases of the user strictly before each, integers [n]."""
    user, time = records["user"], records["time"]
    seen = records["event"] != SKIP
    before = np.cumsum(seen) - seen  # over all users
    new_user = np.diff(user, prepend=-1) != 0
    new_moment = new_user | (np.diff(time, prepend=time[0]) != 0)
    start_of_user = np.maximum.accumulate(np.where(new_user, before, 0))
    start_of_moment = np.maximum.accumulate(np.where(new_moment, before, 0))
    return start_of_moment - start_of_user
