"""Judgements and bad cases become labelled pairs of a dataset and labels of an evaluation."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsr.config import Config, ConfigError, LabelsConfig, parse_config
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.judgements.errors import JudgementError
from dpsr.data.judgements.records import BadCase, Book, Judgement
from dpsr.data.judgements.store import JudgementStore
from dpsr.data.prepare.job import prepare
from dpsr.evaluation.measures.judgements import load_judgements, notes_of_learnt

ITEMS, START = 20, datetime(2026, 1, 1)


@pytest.fixture
def store(tmp_path: Path) -> JudgementStore:
    opened = JudgementStore(tmp_path / "judgements.sqlite")
    for name in ("first", "second"):
        opened.add_book(Book(name=name))
    return opened


def judge(
    store: JudgementStore, query: str, item: str, grade: int | None, *, by: str = "a", book: str = "first"
) -> None:
    store.judge(Judgement(book=book, judge=by, query=query, item_id=item, grade=grade))


def report(store: JudgementStore, query: str, item: str, kind: Any) -> BadCase:
    return store.report(BadCase(id=0, query=query, item_id=item, kind=kind, judge="a"))


def write_shop(folder: Path, *, first_hour: int = 0, whole_ids: bool = False) -> None:
    items = [number if whole_ids else f"i{number}" for number in range(ITEMS)]
    titles = [f"thing {number % 7} of kind {number}" for number in range(ITEMS)]
    pq.write_table(pa.table({"item_id": items, "title": titles}), folder / "items.parquet")
    rows = range(200)
    log = {
        "query": [f"thing {row % 7}" for row in rows],
        "item_id": [items[row % ITEMS] for row in rows],
        "timestamp": [START + timedelta(hours=first_hour + row) for row in rows],
    }
    pq.write_table(pa.table(log), folder / "log.parquet")


def config(folder: Path, **data: Any) -> Config:
    paths = {
        name: {"path": str(folder / f"{file}.parquet")} for name, file in (("items", "items"), ("interactions", "log"))
    }
    judged = {"judgements": {"path": str(folder / "judgements.sqlite")}}
    tree = {"name": "t", "work_dir": str(folder / "work"), "data": paths | judged | data, "tokenizer": {"min_count": 1}}
    return parse_config(tree, "test")


def prepared(folder: Path, *, append: bool = False, **data: Any) -> Dataset:
    return Dataset.load(prepare(config(folder, **data), append=append, progress=False))


def labels(dataset: Dataset) -> list[tuple[str, Any, float]]:
    queries = dataset.query_texts().to_pylist()
    return [(queries[query], dataset.item_ids[item], label) for query, item, label in dataset.labels().tolist()]


def test_grades_and_reports_become_labels(tmp_path: Path, store: JudgementStore) -> None:
    write_shop(tmp_path)
    judge(store, "thing 1", "i1", 3)
    judge(store, "thing 1", "i2", 3)
    judge(store, "thing 1", "i2", 0)  # replaces the earlier grade of the judge
    judge(store, "thing 1", "i3", 3, by="b")
    judge(store, " thing 1 ", "i3", 0, by="c")  # the mean of both, rounded half up
    judge(store, "thing 1", "i4", 2)
    judge(store, "thing 1", "i4", 1, book="second")  # of the same judge the latest grade counts
    judge(store, "thing 1", "i5", 2)
    judge(store, "thing 1", "i5", None)
    judge(store, "never clicked", "i6", 3)
    report(store, "never clicked", "i6", "wrong item")  # a report stands above grades
    report(store, "thing 2", "i7", "missing item")
    report(store, "thing 2", "i8", "wrong item")
    report(store, "thing 2", "i8", "missing item")  # the latest report counts
    store.withdraw(report(store, "thing 2", "i9", "wrong item").id)
    assert labels(prepared(tmp_path)) == [
        ("never clicked", "i6", -1.0),
        ("thing 1", "i1", 3.0),
        ("thing 1", "i2", 0.0),
        ("thing 1", "i3", 2.0),
        ("thing 1", "i4", 1.0),
        ("thing 2", "i7", 3.0),
        ("thing 2", "i8", 3.0),
    ]


def test_books_restrict_judgements_and_leave_bad_cases_out(tmp_path: Path, store: JudgementStore) -> None:
    write_shop(tmp_path)
    judge(store, "thing 1", "i1", 3)
    judge(store, "thing 2", "i2", 3, book="second")
    report(store, "thing 3", "i3", "wrong item")
    path = str(tmp_path / "judgements.sqlite")
    assert labels(prepared(tmp_path, judgements={"path": path, "books": ["second"]})) == [("thing 2", "i2", 3.0)]
    with pytest.raises(JudgementError, match="no book is named 'third'"):
        prepared(tmp_path, judgements={"path": path, "books": ["third"]})


def test_unknown_items_are_rejected_without_an_end_of_the_job(tmp_path: Path, store: JudgementStore) -> None:
    write_shop(tmp_path)
    judge(store, "thing 1", "i1", 3)
    for number in range(5):
        judge(store, "thing 1", f"gone {number}", 3)
    judge(store, "  ", "i1", 3)
    dataset = prepared(tmp_path)
    assert labels(dataset) == [("thing 1", "i1", 3.0)]
    found = dataset.manifest["inputs"]["judgements"]
    assert (found["rows"], found["labels"]) == (7, 1)
    assert found["rejected"] == {"empty query": 1, "unknown item_id": 5}
    listed = (dataset.directory / "rejected" / "judgements.jsonl").read_text(encoding="utf-8")
    assert '"reason": "unknown item_id", "value": "gone 0"' in listed


def test_a_store_of_another_shop_is_an_error(tmp_path: Path, store: JudgementStore) -> None:
    write_shop(tmp_path)
    judge(store, "thing 1", "x1", 3)
    with pytest.raises(DatasetError, match="none of its 1 judged pairs has an item of the catalogue"):
        prepared(tmp_path)


def test_an_empty_store_is_none_and_a_missing_one_an_error_that_makes_no_file(
    tmp_path: Path, store: JudgementStore
) -> None:
    write_shop(tmp_path)
    assert labels(prepared(tmp_path)) == []
    missing = tmp_path / "other.sqlite"
    with pytest.raises(JudgementError, match=r"data\.judgements\.path: .*other.sqlite: no such file"):
        prepared(tmp_path, judgements={"path": str(missing)})
    assert not missing.exists()


def test_judgements_stand_beside_supervision_and_replace_its_pairs(tmp_path: Path, store: JudgementStore) -> None:
    write_shop(tmp_path)
    rows = {"query": ["thing 1", "thing 2"], "item_id": ["i1", "i2"], "label": [5.0, 1.0]}
    pq.write_table(pa.table(rows), tmp_path / "labels.parquet")
    judge(store, "thing 1", "i1", 0)
    dataset = prepared(tmp_path, supervision={"path": str(tmp_path / "labels.parquet")})
    assert labels(dataset) == [("thing 2", "i2", 1.0), ("thing 1", "i1", 0.0)]


def test_an_increment_reads_the_store_anew(tmp_path: Path, store: JudgementStore) -> None:
    write_shop(tmp_path)
    rows = {"query": ["thing 1"], "item_id": ["i1"], "label": [1.0]}
    pq.write_table(pa.table(rows), tmp_path / "labels.parquet")
    case = report(store, "thing 3", "i3", "wrong item")
    judge(store, "thing 2", "i2", 3)
    before = prepared(tmp_path, supervision={"path": str(tmp_path / "labels.parquet")})
    assert labels(before) == [("thing 1", "i1", 1.0), ("thing 2", "i2", 3.0), ("thing 3", "i3", -1.0)]
    store.withdraw(case.id)
    judge(store, "thing 2", "i4", 1)
    write_shop(tmp_path, first_hour=1000)
    after = prepared(tmp_path, append=True)
    assert labels(after) == [("thing 1", "i1", 1.0), ("thing 2", "i2", 3.0), ("thing 2", "i4", 1.0)]


def test_ids_may_be_numbers_and_splits_stay(tmp_path: Path, store: JudgementStore) -> None:
    write_shop(tmp_path, whole_ids=True)
    plain = prepared(tmp_path, judgements=None)
    splits = {split: plain.interactions(split) for split in ("train", "valid", "test")}
    judge(store, "thing 1", "7", 3)
    judge(store, "brand new words", "8", 3)
    dataset = prepared(tmp_path)
    assert labels(dataset) == [("brand new words", 8, 3.0), ("thing 1", 7, 3.0)]
    for split, records in splits.items():
        np.testing.assert_array_equal(dataset.interactions(split), records)


def test_a_store_gives_an_evaluation_the_labels_of_its_parquet_file(tmp_path: Path, store: JudgementStore) -> None:
    write_shop(tmp_path)
    judge(store, "thing 1", "i1", 3)
    judge(store, "thing 1", "i2", 0)
    judge(store, "thing 2", "gone", 2, book="second")
    report(store, "thing 3", "i3", "wrong item")
    report(store, "thing 3", "i4", "missing item")
    dataset = prepared(tmp_path)
    rows = [("thing 1", "i1", 3), ("thing 1", "i2", 0), ("thing 3", "i3", -1), ("thing 3", "i4", 3), ("x", "gone", 2)]
    query, item, label = zip(*rows, strict=True)
    pq.write_table(pa.table({"query": query, "item_id": item, "label": label}), tmp_path / "labels.parquet")
    path = str(tmp_path / "judgements.sqlite")
    found = load_judgements(LabelsConfig(path=path), dataset, seed=1)
    expected = load_judgements(LabelsConfig(path=str(tmp_path / "labels.parquet")), dataset, seed=1)
    assert found.queries.texts.tolist() == expected.queries.texts.tolist() == ["thing 1", "thing 3"]
    assert [each.tolist() for each in found.items] == [each.tolist() for each in expected.items]
    assert [each.tolist() for each in found.labels] == [each.tolist() for each in expected.labels]
    assert found.unknown_items == expected.unknown_items == 1
    (note,) = notes_of_learnt(found, dataset)
    assert note.startswith("4 of 4 judged pairs are labelled pairs of the dataset")
    assert notes_of_learnt(found, prepared(tmp_path, judgements=None)) == []
    of_book = load_judgements(LabelsConfig(path=path, books=["first"]), dataset, seed=1)
    assert of_book.queries.texts.tolist() == ["thing 1"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"path": "j.sqlite", "columns": {"label": "grade"}}, "columns name those of a Parquet file"),
        ({"path": "j.parquet", "books": ["b"]}, "books are those of a store of judgements"),
    ],
)
def test_columns_are_of_files_and_books_of_stores(tmp_path: Path, labels: dict[str, Any], message: str) -> None:
    tree = config(tmp_path).model_dump(mode="json") | {"evaluation": {"labels": labels}}
    with pytest.raises(ConfigError, match=message):
        parse_config(tree, "test")


def test_shares_leave_rows_for_the_log(tmp_path: Path) -> None:
    tree = config(tmp_path).model_dump(mode="json")
    tree["training"]["judged_share"], tree["pretraining"]["mixed_share"] = 0.6, 0.4
    with pytest.raises(ConfigError, match=r"judged_share = 0\.6 and pretraining\.mixed_share = 0\.4 leave no row"):
        parse_config(tree, "test")
