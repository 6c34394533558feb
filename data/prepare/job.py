"""``dpsr prepare``: raw items, users and interactions become a dataset directory.

The catalogue, the users and the distinct queries are held in memory; the log is streamed, and sorted on disk. The same
input gives the same bytes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from dpsr.config import Config
from dpsr.data.dataset.directory import atomic_directory, sha256
from dpsr.data.dataset.schema import (
    EVENTS,
    FORMAT_VERSION,
    ITEMS_FILE,
    LABEL,
    LABELS_FILE,
    MANIFEST_FILE,
    SPLITS,
    DatasetError,
    Schema,
    SubwordsSchema,
)
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.append import check_new_times, check_same_inputs, later_time
from dpsr.data.prepare.catalogue_queries import CatalogueQueries
from dpsr.data.prepare.entities import (
    ColumnWriter,
    catalogue_ids,
    item_kinds,
    merged,
    read_features,
    without_duplicates,
)
from dpsr.data.prepare.judgements import JudgedPairs
from dpsr.data.prepare.log import Boundaries, Log, RowReader, find_boundaries
from dpsr.data.prepare.privacy import UserIds
from dpsr.data.prepare.splits import SplitWriter, Written
from dpsr.data.prepare.streamed import read_log
from dpsr.data.prepare.supervision import all_labels, read_labels, supervision_labels
from dpsr.data.prepare.token_files import TokenFiles, subwords_of_run
from dpsr.data.prepare.vocabulary import RowIndex
from dpsr.data.raw.readers import Source
from dpsr.data.raw.rejected import RejectedRows
from dpsr.data.raw.timestamps import Clock
from dpsr.data.raw.values import Kind, id_strings, whole_ids
from dpsr.tokenizer_cc import Tokenizer

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_TABLE_BATCH_ROWS = 1 << 16
"""Rows of a record batch of a table on disk."""


def prepare(
    config: Config,
    *,
    append: bool = False,
    grow_vocabulary: bool = False,
    progress: bool = True,
    spark: SparkSession | None = None,
) -> Path:
    """Turns raw inputs into a dataset directory, which replaces an earlier one.

    Args:
        config: ``data`` and ``tokenizer`` say what to read and how; without ``data.interactions``, the valid
            and the test split hold synthetic queries (``pretraining.words`` and ``text``).
        append: adds the inputs to the existing dataset: rows of its tables keep their numbers, its interactions become
            training data, and the new log, which begins later, is split by time.
        grow_vocabulary: when appending, adds new tokens and categories to the vocabularies; models have to be trained
            anew.
        progress: shows progress on stderr.
        spark: session whose executors read, group and sort the log; the bytes are the same. The executors need the raw
            log and ``config.work_dir`` under the same paths.

    Returns:
        The dataset directory, ``config.dataset_dir``.

    Raises:
        DatasetError: an input is missing or empty, has duplicate ids or too many unusable rows, or does not fit the
            existing dataset; another process prepares the same directory; the disk is full. Only the list of the
            rejected rows is written.
        JudgementError: the store of judgements is missing or cannot be read.
        ValueError: ``append`` together with ``spark``.
    """
    if append and spark:
        raise ValueError("append=True with a Spark session: an increment is prepared by this process alone")
    with atomic_directory(config.dataset_dir) as directory:
        before = Dataset.load(config.dataset_dir) if append else None
        _Preparation(config, directory, before, grow_vocabulary, progress, spark).run()
    return config.dataset_dir


class _Preparation:
    """One run of ``prepare`` into one directory."""

    def __init__(
        self,
        config: Config,
        directory: Path,
        before: Dataset | None,
        grow: bool,
        progress: bool,
        spark: SparkSession | None,
    ) -> None:
        self._config, self._directory, self._progress, self._spark = config, directory, progress, spark
        self._before, self._grow = before, grow
        judgements, store = config.data.judgements, config.learnt_judgements
        self._judged = None if judgements is None or store is None else JudgedPairs(store, judgements.books)
        self._inputs: dict[str, Any] = {}
        self._user_ids = UserIds.from_environment(config.data.user_id_key_variable)
        if before:
            check_same_inputs(config.data, before)
        self._subwords = subwords_of_run(config, before, grow=grow)
        for name in ("items", "queries", "users", "vocabularies", "supervision", "scratch"):
            (directory / name).mkdir()

    def run(self) -> None:
        data, before = self._config.data, self._before
        sources = self._open_sources()
        items, categorical = self._items(sources["items"])
        item_ids = items.column("item_id")
        item_type = "int64" if pa.types.is_integer(item_ids.type) else "string"
        item_index = RowIndex(item_ids.to_pylist())
        item_ids_as = whole_ids if item_type == "int64" else id_strings
        users, profile = self._users(sources.get("users"))
        queries = RowIndex(before.query_texts().to_pylist() if before else ())

        reader = RowReader(item_index, item_ids_as, users if data.users else None, self._user_ids, Clock())
        log = self._log(sources.get("interactions") or CatalogueQueries(items, self._config), reader, users, queries)
        if before:
            check_new_times(log, before)
        log_queries = len(queries)
        self._labels(sources.get("supervision"), item_index, item_ids_as, queries)
        if not data.users:
            self._write_table("users/users.arrow", pa.table({"user_id": pa.array(users.keys(), pa.string())}))
        query_texts = pa.array(queries.keys(), pa.string())
        self._write_table("queries/queries.arrow", pa.table({"query": query_texts}))

        if data.interactions:
            boundaries = find_boundaries(log, data.valid_share, data.test_share)
        else:
            boundaries = Boundaries(0, log.rows // 2)
        with self._bar("splits", log.accepted) as bar:
            writer = SplitWriter(self._directory, log, boundaries, before)
            written = writer.write(len(items), len(users), bar.update)
        tokenizer, subwords = self._tokens(
            items, query_texts, self._in_train(log, boundaries, log_queries, len(queries))
        )
        log.records.close()
        shutil.rmtree(self._directory / "scratch")
        schema = Schema(
            text=tuple(data.items.text),
            categorical=categorical,
            profile=profile,
            num_items=len(items),
            num_users=len(users),
            num_queries=len(query_texts),
            token_rows=tokenizer.num_ids,
            item_id_type=item_type,
            tokenizer_fingerprint=tokenizer.fingerprint,
            numeric=tuple(data.items.numeric),
            subwords=subwords,
        )
        self._write_manifest(schema, log, written)

    def _open_sources(self) -> dict[str, Source]:
        """Opens all inputs; their columns are checked before any long work."""
        data = self._config.data
        sources = {"items": Source("items", data.items, item_kinds(data.items))}
        pair = {"query": Kind.TEXT, "item_id": Kind.ID}
        if data.interactions:
            optional = {"user_id": Kind.ID, "timestamp": Kind.TIME, "event": Kind.EVENT}
            sources["interactions"] = Source("interactions", data.interactions, pair, optional)
        if data.users:
            profile = dict.fromkeys(data.users.profile, Kind.CATEGORY)
            sources["users"] = Source("users", data.users, {"user_id": Kind.ID} | profile)
        if data.supervision:
            sources["supervision"] = Source("supervision", data.supervision, pair | {"label": Kind.LABEL})
        return sources

    @contextmanager
    def _reading(
        self, source: Source | CatalogueQueries | JudgedPairs
    ) -> Iterator[tuple[RejectedRows, Callable[[int], None]]]:
        """Counts the rows of an input; ends the job on an empty input, and on too many unusable rows."""
        whole_rows = not (self._user_ids.hidden and source.name in ("interactions", "users"))
        with (
            self._bar(source.name) as bar,
            RejectedRows(self._directory / "rejected", source.name, whole_rows=whole_rows) as rejected,
        ):
            rows = 0

            def advance(more: int) -> None:
                nonlocal rows
                rows += more
                bar.update(more)

            yield rejected, advance
            rows += rejected.malformed
            if not rows:
                raise DatasetError(
                    f"{', '.join(source.files)}: has no rows; set data.{source.name}.path to a file with rows"
                )
            if source is not self._judged:
                rejected.check(rows, self._config.data.max_rejected_share, self._kept_at)
            elif rejected.count == rows:  # that some judged items left the catalogue is no error
                raise DatasetError(
                    f"{source.files[0]}: none of its {rows:,} judged pairs has an item of the catalogue; name the "
                    "store of this shop by data.judgements.path, or leave data.judgements out"
                )
            reasons = dict(sorted(rejected.reasons.items()))
            self._inputs[source.name] = {"files": source.files, "rows": rows, "rejected": reasons}

    @property
    def _kept_at(self) -> Path:
        return self._config.dataset_dir.with_name(self._config.dataset_dir.name + ".rejected")

    def _items(self, source: Source) -> tuple[pa.Table, dict[str, int]]:
        """Writes the catalogue and its columns; returns it, and the rows of the columns' embedding tables."""
        data = self._config.data.items
        with self._reading(source) as (rejected, advance):
            found = read_features(source, catalogue_ids, rejected, advance)
            table = without_duplicates(source, found, rejected, self._kept_at)
        if self._before:
            table = merged(self._before.item_table(), table)
        self._write_table(ITEMS_FILE, table)
        columns = self._column_writer("items", table)
        sizes = {
            column: columns.categorical(column, self._config.data.min_category_count) for column in data.categorical
        }
        sizes |= {column: columns.numeric(column, data.numeric_buckets) for column in data.numeric}
        return table, sizes

    def _users(self, source: Source | None) -> tuple[RowIndex, dict[str, int]]:
        """Writes the users and their profile; without this input, the users are those of the log."""
        if source is None:
            return RowIndex(self._before.user_ids().to_pylist() if self._before else ()), {}
        with self._reading(source) as (rejected, advance):
            found = read_features(source, self._user_ids, rejected, advance)
            table = without_duplicates(source, found, rejected, self._kept_at)
        if self._before:
            table = merged(self._before.user_table(), table)
        self._write_table("users/users.arrow", table)
        columns = self._column_writer("users", table)
        profile = [column for column in source.columns if column != "user_id"]
        sizes = {column: columns.categorical(column, self._config.data.min_category_count) for column in profile}
        return RowIndex(table.column("user_id").to_pylist()), sizes

    def _log(self, source: Source | CatalogueQueries, reader: RowReader, users: RowIndex, queries: RowIndex) -> Log:
        with self._reading(source) as (rejected, advance):
            read: Callable[..., Log] = read_log
            if self._spark and isinstance(source, Source):
                from dpsr.data.prepare.spark import read_log_in_spark

                read = partial(read_log_in_spark, self._spark)
            scratch = self._directory / "scratch"
            return read(source, reader, users, queries, rejected=rejected, scratch=scratch, advance=advance)

    def _column_writer(self, name: str, table: pa.Table) -> ColumnWriter:
        return ColumnWriter(self._directory, name, table, self._before.vocabularies if self._before else {}, self._grow)

    def _labels(self, source: Source | None, items: RowIndex, item_ids_as: Any, queries: RowIndex) -> None:
        """Writes the labelled pairs: those of supervision, then those of people's judgements."""
        supervised = [supervision_labels(self._before)] if self._before else []
        if source:
            with self._reading(source) as (rejected, advance):
                supervised.append(read_labels(source, items, item_ids_as, queries, rejected, advance))
        judged = np.empty(0, LABEL)
        if self._judged:  # has pairs
            with self._reading(self._judged) as (rejected, advance):
                judged = read_labels(self._judged, items, item_ids_as, queries, rejected, advance)
            self._inputs["judgements"]["labels"] = len(judged)
        labels = all_labels(supervised, judged, len(items))
        if len(labels):
            np.save(self._directory / LABELS_FILE, labels)

    def _in_train(self, log: Log, boundaries: Boundaries, log_queries: int, num_queries: int) -> np.ndarray:
        """Queries that the vocabulary counts: of the train period, of the dataset before, or labelled; bool [n]."""
        in_train = np.zeros(num_queries, dtype=bool)
        in_train[log_queries:] = True
        if self._before:
            in_train[: self._before.schema.num_queries] = True
        for queries in log.records.queries_before(boundaries.valid):
            in_train[queries] = True
        return in_train

    def _tokens(
        self, items: pa.Table, query_texts: pa.Array, in_train: np.ndarray
    ) -> tuple[Tokenizer, SubwordsSchema | None]:
        """Writes the tokenizers, those of the dataset before or new ones, and what they make of all texts."""
        counted = query_texts.filter(pa.array(in_train))
        files = TokenFiles(
            self._config,
            self._directory,
            items,
            query_texts,
            counted,
            before=self._before,
            grow=self._grow,
            subwords=self._subwords,
        )
        rows = len(items) + len(query_texts)
        with self._bar("tokens", rows) as bar:
            tokenizer = files.write_tokens(bar.update)
        if self._subwords is None:
            return tokenizer, None
        with self._bar("subwords", rows) as bar:
            return tokenizer, files.write_subwords(bar.update)

    def _write_manifest(self, schema: Schema, log: Log, written: Written) -> None:
        past = self._before.manifest if self._before else None
        times: dict[str, Any] = dict.fromkeys(SPLITS)
        times |= {name: [log.clock.text(time) for time in written.times[name]] for name in written.times}
        if past:
            spans = [span for name in SPLITS if (span := past["time"][name])]
            times["train"] = [spans[0][0], later_time(spans[-1][1], times["train"])]
        events = {name: log.events[name] + (past["counts"]["events"][name] if past else 0) for name in EVENTS}
        files = sorted(path for path in self._directory.rglob("*") if path.is_file())
        manifest = {
            "format": FORMAT_VERSION,
            "schema": schema.to_json(),
            "counts": {
                "items": schema.num_items,
                "users": schema.num_users,
                "queries": schema.num_queries,
                **written.counts,
                "events": events,
                "unknown_users": log.unknown_users + (past["counts"]["unknown_users"] if past else 0),
            },
            "inputs": self._inputs,
            "time": {"unit": log.clock.unit, **times},
            **({} if written.ages is None else {"ages": written.ages.describe(log.clock)}),
            "appended": past["appended"] + 1 if past else 0,
            "files": {
                path.relative_to(self._directory).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
                for path in files
            },
        }
        text = json.dumps(manifest, ensure_ascii=False, indent=1) + "\n"
        (self._directory / MANIFEST_FILE).write_text(text, encoding="utf-8")

    def _write_table(self, name: str, table: pa.Table) -> None:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_file(self._directory / name, table.schema, options=options) as writer:
            # In batches, so that a few rows are read without the others (data.dataset.item_lookup).
            writer.write_table(table, max_chunksize=_TABLE_BATCH_ROWS)

    def _bar(self, what: str, total: int | None = None) -> tqdm:
        return tqdm(desc=what, total=total, unit=" rows", unit_scale=True, disable=not self._progress)
