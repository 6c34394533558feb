"""Outcomes: events of User Behavior Insights 1.3 (``ubi_events``), of which one action is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dpsr.data.raw.json_files import MalformedLineError, parse_line
from dpsr.data.raw.readers import numbered_lines
from dpsr.data.raw.timestamps import instant_microseconds
from dpsr.data.raw.values import NO_IDS, id_strings, json_array, without_surrogates
from dpsr.evaluation.experiments.errors import ExperimentError
from dpsr.evaluation.experiments.joining import EARLY, NO_UNIT, Buckets
from dpsr.evaluation.experiments.rejected_lines import RejectedLines
from dpsr.evaluation.experiments.units import Units

_AT_ONCE = 1 << 16


@dataclass
class Outcomes:
    """What the log of outcomes holds."""

    events: int = 0
    """Of the action."""
    actions: Counter[str] = field(default_factory=Counter)
    """Events by action."""
    keyed: Counter[int] = field(default_factory=Counter)
    """Unit of the user, ``NO_UNIT`` or ``EARLY`` -> events without ``query_id``."""
    rejected: RejectedLines = field(default_factory=RejectedLines)


def read_outcomes(files: Sequence[str], action: str, units: Units, events: Buckets) -> Outcomes:
    """Reads logs of outcomes; documents of ``ubi_queries`` among them are passed over.

    The user is ``user_id``, or else ``client_id``, whichever is a sticky key of the access log.

    Args:
        files: JSON Lines, plain, gzip or zstd; a document may stand in ``_source``.
        action: ``action_name`` of the events to count.
        units: of the access log.
        events: takes ``query_id`` and unit of the user of every event of the action that has a ``query_id``.

    Raises:
        DatasetError: a file cannot be read.
        ExperimentError: no event has the action.
    """
    found = Outcomes()
    ids: list[str] = []
    users: list[int] = []
    for file in files:
        for number, line in numbered_lines(file):
            try:
                document = _document(line)
                name = _id(document, "action_name")
                if name is None and "user_query" not in document:
                    raise MalformedLineError("event without action_name")
                if name != action:
                    if name is not None:
                        found.actions[name] += 1
                    continue
                query_id, user = _id(document, "query_id"), _unit_of_user(document, units)
            except MalformedLineError as error:
                found.rejected.add(file, number, str(error))
                continue
            found.actions[action] += 1
            found.events += 1
            if query_id is None:
                found.keyed[user] += 1
                continue
            ids.append(query_id)
            users.append(user)
            if len(ids) == _AT_ONCE:
                events.add(ids, users)
                ids.clear()
                users.clear()
    events.add(ids, users)
    if not found.events:
        there = ", ".join(f"{name} ({count:,})" for name, count in found.actions.most_common(10)) or "no event"
        raise ExperimentError(
            f"{', '.join(files[:3])}: no event has action_name {action} (found: {there})"
            f"{found.rejected.note()}; name one of these actions"
        )
    return found


def _document(line: bytes) -> dict[str, Any]:
    row = parse_line(line)
    document = row.get("_source", row)
    if not isinstance(document, dict):
        raise MalformedLineError("unreadable _source: expected an object")
    return document


def _id(document: dict[str, Any], key: str) -> str | None:
    """The text or number at a key as all readers have ids: whole numbers as integers, white space as nothing."""
    value = document.get(key)
    if value is None:
        return None
    if isinstance(value, str):
        trimmed = without_surrogates(value).strip()
        return None if trimmed in ("", *NO_IDS) else trimmed
    if isinstance(value, (bool, list, dict)):
        raise MalformedLineError(f"unreadable {key}: expected a text or a number")
    found: str | None = id_strings(json_array([value]))[0].as_py()
    return found


def _unit_of_user(document: dict[str, Any], units: Units) -> int:
    user = units.of_key(_id(document, "user_id"))
    unit = units.of_key(_id(document, "client_id")) if user is None else user
    time = _time_of(document.get("timestamp"))
    if unit is None:
        return NO_UNIT
    return unit if time >= units.first_request(unit) else EARLY


def _time_of(timestamp: Any) -> int:
    found = instant_microseconds(timestamp)
    if found is None:
        raise MalformedLineError("unreadable timestamp")
    return found
