"""The web page and the TREC files: well formed, complete, and true to what was measured."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import ir_measures
import numpy as np
import pytest

from dpsr.data.schema import INTERACTION, DatasetError
from dpsr.evaluation.cases import Case, differing_cases
from dpsr.evaluation.examples import Examples, make_examples
from dpsr.evaluation.figures import bars, curve, scatter
from dpsr.evaluation.html import read_run, write_html
from dpsr.evaluation.metrics import RANKED_MEASURES, TOP_K, ranked_values
from dpsr.evaluation.report import Comparison, Report, Result, describe_machine
from dpsr.evaluation.retrievers import CatalogueRetriever
from dpsr.evaluation.tables import CLICKS
from dpsr.evaluation.trec import write_trec

ITEMS = 40


class Fixed(CatalogueRetriever):
    """The scores of a table whose row is the record's ``history_end``."""

    def __init__(self, table: np.ndarray) -> None:
        super().__init__(table.shape[1])
        self.table = table.astype(np.float32)

    def score_all(self, examples: Examples) -> np.ndarray:
        return self.table[examples.records["history_end"]]


def examples_of(clicked: np.ndarray) -> Examples:
    records = np.zeros(len(clicked), dtype=INTERACTION)
    records["item"] = clicked
    records["history_end"] = np.arange(len(clicked))
    return make_examples(np.array([f"query {row:02}" for row in range(len(clicked))], dtype=object), records, seed=1)


def svg_of(figure: str) -> ET.Element:
    found = re.search(r"<svg.*</svg>", figure)
    assert found
    return ET.fromstring(found[0])


def test_bars_are_as_long_as_their_values() -> None:
    svg = svg_of(bars("a & b", ["bm25", "<dpsr>"], [0.2, 0.4], [0.05, 0.1], "<dpsr>"))
    widths = [float(bar.attrib["width"]) for bar in svg.iter("rect")]
    assert widths[1] == pytest.approx(2 * widths[0])
    assert len({bar.attrib["fill"] for bar in svg.iter("rect")}) == 2
    assert "<dpsr>" in {text.text for text in svg.iter("text")}


def test_scattered_points_keep_their_places_and_colours() -> None:
    points = np.array([[0.0, 0.0], [1.0, 2.0], [0.5, 1.0]])
    svg = svg_of(scatter("items", points, ["shoes", "hats", "shoes"], ["a<b", "c", "d"]))
    dots = [dot for dot in svg.iter("circle") if dot.find("title") is not None]
    x, y = ([float(dot.attrib[axis]) for dot in dots] for axis in ("cx", "cy"))
    assert x[2] == pytest.approx((x[0] + x[1]) / 2)
    assert y[2] == pytest.approx((y[0] + y[1]) / 2)
    assert dots[0].attrib["fill"] == dots[2].attrib["fill"] != dots[1].attrib["fill"]
    assert dots[0].find("title").text == "shoes: a<b"  # type: ignore[union-attr]
    many = svg_of(
        scatter("many", np.random.default_rng(1).random((60, 2)), [f"g{n % 15}" for n in range(60)], ["x"] * 60)
    )
    assert "others" in {text.text for text in many.iter("text")}


def test_a_curve_rises_with_its_values() -> None:
    svg = svg_of(curve("alpha", "alpha", [(1.0, 600.0), (0.0, 150.0), (0.5, 300.0)]))
    heights = [float(dot.attrib["cy"]) for dot in svg.iter("circle")]
    assert heights == sorted(heights, reverse=True)


def test_cases_are_the_largest_differences(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    clicked = rng.integers(0, ITEMS, 30)
    tables = rng.random((2, 30, ITEMS))
    texts = [f"item {row}" for row in range(ITEMS)]
    tables[0, 4, clicked[4]], tables[1, 4, clicked[4]] = 2.0, -1.0
    tables[0, 9, clicked[9]], tables[1, 9, clicked[9]] = -1.0, 2.0
    wins, losses = differing_cases(Fixed(tables[0]), Fixed(tables[1]), examples_of(clicked), texts, count=3)
    places = [(np.argsort(-table, axis=1)[:, :5] == clicked[:, None]) for table in tables]
    first, second = ((place / np.arange(1, 6)).sum(axis=1) for place in places)
    expected = np.sort(first - second)
    assert [case.gain for case in wins] == pytest.approx([gain for gain in expected[::-1][:3] if gain > 0])
    assert [case.gain for case in losses] == pytest.approx([gain for gain in expected[:3] if gain < 0])
    found = next(case for case in wins if case.query == "query 04")
    assert found.clicked == found.first[0] == f"item {clicked[4]}"
    assert found.clicked not in found.second


def test_page_needs_nothing_beside_it_and_escapes_what_people_typed(tmp_path: Path) -> None:
    names = [*RANKED_MEASURES, *TOP_K, CLICKS]
    results = [
        Result(part, name, 12, dict.fromkeys(names, value), dict.fromkeys(names, 0.01))
        for part in ("all", "head", "one typo")
        for name, value in (("bm25", 0.25), ("dpsr", 0.5))
    ]
    report = Report("shop", "test", 50, 40, 40, {}, 0.5, 7, describe_machine(), Comparison(results))
    case = Case("<script>alert(1)</script>", "red & blue", 1.0, ["red & blue", "x"], ["y"])
    other = {"mixing_ratio": 0.25, "retrievers": {"dpsr": {"clicks_10": 7.0}}}
    path = write_html(tmp_path / "out" / "r.html", report, subject="dpsr", cases=([case], []), runs=[other])
    page = path.read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<mark>red &amp; blue</mark>" in page
    assert not re.search(r"(src|href)=|url\(|@import", page)
    assert page.count("<svg") == 3  # bars of two slices, and the curve over two mixing ratios
    assert [entry.name for entry in path.parent.iterdir()] == ["r.html"]
    alone = write_html(tmp_path / "alone.html", report, subject="dpsr", cases=([], [])).read_text()
    assert alone.count("<svg") == 2
    with pytest.raises(DatasetError, match="evaluate that run again"):
        read_run(path)
    with pytest.raises(DatasetError, match="No such file"):
        read_run(tmp_path / "gone.json")


def test_trec_files_say_what_was_measured(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    examples = examples_of(rng.integers(0, ITEMS, 25))
    table = rng.integers(0, 6, (25, ITEMS))  # many ties, which the files must not leave to their reader
    gains = [{int(item): int(rng.integers(1, 4)) for item in rng.choice(ITEMS, 3, replace=False)} for _ in range(25)]
    ids = np.array([f"id {row}%" for row in range(ITEMS)], dtype=object)
    write_trec(tmp_path, {"bm25 bigrams": Fixed(table)}, examples, gains, ids, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bm25-bigrams.run", "qrels.txt", "topics.tsv"]
    judged = list(ir_measures.read_trec_qrels(str(tmp_path / "qrels.txt")))
    run = list(ir_measures.read_trec_run(str(tmp_path / "bm25-bigrams.run")))
    assert {entry.doc_id for entry in run} == {f"id%20{row}%25" for row in range(ITEMS)}
    assert (tmp_path / "topics.tsv").read_text().splitlines()[3] == "4\tquery 03"
    expected = ranked_values(Fixed(table).retrieve(examples, ITEMS)[0], gains)
    found = ir_measures.calc_aggregate(list(RANKED_MEASURES.values()), judged, run)
    for name, measure in RANKED_MEASURES.items():
        assert found[measure] == pytest.approx(expected[name].mean()), name
