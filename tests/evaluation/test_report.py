"""What a report says, and what it must not say."""

import getpass
import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dpsr.evaluation.measures.metrics import RANKED_MEASURES, TOP_K
from dpsr.evaluation.measures.paired import Interval
from dpsr.evaluation.measures.polysemy import HeadSenses, Senses
from dpsr.evaluation.measures.timing import RetrievalTime
from dpsr.evaluation.report.report import Comparison, Difference, Report, Result, describe_machine
from dpsr.evaluation.report.tables import CLICKS, COMPARED, PAIRED, paired_table, senses_table, slice_table


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


def test_tables_show_every_retriever_on_every_slice(report: Report) -> None:
    for text in (report.to_text(), report.to_markdown()):
        assert text.count("bm25  ") == 2
        assert text.count("dpsr  ") == 3  # two slices, and against BM25
        assert text.count("0.718 ± 0.012") == 4  # MAP@5 and Top-1 of two slices
        assert text.count("-0.010 [-0.020, +0.030]") == 1
        assert text.count("+0.468 [+0.451, +0.485]") == 1 + len(PAIRED)
        for said in ("1,200 clicks", "458 items", "seed 7", "dpsr+bm25 0.2", "cores", "tensorflow"):
            assert said in text


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


def test_notes_and_times_are_told(report: Report) -> None:
    time = RetrievalTime("dpsr", "none: 1 x 458 inner products of 64", 458, 50, 1.234, 5.678)
    text = replace(report, notes=["The log is odd."], retrieval=[time]).to_text()
    for said in ("The log is odd.", "1.23", "5.68", "458 best items", "50 queries", time.index):
        assert said in text


def test_the_meanings_that_heads_find_are_counted_and_shown(report: Report) -> None:
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
    assert table.title in report.to_text()
    assert "2 queries" in table.title
    told = report.to_json()["polysemy"]
    assert (told["queries"], told["parted"], told["covered"]) == (2, 0.5, 0.5)
    assert told["shares"]["apple"] == {"fruit": [0.9, 0.0], "brand": [0.1, 0.96]}


def test_markdown_is_a_table(report: Report) -> None:
    rows = [line for line in report.to_markdown().splitlines() if line.startswith("|")]
    assert len(rows) == 2 * 4 + 3
    assert len({line.count("|") for line in rows[:8]}) == 1


def test_json_keeps_full_precision(report: Report, tmp_path: Path) -> None:
    path = report.write(tmp_path / "evaluation")
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


def test_machine_line_names_no_machine() -> None:
    said = json.dumps(describe_machine())
    assert socket.gethostname() not in said
    assert os.getcwd() not in said
    assert f"/{getpass.getuser()}" not in said


def test_asking_for_a_result_that_is_not_there_says_what_is(report: Report) -> None:
    assert report.result("bm25").metrics["MAP@5"] == 0.25
    with pytest.raises(KeyError, match="one typo"):
        report.result("bm25", "no such slice")
