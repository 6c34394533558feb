"""A catalogue whose texts have no words: evaluation ends with results and says why the lexical ones are empty."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsr.config import Config, parse_config
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.evaluation.compare.evaluate import evaluate
from dpsr.model.two_tower import TwoTower

ITEMS, CLICKS = 30, 300


def write_shop(folder: Path, titles: list[str], queries: list[str]) -> Config:
    rng = np.random.default_rng(1)
    items = {
        "item_id": [f"i{row}" for row in range(ITEMS)],
        "title": [titles[row % len(titles)] for row in range(ITEMS)],
    }
    clicked = np.minimum(rng.geometric(0.1, CLICKS) - 1, ITEMS - 1)
    log = {
        "query": [queries[row % len(queries)] for row in range(CLICKS)],
        "item_id": [f"i{row}" for row in clicked],
        "timestamp": np.arange(CLICKS) + 1_600_000_000,
    }
    pq.write_table(pa.table(items), folder / "items.parquet")
    pq.write_table(pa.table(log), folder / "interactions.parquet")
    data = {name: {"path": str(folder / f"{name}.parquet")} for name in ("items", "interactions")}
    baselines = ["popularity", "bm25", "bm25 bigrams", "lsa", "bm25+popularity", "memory", "dssm", "bm25>memory@10"]
    tree = {"name": "wordless", "work_dir": str(folder / "run"), "evaluation": {"baselines": baselines}}
    config = parse_config(tree | {"data": data | {"valid_share": 0.2, "test_share": 0.2}}, "test")
    prepare(config, progress=False)
    return config


@pytest.mark.parametrize(
    ("titles", "queries"),
    [
        (["?!", "...", ""], ["red shoe", "blue"]),
        ([""], ["?", "!"]),
    ],
    ids=["typed words", "no words at all"],
)
def test_evaluation_ends_with_results_and_a_note(titles: list[str], queries: list[str], tmp_path: Path) -> None:
    config = write_shop(tmp_path, titles, queries)
    dataset = Dataset.load(config.dataset_dir)
    model = TwoTower(config.model, dataset.schema, seed=1)
    page = tmp_path / "report.html"
    report = evaluate(config, dataset, model, page=page, trec=tmp_path / "trec", progress=False)
    assert "bm25: no item text has a word, so it finds no item." in report.notes
    for name in ("bm25 bigrams", "lsa", "dssm"):
        assert f"{name} is left out: no item text has a word." in report.notes
    measured = {result.retriever for result in report.results}
    assert measured == {
        *("popularity", "bm25", "bm25+popularity", "memory", "bm25>memory@10"),
        *("dpsr", "dpsr+bm25", "dpsr+bm25 rrf"),
    }
    # Clicks still rank: item 0 has a tenth of them.
    assert report.result("popularity").metrics["Recall@10"] > 0.5
    assert report.result("memory").metrics["Recall@10"] > 0.5
    assert report.result("bm25").metrics["Recall@10"] == 0.0
    assert json.loads((Path(config.work_dir) / "evaluation" / "metrics.json").read_text())["notes"] == report.notes
    assert "no item text has a word" in page.read_text()
