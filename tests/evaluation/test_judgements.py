"""Judged pairs: reading, errors, and measures against plain Python."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.config import LabelsConfig
from dpsr.data.dataset.schema import DatasetError
from dpsr.evaluation.measures.judgements import (
    Judgements,
    area_under_curve,
    areas_under_curve,
    load_judgements,
    measure_judged,
)
from dpsr.evaluation.measures.matches import match_shares

ITEMS = 30


def catalogue(ids: list[Any] | None = None) -> Any:
    """The fields of a dataset that judgements read."""
    ids = [f"i{row}" for row in range(ITEMS)] if ids is None else ids
    kind = "int64" if isinstance(ids[0], int) else "string"
    return SimpleNamespace(item_ids=np.array(ids, dtype=object), schema=SimpleNamespace(item_id_type=kind))


def load(folder: Path, rows: list[tuple[str, Any, float]], ids: list[Any] | None = None, **options: Any) -> Judgements:
    query, item, label = zip(*rows, strict=True)
    pq.write_table(pa.table({"query": query, "item_id": item, "label": label}), folder / "labels.parquet")
    config = LabelsConfig.model_validate({"path": str(folder / "labels.parquet"), **options})
    return load_judgements(config, catalogue(ids), seed=1)


class Fixed(ExhaustiveRetriever):
    """One row of scores for each text."""

    def __init__(self, table: dict[str, np.ndarray]) -> None:
        super().__init__(ITEMS)
        self.table = table

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        return np.stack([self.table[text] for text in examples.texts]).astype(np.float32)


def test_pairs_are_gathered_by_query_and_unknown_items_counted(tmp_path: Path) -> None:
    rows = [("b", "i3", 2), ("a", "i1", 0), ("b", "i0", 1), ("b", "gone", 3), ("a", "i2", 3)]
    found = load(tmp_path, rows, positive_from=2)
    assert found.queries.texts.tolist() == ["a", "b"]
    assert [items.tolist() for items in found.items] == [[1, 2], [3, 0]]
    assert [labels.tolist() for labels in found.labels] == [[0, 3], [2, 1]]
    assert found.unknown_items == 1
    assert [found.gains(row) for row in range(2)] == [{2: 3}, {3: 2}]
    assert (found.queries.records["user"] == -1).all()


def test_ids_may_be_numbers_or_digits(tmp_path: Path) -> None:
    assert load(tmp_path, [("a", 7, 1)], ids=[5, 7]).items[0].tolist() == [1]
    assert load(tmp_path, [("a", "7", 1)], ids=[5, 7]).items[0].tolist() == [1]


def test_measures_equal_their_formulas(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = [(q, f"i{item}", int(rng.integers(0, 4))) for q in "abc" for item in rng.choice(ITEMS, 12, replace=False)]
    rows += [("no answer", "i0", 0)]
    judged = load(tmp_path, rows)
    scores = {text: rng.normal(size=ITEMS) for text in judged.queries.texts}
    found = measure_judged({"it": Fixed(scores)}, judged, num_items=ITEMS, progress=False)["it"]
    gains = {q: {int(item[1:]): label for text, item, label in rows if text == q} for q in "abc"}
    for at, q in enumerate("abc"):
        ranked = [gains[q].get(item, 0) for item in np.argsort(-scores[q]).tolist()]
        discount = 1 / np.log2(np.arange(10) + 2)
        best = sorted(gains[q].values(), reverse=True)[:10]
        assert found["nDCG@10"][at] == pytest.approx(ranked[:10] @ discount / (best @ discount[: len(best)]))
        first = next(place for place, gain in enumerate(ranked, 1) if gain)
        assert found["MRR@10"][at] == pytest.approx(1 / first if first <= 10 else 0)
        assert found["Recall@100"][at] == 1.0
    assert len(found["nDCG@10"]) == 3  # the query without an answer is left out


def test_shares_of_matches_are_those_of_the_best_hundred(tmp_path: Path) -> None:
    rows = [("a", "i0", 3), ("a", "i1", 3), ("a", "i2", 2), ("a", "i3", 1), ("b", "i4", 2)]
    labels = load(tmp_path, rows, positive_from=1, exact_from=3, substitute_from=2)
    down = np.arange(ITEMS, 0, -1.0)  # the whole catalogue of 30 items is the list
    measured = measure_judged({"fixed": Fixed({"a": down, "b": down})}, labels, num_items=ITEMS, progress=False)
    found = {measure: values.tolist() for measure, values in measured["fixed"].items()}
    assert found["E@100"] == pytest.approx([2 / 30, 0])
    assert found["S@100"] == pytest.approx([1 / 30, 1 / 30])
    assert found["E+S@100"] == pytest.approx([3 / 30, 1 / 30])
    assert found["O@100"] == pytest.approx([27 / 30, 29 / 30])
    # Of a longer list only the first hundred count.
    ranked = np.arange(250)[np.newaxis]
    shares = match_shares(ranked, [np.array([5, 99, 100])], [np.array([3.0, 2.0, 3.0])], (3.0, 2.0))
    assert {measure: values.item() for measure, values in shares.items()} == pytest.approx(
        {"E@100": 0.01, "S@100": 0.01, "E+S@100": 0.02, "O@100": 0.98}
    )


def test_matches_are_told_apart_only_where_both_labels_are_given(tmp_path: Path) -> None:
    assert load(tmp_path, [("a", "i0", 3)]).match_thresholds is None
    with pytest.raises(ValueError, match="set both, or neither"):
        load(tmp_path, [("a", "i0", 3)], exact_from=3)
    with pytest.raises(ValueError, match="above substitute_from"):
        load(tmp_path, [("a", "i0", 3)], exact_from=2, substitute_from=2)


def test_area_is_the_chance_of_the_right_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    scores, relevant = rng.integers(0, 6, 80).astype(float), rng.random(80) < 0.4
    pairs = [(s > t) + 0.5 * (s == t) for s in scores[relevant] for t in scores[~relevant]]
    assert area_under_curve(scores, relevant) == pytest.approx(np.mean(pairs))
    assert np.isnan(area_under_curve(scores, np.ones(80, dtype=bool)))


def test_scores_of_another_scale_for_every_query_only_fail_across_queries(tmp_path: Path) -> None:
    rows = [(q, f"i{item}", int(item < 3)) for q in ("a", "b") for item in range(6)]
    rows += [("c", "i7", 1)]  # no irrelevant pair to compare with
    judged = load(tmp_path, rows)
    right = np.linspace(1, 0, ITEMS)
    found = areas_under_curve({"it": Fixed({"a": right, "b": right + 9, "c": right + 99})}, judged, num_items=ITEMS)[
        "it"
    ]
    assert found["AUC within queries"] == 1.0
    assert found["AUC"] == pytest.approx((3 * 3 + 3 * 6 + 6) / (7 * 6))


def test_a_missing_label_is_no_judgement(tmp_path: Path) -> None:
    found = load(tmp_path, [("a", "i0", 1.0), ("a", "i1", float("nan")), ("b", "i2", None)])
    assert [items.tolist() for items in found.items] == [[0]]


def test_ids_of_another_type_than_the_catalogues_are_compared_as_text(tmp_path: Path) -> None:
    assert load(tmp_path, [("a", " 7", 1), ("a", "x7", 1)], ids=[5, 7]).unknown_items == 1
    assert load(tmp_path, [("a", 7.0, 1)], ids=["5", "7"]).items[0].tolist() == [1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"query": ["a"], "item_id": ["i0"], "label": ["good"]},
            r"'label' has type string and cannot be read as double",
        ),
        ({"query": [["a"]], "item_id": ["i0"], "label": [1]}, r"'query' has type list<.*cannot be read as string"),
        (
            {"query": [b"\xff"], "item_id": ["i0"], "label": [1]},
            r"'query' has type binary and cannot be read as string",
        ),
        (
            {"query": ["a"], "item_id": [{"id": 1}], "label": [1]},
            r"'item_id' has type struct<.*cannot be read as string",
        ),
        ({"query": ["a"], "item_id": ["i0"], "label": [float("inf")]}, "infinite label"),
    ],
)
def test_a_column_that_cannot_be_read_is_named_with_its_type(
    columns: dict[str, Any], message: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "labels.parquet")
    with pytest.raises(DatasetError, match=message):
        load_judgements(LabelsConfig(path=str(tmp_path / "labels.parquet")), catalogue(), seed=1)


def test_a_file_that_is_not_parquet_or_has_a_column_twice_is_named(tmp_path: Path) -> None:
    config = LabelsConfig(path=str(tmp_path / "labels.parquet"))
    (tmp_path / "labels.parquet").write_text("query,item_id,label\na,i0,1\n")
    with pytest.raises(DatasetError, match=r"labels\.parquet: cannot be read as Parquet"):
        load_judgements(config, catalogue(), seed=1)
    names = ["query", "item_id", "label", "label"]
    pq.write_table(
        pa.Table.from_arrays([pa.array(["a"])] * 2 + [pa.array([1])] * 2, names), tmp_path / "labels.parquet"
    )
    with pytest.raises(DatasetError, match="column 'label' occurs 2 times"):
        load_judgements(config, catalogue(), seed=1)
    with pytest.raises(DatasetError, match="names one column twice"):
        load_judgements(config.model_copy(update={"columns": {"label": "query"}}), catalogue(), seed=1)


def test_labels_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"2\.5 is not an integer.*graded = false"):
        load(tmp_path, [("a", "i0", 2.5)])
    assert load(tmp_path, [("a", "i0", 2.5)], graded=False).gains(0) == {0: 1}
    with pytest.raises(DatasetError, match="no pair of a catalogue item has a label of at least 3"):
        load(tmp_path, [("a", "i0", 2.0)], positive_from=3)
    with pytest.raises(DatasetError, match=r"column 'grade' is missing.*evaluation\.labels\.columns\.label"):
        load(tmp_path, [("a", "i0", 2.0)], columns={"label": "grade"})
    with pytest.raises(DatasetError, match="no such file"):
        load_judgements(LabelsConfig(path=str(tmp_path / "gone.parquet")), catalogue(), seed=1)
