"""The report as text."""

from __future__ import annotations

from collections.abc import Callable

from tabulate import tabulate

from dpsr.evaluation.experiments.estimates import Difference, Estimate
from dpsr.evaluation.experiments.joining import Joins
from dpsr.evaluation.experiments.rejected_lines import Rejections, number_of
from dpsr.evaluation.experiments.report import ExperimentReport, Variant
from dpsr.evaluation.experiments.sample_ratio import MISMATCH_P, SampleRatio

_CROSSED_SHARE = 0.01


def describe(report: ExperimentReport) -> str:
    """Tables, what was left out, and the decisions, as lines of text."""
    action = report.action
    parts = [
        _head(report),
        _variants(report.variants, action),
        _differences(report),
        _ratio(report.sample_ratio),
        "\n".join(_left_out(report)),
        "\n".join(_decisions(report)),
    ]
    return "\n\n".join(part for part in parts if part)


def _head(report: ExperimentReport) -> str:
    kinds = {"sticky keys": report.keys, "requests without a key": report.requests_as_units}
    units = " and ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
    return (
        f"alias {report.alias}, action {report.action}, {_minute(report.first_request)} to "
        f"{_minute(report.last_request)} UTC\nunits: {units}; control: {report.control}"
    )


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


def _variants(variants: tuple[Variant, ...], action: str) -> str:
    rows = [
        [
            variant.name,
            f"{variant.units:,}",
            f"{variant.requests:,}",
            f"{variant.converted:,}",
            _estimate(variant.conversion, _percent),
            _number(variant.events_per_unit.value),
            _number(variant.events_per_request.value),
            _milliseconds(variant.p50_ms),
            _milliseconds(variant.p99_ms),
            _percent(variant.error_share.value),
        ]
        for variant in variants
    ]
    headers = [
        "variant",
        "units",
        "requests",
        "converted",
        "conversion, 95 %",
        f"{action} / unit",
        f"{action} / request",
        "p50 ms",
        "p99 ms",
        "errors",
    ]
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=("left", *["right"] * 9))


def _differences(report: ExperimentReport) -> str:
    rows = []
    for found in report.comparisons:
        named = {
            "conversion": (found.conversion, _points),
            f"{report.action} / unit": (found.events_per_unit, _signed),
            f"{report.action} / request": (found.events_per_request, _signed),
            "errors": (found.error_share, _points),
        }
        for name, (difference, shown) in named.items():
            row = [found.variant, name, *_difference(difference, shown)]
            if name == "conversion" and found.sequential is not None:
                ends = f"[{shown(found.sequential.low)}, {shown(found.sequential.high)}]"
                row += [ends, _p(found.sequential.p)]
            rows.append(row + [""] * (8 - len(row)))
    headers = [
        f"minus {report.control}",
        "",
        "difference",
        "relative",
        "95 % interval",
        "p",
        "always-valid interval",
        "always-valid p",
    ]
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=("left", "left", *["right"] * 6))


def _ratio(ratio: SampleRatio | None) -> str:
    if ratio is None:
        return "sample ratio: not checked, as no shares are given"
    names = dict.fromkeys([*ratio.expected, *ratio.units])
    counts = ", ".join(f"{name} {ratio.units.get(name, 0):,} ({ratio.expected.get(name, 0):,.0f})" for name in names)
    if not ratio.mismatch:
        return f"sample ratio: fits the shares, p {_p(ratio.p)}; units (expected): {counts}"
    return (
        f"WARNING: SAMPLE RATIO MISMATCH, p {_p(ratio.p)} below {MISMATCH_P}; units (expected): {counts}\n"
        "The units are not those that the alias has split: no difference above is to be trusted. Usual causes: shares "
        "that changed within\nthe log, an access log of some proxies only, a variant whose requests are logged less "
        "often, callers of one variant that retry."
    )


def _left_out(report: ExperimentReport) -> list[str]:
    lines = [_joined(report.joins, report.action)]
    if report.crossed_units:
        share = report.crossed_units / max(1, report.keys)
        lines.append(
            f"left out: {number_of(report.crossed_units, 'key')} ({_percent(share)}) that saw two variants"
            + ("; WARNING: stickiness is broken" if share > _CROSSED_SHARE else "")
        )
    if report.forced_requests:
        lines.append(f"left out: {number_of(report.forced_requests, 'request')} whose caller chose the variant")
    lines += _rejected("access log", report.rejected_requests)
    lines += _rejected("log of outcomes", report.rejected_events)
    return lines


def _joined(joins: Joins, action: str) -> str:
    named = {
        "by request id": joins.by_request,
        "by user": joins.by_key,
        "of another alias": joins.other_requests,
        "of an id that units share": joins.shared_ids,
        "before the user's first request": joins.before_first_request,
        "of neither a known request nor a known user": joins.unknown,
    }
    return f"{action} events: " + ", ".join(f"{count:,} {how}" for how, count in named.items() if count)


def _rejected(log: str, rejected: Rejections) -> list[str]:
    if not rejected.lines:
        return []
    first = "\n".join(f"  {example}" for example in rejected.examples)
    return [f"{log}: {number_of(rejected.lines, 'line')} cannot be used, the first:\n{first}"]


def _decisions(report: ExperimentReport) -> list[str]:
    found = []
    for comparison in report.comparisons:
        found.append(comparison.decision.sentence)
        if comparison.guardrail:
            found.append(comparison.guardrail)
    return found


def _difference(difference: Difference, shown: Callable[[float], str]) -> list[str]:
    relative = "" if difference.relative is None else f"{100 * difference.relative:+.1f} %"
    if difference.low is None or difference.high is None or difference.p is None:
        return [shown(difference.value), relative, "", ""]
    ends = f"[{shown(difference.low)}, {shown(difference.high)}]"
    return [shown(difference.value), relative, ends, _p(difference.p)]


def _estimate(found: Estimate, shown: Callable[[float], str]) -> str:
    if found.low is None or found.high is None:
        return shown(found.value)
    return f"{shown(found.value)} [{shown(found.low)}, {shown(found.high)}]"


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.2f} pp"


def _number(value: float) -> str:
    return f"{value:.4f}"


def _signed(value: float) -> str:
    return f"{value:+.4f}"


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"
