"""The web page and the TREC files: well formed, complete, and equal to the measured values."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import ir_measures
import numpy as np
import pyarrow as pa
import pytest

from dpsr.baselines.examples import QueryExamples, anonymous_examples, make_examples
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.data.dataset.schema import INTERACTION, DatasetError
from dpsr.evaluation.measures.cases import Case, differing_cases
from dpsr.evaluation.measures.heads import HeadAnswers, frequent_queries, head_answers
from dpsr.evaluation.measures.intervals import Interval
from dpsr.evaluation.measures.metrics import CLICKS, RANKED_MEASURES, TOP_K, ranked_values
from dpsr.evaluation.measures.polysemy import Senses
from dpsr.evaluation.report.figures import bars, curve, round_ticks, scatter
from dpsr.evaluation.report.item_map import heads_maps
from dpsr.evaluation.report.machine import describe_machine
from dpsr.evaluation.report.metrics_json import read_metrics
from dpsr.evaluation.report.page import Figures, write_page
from dpsr.evaluation.report.results import Comparison, Report, Result
from dpsr.evaluation.report.trec import write_trec

ITEMS = 40


class Fixed(ExhaustiveRetriever):
    """The scores of a table whose row is the record's ``history_end``."""

    def __init__(self, table: np.ndarray) -> None:
        super().__init__(table.shape[1])
        self.table = table.astype(np.float32)

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        return self.table[examples.records["history_end"]]


def examples_of(clicked: np.ndarray) -> QueryExamples:
    records = np.zeros(len(clicked), dtype=INTERACTION)
    records["item"] = clicked
    records["history_end"] = np.arange(len(clicked))
    return make_examples(np.array([f"query {row:02}" for row in range(len(clicked))], dtype=object), records, seed=1)


def svg_of(figure: str) -> ET.Element:
    found = re.search(r"<svg.*</svg>", figure, re.DOTALL)
    assert found
    return ET.fromstring(found[0])


def width_of(element: ET.Element) -> float:
    return float(re.findall(r"width:([0-9.]+)%", element.attrib["style"])[0])


def test_bars_are_as_long_as_their_values_and_whiskers_as_their_intervals() -> None:
    values = {"bm25": Interval(0.2, 0.15, 0.3, 0.04), "<dpsr>": Interval(0.4, 0.35, 0.5, 0.04)}
    figure = ET.fromstring(bars("a & b", values, "<dpsr>"))
    found = [bar for bar in figure.iter("div") if "bar" in bar.attrib["class"].split()]
    assert [bar.attrib["class"] for bar in found] == ["bar", "bar subject"]
    lengths = [width_of(next(bar.iter("i"))) for bar in found]
    assert lengths == pytest.approx([100 * 0.2 / 0.5, 100 * 0.4 / 0.5])
    whiskers = [next(bar.iter("b")) for bar in found]
    lows = [float(re.findall(r"left:([0-9.]+)%", whisker.attrib["style"])[0]) for whisker in whiskers]
    assert lows == pytest.approx([100 * 0.15 / 0.5, 100 * 0.35 / 0.5])
    assert [width_of(whisker) for whisker in whiskers] == pytest.approx([30, 30])
    assert {"<dpsr>", "0.400"} <= {span.text for span in found[1].iter("span")}


def test_scattered_points_keep_their_places_and_colours() -> None:
    points = np.array([[0.0, 0.0], [1.0, 2.0], [0.5, 1.0]])
    figure = ET.fromstring(scatter("items", points, ["shoes", "hats", "shoes"], ["a<b", "c", "d"]))
    dots = list(figure.iter("circle"))
    x, y = ([float(dot.attrib[axis]) for dot in dots] for axis in ("cx", "cy"))
    assert x[2] == pytest.approx((x[0] + x[1]) / 2)
    assert y[2] == pytest.approx((y[0] + y[1]) / 2)
    assert dots[0].attrib["class"] == dots[2].attrib["class"] != dots[1].attrib["class"]
    assert dots[0].find("title").text == "shoes: a<b"
    assert {entry.text: entry.attrib["class"] for entry in figure.iter("li")}["hats"] == dots[1].attrib["class"]
    rng = np.random.default_rng(1)
    many = ET.fromstring(scatter("many", rng.random((60, 2)), [f"g{n % 15}" for n in range(60)], ["x"] * 60))
    legend = [entry.text for entry in many.iter("li")]
    assert len(legend) == 10
    assert legend[-1] == "others"


def test_a_curve_goes_through_the_means_and_shows_every_run() -> None:
    svg = svg_of(curve("alpha", "alpha", [(1.0, 700.0), (0.0, 150.0), (0.5, 300.0), (1.0, 500.0)], decimals=0))
    dots = [dot for dot in svg.iter("circle") if dot.attrib["class"] == "mean"]
    assert [dot.find("title").text for dot in dots] == ["150", "300", "600"]
    heights = [float(dot.attrib["cy"]) for dot in dots]
    assert heights == sorted(heights, reverse=True)
    runs = sorted(float(dot.attrib["cy"]) for dot in svg.iter("circle") if dot.attrib["class"] == "run")
    assert len(runs) == 4
    assert heights[-1] == pytest.approx((runs[0] + runs[1]) / 2, abs=0.1)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 713.0, [0, 200, 400, 600, 800]),
        (0.661, 0.750, [0.65, 0.675, 0.7, 0.725, 0.75]),
        (0.0, 1e-3, [0, 0.00025, 0.0005, 0.00075, 0.001]),
    ],
)
def test_ticks_are_round_and_hold_all_values(low: float, high: float, expected: list[float]) -> None:
    assert round_ticks(low, high) == pytest.approx(expected)


def test_any_range_has_a_few_ticks_around_it() -> None:
    rng = np.random.default_rng(7)
    for _ in range(500):
        low, high = np.sort(rng.random(2) * 10.0 ** rng.integers(-4, 6))
        ticks = round_ticks(low, high)
        assert 3 <= len(ticks) <= 6
        assert ticks[0] <= low + 1e-9 * high
        assert ticks[-1] >= high - 1e-9 * high
    for value in (0.0, 5.0):
        ticks = round_ticks(value, value)
        assert ticks[0] <= value <= ticks[-1]
        assert ticks[0] < ticks[-1]


def test_cases_are_the_largest_differences(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    clicked = rng.integers(0, ITEMS, 30)
    tables = rng.random((2, 30, ITEMS))
    texts = [f"item {row}" for row in range(ITEMS)]
    tables[0, 4, clicked[4]], tables[1, 4, clicked[4]] = 2.0, -1.0
    tables[0, 9, clicked[9]], tables[1, 9, clicked[9]] = -1.0, 2.0
    methods, names = [Fixed(table) for table in tables], ("a", "b")
    wins, losses = differing_cases(*methods, examples_of(clicked), texts, names=names, count=3)
    places = [(np.argsort(-table, axis=1)[:, :5] == clicked[:, None]) for table in tables]
    first, second = ((place / np.arange(1, 6)).sum(axis=1) for place in places)
    gains = first - second
    for cases, sign in ((wins, 1), (losses, -1)):
        best_of_item = {item: max(sign * gains[clicked == item]) for item in set(clicked.tolist())}
        expected = sorted((gain for gain in best_of_item.values() if gain > 0), reverse=True)[:3]
        assert [sign * case.gain for case in cases] == pytest.approx(expected)
        assert len({case.clicked for case in cases}) == len(cases)
    found = next(case for case in wins if case.query == "query 04")
    assert found.clicked == found.first[0] == f"item {clicked[4]}"
    assert found.clicked not in found.second


def test_a_click_outside_a_short_list_is_a_loss() -> None:
    clicked = np.array([0, 3])
    whole = Fixed(np.eye(4)[clicked])
    short = SimpleNamespace(
        retrieve=lambda examples, k: (np.array([[0, 1]] * len(examples), dtype=np.int32), np.ones((len(examples), 2)))
    )
    wins, losses = differing_cases(whole, short, examples_of(clicked), ["a", "b", "c", "d"], names=("a", "b"))
    assert [(case.clicked, case.gain, case.second) for case in wins] == [("d", 1.0, ["a", "b"])]
    assert not losses


def test_of_equal_cases_the_commonest_query_comes_first() -> None:
    examples = examples_of(np.array([0, 1, 1, 2]))
    examples.texts[:] = ["a", "b", "b", "c"]
    right = np.eye(4)[[0, 1, 1, 2]][:, :3]
    wins, losses = differing_cases(Fixed(right), Fixed(-right), examples, ["x", "y", "z"], names=("a", "b"), count=9)
    assert [case.query for case in wins] == ["b", "a", "c"]
    assert not losses


def small_report() -> Report:
    names = [*RANKED_MEASURES, *TOP_K, CLICKS]
    results = [
        Result(
            part,
            name,
            12,
            dict.fromkeys(names, value),
            dict.fromkeys(names, 0.01),
            dict.fromkeys(names, Interval(value, value - 0.01, value + 0.01, 0.005)),
        )
        for part in ("all", "head", "one typo")
        for name, value in (("bm25", 0.25), ("dpsr", 0.5))
    ]
    return Report("<shop>", "test", 50, 40, 40, {}, 0.5, 7, describe_machine(), Comparison(results))


class Balanced(HTMLParser):
    """Every element is closed in the order that it was opened in, but for those that close themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_self_contained_and_escapes_texts(tmp_path: Path) -> None:
    report = small_report()
    case = Case("<script>alert(1)</script>", "red & blue", 1.0, ["red & blue", "x"], ["y"], ("dpsr", "BM25"))
    heads = HeadAnswers("q", np.array([[0, 1], [1, 2]]))
    points = np.random.default_rng(1).random((4, 2))
    figures = Figures(
        [case], [], scatter("map", points, ["a"] * 4, ["<b>"] * 4), [scatter("“q”", points, "xyxy", "abcd")], [heads]
    )
    other = {"mixing_ratio": 0.25, "retrievers": {"dpsr": {"clicks_10": 7.0, "map_5": 0.4}}}
    path = write_page(tmp_path / "out" / "r.html", report, subject="dpsr", figures=figures, runs=[other])
    page = path.read_text()
    assert "<script" not in page
    assert "<b>" not in re.sub(r"<b>[0-9.]+( ms)?</b>", "", page)  # the tiles' own, and no item's
    assert "&lt;shop&gt;" in page
    assert "&lt;script&gt;" in page
    assert "<mark>red &amp; blue</mark>" in page
    assert not re.search(r"src=|url\(|@import|http", page)
    links = re.findall(r'href="(.*?)"', page)
    assert links
    assert all(link.startswith("#") and f'id="{link[1:]}"' in page for link in links)
    assert page.count("<svg") == 4  # items, heads, and two curves over two mixing ratios
    assert page.count('class="bars"') == 4  # MAP@5 of two slices, two more measures of all
    assert "all find 33%" in page
    parser = Balanced()
    parser.feed(page)
    assert not parser.open
    assert [entry.name for entry in path.parent.iterdir()] == ["r.html"]
    alone = write_page(tmp_path / "alone.html", report, subject="dpsr", figures=Figures()).read_text()
    assert alone.count("<svg") == 0
    assert "Heads" not in alone
    with pytest.raises(DatasetError, match="evaluate that run again"):
        read_metrics(path)
    with pytest.raises(DatasetError, match="No such file"):
        read_metrics(tmp_path / "gone.json")


def test_the_best_other_method_of_a_tile_contains_no_model(tmp_path: Path) -> None:
    report = small_report()
    best = dict.fromkeys(report.results[1].metrics, 0.9)
    better = [replace(report.results[1], retriever=name, metrics=best) for name in ("dpsr+bm25", "bm25>dpsr@100")]
    report = replace(report, comparison=Comparison([*report.results, *better]))
    page = write_page(tmp_path / "r.html", report, subject="dpsr", figures=Figures()).read_text()
    assert "best other: bm25 0.250" in page


class TwoHeads:
    """A model whose head 0 prefers low item rows, head 1 low or high ones by the query."""

    num_items = ITEMS

    def query_heads(self, examples: QueryExamples) -> np.ndarray:
        kinds = np.array([sum(map(ord, text)) % 2 for text in examples.texts])
        return np.stack([np.zeros(len(kinds)), kinds], axis=1)[:, :, None]

    def head_scores(self, heads: np.ndarray) -> np.ndarray:
        rows = np.arange(ITEMS, dtype=np.float32)
        return np.where(heads == 1, rows, -rows).astype(np.float32)


def test_queries_whose_heads_differ_are_mapped_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpsr.evaluation.measures.heads.HEAD_DEPTH", 10)
    monkeypatch.setattr("dpsr.evaluation.report.item_map._SHOWN_QUERIES", 1)
    dataset = SimpleNamespace(schema=SimpleNamespace(categorical={}, numeric=()))
    texts = [f"item {row}" for row in range(ITEMS)]
    vectors = np.random.default_rng(2).normal(size=(ITEMS, 4)).astype(np.float32)
    examples = examples_of(np.arange(6))
    answers = head_answers(TwoHeads(), examples)
    maps = heads_maps(answers, vectors, dataset, texts, seed=1)
    assert [answer.overlap for answer in answers] == [0.0] * 3 + [1.0] * 3
    (shown,) = maps
    figure = ET.fromstring(shown)
    assert [entry.text for entry in figure.iter("li")] == ["head 0", "head 1"]
    found = {dot.find("title").text for dot in figure.iter("circle")}
    low = {f"head 0: item {row} ()" for row in range(10)}
    assert found == low | {f"head 1: item {row} ()" for row in range(ITEMS - 10, ITEMS)}


def test_known_senses_colour_the_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpsr.evaluation.measures.heads.HEAD_DEPTH", 10)
    categories = ["low"] * 8 + ["middle"] * (ITEMS - 16) + ["high"] * 8
    schema, table = SimpleNamespace(categorical={"category": 5}, numeric=()), pa.table({"category": categories})
    dataset = SimpleNamespace(schema=schema, item_table=lambda: table)
    vectors = np.random.default_rng(2).normal(size=(ITEMS, 4)).astype(np.float32)
    senses = [Senses(query, ("a", "b"), (frozenset({"low"}), frozenset({"high"}))) for query in ("b", "c")]
    asked = anonymous_examples(np.array(["b", "c"], dtype=object), seed=1)
    maps = heads_maps(head_answers(TwoHeads(), asked), vectors, dataset, ["x"] * ITEMS, seed=1, senses=senses)
    legend = [entry.text for entry in ET.fromstring(maps[0]).iter("li")]
    assert legend == ["head 0: a", "head 0: no meaning", "head 1: b", "head 1: no meaning"]


def test_frequent_queries_are_ordered_by_clicks() -> None:
    examples = examples_of(np.arange(6))
    examples.texts[:] = ["a", "b", "a", "c", "b", "a"]
    assert frequent_queries(examples, 2).texts.tolist() == ["a", "b"]


def test_trec_files_reproduce_the_measures(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    examples = examples_of(rng.integers(0, ITEMS, 25))
    table = rng.integers(0, 6, (25, ITEMS))  # many ties, which the files resolve
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
