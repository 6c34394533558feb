"""``dpsr data import-ubi``: User Behavior Insights 1.3 (``ubi_queries``, ``ubi_events``) as an interaction log.

Events are joined with their queries by ``query_id``, in buckets on disk, so that memory does not grow with the log.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dpsr.data.dataset.schema import EVENTS, DatasetError
from dpsr.data.raw.formats import open_bytes
from dpsr.data.raw.rejected import RejectedRows

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
    files = {name: _files(pattern, name) for name, pattern in (("queries", queries), ("events", events))}
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


def _files(pattern: str, name: str) -> list[str]:
    found = sorted(file for file in glob.glob(pattern, recursive=True) if Path(file).is_file())
    if not found:
        raise DatasetError(f"{pattern}: no such file; name the JSON Lines of ubi_{name}")
    return found


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
            for number, line in enumerate(_lines(file), start=1):
                if not line.strip():
                    continue
                try:
                    document = json.loads(line)
                    row = row_of(document.get("_source", document))
                except (ValueError, AttributeError, TypeError) as error:
                    reason = str(error) if isinstance(error, _UnusableError) else f"malformed {name} document"
                    rejected.add(file, number, reason, line.decode("utf-8", "replace"))
                    total += 1
                    continue
                if "ignored" in row:
                    counts.ignored[row["ignored"]] = counts.ignored.get(row["ignored"], 0) + 1
                    continue
                total += 1
                row["file"], row["row"] = file, number
                outputs[zlib.crc32(row["query_id"].encode()) % buckets].write(json.dumps(row) + "\n")
    return total


def _lines(file: str) -> Iterator[bytes]:
    try:
        with open_bytes(file) as stream:
            yield from stream
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read: {error}") from None


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _query_row(document: dict[str, Any]) -> dict[str, Any]:
    if not document.get("query_id"):
        raise _UnusableError("query without query_id")
    return {
        "query_id": str(document["query_id"]),
        "query": str(document.get("user_query") or "").strip(),
        "shown": [str(item) for item in document.get("query_response_hit_ids") or ()],
    }


def _event_row(document: dict[str, Any], meaning: Mapping[str, str]) -> dict[str, Any]:
    action = document.get("action_name")
    if not action:
        raise _UnusableError("event without action_name")
    if action not in meaning:
        return {"ignored": str(action)}
    if not document.get("query_id"):
        raise _UnusableError("event without query_id")
    attributes = document.get("event_attributes") or {}
    item = (attributes.get("object") or {}).get("object_id")
    if item in (None, ""):
        raise _UnusableError("event without object_id")
    return {
        "query_id": str(document["query_id"]),
        "event": meaning[action],
        "item_id": str(item),
        "user_id": str(document.get("user_id") or document.get("client_id") or "") or None,
        "time": _microseconds(document.get("timestamp")),
        "place": (attributes.get("position") or {}).get("ordinal"),
    }


def _microseconds(timestamp: Any) -> int:
    """ISO 8601, or milliseconds since 1970; without a zone: UTC."""
    try:
        if isinstance(timestamp, int):
            return timestamp * 1000
        time = datetime.fromisoformat(timestamp)
    except (ValueError, TypeError):
        raise _UnusableError("unreadable timestamp") from None
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    seconds = int(time.replace(microsecond=0).timestamp())
    return seconds * 1_000_000 + time.microsecond


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
            rejected.add(event["file"], event["row"], reason, event["query_id"])
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
        placed = [event for event in events if isinstance(event["place"], int)]
        hits = list(dict.fromkeys(event["item_id"] for event in sorted(placed, key=lambda event: event["place"])))
    last = max(
        (place for place, item in enumerate(hits) if any(item == click["item_id"] for click in clicks)), default=0
    )
    first = min(clicks, key=lambda event: event["time"])
    return [first | {"item_id": item, "event": "skip"} for item in hits[:last] if item not in known]
