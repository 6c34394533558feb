"""``dpsr data verify``: every checksum and every invariant of a dataset directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from dpsr.data.dataset.directory import sha256
from dpsr.data.dataset.records import record_blocks
from dpsr.data.dataset.schema import (
    EVENTS,
    ITEMS_FILE,
    LABEL,
    LABELS_FILE,
    MANIFEST_FILE,
    SKIP,
    SKIPS_FILE,
    SPLITS,
    SUBWORDS_FILE,
    DatasetError,
    split_file,
)
from dpsr.data.dataset.tables import Bags, Dataset
from dpsr.tokenizer_cc import Tokenizer
from dpsr.tokenizer_cc.subwords import SubwordTokenizer

_ROWS_AT_ONCE = 1 << 20
_EVENTS_AT_ONCE = 1 << 22


def verify(directory: Path, *, advance: Callable[[str], object] = lambda _: None) -> list[str]:
    """Checks a dataset directory from the bytes up.

    Args:
        directory: the dataset directory.
        advance: called with the name of each check before it runs.

    Returns:
        The problems found, one line each; empty for a sound dataset.
    """
    try:
        dataset = Dataset.load(directory)
    except (DatasetError, OSError, KeyError, ValueError) as error:
        return [str(error)]
    problems: list[str] = []
    for name, check in (
        ("checksums", _checksums),
        ("tables", _tables),
        ("tokens", _tokens),
        ("subwords", _subwords),
        ("labelled pairs", _labels),
        ("records", _records),
        ("ages", _ages),
        ("histories", _histories),
        ("splits by time", _times),
    ):
        advance(name)
        try:
            problems += check(dataset)
        except (DatasetError, OSError, KeyError, ValueError, IndexError) as error:
            problems.append(f"{name}: cannot be checked: {error}")
    return problems


def _checksums(dataset: Dataset) -> Iterator[str]:
    listed = dataset.manifest["files"]
    for name, entry in listed.items():
        if sha256(dataset.directory / name) != entry["sha256"]:
            yield f"{name}: its SHA-256 is not the manifest's; the file has changed since `dpsr prepare` wrote it"
    for path in sorted(dataset.directory.rglob("*")):
        name = path.relative_to(dataset.directory).as_posix()
        if path.is_file() and name not in listed and name != MANIFEST_FILE:
            yield f"{name}: is not in the manifest"


def _tables(dataset: Dataset) -> Iterator[str]:
    schema = dataset.schema
    for name, ids, rows in (
        (ITEMS_FILE, dataset.item_table().column("item_id"), schema.num_items),
        ("users/users.arrow", dataset.user_table().column("user_id"), schema.num_users),
        ("queries/queries.arrow", dataset.query_texts(), schema.num_queries),
    ):
        if len(ids) != rows:
            yield f"{name}: has {len(ids):,} rows, the schema says {rows:,}"
        if pc.count_distinct(ids, mode="all").as_py() != len(ids):
            yield f"{name}: has the same value in more than one row"
        if ids.null_count:
            yield f"{name}: has {ids.null_count:,} rows without a value"
    for folder, sizes, columns in (
        ("items", schema.categorical, dataset.item_categorical),
        ("users", schema.profile, dataset.user_profile),
    ):
        for column, size in sizes.items():
            yield from _in_range(f"{folder}/{column}.npy", columns[column], 0, size)
            if len(dataset.vocabularies[f"{folder}.{column}"]) + 2 != size:
                yield f"vocabularies/{folder}.{column}.json: its length + 2 is not the schema's {size}"


def _tokens(dataset: Dataset) -> Iterator[str]:
    tokenizer = Tokenizer.load(dataset.tokenizer_path)
    if tokenizer.fingerprint != dataset.schema.tokenizer_fingerprint:
        yield f"tokenizer.model: is {tokenizer.fingerprint}, the schema has {dataset.schema.tokenizer_fingerprint}"
    if tokenizer.num_ids != dataset.schema.token_rows:
        yield f"tokenizer.model: has {tokenizer.num_ids:,} ids, the schema says {dataset.schema.token_rows:,}"
    for name, bags in (("items", dataset.item_tokens), ("queries", dataset.query_tokens)):
        yield from _bags(f"{name}/tokens", bags, 1, dataset.schema.token_rows)


def _subwords(dataset: Dataset) -> Iterator[str]:
    schema = dataset.schema.subwords
    if schema is None:
        return
    tokenizer = SubwordTokenizer.load(dataset.subwords_path)
    special = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    if tokenizer.fingerprint != schema.fingerprint:
        yield f"{SUBWORDS_FILE}: is {tokenizer.fingerprint}, the schema has {schema.fingerprint}"
    if tokenizer.num_ids != schema.num_ids:
        yield f"{SUBWORDS_FILE}: has {tokenizer.num_ids:,} ids, the schema says {schema.num_ids:,}"
    if special != (schema.pad, schema.unk, schema.cls, schema.sep, schema.mask):
        yield f"{SUBWORDS_FILE}: its special tokens are not those of the schema"
    for name, bags in (("items", dataset.item_subwords), ("queries", dataset.query_subwords)):
        yield from _bags(f"{name}/subwords", bags, 0, schema.num_ids)


def _labels(dataset: Dataset) -> Iterator[str]:
    labels = dataset.labels()
    if labels.dtype != LABEL:
        yield f"{LABELS_FILE}: found {labels.dtype}, expected {LABEL}"
        return
    yield from _in_range(f"{LABELS_FILE} (query)", labels["query"], 0, dataset.schema.num_queries)
    yield from _in_range(f"{LABELS_FILE} (item)", labels["item"], 0, dataset.schema.num_items)
    if not np.isfinite(labels["label"]).all():
        yield f"{LABELS_FILE}: has labels that are not finite"


def _records(dataset: Dataset) -> Iterator[str]:
    schema, counts = dataset.schema, dataset.manifest["counts"]
    lengths = np.append(np.diff(dataset.history.row_splits), 0)  # the last is user -1
    for name, file in (*((split, split_file(split)) for split in SPLITS), ("skips", SKIPS_FILE)):
        rows, wrong = 0, dict.fromkeys(("query", "user", "item", "event", "history_end"), 0)
        for records in record_blocks(dataset.directory / file):
            rows += len(records)
            user = records["user"]
            known_user = (user >= -1) & (user < schema.num_users)
            events = [EVENTS["skip"]] if name == "skips" else [code for code in EVENTS.values() if code != SKIP]
            past = lengths[np.where(known_user, user, -1)]
            # A click is not in its own past, so that its user's history is longer than what it may see.
            most = past - 1 if name != "skips" else past
            wrong["query"] += int((records["query"] >= schema.num_queries).sum())
            wrong["item"] += int((records["item"] >= schema.num_items).sum())
            wrong["user"] += int((~known_user).sum())
            wrong["event"] += int((~np.isin(records["event"], events)).sum())
            wrong["history_end"] += int((records["history_end"] > np.where(user < 0, 0, most)).sum())
        for field, number in wrong.items():
            if number:
                yield f"{file}: {number:,} records whose {field} is out of range"
        if rows != counts[name]:
            yield f"{file}: has {rows:,} records, the manifest says {counts[name]:,}"
    clicks = counts["events"]["click"] + counts["events"]["purchase"]
    if sum(counts[split] for split in SPLITS) != clicks:
        yield f"manifest.json: the splits do not add up to {clicks:,} clicks and purchases"


def _ages(dataset: Dataset) -> Iterator[str]:
    for split in SPLITS if "ages" in dataset.manifest else ():
        try:
            dataset.ages(split)
        except DatasetError as error:
            yield str(error)


def _histories(dataset: Dataset) -> Iterator[str]:
    """Every click and purchase of a known user is in the user's history, behind all that it sees, and nothing else is.

    Of a user's events in order, those of one moment see exactly the events before that moment.
    """
    yield from _bags("users/history", dataset.history, 0, dataset.schema.num_items)
    row_splits = dataset.history.row_splits
    first_user, wrong_pasts, wrong_items, wrong_order = 0, 0, 0, 0
    while first_user < len(dataset.history):
        behind = int(np.searchsorted(row_splits, row_splits[first_user] + _EVENTS_AT_ONCE, side="right")) - 1
        last_user = min(max(behind, first_user + 1), len(dataset.history))
        user, item, end, split = _events_of(dataset, first_user, last_user)
        new_user = np.diff(user, prepend=-1) != 0
        new_moment = new_user | (np.diff(end, prepend=-1) != 0)
        place = np.arange(len(user))
        start_of_user = np.maximum.accumulate(np.where(new_user, place, 0))
        start_of_moment = np.maximum.accumulate(np.where(new_moment, place, 0))
        wrong_pasts += int((start_of_moment - start_of_user != end).sum())
        wrong_order += int((~new_user[1:] & (np.diff(split) < 0)).sum())
        start, stop = int(row_splits[first_user]), int(row_splits[last_user])
        history = np.asarray(dataset.history.values[start:stop])
        if len(history) == len(item):
            moment = np.cumsum(new_moment)
            order = np.lexsort((history, moment))  # within a moment, the order is the log's
            wrong_items += int((history[order] != item).sum())
        else:
            users = f"users {first_user:,}..{last_user - 1:,}"
            yield f"users/history: has {len(history):,} events of {users}, the interactions have {len(item):,}"
        first_user = last_user
    if wrong_pasts:
        yield f"interactions: {wrong_pasts:,} records whose history_end is not the number of events before them"
    if wrong_items:
        yield f"users/history: {wrong_items:,} events are not where the interactions have them"
    if wrong_order:
        yield f"interactions: {wrong_order:,} users' events of an earlier split come after those of a later one"


def _events_of(dataset: Dataset, first_user: int, last_user: int) -> tuple[np.ndarray, ...]:
    """User, item, history_end and split of all clicks and purchases of some users, sorted by (user, end, item)."""
    parts: list[tuple[np.ndarray, ...]] = []
    for number, split in enumerate(SPLITS):
        for records in record_blocks(dataset.directory / split_file(split)):
            records = records[(records["user"] >= first_user) & (records["user"] < last_user)]
            columns = (records[name].copy() for name in ("user", "item", "history_end"))
            parts.append((*columns, np.full(len(records), number)))
    if not parts:
        return (np.empty(0, dtype=np.int64),) * 4
    user, item, end, split_number = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.lexsort((item, end, user))
    return user[order], item[order], end[order], split_number[order]


def _times(dataset: Dataset) -> Iterator[str]:
    spans = [(name, span) for name in SPLITS if (span := dataset.manifest["time"][name])]
    for name, (first, last) in spans:
        if first > last:
            yield f"manifest.json: the {name} split ends at {last}, before it begins at {first}"
    for (early, (_, last)), (late, (first, _)) in pairwise(spans):
        if not last < first:
            yield f"manifest.json: the {early} split ends at {last}, the {late} split begins at {first}: they overlap"


def _in_range(name: str, ids: np.ndarray, low: int, high: int) -> Iterator[str]:
    wrong = 0
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        piece = ids[start : start + _ROWS_AT_ONCE]
        wrong += int(((piece < low) | (piece >= high)).sum())
    if wrong:
        yield f"{name}: {wrong:,} ids are not in {low:,}..{high - 1:,}"


def _bags(name: str, bags: Bags, low: int, high: int) -> Iterator[str]:
    if len(bags) and (np.diff(bags.row_splits) < 0).any():
        yield f"{name}.row_splits.npy: goes down"
    yield from _in_range(f"{name}.values.npy", bags.values, low, high)
