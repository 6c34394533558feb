"""The log on Spark: executors read, check, group and sort it; this process writes what they have sorted.

``data.prepare.log`` checks and converts the rows; this module distributes that work over executors. Between the stages
the rows are Parquet in the scratch directory, which all executors have to reach.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dpsr.data.dataset.schema import EVENTS, SKIP, DatasetError
from dpsr.data.dataset.spill import num_buckets
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.log import TIME_BINS, TIMED, Boundaries, Log, RowReader, history_ends, shuffle_keys
from dpsr.data.prepare.vocabulary import RowIndex
from dpsr.data.raw.readers import InputSplit, Source
from dpsr.data.raw.rejected import CollectedRows, RejectsRows

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# What the executors make of the raw log: an accepted row, a rejected one (``reason``) or what ends the job (``error``).
_ROWS = pa.schema(
    [
        ("split", pa.int32()),
        ("place", pa.int64()),  # among the accepted, or the rejected, rows of the split
        ("query", pa.string()),
        ("user_id", pa.string()),
        ("user", pa.int32()),
        ("item", pa.int32()),
        ("event", pa.int32()),
        ("time", pa.int64()),
        ("file", pa.string()),
        ("file_row", pa.int64()),
        ("reason", pa.string()),
        ("value", pa.string()),
        ("file_line", pa.int64()),
        ("file_lines", pa.int64()),
        ("error", pa.string()),
    ]
)
_RECORDS = pa.schema(
    [(name, pa.from_numpy_dtype(TIMED[name])) for name in TIMED.names or ()] + [("shuffle_key", pa.int64())]
)
_REJECTED = ["file", "file_row", "reason", "value", "file_line", "file_lines"]
"""The columns of ``RejectedRow``, in its order."""
_SQL_TYPES = {pa.int32(): "int", pa.int64(): "bigint", pa.string(): "string"}


@contextmanager
def spark_session(master: str | None = None) -> Iterator[SparkSession]:
    """The session that there is, or a new one for the time of the block.

    Args:
        master: where a new session runs, as ``local[2]``; by default as Spark is configured.

    Raises:
        DatasetError: pyspark or Java is missing.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise DatasetError("pyspark is not installed; run `pip install 'dpsr[spark]'`") from None
    running = SparkSession.getActiveSession()
    if running:
        yield running
        return
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        raise DatasetError("Java is not installed; Spark needs Java 17 or later on the path or at JAVA_HOME")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName("dpsr prepare")
    session = (builder.master(master) if master else builder).getOrCreate()
    try:
        yield session
    finally:
        session.stop()


def read_log_in_spark(
    session: SparkSession,
    source: Source,
    reader: RowReader,
    users: RowIndex,
    queries: RowIndex,
    *,
    rejected: RejectsRows,
    scratch: Path,
    advance: Callable[[int], object],
) -> Log:
    """As ``streamed.read_log``, a split of the log (a row group of Parquet, or else a file) for each task.

    Args:
        session: whose executors do it.
        source: the raw log.
        reader: what happens to each row.
        users: the users' ids; grows where ``reader`` has no users table.
        queries: the query texts; grows by those of the log.
        rejected: takes the rows that cannot be used.
        scratch: a directory that this process and the executors share.
        advance: takes the number of rows.
    """
    from pyspark.sql import functions as sql

    _read_first_times(source, reader)
    stages = _Stages(session, scratch)
    splits = source.splits()
    num_splits = len(splits)
    shared = session.sparkContext.broadcast((source, reader, splits))
    numbers = session.range(0, num_splits, 1, num_splits)
    rows = stages.keep(numbers.mapInArrow(lambda batches: _read_splits(shared.value, batches), _sql(_ROWS)), "rows")
    for error in rows.where("error is not null").orderBy("split").limit(1).collect():
        raise DatasetError(error.error)
    for batch in stages.batches(rows.where("reason is not null").orderBy("split", "place"), "rejected"):
        for row in batch.select(_REJECTED).to_pylist():
            *place, line, lines = row.values()
            rejected.add(*place, line=line, lines=lines)

    accepted = rows.where("reason is null")
    for name, index in (("query", queries), ("user_id", users)):
        if name == "query" or reader.users is None:
            for batch in stages.batches(_by_arrival(accepted, name), name):
                index.add(batch.column(name))
    offsets, read, kept = _offsets(rows, num_splits, timed="timestamp" in source.columns)
    numbered = accepted.join(
        sql.broadcast(session.createDataFrame(offsets, "split int, first_row long, first_time long")), "split"
    )
    numbered = numbered.join(stages.index(queries, "query"), "query")
    user = sql.col("user")
    if reader.users is None:
        numbered = numbered.join(stages.index(users, "user_id"), "user_id", "left")
        user = sql.coalesce("user_id_row", sql.lit(-1))
    records = stages.keep(
        numbered.select(
            sql.col("query_row").alias("query"),
            user.alias("user"),
            "item",
            "event",
            sql.lit(0).alias("history_end"),
            (sql.col("time") + sql.col("first_time")).alias("time"),
            (sql.col("place") + sql.col("first_row")).alias("row"),
        ),
        "records",
    )
    log = Log(SparkRecords(stages, records), queries, reader.clock, rows=read, accepted=kept)
    for event, count in records.groupBy("event").count().collect():
        log.events[next(name for name, code in EVENTS.items() if code == event)] = count
    if reader.users is not None:
        log.unknown_users = accepted.where("user_id is not null and user < 0").count()
    if kept:
        log.first_time, log.last_time = records.agg(sql.min("time"), sql.max("time")).collect()[0]
    advance(read)
    return log


def _read_first_times(source: Source, reader: RowReader) -> None:
    """Reads the log until there is a time, so that every task reads times as the first rows say."""
    if "timestamp" in source.columns:
        for chunk in source.chunks(CollectedRows()):
            reader.clock.read(chunk.columns["timestamp"])
            if reader.clock.known:
                return


def _read_splits(
    shared: tuple[Source, RowReader, list[InputSplit]], numbers: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """A task: splits by their numbers to ``_ROWS``."""
    source, reader, splits = shared
    for batch in numbers:
        for number in batch.column(0).to_pylist():
            rejected = CollectedRows()
            read = accepted = listed = 0
            try:
                for chunk in source.read_split(splits[number], rejected):
                    rows = reader.read(chunk, read, rejected)
                    yield _rows(number, accepted, dict(zip(rows.schema.names, rows.columns, strict=True)))
                    read, accepted = read + len(chunk.rows), accepted + len(rows)
                    bad = rejected.take()
                    yield _rejected_rows(number, listed, bad)
                    listed += len(bad)
                yield _rejected_rows(number, listed, rejected.take())
            except DatasetError as error:
                yield _rows(number, 0, {"reason": pa.array(["error"]), "error": pa.array([str(error)])})


def _rejected_rows(split: int, first: int, rejected: list[Any]) -> pa.RecordBatch:
    columns = zip(*rejected, strict=True) if rejected else ([],) * len(_REJECTED)
    return _rows(
        split,
        first,
        {name: pa.array(column, _ROWS.field(name).type) for name, column in zip(_REJECTED, columns, strict=True)},
    )


def _rows(split: int, first: int, columns: dict[str, pa.Array]) -> pa.RecordBatch:
    """Some columns of ``_ROWS``; the others are null."""
    size = len(next(iter(columns.values())))
    columns = columns | {
        "split": pa.array(np.full(size, split, dtype=np.int32)),
        "place": pa.array(np.arange(first, first + size)),
    }
    return pa.RecordBatch.from_arrays(
        [columns[field.name] if field.name in columns else pa.nulls(size, field.type) for field in _ROWS], schema=_ROWS
    )


def _by_arrival(rows: DataFrame, column: str) -> DataFrame:
    """The distinct values of a column in the order of their first rows."""
    from pyspark.sql import functions as sql

    known = rows.where(sql.col(column).isNotNull())
    firsts = known.groupBy(column).agg(sql.min(sql.struct("split", "place")).alias("first"))
    return firsts.orderBy("first").select(column)


def _offsets(rows: DataFrame, num_splits: int, *, timed: bool) -> tuple[list[tuple[int, int, int]], int, int]:
    """For each split its number, the place of its first row, and what to add to its times; all rows, and the usable."""
    from pyspark.sql import functions as sql

    read, kept = np.zeros(num_splits, dtype=np.int64), np.zeros(num_splits, dtype=np.int64)
    readable = rows.where("reason is null or not startswith(reason, 'malformed')")
    for split, count, good in (
        readable.groupBy("split").agg(sql.count("*"), sql.count_if(sql.col("reason").isNull())).collect()
    ):
        read[split], kept[split] = count, good
    first_row, first_time = np.cumsum(kept) - kept, np.zeros_like(read) if timed else np.cumsum(read) - read
    offsets = list(zip(range(num_splits), first_row.tolist(), first_time.tolist(), strict=True))
    return offsets, int(read.sum()), int(kept.sum())


class _Stages:
    """Data frames as Parquet in the scratch directory."""

    def __init__(self, session: SparkSession, scratch: Path) -> None:
        self.session = session
        self._scratch = scratch.absolute()

    def keep(self, frame: DataFrame, name: str) -> DataFrame:
        """Computes a data frame once."""
        frame.write.parquet(self._uri(name))
        return self.session.read.schema(frame.schema).parquet(self._uri(name))

    def batches(self, frame: DataFrame, name: str) -> Iterator[pa.RecordBatch]:
        """Computes a data frame; streams its rows in its order, which is the order of the files' names."""
        frame.write.parquet(self._uri(name))
        yield from self.kept_batches(name)
        shutil.rmtree(self._scratch / name)

    def kept_batches(self, name: str) -> Iterator[pa.RecordBatch]:
        """The rows of a data frame that ``keep`` has computed, in its order."""
        for file in sorted((self._scratch / name).glob("part-*.parquet")):
            with pq.ParquetFile(file) as parquet:
                yield from parquet.iter_batches(1 << 18)

    def index(self, index: RowIndex, name: str) -> DataFrame:
        """Ids with their rows, as ``<name>`` and ``<name>_row``."""
        keys = pa.array(index.keys(), pa.string())
        table = pa.table({name: keys, f"{name}_row": pa.array(np.arange(len(keys), dtype=np.int32))})
        path = self._scratch / f"{name}.parquet"
        pq.write_table(table, path)
        return self.session.read.parquet(path.as_uri())

    def _uri(self, name: str) -> str:
        return (self._scratch / name).as_uri()


class SparkRecords:
    """The records as a data frame; see ``log.Records``."""

    def __init__(self, stages: _Stages, records: DataFrame) -> None:
        """Keeps the frame."""
        self._stages, self._records = stages, records

    def count_times(self, low: int, high: int, width: int) -> np.ndarray:
        """See ``log.Records``."""
        counts = np.zeros(TIME_BINS, dtype=np.int64)
        chosen = self._records.where(f"event != {SKIP} and time between {low} and {high}")
        for position, count in (
            chosen.selectExpr(f"(time - {low}L) div {width}L as bin").groupBy("bin").count().collect()
        ):
            counts[position] = count
        return counts

    def queries_before(self, time: int) -> Iterator[np.ndarray]:
        """See ``log.Records``."""
        for batch in self._stages.batches(self._records.where(f"time < {time}").select("query").distinct(), "early"):
            yield batch.column("query").to_numpy()

    @contextmanager
    def sorted(
        self, log: Log, boundaries: Boundaries, num_users: int, before: Dataset | None
    ) -> Iterator[SortedBySpark]:
        """See ``log.Records``; there is no dataset before."""
        parts = max(num_buckets(log.accepted), self._stages.session.sparkContext.defaultParallelism)
        yield SortedBySpark(self._stages, self._records, boundaries, parts)

    def close(self) -> None:
        """See ``log.Records``; they go with the scratch directory."""


class SortedBySpark:
    """The records in the orders of the dataset's files, each by one shuffle; see ``log.SortedRecords``."""

    def __init__(self, stages: _Stages, records: DataFrame, boundaries: Boundaries, parts: int) -> None:
        """Groups the records by user.

        Args:
            stages: where to.
            records: with no ``history_end`` yet.
            boundaries: what cuts them.
            parts: how many groups of users.
        """
        self._stages, self._boundaries = stages, boundaries
        known = records.where("user >= 0").repartitionByRange(parts, "user").sortWithinPartitions("user", "time", "row")
        of_users = stages.keep(known.mapInArrow(_with_pasts, _sql(_RECORDS)), "of_users")
        others = stages.keep(records.where("user < 0").mapInArrow(_with_pasts, _sql(_RECORDS)), "of_no_user")
        self._records = of_users.unionAll(others)

    def by_user(self) -> Iterator[np.ndarray]:
        """See ``log.SortedRecords``."""
        for name in ("of_users", "of_no_user"):
            yield from map(_timed, self._stages.kept_batches(name))

    def train(self) -> Iterator[np.ndarray]:
        """See ``log.SortedRecords``."""
        return self._ordered(f"event != {SKIP} and time < {self._boundaries.valid}", "shuffle_key", "row")

    def skips(self) -> Iterator[np.ndarray]:
        """See ``log.SortedRecords``."""
        return self._ordered(f"event = {SKIP} and time < {self._boundaries.valid}", "time", "row")

    def later(self, split: str) -> Iterator[np.ndarray]:
        """See ``log.SortedRecords``."""
        valid, test = self._boundaries.valid, self._boundaries.test
        period = f"time >= {valid} and time < {test}" if split == "valid" else f"time >= {test}"
        return self._ordered(f"event != {SKIP} and {period}", "time", "row")

    def _ordered(self, condition: str, *order: str) -> Iterator[np.ndarray]:
        return map(_timed, self._stages.batches(self._records.where(condition).orderBy(*order), "ordered"))


def _with_pasts(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """A task: all records of some users, by (user, time, place), get ``history_end`` and ``shuffle_key``."""
    records = np.concatenate([np.zeros(0, TIMED), *map(_timed, batches)])
    records["history_end"] = history_ends(records)
    columns = [pa.array(records[name]) for name in TIMED.names or ()]
    yield pa.RecordBatch.from_arrays([*columns, pa.array(shuffle_keys(records["row"]))], schema=_RECORDS)


def _timed(batch: pa.RecordBatch) -> np.ndarray:
    """A batch's columns of TIMED [n]."""
    records = np.empty(len(batch), dtype=TIMED)
    for name in TIMED.names or ():
        records[name] = batch.column(name).to_numpy()
    return records


def _sql(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {_SQL_TYPES[field.type]}" for field in schema)
