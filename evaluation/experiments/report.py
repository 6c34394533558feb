"""The report of an A/B alias: ``dpsr fleet report``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from dpsr.data.raw.files import find_files
from dpsr.data.raw.timestamps import EPOCH
from dpsr.evaluation.experiments.access_log import AccessLog, read_access_log
from dpsr.evaluation.experiments.comparison import Comparison, VariantUnits, compare
from dpsr.evaluation.experiments.errors import ExperimentError
from dpsr.evaluation.experiments.estimates import Estimate, estimate, mean_of, proportion, ratio_of
from dpsr.evaluation.experiments.joining import Buckets, Joins, bucket_count, join
from dpsr.evaluation.experiments.outcomes import Outcomes, read_outcomes
from dpsr.evaluation.experiments.rejected_lines import Rejections, number_of
from dpsr.evaluation.experiments.sample_ratio import SampleRatio, check_sample_ratio, normalised
from dpsr.evaluation.experiments.units import CROSSED, Units

_DAY = timedelta(days=1) // timedelta(microseconds=1)


@dataclass(frozen=True)
class Variant:
    """One variant of the alias; units that saw two variants are left out."""

    name: str
    units: int
    requests: int
    events: int
    converted: int
    """Units with at least one event."""
    conversion: Estimate
    """Share of units with at least one event."""
    events_per_unit: Estimate
    events_per_request: Estimate
    error_share: Estimate
    """Share of requests that failed."""
    p50_ms: float | None
    """Of the requests that did not fail."""
    p99_ms: float | None


@dataclass(frozen=True)
class ExperimentReport:
    """The comparison of the variants of an alias."""

    alias: str
    action: str
    control: str
    first_request: str
    """ISO 8601, UTC."""
    last_request: str
    keys: int
    """Units that are sticky keys."""
    requests_as_units: int
    """Requests without a key, each of which is a unit."""
    crossed_units: int
    """Keys that saw two variants; they are counted nowhere else."""
    forced_requests: int
    """Requests whose caller chose the variant; they are counted nowhere else."""
    variants: tuple[Variant, ...]
    """The control first."""
    sample_ratio: SampleRatio | None
    """None without configured shares."""
    comparisons: tuple[Comparison, ...]
    """Every other variant with the control."""
    joins: Joins
    actions: dict[str, int]
    """Events by action in the log of outcomes."""
    rejected_requests: Rejections
    rejected_events: Rejections

    def to_dict(self) -> dict[str, Any]:
        """The report as values of JSON."""
        return asdict(self)


def build_report(
    access_logs: Sequence[Path],
    outcomes: Path | Sequence[Path],
    alias: str,
    action: str,
    shares: Mapping[str, float] | None = None,
    control: str | None = None,
) -> ExperimentReport:
    """Compares the variants of an alias by the share of units that did something after it.

    An event belongs to the unit of the request whose id is its ``query_id``. An event whose ``query_id`` is missing, or
    not in the access log, belongs to the unit whose sticky key is its ``user_id``, or else its ``client_id``, if it
    happened after the unit's first request. Memory grows with the units, by about 200 bytes each; the requests and
    events lie in a temporary directory while they are joined.

    Args:
        access_logs: files, directories or patterns of the fleet's access log, JSON Lines, plain, gzip or zstd.
        outcomes: the same, of UBI events.
        alias: whose variants are compared.
        action: ``action_name`` of which more is better.
        shares: variant -> weight, as configured during the experiment; without them the sample ratio is not checked.
        control: the variant that the others are compared with; by default the first of ``shares`` that has requests,
            without shares the first by name.

    Raises:
        DatasetError: a file is missing or damaged.
        ExperimentError: the logs lack the alias, the action, a second variant or the control, or no event can be
            joined.
    """
    weights = None if shares is None else normalised(alias, shares)
    given = [outcomes] if isinstance(outcomes, Path) else outcomes
    access_files = _files(access_logs, "the access log")
    outcome_files = _files(given, "the log of outcomes")
    with tempfile.TemporaryDirectory(prefix="dpsr-report-") as name:
        directory, count = Path(name), bucket_count(access_files)
        requests, events = Buckets(directory, "requests", count), Buckets(directory, "events", count)
        with requests:
            log = read_access_log(access_files, alias, requests)
        columns = _variants(log, alias, weights, control)
        with events:
            found = read_outcomes(outcome_files, action, log.units, events)
        joins = join(requests, events, found.keyed, log.units)
    if not joins.by_request + joins.by_key:
        raise ExperimentError(
            f"{', '.join(outcome_files[:3])}: none of {found.events:,} {action} events belongs to a request of {alias}"
            f": {_unjoined(joins)}; send the UBI query_id as x-request-id, or make the alias sticky by the user_id or "
            "client_id of the events"
        )
    return _report(log, found, joins, alias, action, weights, columns)


def _files(paths: Sequence[Path], what: str) -> list[str]:
    files = [file.path for path in paths for file in find_files(str(path), f"the path of {what}")]
    if not files:
        raise ExperimentError(f"no file of {what}; name at least one")
    return list(dict.fromkeys(files))


def _variants(log: AccessLog, alias: str, shares: Mapping[str, float] | None, control: str | None) -> list[str]:
    """The variants that have units, the control first, the others by name."""
    numbers = log.units.variants
    there = [name for number, name in enumerate(log.variants) if (numbers == number).any()]
    if control is not None and control not in there:
        raise ExperimentError(
            f"control {control} has no request of alias {alias} (found: {', '.join(sorted(there)) or 'none'}); name "
            "one of these"
        )
    if len(there) < 2:
        crossed = int((numbers == CROSSED).sum())
        also = f", and {number_of(crossed, 'key')} that saw several variants" if crossed else ""
        raise ExperimentError(
            f"alias {alias} has requests of one variant only, {', '.join(there) or 'none'}{also}; a comparison needs "
            "two: give the access log of the time in which the alias was split"
        )
    first = control or next((name for name in shares or () if name in there), min(there))
    return [first, *sorted(name for name in there if name != first)]


def _unjoined(joins: Joins) -> str:
    parts = {
        "have a query_id and a user that are not in the access log": joins.unknown,
        "have the query_id of another alias's request": joins.other_requests,
        "have a query_id that several units share": joins.shared_ids,
        "are of a user before the first request": joins.before_first_request,
    }
    return ", ".join(f"{count:,} {text}" for text, count in parts.items() if count)


def _report(
    log: AccessLog,
    outcomes: Outcomes,
    joins: Joins,
    alias: str,
    action: str,
    shares: Mapping[str, float] | None,
    names: list[str],
) -> ExperimentReport:
    columns = _columns(log.units, [log.variants.index(name) for name in names])
    counted = {name: column.units for name, column in zip(names, columns, strict=True)}
    ratio = None if shares is None else check_sample_ratio(counted, shares)
    days = (log.last - log.first) / _DAY
    comparisons = tuple(
        compare(
            (name, column),
            (names[0], columns[0]),
            comparisons=len(names) - 1,
            days=days,
            broken=ratio is not None and ratio.mismatch,
        )
        for name, column in zip(names[1:], columns[1:], strict=True)
    )
    return ExperimentReport(
        alias,
        action,
        names[0],
        (EPOCH + timedelta(microseconds=log.first)).isoformat(),
        (EPOCH + timedelta(microseconds=log.last)).isoformat(),
        log.units.keys,
        log.without_key,
        int((log.units.variants == CROSSED).sum()),
        log.forced,
        tuple(_variant(name, column, log) for name, column in zip(names, columns, strict=True)),
        ratio,
        comparisons,
        joins,
        dict(outcomes.actions.most_common()),
        log.rejected.result(),
        outcomes.rejected.result(),
    )


def _columns(units: Units, numbers: Sequence[int]) -> list[VariantUnits]:
    variants, requests, events, errors = units.variants, units.requests, units.events, units.errors
    masks = [variants == number for number in numbers]
    return [VariantUnits(requests[mask], events[mask], errors[mask]) for mask in masks]


def _variant(name: str, column: VariantUnits, log: AccessLog) -> Variant:
    latencies = log.latencies[log.variants.index(name)]
    return Variant(
        name,
        column.units,
        int(column.requests.sum()),
        int(column.events.sum()),
        column.converted,
        proportion(column.converted, column.units),
        estimate(mean_of(column.events)),
        estimate(ratio_of(column.events, column.requests)),
        estimate(ratio_of(column.errors, column.requests)),
        latencies.quantile(0.5),
        latencies.quantile(0.99),
    )
