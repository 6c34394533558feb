"""``dpsr prepare``: raw items, users and interactions become a dataset directory.

The catalogue and the users are held in memory; the log is streamed, and what does not fit is sorted on disk. The same
input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from dpsr.config import Config
from dpsr.data.log import (
    FOREVER,
    TIMED,
    Boundaries,
    Log,
    find_boundaries,
    read_log,
    user_keys,
    with_histories,
)
from dpsr.data.readers import Source, trimmed_strings
from dpsr.data.records import Layout, write_records
from dpsr.data.rejected import RejectedRows
from dpsr.data.schema import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    SKIP,
    SKIPS_FILE,
    SPLITS,
    TOKENIZER_FILE,
    DatasetError,
    Schema,
    split_file,
)
from dpsr.data.spill import Buckets, num_buckets
from dpsr.data.tables import Bags
from dpsr.data.vocabulary import RowIndex, build_tokenizer, category_ids, category_vocabulary, token_bags

_SHUFFLE_SEED = 20200425


def prepare(config: Config, *, progress: bool = True) -> Path:
    """Turns raw inputs into a dataset directory; replaces the one that is there.

    Args:
        config: ``data`` and ``tokenizer`` say what to read and how.
        progress: shows progress on stderr.

    Returns:
        The dataset directory, ``config.dataset_dir``.

    Raises:
        DatasetError: an input is missing, empty, has duplicate ids or too many unusable rows; nothing is written but
            the list of the rejected rows.
    """
    with _written_beside(config.dataset_dir) as directory:
        _Preparation(config, directory, progress).run()
    return config.dataset_dir


@contextmanager
def _written_beside(final: Path) -> Iterator[Path]:
    """A directory that becomes ``final`` at the end of the block, or is gone after an exception."""
    partial, old = final.with_name(final.name + ".partial"), final.with_name(final.name + ".old")
    rejected = final.with_name(final.name + ".rejected")
    for leftover in (partial, old, rejected):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if final.exists():
            final.rename(old)
        partial.rename(final)
    except DatasetError:
        if (partial / "rejected").exists():
            (partial / "rejected").rename(rejected)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


class _Preparation:
    """One run of ``prepare`` into one directory."""

    def __init__(self, config: Config, directory: Path, progress: bool) -> None:
        self._config = config
        self._directory = directory
        self._progress = progress
        self._inputs: dict[str, Any] = {}
        for name in ("items", "queries", "users", "vocabularies", "supervision", "scratch"):
            (directory / name).mkdir()

    def run(self) -> None:
        data = self._config.data
        sources = self._open_sources()
        items = self._read_table(sources["items"])
        self._write_table("items/items.arrow", items)
        categorical = self._categories("items", items, data.items.categorical)
        profile: dict[str, int] = {}
        users = RowIndex()
        if data.users:
            users_table = self._read_table(sources["users"])
            profile = self._categories("users", users_table, data.users.profile)
            users.add(user_keys(users_table.column("user_id").combine_chunks()))
            self._write_table("users/users.arrow", users_table)

        item_ids = items.column("item_id").combine_chunks()
        item_type = "int64" if pa.types.is_integer(item_ids.type) else "string"
        item_index = RowIndex()
        item_index.add(item_ids)
        log = self._read_log(sources["interactions"], item_index, item_type, users)
        if not data.users:
            self._write_table("users/users.arrow", pa.table({"user_id": pa.array(users.keys(), pa.string())}))
        query_texts = pa.array(log.queries.keys(), pa.string())
        self._write_table("queries/queries.arrow", pa.table({"query": query_texts}))

        boundaries = find_boundaries(log, data.valid_share, data.test_share)
        time_ranges, split_counts = self._write_interactions(log, boundaries, len(items), len(users))
        fingerprint, token_rows = self._write_tokens(items, query_texts, log, boundaries)
        log.records.close()
        (self._directory / "scratch").rmdir()

        schema = Schema(
            text=tuple(data.items.text),
            categorical=categorical,
            profile=profile,
            num_items=len(items),
            num_users=len(users),
            num_queries=len(query_texts),
            token_rows=token_rows,
            item_id_type=item_type,
            tokenizer_fingerprint=fingerprint,
        )
        self._write_manifest(schema, log, time_ranges, split_counts)

    def _open_sources(self) -> dict[str, Source]:
        """All inputs, with their columns checked before anything long begins."""
        data = self._config.data
        sources = {
            "items": Source("items", data.items, ["item_id", *data.items.text, *data.items.categorical]),
            "interactions": Source(
                "interactions", data.interactions, ["query", "item_id"], ["user_id", "timestamp", "event"]
            ),
        }
        if data.users:
            sources["users"] = Source("users", data.users, ["user_id", *data.users.profile])
        return sources

    @contextmanager
    def _rejected(self, source: Source) -> Iterator[RejectedRows]:
        with RejectedRows(self._directory / "rejected", source.name) as rejected:
            yield rejected

    def _check(self, source: Source, rejected: RejectedRows, rows: int) -> None:
        """Ends the job where an input is empty or too much of it unusable; else keeps its counts."""
        if not rows:
            raise DatasetError(
                f"{', '.join(source.files)}: has no rows; set data.{source.name}.path to a file with rows"
            )
        kept_at = self._config.dataset_dir.with_name(self._config.dataset_dir.name + ".rejected")
        rejected.check(rows, self._config.data.max_rejected_share, kept_at)
        self._inputs[source.name] = {
            "files": source.files,
            "rows": rows,
            "rejected": dict(sorted(rejected.reasons.items())),
        }

    def _read_table(self, source: Source) -> pa.Table:
        """The catalogue or the users, without rows that have no id; ids are unique."""
        key = source.columns[0]
        parts: list[pa.Table] = []
        rows = 0
        with self._bar(source.name) as bar, self._rejected(source) as rejected:
            for chunk in source.chunks(rejected):
                ids = _checked_ids(chunk.columns[key], chunk.file, key)
                for position in np.flatnonzero(ids.is_null().to_numpy(zero_copy_only=False)):
                    rejected.add(chunk.file, int(chunk.rows[position]), f"empty {key}")
                part = pa.table(chunk.columns | {key: ids})
                parts.append(part.filter(ids.is_valid()))
                rows += len(part)
                bar.update(len(part))
            self._check(source, rejected, rows + _malformed(rejected))
        try:
            table = pa.concat_tables(parts, promote_options="permissive").combine_chunks()
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DatasetError(f"{', '.join(source.files)}: the files disagree about a column: {error}") from None
        counts = pc.value_counts(table.column(key))
        duplicates = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
        if len(duplicates):
            some = ", ".join(str(value) for value in duplicates[:5].to_pylist())
            raise DatasetError(
                f"{', '.join(source.files)}: {len(duplicates):,} values of {key} occur more than once ({some}"
                f"{', ...' if len(duplicates) > 5 else ''}); keep one row for each"
            )
        return table

    def _categories(self, name: str, table: pa.Table, columns: list[str]) -> dict[str, int]:
        """Writes ids and vocabulary of categorical columns; returns the rows of their embedding tables."""
        rows: dict[str, int] = {}
        for column in columns:
            values = trimmed_strings(table.column(column).combine_chunks())
            vocabulary = category_vocabulary(values, self._config.data.min_category_count)
            np.save(self._directory / name / f"{column}.npy", category_ids(values, vocabulary))
            self._write_json(f"vocabularies/{name}.{column}.json", vocabulary)
            rows[column] = len(vocabulary) + 2
        return rows

    def _read_log(self, source: Source, items: RowIndex, item_type: str, users: RowIndex) -> Log:
        with self._bar("interactions") as bar, self._rejected(source) as rejected:
            log = read_log(
                source,
                items,
                _cast_to_int64 if item_type == "int64" else trimmed_strings,
                users,
                users_are_known=self._config.data.users is not None,
                rejected=rejected,
                scratch=self._directory / "scratch",
                advance=bar.update,
            )
            log.rows += _malformed(rejected)
            self._check(source, rejected, log.rows)
        return log

    def _write_interactions(
        self, log: Log, boundaries: Boundaries, num_items: int, num_users: int
    ) -> tuple[dict[str, list[str | int] | None], dict[str, int]]:
        """Writes splits, skips and histories; returns the time range and the number of records of each split."""
        scratch = self._directory / "scratch"
        shares = num_buckets(log.accepted)
        ranges: dict[str, list[int]] = {}
        shuffle = np.random.default_rng(_SHUFFLE_SEED)
        history = _HistoryWriter(self._directory / "users", num_users)
        with (
            self._bar("splits", log.accepted) as bar,
            Buckets(scratch, "train", shares, TIMED) as train,
            Buckets(scratch, "later", 2 * shares, TIMED) as later,
            Buckets(scratch, "skips", shares, TIMED) as skips,
        ):
            for records in with_histories(log, num_users, scratch):
                history.add(records)
                split = boundaries.of(records["time"])
                skipped = records["event"] == SKIP
                by_time = _time_bucket(records["time"], log, shares)
                for number, name in enumerate(SPLITS):
                    _extend(ranges, name, records["time"][(split == number) & ~skipped])
                chosen = records[(split == 0) & ~skipped]
                train.append(shuffle.integers(0, shares, len(chosen)), chosen)
                chosen = (split > 0) & ~skipped
                later.append((by_time + (split - 1) * shares)[chosen], records[chosen])
                chosen = (split == 0) & skipped
                skips.append(by_time[chosen], records[chosen])
                bar.update(len(records))
            longest = history.close()
            layout = Layout.of(queries=len(log.queries), users=num_users, items=num_items, longest_history=longest)
            counts = {
                "train": self._write_records(
                    split_file("train"), layout, train.read(), lambda records: shuffle.permutation(len(records))
                ),
                "skips": self._write_records(SKIPS_FILE, layout, skips.read(), _in_order_of_time),
            }
            counts |= self._write_later_splits(later, shares, layout)
        texts = {name: [log.clock.text(time) for time in ranges[name]] if name in ranges else None for name in SPLITS}
        return texts, counts

    def _write_later_splits(self, later: Buckets, shares: int, layout: Layout) -> dict[str, int]:
        parts = later.read()
        return {
            name: self._write_records(split_file(name), layout, islice(parts, shares), _in_order_of_time)
            for name in ("valid", "test")
        }

    def _write_records(
        self, name: str, layout: Layout, parts: Iterable[np.ndarray], order: Callable[[np.ndarray], np.ndarray]
    ) -> int:
        """Writes records, part after part, each in its order; returns their number."""
        path = self._directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_records(path, layout, (part[order(part)] for part in parts))

    def _write_tokens(
        self, items: pa.Table, query_texts: pa.Array, log: Log, boundaries: Boundaries
    ) -> tuple[str, int]:
        """Builds the tokenizer from items and queries of the train period; writes it and all token bags."""
        in_train = np.zeros(len(query_texts), dtype=bool)
        for records in log.records.blocks():
            in_train[records["query"][records["time"] < boundaries.valid]] = True
        columns = [items.column(column).cast(pa.string()) for column in self._config.data.items.text]
        texts = pc.binary_join_element_wise(
            *columns, " ", null_handling="replace", null_replacement=""
        ).combine_chunks()
        with self._bar("tokens", len(texts) + len(query_texts)) as bar:
            train_queries = query_texts.filter(pa.array(in_train))
            tokenizer = build_tokenizer(self._config.tokenizer, [texts, train_queries])
            tokenizer.save(self._directory / TOKENIZER_FILE)
            for folder, column in (("items", texts), ("queries", query_texts)):
                _save_bags(self._directory / folder, "tokens", token_bags(tokenizer, column))
                bar.update(len(column))
        return tokenizer.fingerprint, tokenizer.num_ids

    def _write_manifest(
        self, schema: Schema, log: Log, time_ranges: dict[str, Any], split_counts: dict[str, int]
    ) -> None:
        files = sorted(path for path in self._directory.rglob("*") if path.is_file())
        manifest = {
            "format": FORMAT_VERSION,
            "schema": schema.to_json(),
            "counts": {
                "items": schema.num_items,
                "users": schema.num_users,
                "queries": schema.num_queries,
                **split_counts,
                "events": log.events,
                "unknown_users": log.unknown_users,
            },
            "inputs": self._inputs,
            "time": {"unit": log.clock.unit, **time_ranges},
            "files": {
                path.relative_to(self._directory).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
                for path in files
            },
        }
        self._write_json(MANIFEST_FILE, manifest)

    def _write_table(self, name: str, table: pa.Table) -> None:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_file(self._directory / name, table.schema, options=options) as writer:
            writer.write_table(table)

    def _write_json(self, name: str, tree: Any) -> None:
        text = json.dumps(tree, ensure_ascii=False, indent=1) + "\n"
        (self._directory / name).write_text(text, encoding="utf-8")

    def _bar(self, what: str, total: int | None = None) -> tqdm:
        return tqdm(desc=what, total=total, unit=" rows", unit_scale=True, disable=not self._progress)


class _HistoryWriter:
    """Writes the users' histories as they come, user after user."""

    def __init__(self, directory: Path, num_users: int) -> None:
        self._directory = directory
        self._lengths = np.zeros(num_users, dtype=np.int64)
        self._raw = directory / "history.raw"
        self._file = self._raw.open("wb")

    def add(self, records: np.ndarray) -> None:
        """Takes records in the order of (user, time); users of earlier calls do not come again."""
        known = records[(records["user"] >= 0) & (records["event"] != SKIP)]
        known["item"].tofile(self._file)
        self._lengths += np.bincount(known["user"], minlength=len(self._lengths))

    def close(self) -> int:
        """Puts the header before the values, and writes the row splits; returns the length of the longest."""
        self._file.close()
        row_splits = np.zeros(len(self._lengths) + 1, dtype=np.int64)
        np.cumsum(self._lengths, out=row_splits[1:])
        np.save(self._directory / "history.row_splits.npy", row_splits)
        with (self._directory / "history.values.npy").open("wb") as file, self._raw.open("rb") as raw:
            header = {"descr": "<i4", "fortran_order": False, "shape": (int(row_splits[-1]),)}
            np.lib.format.write_array_header_1_0(file, header)
            shutil.copyfileobj(raw, file, 1 << 22)
        self._raw.unlink()
        return int(self._lengths.max(initial=0))


def _save_bags(directory: Path, name: str, bags: Bags) -> None:
    np.save(directory / f"{name}.values.npy", bags.values)
    np.save(directory / f"{name}.row_splits.npy", bags.row_splits)


def _in_order_of_time(records: np.ndarray) -> np.ndarray:
    return np.lexsort((records["row"], records["time"]))


def _time_bucket(time: np.ndarray, log: Log, buckets: int) -> np.ndarray:
    """The log's time range in equal pieces, integers [n] in 0..buckets - 1."""
    width = (log.last_time - log.first_time) // buckets + 1
    return (time - log.first_time) // width


def _extend(ranges: dict[str, list[int]], name: str, time: np.ndarray) -> None:
    if len(time):
        low, high = ranges.get(name, [FOREVER, -FOREVER])
        ranges[name] = [min(low, int(time.min())), max(high, int(time.max()))]


def _checked_ids(ids: pa.Array, file: str, key: str) -> pa.Array:
    """Ids as strings or int64; null where there is none."""
    if pa.types.is_integer(ids.type):
        return ids
    if pa.types.is_string(ids.type):
        return trimmed_strings(ids)
    raise DatasetError(f"{file}: column {key!r} has type {ids.type}; expected strings or integers")


def _cast_to_int64(ids: pa.Array) -> pa.Array:
    """The log's item ids as the catalogue's integers; null where they are none."""
    if pa.types.is_integer(ids.type):
        return ids
    texts = trimmed_strings(ids)
    digits = pc.match_substring_regex(texts, r"^-?[0-9]{1,18}$")
    return pc.if_else(digits, texts, pa.scalar(None, pa.string())).cast(pa.int64())


def _malformed(rejected: RejectedRows) -> int:
    """Rows that the reader could not even hand out."""
    return sum(count for reason, count in rejected.reasons.items() if reason.startswith("malformed"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
