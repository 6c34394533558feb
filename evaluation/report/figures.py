"""Figures of the web page as HTML and inline SVG: bars with intervals, scattered points, curves.

Colours are classes of the page's style sheet. Text is HTML where possible, which stays readable on a phone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from dpsr.evaluation.measures.intervals import Interval
from dpsr.evaluation.report.rendering import render

GROUPS = 10
"""Colours of points; the last one is that of all further groups."""
OTHERS = "others"

_WIDTH, _HEIGHT = 400, 300
_LEFT, _RIGHT, _TOP, _BOTTOM, _INSET = 44, 8, 24, 40, 28


def bars(title: str, values: Mapping[str, Interval], subject: str) -> Markup:
    """Draws horizontal bars with the whiskers of their intervals.

    Args:
        title: measure and slice.
        values: name -> mean and interval; lengths are relative to the largest upper end.
        subject: name of the highlighted bar.
    """
    end = max(max(value.high for value in values.values()), 1e-9)
    rows = []
    for name, value in values.items():
        length, low, high = (100 * max(x, 0.0) / end for x in (value.mean, value.low, value.high))
        rows.append(
            {
                "name": name,
                "numbers": f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]",
                "length": f"{length:.2f}",
                "low": f"{low:.2f}",
                "width": f"{high - low:.2f}",
                "value": f"{value.mean:.3f}",
            }
        )
    return render("bars.html", title=title, bars=rows, subject=subject)


def scatter(
    title: str, points: np.ndarray, groups: Sequence[str], labels: Sequence[str], *, ordered: bool = True
) -> Markup:
    """Draws points in the colour of their group, with a legend of groups and labels as tooltips.

    Args:
        title: what the points are.
        points: their places, float [n, 2].
        groups: the group of each.
        labels: the tooltip of each.
        ordered: assign colours by descending size of the group; else by name.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1)
    names, sizes = np.unique(np.array(groups, dtype=object), return_counts=True)
    shown = [str(name) for name in (names[np.argsort(-sizes, kind="stable")] if ordered else names)]
    if len(shown) > GROUPS:
        shown = [*shown[: GROUPS - 1], OTHERS]
    place_of = {name: place for place, name in enumerate(shown)}
    dots = [
        {
            "place": place_of.get(group, GROUPS - 1),
            "x": f"{6 + x * (_WIDTH - 12):.1f}",
            "y": f"{6 + y * (_HEIGHT - 12):.1f}",
            "group": group,
            "label": label,
        }
        for (x, y), group, label in zip(scaled, groups, labels, strict=True)
    ]
    return render("scatter.html", title=title, width=_WIDTH, height=_HEIGHT, dots=dots, legend=shown)


def curve(
    title: str, x_label: str, points: Sequence[tuple[float, float]], *, decimals: int, from_zero: bool = True
) -> Markup:
    """Draws the means of y at every x, joined by a line, and all (x, y) as dots.

    Args:
        title: what y is.
        x_label: what x is.
        points: (x, y), several for the same x, in any order.
        decimals: decimals of the printed means.
        from_zero: start the axis of y at 0, so that heights are proportional.
    """
    xs = sorted({x for x, _ in points})
    means = [float(np.mean([y for x, y in points if x == at])) for at in xs]
    ticks = round_ticks(0.0 if from_zero else min(y for _, y in points), max(y for _, y in points))
    floor, width = _HEIGHT - _BOTTOM, _WIDTH - _LEFT - _RIGHT - 2 * _INSET

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - xs[0]) / ((xs[-1] - xs[0]) or 1)
        return _LEFT + _INSET + across * width, floor - (y - ticks[0]) / (ticks[-1] - ticks[0]) * (floor - _TOP)

    def mean_point(at: float, mean: float) -> dict[str, str]:
        x, y = place(at, mean)
        return {
            "x": f"{x:.1f}",
            "y": f"{y:.1f}",
            "at": f"{x:.1f} {y:.1f}",
            "text_y": f"{y - 10:.1f}",
            "value": f"{mean:,.{decimals}f}",
            "tick": f"{at:g}",
        }

    heights = [(place(xs[0], tick)[1], tick) for tick in ticks]
    return render(
        "curve.html",
        title=title,
        x_label=x_label,
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_WIDTH - _RIGHT,
        floor=floor,
        middle=_LEFT + _INSET + width / 2,
        ticks=[{"y": f"{y:.1f}", "text_y": f"{y + 4:.1f}", "value": f"{tick:,.10g}"} for y, tick in heights],
        runs=[{"x": f"{x:.1f}", "y": f"{y:.1f}"} for x, y in (place(*point) for point in points)],
        means=[mean_point(at, mean) for at, mean in zip(xs, means, strict=True)],
    )


def trade_off(title: str, x_label: str, y_label: str, points: Mapping[str, tuple[float, float]]) -> Markup:
    """Draws quality over cost, cost on a logarithmic axis; points that no cheaper one equals are named and joined.

    Args:
        title: what is drawn.
        x_label: the cost.
        y_label: the quality.
        points: name -> cost above 0, and quality.
    """
    exponents = [np.log10(cost) for cost, _ in points.values()]
    first, last = int(np.floor(min(exponents))), int(np.ceil(max(exponents)))
    last = max(last, first + 1)
    ticks = round_ticks(min(y for _, y in points.values()), max(y for _, y in points.values()))
    floor, width = _HEIGHT - _BOTTOM, _WIDTH - _LEFT - _RIGHT - _INSET

    def across(exponent: float) -> float:
        return float(_LEFT + _INSET / 2 + (exponent - first) / (last - first) * width)

    def up(quality: float) -> float:
        return floor - (quality - ticks[0]) / (ticks[-1] - ticks[0]) * (floor - _TOP)

    named, best = set(), -np.inf
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if points[name][1] > best:
            best = points[name][1]
            named.add(name)
    dots = [
        {
            "name": name,
            "x": f"{across(np.log10(cost)):.1f}",
            "y": f"{up(quality):.1f}",
            "at": f"{across(np.log10(cost)):.1f} {up(quality):.1f}",
            "text_y": f"{up(quality) + 16:.1f}",
            "anchor": "end" if across(np.log10(cost)) > _WIDTH / 2 else "start",
            "named": name in named,
            "label": f"{name}: {quality:.3f}, {cost:,.3g}",
        }
        for name, (cost, quality) in sorted(points.items(), key=lambda point: point[1][0])
    ]
    return render(
        "trade_off.html",
        title=title,
        x_label=x_label,
        y_label=y_label,
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_WIDTH - _RIGHT,
        floor=floor,
        middle=(_LEFT + _WIDTH) / 2,
        dots=dots,
        y_ticks=[{"y": f"{up(tick):.1f}", "text_y": f"{up(tick) + 4:.1f}", "value": f"{tick:.10g}"} for tick in ticks],
        x_ticks=[
            {"x": f"{across(exponent):.1f}", "value": f"{10.0**exponent:g}"} for exponent in range(first, last + 1)
        ],
    )


def round_ticks(low: float, high: float) -> list[float]:
    """Chooses three to six round numbers at equal distances, the first at most ``low``, the last at least ``high``."""
    span = (high - low) or abs(high) or 1.0
    step = 10.0 ** np.floor(np.log10(span / 2))
    step *= next(factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if span / (factor * step) <= 4)
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return [float(np.round(step * tick, 10)) for tick in np.arange(first, max(last, first + 1) + 1)]
