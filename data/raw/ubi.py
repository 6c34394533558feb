"""``dpsr data import-ubi``: User Behavior Insights 1.3 (``ubi_queries``, ``ubi_events``) as an interaction log.

Events are joined with their queries by ``query_id``, in buckets on disk, so that memory does not grow with the log.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dpsr.data.dataset.schema import EVENTS
from dpsr.data.raw.files import find_files
from dpsr.data.raw.json_files import MalformedLineError, parse_line
from dpsr.data.raw.readers import numbered_lines
from dpsr.data.raw.rejected import RejectedRows
from dpsr.data.raw.timestamps import instant_microseconds
from dpsr.data.raw.values import NO_IDS, json_array, json_text, numbers, without_surrogates

ACTIONS = {"click": "click", "click_through": "click", "purchase": "purchase", "impression": "shown"}
"""What becomes of the actions of UBI; all others are counted and left out."""

_BUCKET_BYTES = 1 << 27
_LOG = pa.schema(
    [
        ("query", pa.string()),
        ("item_id", pa.string()),
        ("user_id", pa.string()),
        ("timestamp", pa.timestamp("us", "UTC")),
        ("event", pa.string()),
    ]
)


@dataclass
class Counts:
    """What an import has found."""

    events: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EVENTS, 0))
    ignored: dict[str, int] = field(default_factory=dict)
    """Events of actions that say nothing about a result, by action."""


def import_ubi(
    queries: str, events: str, out: Path, *, actions: Mapping[str, str] | None = None, max_rejected_share: float = 0.01
) -> Counts:
    """Writes the interactions of UBI's logs to a Parquet file.

    A result that stood above the last clicked one of its query and was neither clicked nor purchased becomes a skip;
    what was shown is taken from ``query_response_hit_ids``, or else from ``impression`` events. The user is
    ``user_id``, or else ``client_id``.

    Args:
        queries: file or glob of JSON Lines with UBI queries, plain, gzip or zstd; a document may stand in ``_source``.
        events: the same, with UBI events.
        out: the Parquet file; rows that cannot be used are listed beside it.
        actions: ``action_name`` -> ``click``, ``purchase``, ``skip`` or ``shown``, in addition to ``ACTIONS``.
        max_rejected_share: of the events that say something about a result.

    Raises:
        DatasetError: a file is missing, or too many events cannot be used; ``out`` is not written.
    """
    meaning = {**ACTIONS, **(actions or {})}
    files = {
        name: [file.path for file in find_files(pattern, f"--{name} to the JSON Lines of ubi_{name}")]
        for name, pattern in (("queries", queries), ("events", events))
    }
    size = sum(os.path.getsize(file) for names in files.values() for file in names)
    counts, partial, total = Counts(), out.with_name(out.name + ".partial"), 0
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=out.name + ".", dir=out.parent))
    listed = out.with_name(out.name + ".rejected")
    shutil.rmtree(listed, ignore_errors=True)
    try:
        with RejectedRows(listed, "events") as rejected, pq.ParquetWriter(partial, _LOG) as writer:
            buckets = -(-size // _BUCKET_BYTES)
            _distribute(files["queries"], scratch, "queries", buckets, _query_row, rejected, counts)
            total = _distribute(
                files["events"],
                scratch,
                "events",
                buckets,
                lambda document: _event_row(document, meaning),
                rejected,
                counts,
            )
            for number in range(buckets):
                found = {name: _rows(scratch / f"{name}.{number}") for name in files}
                rows = list(_interactions(found["queries"], found["events"], rejected))
                for row in rows:
                    counts.events[row["event"]] += 1
                writer.write_table(pa.Table.from_pylist(rows, _LOG))
        rejected.check(max(total, 1), max_rejected_share, listed)
        partial.rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        partial.unlink(missing_ok=True)
    return counts


class _UnusableError(ValueError):
    """A document that says too little; the message is the reason."""


def _distribute(
    files: Iterable[str],
    scratch: Path,
    name: str,
    buckets: int,
    row_of: Any,
    rejected: RejectedRows,
    counts: Counts,
) -> int:
    """Writes the rows of documents to buckets by their ``query_id``; returns how many documents say something."""
    total = 0
    with ExitStack() as stack:
        outputs = [stack.enter_context((scratch / f"{name}.{n}").open("w", encoding="utf-8")) for n in range(buckets)]
        for file in files:
            for number, line in numbered_lines(file):
                try:
                    row = row_of(_document(line))
                except (_UnusableError, MalformedLineError) as error:
                    rejected.add(file, number, str(error), line.decode("utf-8", "replace"), line=number)
                    total += 1
                    continue
                if "ignored" in row:
                    counts.ignored[row["ignored"]] = counts.ignored.get(row["ignored"], 0) + 1
                    continue
                total += 1
                row["file"], row["row"] = file, number
                outputs[zlib.crc32(row["query_id"].encode()) % buckets].write(json.dumps(row) + "\n")
    return total


def _document(line: bytes) -> dict[str, Any]:
    row = parse_line(line)
    return _object(row, "_source") if "_source" in row else row


def _object(document: dict[str, Any], key: str) -> dict[str, Any]:
    """The object at a key; an empty one where there is none."""
    value = document.get(key)
    if value is not None and not isinstance(value, dict):
        raise _UnusableError(f"unreadable {key}: expected an object")
    return value or {}


def _text(document: dict[str, Any], key: str) -> str | None:
    """The text or number at a key as ids are read: whole numbers as integers, NaN and white space as nothing."""
    value = document.get(key)
    if value is None:
        return None
    if isinstance(value, str):
        trimmed = without_surrogates(value).strip()
        return None if trimmed in ("", *NO_IDS) else trimmed
    if isinstance(value, (bool, list, dict)):
        raise _UnusableError(f"unreadable {key}: expected a text or a number")
    return str(value) if isinstance(value, int) else json_text(value)


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _query_row(document: dict[str, Any]) -> dict[str, Any]:
    query_id = _text(document, "query_id")
    if query_id is None:
        raise _UnusableError("query without query_id")
    hits = document.get("query_response_hit_ids")
    if hits is not None and not isinstance(hits, list):
        raise _UnusableError("unreadable query_response_hit_ids: expected a list")
    query = document.get("user_query")
    if query is not None and not isinstance(query, (str, int, float)):
        raise _UnusableError("unreadable user_query: expected a text")
    shown = [_text({"query_response_hit_ids": hit}, "query_response_hit_ids") for hit in hits or ()]
    return {
        "query_id": query_id,
        "query": (json_text(query) or "").strip() if query is not None else "",
        "shown": [item for item in shown if item is not None],
    }


def _event_row(document: dict[str, Any], meaning: Mapping[str, str]) -> dict[str, Any]:
    action = _text(document, "action_name")
    if action is None:
        raise _UnusableError("event without action_name")
    if action not in meaning:
        return {"ignored": action}
    query_id = _text(document, "query_id")
    if query_id is None:
        raise _UnusableError("event without query_id")
    attributes = _object(document, "event_attributes")
    item = _text(_object(attributes, "object"), "object_id")
    if item is None:
        raise _UnusableError("event without object_id")
    place = _ordinal(attributes.get("position"))
    if place is None and meaning[action] == "shown" and attributes.get("position") is not None:
        raise _UnusableError("unreadable position.ordinal: expected a number")
    return {
        "query_id": query_id,
        "event": meaning[action],
        "item_id": item,
        "user_id": _text(document, "user_id") or _text(document, "client_id"),
        "time": _time_of(document.get("timestamp")),
        "place": place,
    }


def _ordinal(position: Any) -> float | None:
    """The place of a result: ``position.ordinal`` as number or text, also within an object, or ``position`` itself."""
    while isinstance(position, dict):
        inner = position.get("ordinal")
        if inner is None and len(position) == 1:  # as {"$numberInt": "3"}, {"value": 3}
            (inner,) = position.values()
        position = inner
    if position is None or isinstance(position, bool):
        return None
    if isinstance(position, int):
        return position
    return numbers(json_array([position]))[0].as_py() if isinstance(position, (float, str)) else None


def _time_of(timestamp: Any) -> int:
    found = instant_microseconds(timestamp)
    if found is None:
        raise _UnusableError("unreadable timestamp")
    return found


def _interactions(
    queries: list[dict[str, Any]], events: list[dict[str, Any]], rejected: RejectedRows
) -> Iterator[dict[str, Any]]:
    """The log of one bucket, query after query as their first events come."""
    by_id = {row["query_id"]: row for row in queries}
    of_query: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        query = by_id.get(event["query_id"])
        if query is None or not query["query"]:
            reason = "unknown query_id" if query is None else "empty user_query"
            rejected.add(event["file"], event["row"], reason, event["query_id"], line=event["row"])
            continue
        of_query.setdefault(event["query_id"], []).append(event)
    for query_id, found in of_query.items():
        query = by_id[query_id]
        chosen = [event for event in found if event["event"] != "shown"]
        for event in (*chosen, *_skips(query["shown"], found)):
            yield {
                "query": query["query"],
                "item_id": event["item_id"],
                "user_id": event["user_id"],
                "timestamp": event["time"],
                "event": event["event"],
            }


def _skips(hits: list[str], events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results above the last clicked one that nobody clicked, as events of the moment of the first click."""
    clicks = [event for event in events if event["event"] in ("click", "purchase")]
    known = {event["item_id"] for event in events if event["event"] != "shown"}
    if not clicks:
        return []
    if not hits:
        placed = [event for event in events if event["place"] is not None]
        hits = list(dict.fromkeys(event["item_id"] for event in sorted(placed, key=lambda event: event["place"])))
    last = max(
        (place for place, item in enumerate(hits) if any(item == click["item_id"] for click in clicks)), default=0
    )
    first = min(clicks, key=lambda event: event["time"])
    return [first | {"item_id": item, "event": "skip"} for item in hits[:last] if item not in known]
