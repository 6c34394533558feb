"""The fleet's access log, JSON Lines with one request each: units, errors and latencies of one alias's variants."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.data.raw.json_files import JsonFile
from dpsr.data.raw.readers import readable
from dpsr.data.raw.rows import Rows
from dpsr.data.raw.timestamps import FIRST_SECOND, LAST_SECOND, Clock
from dpsr.data.raw.values import id_strings, is_number, numbers
from dpsr.evaluation.experiments.errors import ExperimentError
from dpsr.evaluation.experiments.joining import NO_UNIT, Buckets
from dpsr.evaluation.experiments.latency import LatencyHistogram
from dpsr.evaluation.experiments.rejected_lines import RejectedLines
from dpsr.evaluation.experiments.units import Units

_MEMBERS = ["time", "request_id", "alias", "variant", "key", "status", "ms", "forced"]
_SUCCESS = re.compile("OK|[123][0-9]{2}")
"""Names of gRPC, codes of HTTP."""


@dataclass
class AccessLog:
    """What the access log says about one alias."""

    units: Units = field(default_factory=Units)
    variants: list[str] = field(default_factory=list)
    """Names by number."""
    latencies: list[LatencyHistogram] = field(default_factory=list)
    """Of the requests that did not fail, by the variant's number."""
    requests: int = 0
    """Of the alias, forced ones left out."""
    without_key: int = 0
    """Of those, requests without a sticky key."""
    forced: int = 0
    """Requests of the alias whose caller chose the variant."""
    aliases: Counter[str] = field(default_factory=Counter)
    """Requests by alias, of all aliases."""
    first: int = 0
    """Time of the first request, in microseconds since 1970."""
    last: int = 0
    rejected: RejectedLines = field(default_factory=RejectedLines)


def read_access_log(files: Sequence[str], alias: str, requests: Buckets) -> AccessLog:
    """Reads access logs.

    Members of a line: ``time`` (ISO 8601 or seconds since 1970), ``request_id``, ``alias``, ``variant``, ``key`` (the
    value by which the alias is sticky; missing where there is none), ``status`` (name of gRPC or code of HTTP) and
    ``ms``. A line with ``"forced": true`` is a request whose caller chose the variant: it was not randomised, and is
    left out.

    Args:
        files: JSON Lines, plain, gzip or zstd.
        alias: whose requests are counted.
        requests: takes id and unit of every request.

    Raises:
        DatasetError: a file cannot be read.
        ExperimentError: no line is one of the alias.
    """
    log = AccessLog()
    numbers_of: dict[str, int] = {}
    for file in files:
        with readable(file):
            for rows in JsonFile(file).batches(_MEMBERS, log.rejected):
                _read_rows(log, file, rows, alias, numbers_of, requests)
    if not log.requests:
        if log.forced:
            raise ExperimentError(
                f"{files[0]}: all {log.forced:,} requests of {alias} had their variant forced by the caller, so none "
                "was randomised; give an access log with requests that the alias has split"
            )
        there = ", ".join(f"{name} ({count:,})" for name, count in log.aliases.most_common(10)) or "no alias"
        raise ExperimentError(
            f"{', '.join(files[:3])}: no line of alias {alias} (found: {there}){log.rejected.note()}; name one of "
            "these aliases, or give the access log of the experiment's time"
        )
    return log


def _read_rows(
    log: AccessLog, file: str, rows: Rows, alias: str, numbers_of: dict[str, int], requests: Buckets
) -> None:
    ids, variants, keys, statuses = (
        id_strings(rows.columns[name]).to_pylist() for name in ("request_id", "variant", "key", "status")
    )
    aliases = id_strings(rows.columns["alias"])
    log.aliases.update({entry["values"]: entry["counts"] for entry in aliases.drop_null().value_counts().to_pylist()})
    units = [NO_UNIT] * len(ids)
    ours = np.flatnonzero(pc.fill_null(pc.equal(aliases, alias), False).to_numpy(zero_copy_only=False))
    times, dated = (found.tolist() for found in _times(rows.columns["time"]))
    milliseconds = _numbers(rows.columns["ms"])
    measured = (milliseconds >= 0).tolist()  # HAProxy has -1 for a request that ended before its answer
    unreadable = (np.isnan(milliseconds) & _given(rows.columns["ms"])).tolist()
    forced = _truths(rows.columns["forced"]).tolist()
    timed: dict[int, list[int]] = {}
    for row in ours.tolist():
        reason = (
            "line without request_id"
            if ids[row] is None
            else "line without variant"
            if variants[row] is None
            else "line without status"
            if statuses[row] is None
            else "unreadable time: expected ISO 8601 or seconds since 1970"
            if not dated[row]
            else "unreadable ms: expected a number"
            if unreadable[row]
            else None
        )
        if reason is not None:
            log.rejected.add(file, int(rows.numbers[row]), reason)
            continue
        if forced[row]:
            log.forced += 1
            continue
        number = numbers_of.setdefault(variants[row], len(numbers_of))
        if number == len(log.variants):
            log.variants.append(variants[row])
            log.latencies.append(LatencyHistogram())
        time, failed = times[row], not _SUCCESS.fullmatch(statuses[row])
        units[row] = log.units.see(keys[row], number, time, failed)
        log.first = min(log.first, time) if log.requests else time
        log.last = max(log.last, time) if log.requests else time
        log.requests += 1
        log.without_key += keys[row] is None
        if measured[row] and not failed:
            timed.setdefault(number, []).append(row)
    for number, found in timed.items():
        log.latencies[number].add(milliseconds[found])
    named = [row for row, name in enumerate(ids) if name is not None]
    requests.add([ids[row] for row in named], [units[row] for row in named])


def _times(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Microseconds since 1970, int64 [n], and whether the value is ISO 8601 or seconds since 1970, bool [n]."""
    seconds = _numbers(column)
    in_years = (seconds >= FIRST_SECOND) & (seconds <= LAST_SECOND)
    times = np.rint(np.where(in_years, seconds, 0.0) * 1e6).astype(np.int64)
    if not pa.types.is_string(column.type):
        return times, in_years
    iso = pc.fill_null(pc.match_substring_regex(column, r"^\s*[0-9]{4}-"), False)
    read, known = Clock().read(pc.if_else(iso, column, pa.scalar(None, pa.string())))
    return np.where(known, read, times), in_years | known


def _given(column: pa.Array) -> np.ndarray:
    """Whether there is a value, bool [n]."""
    return column.is_valid().to_numpy(zero_copy_only=False)


def _numbers(column: pa.Array) -> np.ndarray:
    """float64 [n]; NaN where the value is not a number."""
    if not (is_number(column.type) or pa.types.is_string(column.type)):
        return np.full(len(column), np.nan)
    return pc.fill_null(numbers(column), np.nan).to_numpy(zero_copy_only=False)


def _truths(column: pa.Array) -> np.ndarray:
    """bool [n]; False where there is no value."""
    found = pc.is_in(id_strings(column), value_set=pa.array(["true", "1"]))
    return pc.fill_null(found, False).to_numpy(zero_copy_only=False)
