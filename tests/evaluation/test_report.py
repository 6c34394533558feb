"""What a report says, and what it must not say."""

import getpass
import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from dpsr.evaluation.metrics import RANKED_MEASURES, TOP_K
from dpsr.evaluation.report import Report, Result, describe_machine


@pytest.fixture
def report() -> Report:
    names = [*RANKED_MEASURES, *TOP_K]
    results = [
        Result(slice_name, retriever, 1200, dict.fromkeys(names, value), dict.fromkeys(names, 0.0123))
        for slice_name in ("all", "one typo")
        for retriever, value in (("BM25", 0.25), ("two towers", 0.71849))
    ]
    return Report("shop", "test", 5000, 458, 458, 0.2, 7, describe_machine(), results)


def test_tables_show_every_retriever_on_every_slice(report: Report) -> None:
    for text in (report.to_text(), report.to_markdown()):
        assert text.count("two towers") == text.count("BM25") == 2
        assert text.count("0.718 ± 0.012") == 4  # MAP@5 and Top-1 of two slices
        for said in ("1,200 clicks", "458 items", "seed 7", "cores", "tensorflow"):
            assert said in text


def test_markdown_is_a_table(report: Report) -> None:
    rows = [line for line in report.to_markdown().splitlines() if line.startswith("|")]
    assert len(rows) == 2 * 4
    assert len({line.count("|") for line in rows}) == 1


def test_json_keeps_full_precision(report: Report, tmp_path: Path) -> None:
    path = report.write(tmp_path / "evaluation")
    assert path.name == "metrics.json"
    tree = json.loads(path.read_text())
    results = [Result(**result) for result in tree["results"]]
    assert replace(Report(**tree), results=results) == report
    assert [entry.name for entry in path.parent.iterdir()] == ["metrics.json"]


def test_machine_line_names_no_machine() -> None:
    said = json.dumps(describe_machine())
    assert socket.gethostname() not in said
    assert os.getcwd() not in said
    assert f"/{getpass.getuser()}" not in said


def test_asking_for_a_result_that_is_not_there_says_what_is(report: Report) -> None:
    assert report.result("BM25").metrics["MAP@5"] == 0.25
    with pytest.raises(KeyError, match="one typo"):
        report.result("BM25", "no such slice")
