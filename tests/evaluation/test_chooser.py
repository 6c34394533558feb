"""The choice of a model from measured rows, the page that shows it, and files of other comparisons."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from math import inf
from pathlib import Path

import numpy as np
import pytest

from dpsr.baselines.examples import anonymous_examples
from dpsr.data.dataset.schema import DatasetError
from dpsr.evaluation.compare.comparison import summarise
from dpsr.evaluation.measures.cases import missed_cases
from dpsr.evaluation.report.chooser import Shop, choices, choose, expected_milliseconds
from dpsr.evaluation.report.comparison_page import write_comparison_page
from dpsr.evaluation.report.comparison_tables import model_table
from dpsr.evaluation.report.comparison_text import comparison_text
from dpsr.evaluation.report.costs import Cost
from dpsr.evaluation.report.figures import trade_off
from dpsr.evaluation.report.model_comparison import (
    Evidence,
    EvidenceRow,
    evidence,
    read_evidence,
    write_comparison,
)
from dpsr.evaluation.report.results import Judged

from .small_comparison import small_comparison

FAST = EvidenceRow("fast", 0.50, 0.02, 1.0, 0.1, None, ())
GOOD = EvidenceRow("good", 0.58, 0.02, 4.0, 60.0, 1 << 20, ("clicks",))
BEST = EvidenceRow("fast>best@100", 0.59, 0.02, 51.0, 900.0, None, ("clicks", "labelled pairs"))
LARGE = Evidence("large", "nDCG@10 of test clicks", 1_000_000, 100_000, 5_000, [FAST, GOOD, BEST])
SMALL = Evidence("small", "nDCG@10 of test clicks", 10_000, 1_000, 0, [FAST, replace(GOOD, quality=0.4)])
KNOWN = [LARGE, SMALL]


@pytest.mark.parametrize(
    ("shop", "near", "chosen", "milliseconds"),
    [
        (Shop(1_000_000, 100_000, 5_000, inf), "large", "good", 4.0),  # 0.58 is within 0.02 of 0.59, and faster
        (Shop(1_000_000, 100_000, 5_000, 3.0), "large", "fast", 1.0),
        (Shop(1_000_000, 400_000, 5_000, inf), "large", "good", 16.0),  # four times the items
        (Shop(1_000_000, 400_000, 5_000, 15.0), "large", "fast", 4.0),
        (Shop(900_000, 10_000, 5_000, inf), "large", "good", 4.0),  # fewer items save nothing
        (Shop(20_000, 2_000, 0, inf), "small", "fast", 2.0),
        (Shop(0, 100_000, 0, inf), "small", "fast", 100.0),  # no log: 1,000 clicks are nearer than a million
    ],
)
def test_choices(shop: Shop, near: str, chosen: str, milliseconds: float) -> None:
    found = choose(shop, KNOWN)
    assert found.chosen is not None
    assert (found.evidence.name, found.chosen.model) == (near, chosen)
    assert found.milliseconds == pytest.approx(milliseconds)


def test_a_reranker_is_chosen_where_it_is_better_by_more_than_the_error_and_there_are_labels() -> None:
    better = replace(LARGE, rows=[FAST, GOOD, replace(BEST, quality=0.7)])
    assert choose(Shop(1_000_000, 100_000, 5_000, inf), [better]).chosen == better.rows[2]
    assert choose(Shop(1_000_000, 100_000, 4_999, inf), [better]).chosen == GOOD


def test_only_the_first_stage_of_a_reranker_grows_with_the_catalogue() -> None:
    assert expected_milliseconds(BEST, LARGE, Shop(1, 300_000, 0, inf)) == pytest.approx(3 * 1.0 + 50.0)


def test_no_model_fits() -> None:
    found = choose(Shop(1_000_000, 100_000, 0, 0.5), KNOWN)
    assert found.chosen is None
    assert found.milliseconds == 1.0
    only_clicks = [replace(LARGE, rows=[GOOD])]
    assert choose(Shop(0, 100_000, 0, inf), only_clicks).milliseconds == inf
    without_log = [replace(LARGE, rows=[GOOD], log_clicks=0)]
    assert choose(Shop(0, 100_000, 0, inf), without_log).chosen == GOOD


def test_a_tighter_limit_never_gains_and_every_choice_is_a_measured_row() -> None:
    found = choices(KNOWN)
    rows = {id(row) for each in KNOWN for row in each.rows}
    assert all(choice.chosen is None or id(choice.chosen) in rows for choice in found)
    by_shop: dict[tuple[int, int, int], list[float]] = {}
    for choice in sorted(found, key=lambda choice: choice.shop.limit):
        shop = choice.shop
        best = choice.best.quality if choice.best else 0.0
        by_shop.setdefault((shop.log_clicks, shop.items, shop.labelled_pairs), []).append(best)
    assert all(qualities == sorted(qualities) for qualities in by_shop.values())


class Elements(HTMLParser):
    """All elements with their attributes, and the texts of table rows."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def test_the_page_fetches_nothing_and_says_all_without_its_script(tmp_path: Path) -> None:
    comparison = small_comparison()
    known = [evidence(comparison), *KNOWN]
    text = write_comparison_page(tmp_path / "deep" / "page.html", comparison, known).read_text()
    parser = Elements()
    parser.feed(text)
    for tag, attributes in parser.elements:
        assert tag not in ("link", "img", "iframe", "object", "base"), tag
        assert "src" not in attributes, tag
        assert tag != "a" or (attributes["href"] or "").startswith("#")
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|https?://", text)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in parser.elements
    assert [tag for tag, _ in parser.elements].count("script") == 1
    assert "<script>note" not in text
    assert "<b>odd</b>" not in text
    assert "<i>query" not in text
    without_script = text[: text.index("<script>")]
    assert without_script.count("large: nDCG@10") + without_script.count("small: nDCG@10") > 0
    rows = re.findall(r"<tr><th>([\d,]+)</th>", without_script)
    assert len(rows) == len(choices(known))
    assert "hidden" in dict(parser.elements)["form"], "a form that does nothing is not shown without its script"


def test_tables_order_models_by_quality_and_show_costs() -> None:
    comparison = small_comparison()
    text = comparison_text(comparison)
    rows = [line.split()[0] for line in text.splitlines() if line.startswith(("bm25", "lsa", "<b>odd", "scorer"))]
    order = sorted(("bm25", "lsa", "<b>odd</b>"), key=lambda name: -comparison.report.result(name).metrics["nDCG@10"])
    assert rows == [*order, "scorer", *order]
    assert "1,024" in text
    assert comparison_text(comparison, markdown=True).count("|") > 50


def test_evidence_is_read_back(tmp_path: Path) -> None:
    comparison = small_comparison()
    own = evidence(comparison)
    assert [row.model for row in own.rows] == ["bm25", "lsa", "<b>odd</b>"]
    assert own.rows[0].quality == comparison.report.result("bm25").metrics["nDCG@10"]
    assert own.rows[1].needs == ("clicks",)
    assert read_evidence(write_comparison(comparison, own, tmp_path)) == own


def test_quality_is_that_of_judged_queries_where_there_is_no_log(tmp_path: Path) -> None:
    comparison = small_comparison()
    values = {"bm25": {"nDCG@10": np.full(30, 0.7)}, "lsa": {"nDCG@10": np.linspace(0, 1, 30)}, "oracle": {}}
    values["oracle"]["nDCG@10"] = np.ones(30)
    found = summarise("judged queries", values, np.arange(30), ["nDCG@10"], subject="bm25", reference="bm25", seed=1)
    oracle = Cost("oracle", ("the judgements themselves",), None, None, None)
    comparison = replace(
        comparison,
        report=replace(comparison.report, judged=Judged(30, 60, 0, 1.0, found)),
        costs=[*comparison.costs, oracle],
        best="bm25",
    )
    assert comparison.by_clicks
    without_log = replace(comparison, log_clicks=0)
    own = evidence(without_log)
    assert own.measure == "nDCG@10 of judged queries"
    assert {row.model: row.quality for row in own.rows} == pytest.approx({"bm25": 0.7, "lsa": 0.5})
    table = model_table(without_log)
    assert [str(row[0]) for row in table.rows] == ["oracle", "bm25", "lsa", "<b>odd</b>", "scorer"]
    assert "oracle" in write_comparison_page(tmp_path / "page.html", without_log, [own]).read_text()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"evidence": {"rows": [{"model": "x"}]}}', '{"mixing_ratio": 1}'])
def test_a_file_that_is_no_comparison(tmp_path: Path, content: str) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=r"metrics\.json: expected a comparison\.json"):
        read_evidence(path)
    with pytest.raises(DatasetError, match=r"none\.json: No such file"):
        read_evidence(tmp_path / "none.json")


def test_missed_clicks_name_the_best_of_the_others() -> None:
    sample = anonymous_examples(np.array(["a", "b", "c"], dtype=object), seed=1)
    sample.records["item"] = [0, 1, 2]
    answers = {
        "first": np.array([[3, 4], [1, 0], [4, 2]], np.int32),
        "second": np.array([[4, 0], [1, 3], [3, 4]], np.int32),
        "third": np.array([[0, 4], [3, 4], [2, 3]], np.int32),
    }
    texts = [f"item {row}" for row in range(5)]
    found = missed_cases(answers, "first", sample, np.ones(3, int), texts)
    assert [(case.query, case.gain, case.names) for case in found] == [
        ("a", 1.0, ("first", "third")),
        ("c", 0.5, ("first", "third")),
    ]
    assert found[0].first == ["item 3", "item 4"]
    assert found[0].second == ["item 0", "item 4"]
    assert missed_cases({"first": answers["first"]}, "first", sample, np.ones(3, int), texts) == []


def test_points_that_no_cheaper_one_equals_are_named() -> None:
    points = {"cheap": (0.1, 0.3), "worse": (1.0, 0.2), "equal": (2.0, 0.3), "good": (10.0, 0.6), "dear": (99.0, 0.5)}
    figure = str(trade_off("title", "cost", "quality", points))
    named = re.findall(r"<text [^>]*>(cheap|worse|equal|good|dear)</text>", figure)
    assert named == ["cheap", "good"]
    places = [float(x) for x in re.findall(r'<circle class="\w+" cx="([\d.]+)"', figure)]
    assert places == sorted(places)
    assert places[3] - places[1] == pytest.approx(places[1] - places[0], abs=0.2), "a decade is as wide as any other"
    str(trade_off("one cost", "cost", "quality", {"a": (1.0, 0.5), "b": (1.0, 0.5)}))
