"""Times of every type, one order."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from dpsr.data.raw.timestamps import Clock

MOMENT = datetime(2025, 3, 4, 5, 6, 7)
MICROSECONDS = int(MOMENT.replace(tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([MOMENT], pa.timestamp("s")), MICROSECONDS),
        (pa.array([MOMENT], pa.timestamp("ns")), MICROSECONDS),
        (pa.array([MOMENT.replace(tzinfo=UTC)], pa.timestamp("ms", "Asia/Tokyo")), MICROSECONDS),
        (pa.array([date(2025, 3, 4)]), MICROSECONDS - (5 * 3600 + 6 * 60 + 7) * 1_000_000),
        (pa.array([MICROSECONDS / 1e6 + 0.5]), MICROSECONDS + 500_000),
        (pa.array(["2025-03-04 05:06:07"]), MICROSECONDS),
        (pa.array([" 2025-03-04T05:06:07.25 "]), MICROSECONDS + 250_000),
        (pa.array(["2025-03-04T05:06:07Z"]), MICROSECONDS),
        (pa.array(["2025-03-04T06:06:07+01:00"]), MICROSECONDS),
    ],
)
def test_every_type_is_the_same_moment(column: pa.Array, expected: int) -> None:
    clock = Clock()
    times, known = clock.read(column)
    assert (times.tolist(), known.tolist(), clock.unit) == ([expected], [True], "timestamp")
    assert (
        clock.text(expected)
        == (MOMENT.replace(tzinfo=UTC) + timedelta(microseconds=expected - MICROSECONDS)).isoformat()
    )


@pytest.mark.parametrize(
    "column", [pa.array([17, None, -3]), pa.array(["17", None, "-3"]), pa.array(["17", "x", " -3"])]
)
def test_integers_are_kept(column: pa.Array) -> None:
    clock = Clock()
    times, known = clock.read(column)
    assert (times[known].tolist(), known.tolist(), clock.unit) == ([17, -3], [True, False, True], "integer")
    assert clock.text(17) == 17


def test_unreadable_strings_are_found_among_readable_ones() -> None:
    texts: list[Any] = [f"2025-03-{1 + day % 28:02d} 10:00:00" for day in range(1000)]
    bad = {0: "soon", 1: "2025-02-30 10:00:00", 500: None, 501: "", 999: "2025-13-01"}
    for place, value in bad.items():
        texts[place] = value
    clock = Clock()
    clock.read(pa.array(["2025-01-01"]))
    times, known = clock.read(pa.array(texts))
    assert [place for place in range(1000) if not known[place]] == list(bad)
    assert times[2] == int(datetime(2025, 3, 3, 10, tzinfo=UTC).timestamp()) * 1_000_000


def test_times_of_another_kind_than_the_first_are_unreadable() -> None:
    clock = Clock()
    clock.read(pa.array([1, 2]))
    for other in (pa.array([MOMENT]), pa.array(["2025-03-04"]), pa.array([True])):
        assert clock.read(other)[1].tolist() == [False]
    assert clock.read(pa.array(["3", "4.5", "1e2"]))[0].tolist() == [3, 4, 100]


@pytest.mark.parametrize("time", [0, -1, 1_322_222_222_123_456, -62_135_596_800_000_000])
def test_a_shown_time_is_read_back(time: int) -> None:
    clock = Clock()
    clock.read(pa.array([0], pa.timestamp("us")))
    assert Clock.time(clock.text(time)) == time
    assert Clock.time(Clock().text(time)) == time
