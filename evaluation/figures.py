"""Figures as inline SVG: bars with intervals, scattered points, curves."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#44bb99", "#997700", "#bbbbbb")
"""Told apart by colour-blind eyes as well (Paul Tol's bright scheme, and three more)."""

_BAR, _GAP, _LABEL, _WIDTH, _VALUE = 18, 6, 130, 420, 60
_PLOT_WIDTH, _PLOT_HEIGHT, _MARGIN = 640, 440, 48


def bars(title: str, names: Sequence[str], values: Sequence[float], half_widths: Sequence[float], best: str) -> str:
    """Horizontal bars with a whisker of ``value ± half_width`` each; the bar named ``best`` stands out."""
    end = max(max(value + half for value, half in zip(values, half_widths, strict=True)), 1e-9)
    rows = []
    for place, (name, value, half) in enumerate(zip(names, values, half_widths, strict=True)):
        top = place * (_BAR + _GAP)
        middle = top + _BAR / 2
        at, low, high = (_LABEL + _WIDTH * max(x, 0) / end for x in (value, value - half, value + half))
        colour = COLOURS[1] if name == best else COLOURS[0]
        rows.append(
            f'<text x="{_LABEL - 8}" y="{middle + 4}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{_LABEL}" y="{top}" width="{at - _LABEL:.1f}" height="{_BAR}" fill="{colour}"/>'
            f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8" '
            f'stroke="currentColor" fill="none"/>'
            f'<text x="{_LABEL + _WIDTH + 8}" y="{middle + 4}">{value:.3f}</text>'
        )
    return _svg(title, _LABEL + _WIDTH + _VALUE, len(names) * (_BAR + _GAP), rows)


def scatter(title: str, points: np.ndarray, groups: Sequence[str], labels: Sequence[str]) -> str:
    """Points [n, 2] in the colour of their group, which a legend names; a label shows when pointed at.

    The ten largest groups have a colour each, the last of them shared with all others.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1)
    names, sizes = np.unique(np.array(groups, dtype=object), return_counts=True)
    shown = [str(name) for name in names[np.argsort(-sizes, kind="stable")]]
    if len(shown) > len(COLOURS):
        shown = [*shown[: len(COLOURS) - 1], "others"]
    colour_of = dict(zip(shown, COLOURS, strict=False))
    rows = []
    for (x, y), group, label in zip(scaled, groups, labels, strict=True):
        colour = colour_of.get(group, COLOURS[-1])
        rows.append(
            f'<circle cx="{8 + x * (_PLOT_WIDTH - 200):.1f}" cy="{8 + y * (_PLOT_HEIGHT - 16):.1f}" r="3" '
            f'fill="{colour}" fill-opacity=".75"><title>{escape(group)}: {escape(label)}</title></circle>'
        )
    for place, (name, colour) in enumerate(colour_of.items()):
        rows.append(
            f'<circle cx="{_PLOT_WIDTH - 172}" cy="{16 + 20 * place}" r="5" fill="{colour}"/>'
            f'<text x="{_PLOT_WIDTH - 160}" y="{20 + 20 * place}">{escape(name)}</text>'
        )
    return _svg(title, _PLOT_WIDTH, _PLOT_HEIGHT, rows)


def curve(title: str, x_label: str, points: Sequence[tuple[float, float]]) -> str:
    """A curve through (x, y) points in the order of x, with their values beside them; y starts at 0."""
    ordered = sorted(points)
    first, last = ordered[0][0], ordered[-1][0]
    top = max(max(y for _, y in ordered), 1e-9)
    height = _PLOT_HEIGHT // 2
    places = [
        (
            _MARGIN + (x - first) / ((last - first) or 1) * (_PLOT_WIDTH - 2 * _MARGIN),
            height - _MARGIN - y / top * (height - 2 * _MARGIN),
        )
        for x, y in ordered
    ]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    floor = height - _MARGIN
    rows = [
        f'<path d="M{_MARGIN} {floor}H{_PLOT_WIDTH - _MARGIN}" stroke="currentColor"/>',
        f'<path d="{path}" fill="none" stroke="{COLOURS[0]}" stroke-width="2"/>',
        f'<text x="{_PLOT_WIDTH / 2}" y="{height - 6}" text-anchor="middle">{escape(x_label)}</text>',
    ]
    for (x, y), (alpha, value) in zip(places, ordered, strict=True):
        rows.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLOURS[0]}"/>'
            f'<text x="{x:.1f}" y="{y - 10:.1f}" text-anchor="middle">{value:,.0f}</text>'
            f'<text x="{x:.1f}" y="{floor + 18}" text-anchor="middle">{alpha:g}</text>'
        )
    return _svg(title, _PLOT_WIDTH, height, rows)


def _svg(title: str, width: float, height: float, rows: Sequence[str]) -> str:
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg role="img" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}"><title>{escape(title)}</title>{"".join(rows)}</svg></figure>'
    )
