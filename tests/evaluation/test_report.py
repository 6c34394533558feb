"""Report tables, text, Markdown and JSON."""

import json
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dpsr.evaluation.measures.intervals import Interval
from dpsr.evaluation.measures.metrics import CLICKS, COMPARED, RANKED_MEASURES, TOP_K
from dpsr.evaluation.measures.polysemy import HeadSenses, Senses
from dpsr.evaluation.measures.timing import RetrievalTime
from dpsr.evaluation.report.machine import describe_machine
from dpsr.evaluation.report.metrics_json import report_json, write_metrics
from dpsr.evaluation.report.results import Comparison, Difference, Report, Result
from dpsr.evaluation.report.tables import COLUMNS, PAIRED, kinds_table, paired_table, senses_table, slice_table, tables
from dpsr.evaluation.report.text import to_markdown, to_text


@pytest.fixture
def report() -> Report:
    names = [*RANKED_MEASURES, *TOP_K, CLICKS]
    results = [
        Result(slice_name, retriever, 1200, dict.fromkeys(names, value), dict.fromkeys(names, 0.0123))
        for slice_name in ("all", "one typo")
        for retriever, value in (("bm25", 0.25), ("dpsr", 0.71849))
    ]
    differences = [
        Difference("all", "dpsr", "bm25", dict.fromkeys(COMPARED, Interval(0.468, 0.4512, 0.4851, 0.009))),
        Difference("one typo", "dpsr", "bm25", dict.fromkeys(COMPARED, Interval(-0.01, -0.02, 0.03, 0.012))),
    ]
    comparison = Comparison(results, differences, differences)
    return Report("shop", "test", 5000, 458, 458, {"dpsr+bm25": 0.2}, 0.5, 7, describe_machine(), comparison)


def test_slices_have_a_row_for_each_method_and_the_differences_from_it(report: Report) -> None:
    table = slice_table(report, "all")
    assert table.title == "all (1,200 clicks)"
    assert table.headers == ["retriever", *COLUMNS, "dpsr minus it, MAP@5"]
    rows = {row[0].value: dict(zip(table.headers, map(str, row), strict=True)) for row in table.rows}
    assert rows["dpsr"]["MAP@5"] == rows["dpsr"]["Top-1"] == "0.718 ± 0.012"
    assert rows["dpsr"]["nDCG@10"] == "0.718"
    assert rows["bm25"]["Recall@1000"] == "0.250"
    assert rows["bm25"]["dpsr minus it, MAP@5"] == "+0.468 [+0.451, +0.485]"
    assert rows["dpsr"]["dpsr minus it, MAP@5"] == ""
    typo = slice_table(report, "one typo")
    assert str(typo.rows[0][-1]) == "-0.010 [-0.020, +0.030]"


def test_a_measure_that_a_method_does_not_allow_is_a_dash_and_absent_from_the_json(report: Report) -> None:
    ranked = ("Top-1", "Top-10")
    first, second, *others = report.results
    pairs = replace(
        second,
        metrics=dict.fromkeys(ranked, 0.9),
        half_widths=dict.fromkeys(ranked, 0.1),
        intervals={name: Interval(0.9, 0.8, 1.0, 0.05) for name in ranked},
    )
    head = replace(pairs, slice="head")
    difference = replace(
        report.comparison.differences[0], metrics={name: Interval(0.1, 0.0, 0.2, 0.05) for name in ranked}
    )
    results = [first, pairs, replace(first, slice="head"), head, *others]
    report = replace(report, comparison=Comparison(results, [difference], [difference]))
    table = slice_table(report, "all")
    cells = dict(zip(table.headers, map(str, table.rows[1]), strict=True))
    assert {name for name, cell in cells.items() if cell == "-"} == {*COLUMNS} - {*ranked}
    assert cells["Top-1"] == "0.900 ± 0.100"
    assert not table.rows[0][1].best  # nothing to be better than
    (kinds,) = kinds_table(report)
    assert [str(cell) for cell in kinds.rows[0]] == ["head", "1,200", "0.250", "-"]
    (paired,) = paired_table(report.comparison.of_slice("all"), PAIRED, "clicks")
    assert [str(cell) for cell in paired.rows[0]][1:] == ["-", "-", "-", "+0.100 [+0.000, +0.200] 2.0 SE"]
    assert report_json(report)["retrievers"]["dpsr"] == {"top_1": 0.9, "top_10": 0.9}


def test_text_and_markdown_have_the_facts_and_every_table(report: Report) -> None:
    for text in (to_text(report), to_markdown(report)):
        for fact in ("5,000 interactions", "458 items", "seed 7", "dpsr+bm25 0.2", "cores", "tensorflow"):
            assert fact in text
        assert all(table.title in text for table in tables(report))


def test_differences_from_bm25_say_how_many_standard_errors_they_are(report: Report) -> None:
    (table,) = paired_table(report.comparison.of_slice("all"), ["MAP@5"], "clicks")
    assert [str(cell) for cell in table.rows[0]] == ["dpsr", "+0.468 [+0.451, +0.485] 52.0 SE"]
    (table,) = paired_table(report.comparison.of_slice("one typo"), ["MAP@5"], "clicks")
    assert str(table.rows[0][1]) == "-0.010 [-0.020, +0.030] 0.8 SE"
    same = Difference("all", "memory", "bm25", {"MAP@5": Interval(0.0, 0.0, 0.0, 0.0)})
    (table,) = paired_table(Comparison([], [], [same]), ["MAP@5"], "clicks")
    assert str(table.rows[0][1]) == "+0.000 [+0.000, +0.000]"


def test_the_best_of_a_column_is_marked_and_no_tie_of_all(report: Report) -> None:
    table = slice_table(report, "all")
    best = {row[0].value: {cell.best for cell in row[1:-2]} for row in table.rows}  # no winner in clicks
    assert best == {"bm25": {False}, "dpsr": {True}}
    level = [replace(result, metrics=dict.fromkeys(result.metrics, 0.5)) for result in report.results]
    table = slice_table(replace(report, comparison=Comparison(level)), "all")
    assert not any(cell.best for row in table.rows for cell in row)


def test_notes_and_retrieval_times_are_printed(report: Report) -> None:
    time = RetrievalTime("dpsr", "none: 1 x 458 inner products of 64", 458, 50, 1.234, 5.678)
    text = to_text(replace(report, notes=["Clicks are few."], retrieval=[time]))
    for expected in ("Clicks are few.", "1.23", "5.68", "458 best items", "50 queries", time.index):
        assert expected in text


def test_senses_found_by_heads_are_counted_and_shown(report: Report) -> None:
    fruit_or_brand = Senses("apple", ("fruit", "brand"), (frozenset({"food"}), frozenset({"phones"})))
    parted = HeadSenses(fruit_or_brand, np.array([[0.9, 0.1], [0.0, 0.96]]), np.array([0.5, 0.5]))
    alike = HeadSenses(
        replace(fruit_or_brand, query="kiwi"), np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0.95, 0.05])
    )
    report = replace(report, senses=[parted, alike])
    (table,) = senses_table(report)
    assert [[str(cell) for cell in row] for row in table.rows] == [
        ["apple", "fruit 90%", "brand 96%", "yes"],
        ["kiwi", "fruit 90%", "fruit 80%", "no"],
    ]
    assert table.title in to_text(report)
    assert "2 queries" in table.title
    polysemy = report_json(report)["polysemy"]
    assert (polysemy["queries"], polysemy["parted"], polysemy["covered"]) == (2, 0.5, 0.5)
    assert polysemy["shares"]["apple"] == {"fruit": [0.9, 0.0], "brand": [0.1, 0.96]}


def test_markdown_is_a_table(report: Report) -> None:
    rows = [line for line in to_markdown(report).splitlines() if line.startswith("|")]
    assert len(rows) == 2 * 4 + 3
    assert len({line.count("|") for line in rows[:8]}) == 1


def test_json_keeps_full_precision(report: Report, tmp_path: Path) -> None:
    path = write_metrics(report, tmp_path / "evaluation")
    assert path.name == "metrics.json"
    tree = json.loads(path.read_text())
    assert tree["retrievers"]["dpsr"] == {
        **dict.fromkeys(["map_5", "mrr_10", "ndcg_10", "hit_10"], 0.71849),
        **dict.fromkeys(["recall_10", "recall_100", "recall_1000", "top_1", "top_10", "clicks_10"], 0.71849),
    }
    assert tree["half_widths"]["bm25"]["top_10"] == 0.0123
    assert tree["differences"]["bm25"]["top_1"] == {
        "mean": 0.468,
        "low": 0.4512,
        "high": 0.4851,
        "standard_error": 0.009,
    }
    assert tree["over_bm25"]["dpsr"] == tree["differences"]["bm25"]
    assert tree["slices"]["one typo"]["differences"]["bm25"]["map_5"]["low"] == -0.02
    assert tree["slices"].keys() == {"one typo"}
    assert tree["slices"]["one typo"]["retrievers"]["bm25"]["top_1"] == 0.25
    assert (tree["name"], tree["seed"], tree["num_items"], tree["examples"]) == ("shop", 7, 458, 1200)
    assert [entry.name for entry in path.parent.iterdir()] == ["metrics.json"]


def test_the_machine_is_described_without_naming_it() -> None:
    found = describe_machine()
    assert list(found) == ["cores", "cpu", "python", "tensorflow", "numpy", "dpsr"]
    assert found["cores"] >= 1
    assert all(found.values())
    assert socket.gethostname() not in json.dumps(found)


def test_an_unknown_result_is_an_error_that_lists_the_known_ones(report: Report) -> None:
    assert report.result("bm25").metrics["MAP@5"] == 0.25
    with pytest.raises(KeyError, match="one typo"):
        report.result("bm25", "no such slice")
