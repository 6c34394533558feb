"""The log on one machine: streamed, spilled to disk, and sorted there in buckets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from dpsr.data.dataset import spill
from dpsr.data.dataset.records import record_blocks
from dpsr.data.dataset.schema import EVENTS, INTERACTION, SKIP, SPLITS, split_file
from dpsr.data.dataset.spill import Buckets, Spill, num_buckets
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.ages import AgeScale
from dpsr.data.prepare.catalogue_queries import CatalogueQueries
from dpsr.data.prepare.log import TIME_BINS, TIMED, Boundaries, Log, RowReader, history_ends, shuffle_keys
from dpsr.data.prepare.time_ranges import TimeRanges
from dpsr.data.prepare.vocabulary import RowIndex
from dpsr.data.raw.readers import Source
from dpsr.data.raw.rejected import RejectsRows


def read_log(
    source: Source | CatalogueQueries,
    reader: RowReader,
    users: RowIndex,
    queries: RowIndex,
    *,
    rejected: RejectsRows,
    scratch: Path,
    advance: Callable[[int], object],
) -> Log:
    """Streams the log once: checks each row, turns ids into rows of the tables, spills the records.

    Args:
        source: the raw log.
        reader: checks and converts the rows.
        users: the users' ids; extended by those of the log where ``reader`` has no users table.
        queries: the query texts; extended by those of the log.
        rejected: collects the rows that cannot be used.
        scratch: a directory for the spilled records.
        advance: called with the number of rows after each chunk.
    """
    spilled = Spill(scratch / "log", TIMED)
    log = Log(SpilledRecords(spilled, scratch), queries, reader.clock)
    for chunk in source.chunks(rejected):
        batch = reader.read(chunk, log.rows, rejected)
        log.rows += len(chunk.rows)
        records = _records(batch, log, users if reader.users is None else None)
        spilled.append(records)
        for name, code in EVENTS.items():
            log.events[name] += int((records["event"] == code).sum())
        if len(records):
            log.first_time = min(log.first_time, int(records["time"].min()))
            log.last_time = max(log.last_time, int(records["time"].max()))
        advance(len(chunk.rows))
    return log


def _records(batch: pa.RecordBatch, log: Log, new_users: RowIndex | None) -> np.ndarray:
    records = np.zeros(len(batch), dtype=TIMED)
    for name in ("user", "item", "event", "time"):
        records[name] = batch.column(name).to_numpy()
    records["query"] = log.queries.add(batch.column("query"))
    if new_users is not None:
        records["user"] = new_users.add(batch.column("user_id"))
    else:
        given = batch.column("user_id").is_valid().to_numpy(zero_copy_only=False)
        log.unknown_users += int((given & (records["user"] < 0)).sum())
    records["row"] = np.arange(log.accepted, log.accepted + len(records))
    log.accepted += len(records)
    return records


class SpilledRecords:
    """Records spilled to one file; see ``log.Records``."""

    def __init__(self, spilled: Spill, scratch: Path) -> None:
        """Takes the file, and a directory for the buckets of a sort."""
        self._spilled, self._scratch = spilled, scratch

    def count_times(self, low: int, high: int, width: int) -> np.ndarray:
        """See ``log.Records``."""
        counts = np.zeros(TIME_BINS, dtype=np.int64)
        for records in self._spilled.blocks():
            time = records["time"][records["event"] != SKIP]
            time = time[(time >= low) & (time <= high)]
            counts += np.bincount((time - low) // width, minlength=TIME_BINS)
        return counts

    def queries_before(self, time: int) -> Iterator[np.ndarray]:
        """See ``log.Records``."""
        for records in self._spilled.blocks():
            yield records["query"][records["time"] < time]

    @contextmanager
    def sorted(
        self, log: Log, boundaries: Boundaries, num_users: int, before: Dataset | None
    ) -> Iterator[BucketedRecords]:
        """See ``log.Records``."""
        with ExitStack() as stack:
            yield BucketedRecords(self._spilled, self._scratch, stack, log, boundaries, num_users, before)

    def close(self) -> None:
        """See ``log.Records``."""
        self._spilled.close()


class BucketedRecords:
    """Records in the buckets of distribution sorts; see ``log.SortedRecords``."""

    def __init__(
        self,
        spilled: Spill,
        scratch: Path,
        stack: ExitStack,
        log: Log,
        boundaries: Boundaries,
        num_users: int,
        before: Dataset | None,
    ) -> None:
        """Takes the records and what is known of them; ``stack`` removes the buckets."""
        self._spilled, self._scratch, self._stack, self._log = spilled, scratch, stack, log
        self._boundaries, self._num_users, self._before = boundaries, num_users, before
        self._ranges = {name: TimeRanges() for name in ("valid", "test", "skips")}
        self._buckets: dict[str, Buckets] = {}

    def by_user(self) -> Iterator[np.ndarray]:
        """See ``log.SortedRecords``; distributes the records over the other buckets too."""
        records_of_user = self._survey()
        past_events = np.zeros(self._num_users + 1, dtype=np.int64)  # the last is user -1, without history
        if self._before:
            past_events[: len(self._before.history)] = np.diff(self._before.history.row_splits)
        for records in self._of_users(records_of_user):
            records["history_end"] = history_ends(records) + past_events[records["user"]]
            self._distribute(records)
            yield records
        if self._before:
            self._add_past(self._before)

    def train(self) -> Iterator[np.ndarray]:
        """See ``log.SortedRecords``."""
        for part in self._buckets["train"].read():
            yield part[_order_of_keys(shuffle_keys(part["row"]), part["row"])]

    def skips(self) -> Iterator[np.ndarray]:
        """See ``log.SortedRecords``."""
        return _in_order_of_time(self._buckets["skips"].read())

    def later(self, split: str) -> Iterator[np.ndarray]:
        """See ``log.SortedRecords``."""
        return _in_order_of_time(self._buckets[split].read())

    def _survey(self) -> np.ndarray:
        """Counts the records of every user, int64 [users + 1], user -1 last; cuts the ranges, opens the buckets."""
        records_of_user = np.zeros(self._num_users + 1, dtype=np.int64)
        in_train = 0
        for records in self._spilled.blocks():
            records_of_user += np.roll(np.bincount(records["user"] + 1, minlength=len(records_of_user)), -1)
            for name, chosen in self._choose(records):
                if name == "train":
                    in_train += int(chosen.sum())
                else:
                    self._ranges[name].add(records[chosen])
        if self._before:
            in_train += sum(self._before.num_interactions(name) for name in SPLITS)
        sizes = {"train": num_buckets(in_train)}
        for name, ranges in self._ranges.items():
            ranges.cut(self._log.accepted)
            sizes[name] = len(ranges)
        self._buckets = {
            name: self._stack.enter_context(Buckets(self._scratch, name, size, TIMED)) for name, size in sizes.items()
        }
        return records_of_user

    def _of_users(self, records_of_user: np.ndarray) -> Iterator[np.ndarray]:
        """All records by (user, time, place in the log), a bucket of users at a time."""
        known, unknown = records_of_user[:-1], int(records_of_user[-1])
        bucket_of_user = (np.cumsum(known) - known) // spill.BUCKET_RECORDS
        known_buckets = int(bucket_of_user[-1]) + 1 if len(known) else 0
        first = known_buckets * spill.BUCKET_RECORDS  # records without a user fill the buckets behind as they arrive
        with Buckets(self._scratch, "users", known_buckets + num_buckets(unknown), TIMED) as buckets:
            for records in self._spilled.blocks():
                user = records["user"]
                is_known = user >= 0
                place = first + np.cumsum(~is_known) - 1
                bucket = place // spill.BUCKET_RECORDS
                bucket[is_known] = bucket_of_user[user[is_known]]
                buckets.append(bucket, records)
                first += int((~is_known).sum())
            for records in buckets.read():
                yield records[np.lexsort((records["row"], records["time"], records["user"]))]

    def _choose(self, records: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Each file of records with the records that it holds, bool [n]; skips after the train period are in none."""
        split = self._boundaries.of(records["time"])
        skipped = records["event"] == SKIP
        for number, name in enumerate(SPLITS):
            yield name, (split == number) & ~skipped
        yield "skips", (split == 0) & skipped

    def _distribute(self, records: np.ndarray) -> None:
        for name, mask in self._choose(records):
            chosen = records[mask]
            bucket = self._by_key(chosen["row"]) if name == "train" else self._ranges[name].of(chosen)
            self._buckets[name].append(bucket, chosen)

    def _by_key(self, rows: np.ndarray) -> np.ndarray:
        """The bucket of the train split by ``shuffle_keys``, whose range is cut into equal pieces."""
        return ((shuffle_keys(rows) >> 31) * len(self._buckets["train"])) >> 32

    def _add_past(self, before: Dataset) -> None:
        """Adds the clicks and purchases of the dataset before to the train split."""
        first, scale = self._log.accepted, AgeScale.of_dataset(before)
        for name in SPLITS:
            place = 0
            for records in record_blocks(before.directory / split_file(name)):
                timed = np.zeros(len(records), dtype=TIMED)
                if scale is not None:
                    timed["time"] = scale.times(before.ages(name)[place : place + len(records)])
                place += len(records)
                for column in INTERACTION.names or ():
                    timed[column] = records[column]
                timed["row"] = np.arange(first, first + len(timed))
                first += len(timed)
                self._buckets["train"].append(self._by_key(timed["row"]), timed)


def _order_of_keys(keys: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The order by key, equal keys by row.

    Hashes of distinct rows are hardly ever equal, and one key sorts several times as fast as two.
    """
    order = np.argsort(keys)
    ascending = keys[order]
    return np.lexsort((rows, keys)) if (ascending[1:] == ascending[:-1]).any() else order


def _in_order_of_time(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    return (part[np.lexsort((part["row"], part["time"]))] for part in parts)
