"""Figures of the web page, as HTML and inline SVG: bars with intervals, scattered points, curves.

Colours are the page's (``style``), by class; text is HTML wherever it can be, so that it stays readable on a phone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from dpsr.evaluation.measures.paired import Interval

GROUPS = 10
"""Groups of points with a colour of their own, the last of them for all others."""
OTHERS = "others"

_WIDTH, _HEIGHT = 400, 300
_LEFT, _RIGHT, _TOP, _BOTTOM, _INSET = 44, 8, 24, 40, 28


def bars(title: str, values: Mapping[str, Interval], subject: str) -> str:
    """Horizontal bars, each with the whisker of its interval; the one named ``subject`` stands out.

    Args:
        title: what is measured, on what.
        values: name -> mean and interval; lengths are in relation to the largest upper end.
        subject: a name.
    """
    end = max(max(value.high for value in values.values()), 1e-9)
    rows = []
    for name, value in values.items():
        length, low, high = (100 * max(x, 0.0) / end for x in (value.mean, value.low, value.high))
        said = f"{name}: {value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"
        rows.append(
            f'<div class="{"bar subject" if name == subject else "bar"}" title="{escape(said)}">'
            f'<span class="name">{escape(name)}</span>'
            f'<span class="track"><i style="width:{length:.2f}%"></i>'
            f'<b style="left:{low:.2f}%;width:{high - low:.2f}%"></b></span>'
            f'<span class="value">{value.mean:.3f}</span></div>'
        )
    return _figure(title, f'<div class="bars">{"".join(rows)}</div>')


def scatter(
    title: str, points: np.ndarray, groups: Sequence[str], labels: Sequence[str], *, ordered: bool = True
) -> str:
    """Points [n, 2] in the colour of their group, which a legend names; a label shows when pointed at.

    Args:
        title: what the points are.
        points: their places.
        groups: the group of each.
        labels: what each is.
        ordered: give colours by size of the group, and one colour to all beyond the largest; else by name.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1)
    names, sizes = np.unique(np.array(groups, dtype=object), return_counts=True)
    shown = [str(name) for name in (names[np.argsort(-sizes, kind="stable")] if ordered else names)]
    if len(shown) > GROUPS:
        shown = [*shown[: GROUPS - 1], OTHERS]
    place_of = {name: place for place, name in enumerate(shown)}
    dots = []
    for (x, y), group, label in zip(scaled, groups, labels, strict=True):
        place = place_of.get(group, GROUPS - 1)
        dots.append(
            f'<circle class="g{place}" cx="{6 + x * (_WIDTH - 12):.1f}" cy="{6 + y * (_HEIGHT - 12):.1f}" r="2.6">'
            f"<title>{escape(group)}: {escape(label)}</title></circle>"
        )
    legend = "".join(f'<li class="g{place}">{escape(name)}</li>' for name, place in place_of.items())
    svg = f'<svg role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}"><title>{escape(title)}</title>{"".join(dots)}</svg>'
    return _figure(title, svg + (f'<ul class="legend">{legend}</ul>' if len(shown) > 1 else ""))


def curve(
    title: str, x_label: str, points: Sequence[tuple[float, float]], *, decimals: int, from_zero: bool = True
) -> str:
    """The means of y at every x, joined by a line, and all (x, y) as dots.

    Args:
        title: what y is.
        x_label: what x is.
        points: as many for the same x as there are, in any order.
        decimals: of the means that are written beside the line.
        from_zero: start y at 0, so that heights are in relation to each other.
    """
    xs = sorted({x for x, _ in points})
    means = [float(np.mean([y for x, y in points if x == at])) for at in xs]
    ticks = round_ticks(0.0 if from_zero else min(y for _, y in points), max(y for _, y in points))
    floor, width = _HEIGHT - _BOTTOM, _WIDTH - _LEFT - _RIGHT - 2 * _INSET

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - xs[0]) / ((xs[-1] - xs[0]) or 1)
        return _LEFT + _INSET + across * width, floor - (y - ticks[0]) / (ticks[-1] - ticks[0]) * (floor - _TOP)

    rows = []
    for tick in ticks:
        y = place(xs[0], tick)[1]
        rows.append(
            f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:,.10g}</text>'
        )
    for x, y in (place(*point) for point in points):
        rows.append(f'<circle class="run" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    line = [place(x, y) for x, y in zip(xs, means, strict=True)]
    rows.append(f'<path class="line" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in line)}"/>')
    for (x, y), at, mean in zip(line, xs, means, strict=True):
        rows.append(
            f'<circle class="mean" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{mean:,.{decimals}f}</title></circle>'
            f'<text x="{x:.1f}" y="{y - 10:.1f}" text-anchor="middle">{mean:,.{decimals}f}</text>'
            f'<text x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{at:g}</text>'
        )
    rows.append(
        f'<text x="{_LEFT + _INSET + width / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
    )
    svg = f'<svg role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}"><title>{escape(title)}</title>{"".join(rows)}</svg>'
    return _figure(title, svg)


def round_ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers, evenly apart, the first at most ``low`` and the last at least ``high``."""
    span = (high - low) or abs(high) or 1.0
    step = 10.0 ** np.floor(np.log10(span / 2))
    step *= next(factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if span / (factor * step) <= 4)
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return [float(np.round(step * tick, 10)) for tick in np.arange(first, max(last, first + 1) + 1)]


def _figure(title: str, body: str) -> str:
    return f"<figure><figcaption>{escape(title)}</figcaption>{body}</figure>"
