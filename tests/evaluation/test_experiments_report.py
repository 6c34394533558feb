"""The report of an A/B alias: events join their units, nothing is lost in silence, and the text says what follows."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpsr.data.dataset.schema import DatasetError
from dpsr.errors import DpsrError
from dpsr.evaluation.experiments import joining
from dpsr.evaluation.experiments.decision import Evidence, decide
from dpsr.evaluation.experiments.errors import ExperimentError
from dpsr.evaluation.experiments.report import ExperimentReport, build_report
from dpsr.evaluation.experiments.sequential import sequential_test
from dpsr.evaluation.experiments.text import describe

START = datetime(2026, 3, 2, tzinfo=UTC)
EVEN = {"a": 0.5, "b": 0.5}


def at(second: float) -> str:
    return (START + timedelta(seconds=second)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def request(number: int, variant: str, key: Any = None, second: float = 0.0, **more: Any) -> dict[str, Any]:
    line = {"time": at(second), "request_id": f"q{number}", "alias": "shop", "variant": variant}
    return line | ({} if key is None else {"key": key}) | {"status": "OK", "ms": 10.0} | more


def event(query_id: str | None = None, second: float = 60.0, action: str = "click", **more: Any) -> dict[str, Any]:
    document = {"application": "shop", "action_name": action, "timestamp": at(second)}
    document |= {"event_attributes": {"object": {"object_id": "i1"}}}
    return document | ({} if query_id is None else {"query_id": query_id}) | more


def write(path: Path, lines: Iterable[dict[str, Any] | str]) -> Path:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def report(
    tmp_path: Path, requests: Iterable[dict[str, Any] | str], events: Iterable[dict[str, Any] | str], **more: Any
) -> ExperimentReport:
    access, outcomes = write(tmp_path / "access.jsonl", requests), write(tmp_path / "events.jsonl", events)
    return build_report([access], outcomes, "shop", more.pop("action", "click"), **more)


def events_by_variant(found: ExperimentReport) -> dict[str, tuple[int, int]]:
    return {variant.name: (variant.events, variant.converted) for variant in found.variants}


def shop(users: int, rates: dict[str, float], seed: int = 0, days: float = 10.0) -> tuple[list[Any], list[Any]]:
    """Requests of users who stay with their variant and some of whom buy once."""
    rng = np.random.default_rng(seed)
    names, requests, events = list(rates), [], []
    for user in range(users):
        variant = names[int(rng.integers(len(names)))]
        count, buys = 1 + int(rng.poisson(1.0)), rng.random() < rates[variant]
        for visit, second in enumerate(np.sort(rng.random(count) * days * 86_400).tolist()):
            number = len(requests)
            requests.append(request(number, variant, f"u{user}", second, ms=float(rng.lognormal(2, 0.3))))
            if buys and visit == 0:
                events.append(event(f"q{number}", second + 9, "purchase", client_id=f"u{user}"))
    return requests, events


def test_counts_are_those_of_a_plain_count(tmp_path: Path) -> None:
    requests, events = shop(1500, {"a": 0.2, "b": 0.3})
    found = report(tmp_path, requests, events, action="purchase", shares=EVEN)
    bought = {line["query_id"] for line in events}
    for variant in found.variants:
        mine = [line for line in requests if line["variant"] == variant.name]
        assert variant.requests == len(mine)
        assert variant.units == len({line["key"] for line in mine})
        assert variant.converted == variant.events == sum(line["request_id"] in bought for line in mine)
        assert variant.conversion.value == pytest.approx(variant.converted / variant.units)
        assert variant.events_per_request.value == pytest.approx(variant.events / variant.requests)
        assert variant.p99_ms == pytest.approx(
            np.quantile([line["ms"] for line in mine], 0.99, method="inverted_cdf"), rel=0.0051
        )
    assert (found.first_request, found.last_request) == tuple(
        datetime.fromisoformat(pick(line["time"] for line in requests)).isoformat() for pick in (min, max)
    )
    assert found.control == "a"
    assert found.sample_ratio is not None
    assert not found.sample_ratio.mismatch


def test_an_event_joins_by_its_query_or_else_by_its_user(tmp_path: Path) -> None:
    requests = [
        request(1, "a", "ann"),
        request(2, "b", "bob", second=500),
        request(8, "b", "bob", second=100),
        request(3, "recs_1", "bob", alias="recs"),
        request(4, "model", None, alias=None),
        request(5, "a", 7),
        request(6, "b"),
        request(7, "a", "dup"),
        request(7, "b", "dip"),
    ]
    events = [
        event("q1"),
        event("q1", user_id="bob", second=900),  # the query decides, not the user
        event("unknown", user_id="bob", second=101),
        event(None, user_id="nobody", client_id="bob", second=102),
        event(None, client_id=7, second=1),
        event("q6"),
        event("q3", user_id="bob", second=900),  # another alias's results
        event("q4", user_id="bob", second=900),
        event("q7", user_id="dup", second=900),
        event(None, user_id="bob", second=99),
        event("unknown", user_id="nobody"),
        event("q2", action="hover"),
    ]
    found = report(tmp_path, requests, events)
    assert events_by_variant(found) == {"a": (3, 2), "b": (3, 2)}
    assert found.joins == joining.Joins(
        by_request=3, by_key=3, other_requests=2, shared_ids=1, before_first_request=1, unknown=1
    )
    assert found.actions == {"click": 11, "hover": 1}
    assert (found.keys, found.requests_as_units) == (5, 1)
    assert "3 by request id, 3 by user, 2 of another alias, 1 of an id that units share, 1 before" in describe(found)


def test_formats_of_ubi_are_read_as_the_import_reads_them(tmp_path: Path) -> None:
    milliseconds = int(START.timestamp() * 1000) + 5000
    events = [
        event(None, client_id="ann", timestamp=milliseconds),
        event(None, client_id="ann", timestamp=str(milliseconds)),
        event(None, client_id="ann", timestamp="2026-03-02 00:00:05 UTC"),
        {"_id": "x", "_source": event("q1")},
        {"query_id": "q1", "user_query": "red shoes", "timestamp": at(0)},
    ]
    access = write(tmp_path / "access.jsonl.gz", [request(1, "a", "ann"), request(2, "b", "bob")])
    found = build_report([access], [write(tmp_path / "events.jsonl.gz", events)], "shop", "click")
    assert events_by_variant(found) == {"a": (4, 1), "b": (0, 0)}
    assert found.rejected_events.lines == 0


def test_the_request_is_the_unit_where_it_has_no_key(tmp_path: Path) -> None:
    requests = [request(number, "ab"[number % 2]) for number in range(40)]
    found = report(tmp_path, requests, [event("q1"), event("q1"), event("q2")], shares=EVEN)
    assert [(variant.units, variant.requests) for variant in found.variants] == [(20, 20), (20, 20)]
    assert events_by_variant(found) == {"a": (1, 1), "b": (2, 1)}
    assert "40 requests without a key" in describe(found)


def test_a_key_that_saw_two_variants_is_left_out_with_its_events(tmp_path: Path) -> None:
    requests = [request(1, "a", "x"), request(2, "b", "x"), request(3, "a", "y"), request(4, "b", "z")]
    found = report(tmp_path, requests, [event("q1"), event("q3")])
    assert found.crossed_units == 1
    assert events_by_variant(found) == {"a": (1, 1), "b": (0, 0)}
    assert "left out: 1 key (33.33 %) that saw two variants; WARNING: stickiness is broken" in describe(found)


def test_a_request_whose_variant_was_forced_is_left_out(tmp_path: Path) -> None:
    requests = [
        request(1, "a", "x", forced=False),
        request(2, "b", "x", forced=True),
        request(3, "b", "y"),
        request(4, "a", "z"),
    ]
    found = report(tmp_path, requests, [event("q3")])
    assert (found.crossed_units, found.forced_requests) == (0, 1)
    assert [variant.units for variant in found.variants] == [2, 1]


def test_lines_are_read_as_haproxy_writes_them(tmp_path: Path) -> None:
    tail = '"server":"s1","status":"{status}","ms":{ms},"bytes":33,"retries":"0","end":"--"}}'
    head = (
        '{{"time":{time:.3f},"request_id":"{id}","alias":"shop","model":"{v}","variant":"{v}",{key}"protocol":"grpc",'
    )
    line, now = head + tail, START.timestamp()
    requests = [
        line.format(time=now + 0.25, id="q1", v="a", key='"key":"ann",', status="OK", ms=12),
        line.format(time=now + 0.75, id="q2", v="b", key='"key":"bob",', status="UNAVAILABLE", ms=-1),
        line.format(time=now + 0.5, id="q3", v="b", key='"key":"cid",', status="200", ms=20),
        line.format(time=now + 0.5, id="q4", v="b", key="", status="404", ms=20),
        line.format(time=now, id="q5", v="b", key='"forced":"1",', status="OK", ms=20),
        line.format(time=now, id="q6", v="b", key="", status="OK", ms=30).replace('"alias":"shop",', ""),
        request(7, "a", "old", second=0.6),  # ISO 8601 among seconds
    ]
    found = report(tmp_path, requests, [event("q1")])
    assert (found.first_request, found.last_request) == (
        "2026-03-02T00:00:00.250000+00:00",
        "2026-03-02T00:00:00.750000+00:00",
    )
    a, b = found.variants
    assert (a.units, a.error_share.value, b.units, b.error_share.value) == (2, 0.0, 3, 2 / 3)
    assert b.p50_ms == pytest.approx(20, rel=0.0051)
    assert (found.forced_requests, found.requests_as_units, found.rejected_requests.lines) == (1, 1, 0)


def test_lines_that_cannot_be_used_are_counted_with_their_places(tmp_path: Path) -> None:
    requests: list[dict[str, Any] | str] = [
        request(1, "a", "x"),
        "{broken",
        request(2, "b", "y"),
        request(3, "b", "z", time="yesterday"),
        request(5, "b", "z", ms="fast"),
        request(6, "b", "z", status=None),
        request(7, "b", ["z"]),
        {"alias": "shop", "variant": "a", "time": at(0), "status": "OK", "ms": 1},
        request(8, "b", "z", alias="other", time=None),
    ]
    events: list[dict[str, Any] | str] = [
        event("q1"),
        event("q1", timestamp="soon"),
        event("q1", action_name=["click"]),
        {"query_id": "q1"},
        "[]",
    ]
    found = report(tmp_path, requests, events)
    assert found.rejected_requests.reasons == {
        "unreadable ms: expected a number": 1,
        "malformed JSON line": 1,
        "malformed JSON line: key is a list": 1,
        "unreadable time: expected ISO 8601 or seconds since 1970": 1,
        "line without status": 1,
        "line without request_id": 1,
    }
    assert found.rejected_events.lines == 4
    assert len(found.rejected_events.examples) == 3
    access, outcomes = tmp_path / "access.jsonl", tmp_path / "events.jsonl"
    assert f"{access}, line 2: malformed JSON line" in found.rejected_requests.examples
    text = describe(found)
    assert "access log: 6 lines cannot be used, the first:" in text
    assert f"  {outcomes}, line 2: unreadable timestamp" in text
    assert sum(variant.requests for variant in found.variants) == 2


def test_buckets_and_the_order_of_lines_do_not_change_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, events = shop(400, {"a": 0.2, "b": 0.3})
    events += [event(None, 86_400 * 11, "purchase", client_id=f"u{user}") for user in range(0, 400, 9)]
    whole = report(tmp_path, requests, events, action="purchase", shares=EVEN)
    monkeypatch.setattr(joining, "_BUCKET_BYTES", 2000)
    assert joining.bucket_count([str(tmp_path / "access.jsonl")]) > 20
    rng = np.random.default_rng(1)
    shuffled = [requests[place] for place in rng.permutation(len(requests))]
    half = len(shuffled) // 2
    access = [write(tmp_path / f"part{n}.jsonl", part) for n, part in enumerate((shuffled[:half], shuffled[half:]))]
    outcomes = write(tmp_path / "other.jsonl", events[::-1])
    assert build_report(access, outcomes, "shop", "purchase", EVEN) == whole


def test_a_clear_difference_ends_in_a_decision(tmp_path: Path) -> None:
    requests, events = shop(4000, {"a": 0.1, "b": 0.2})
    found = report(tmp_path, requests, events, action="purchase", shares=EVEN)
    (comparison,) = found.comparisons
    assert comparison.decision.verdict == "better"
    assert comparison.decision.sentence.startswith("b is better than a (difference +")
    turned = report(tmp_path, requests, events, action="purchase", shares=EVEN, control="b")
    assert turned.comparisons[0].decision.verdict == "worse"
    assert turned.comparisons[0].conversion.value == -comparison.conversion.value
    assert describe(turned).splitlines()[-1].startswith("a is worse than b (difference -")


def test_an_open_difference_says_how_many_units_are_needed(tmp_path: Path) -> None:
    requests, events = shop(2000, {"a": 0.10, "b": 0.13}, seed=3)
    found = report(tmp_path, requests, events, action="purchase", shares=EVEN)
    decision = found.comparisons[0].decision
    assert decision.verdict == "not different yet"
    assert decision.more_units is not None
    assert decision.more_days == pytest.approx(decision.more_units / 200, rel=0.01)  # 2,000 users in 10 days
    assert "more units needed at this rate" in decision.sentence


@pytest.mark.parametrize(("comparisons", "verdict"), [(1, "better"), (2, "not different yet")])
def test_a_decision_keeps_to_its_share_of_the_level(comparisons: int, verdict: str) -> None:
    found = sequential_test(0.02, 3.9e-5, 20_000, comparisons)
    assert 0.025 < found.p < 0.05
    evidence = Evidence("b", "a", (1200, 1000), (10_000, 10_000), 0.02, 3.9e-5, found, 1000.0)
    assert decide(evidence).verdict == verdict


def test_too_few_units_say_so(tmp_path: Path) -> None:
    requests, events = shop(60, {"a": 0.1, "b": 0.1}, seed=5)
    found = report(tmp_path, requests, events, action="purchase", shares=EVEN)
    assert found.comparisons[0].decision.verdict == "not different yet"
    assert "too few units for the test" in found.comparisons[0].decision.sentence


def test_a_variant_without_any_event_is_found_worse(tmp_path: Path) -> None:
    requests, events = shop(3000, {"a": 0.1, "b": 0.0}, seed=6)
    found = report(tmp_path, requests, events, action="purchase", shares=EVEN)
    assert found.comparisons[0].decision.verdict == "worse"


def test_a_broken_sample_ratio_forbids_a_decision(tmp_path: Path) -> None:
    requests, events = shop(2000, {"a": 0.1, "b": 0.3})
    found = report(tmp_path, requests, events, action="purchase", shares={"a": 0.6, "b": 0.4})
    assert found.sample_ratio is not None
    assert found.sample_ratio.mismatch
    assert found.comparisons[0].decision.verdict == "none"
    text = describe(found)
    assert "WARNING: SAMPLE RATIO MISMATCH" in text
    assert "better" not in text
    unchecked = describe(report(tmp_path, requests, events, action="purchase"))
    assert "sample ratio: not checked, as no shares are given" in unchecked
    assert "b is better than a" in unchecked


def test_several_variants_share_the_level(tmp_path: Path) -> None:
    requests, events = shop(900, {"old": 0.1, "x": 0.1, "y": 0.1})
    shares = {"old": 2.0, "x": 2.0, "y": 2.0, "gone": 0.001}
    found = report(tmp_path, requests, events, action="purchase", shares=shares)
    assert [variant.name for variant in found.variants] == ["old", "x", "y"]
    assert [c.sequential.level for c in found.comparisons if c.sequential] == [0.025, 0.025]
    assert found.sample_ratio is not None
    assert "gone 0 (0)" in describe(found)


def test_failing_requests_raise_the_guardrail(tmp_path: Path) -> None:
    requests, events = shop(1500, {"a": 0.2, "b": 0.2})
    for number, line in enumerate(requests):
        if line["variant"] == "b" and number % 20 == 0:
            line["status"] = "UNAVAILABLE"
    found = report(tmp_path, requests, events, action="purchase", shares=EVEN)
    assert found.comparisons[0].guardrail is not None
    assert "Guardrail: more requests fail with b than with a" in describe(found)
    assert report(tmp_path, *shop(500, {"a": 0.2, "b": 0.2}), action="purchase").comparisons[0].guardrail is None


def test_the_report_is_valid_json(tmp_path: Path) -> None:
    for events in ([event("q1")], [event("q1"), event("q2")]):
        found = report(tmp_path, [request(1, "a", "x"), request(2, "b", "y")], events)
        again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert again["variants"][0]["converted"] == 1
        assert set(again) == {field.name for field in dataclasses.fields(found)}
        assert describe(found)


ONE = [request(1, "a", "x"), request(2, "b", "y")]


@pytest.mark.parametrize(
    ("requests", "events", "more", "message"),
    [
        (ONE, [event("q1")], {"action": "purchase"}, r"no event has action_name purchase \(found: click \(1\)\)"),
        (ONE[:1], [event("q1")], {}, "one variant only, a; a comparison needs two"),
        (ONE, [event("q1")], {"control": "c"}, r"control c has no request of alias shop \(found: a, b\)"),
        (
            ONE,
            [event("q9", user_id="z")],
            {},
            r"none of 1 click events belongs to a request of shop: 1 have a query_id",
        ),
        (ONE, [event("q1")], {"shares": {"a": 1.0}}, "alias shop has one variant, a"),
        (ONE, [event("q1")], {"shares": {"a": 1.0, "b": 0.0}}, "share of b of alias shop is 0.0; give a positive"),
        (
            ["{"],
            [event("q1")],
            {},
            r"no line of alias shop \(found: no alias\); 1 line cannot be used, the first: .*1:",
        ),
        (
            [line | {"alias": "recs"} for line in ONE],
            [event("q1")],
            {},
            r"no line of alias shop \(found: recs \(2\)\); name one of these",
        ),
        (
            [line | {"forced": True} for line in ONE],
            [event("q1")],
            {},
            "all 2 requests of shop had their variant forced",
        ),
    ],
)
def test_logs_that_cannot_be_compared_are_named(
    tmp_path: Path, requests: Any, events: Any, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExperimentError, match=message):
        report(tmp_path, requests, events, **more)
    assert issubclass(ExperimentError, DpsrError)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere\.jsonl: no such file .* the path of the access log"):
        build_report([tmp_path / "nowhere.jsonl"], tmp_path / "events.jsonl", "shop", "click")
    access = write(tmp_path / "access.jsonl", ONE)
    with pytest.raises(DatasetError, match=r"events\.jsonl: no such file .* the path of the log of outcomes"):
        build_report([access], tmp_path / "events.jsonl", "shop", "click")
    with pytest.raises(ExperimentError, match="no file of the access log"):
        build_report([], tmp_path / "events.jsonl", "shop", "click")
