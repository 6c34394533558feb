"""Other trained runs in a comparison: items by id, texts without users, and runs that cannot take part."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dpsr.baselines.context import BuildContext
from dpsr.baselines.examples import load_examples
from dpsr.baselines.other_runs import OtherRunRetriever
from dpsr.baselines.registry import build, entries_with, resolve
from dpsr.baselines.two_tower import TwoTowerRetriever
from dpsr.config import Config, ConfigError
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.evaluation.compare import model_runs
from dpsr.evaluation.compare.contest import compare_models, selected_models
from dpsr.evaluation.compare.evaluate import evaluate
from dpsr.evaluation.compare.producer import run_task
from dpsr.evaluation.report.model_comparison import ModelComparison
from dpsr.indexing.corpus import embed_items
from dpsr.model.run_files import CheckpointError
from dpsr.model.trained import other_runs
from dpsr.model.two_tower import TwoTower
from dpsr.training.trainer import train

from .coded_shop import make_shop

NAME = "bert bi-encoder"


def other_catalogue(config: Config, folder: Path, prefix: str = "") -> Config:
    """The run over items 10 to 59 in the opposite order and an item of its own; a prefix makes all ids other ones."""
    items = pq.read_table(config.data.items.path).slice(10).take(np.arange(50)[::-1])
    items = pa.concat_tables([pa.table({"item_id": ["own"], "title": ["red thing of its own"]}), items])
    assert config.data.interactions is not None
    log = pq.read_table(config.data.interactions.path)
    log = log.filter(pc.is_in(log["item_id"], value_set=items["item_id"].combine_chunks()))
    folder.mkdir()
    data = {}
    for name, table in (("items", items), ("interactions", log)):
        ids = pa.array([prefix + item for item in table["item_id"].to_pylist()])
        pq.write_table(
            table.set_column(table.column_names.index("item_id"), "item_id", ids), folder / f"{name}.parquet"
        )
        source = getattr(config.data, name)
        data[name] = source.model_copy(update={"path": str(folder / f"{name}.parquet")})
    return config.model_copy(update={"work_dir": str(folder), "data": config.data.model_copy(update=data)})


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return make_shop(tmp_path_factory.mktemp("coded"), skips=False)


@pytest.fixture(scope="module")
def dataset(config: Config) -> Dataset:
    return Dataset.load(config.dataset_dir)


def test_items_are_matched_by_id(config: Config, dataset: Dataset, tmp_path: Path) -> None:
    theirs = Dataset.load(prepare(other_catalogue(config, tmp_path / "other"), progress=False))
    model = TwoTower(config.model, theirs.schema, seed=3)
    context = BuildContext(dataset, entries_with({NAME: lambda: (model, theirs)}), seed=1, progress=False)
    found = build([NAME], context)[NAME]
    assert isinstance(found, OtherRunRetriever)
    assert context.notes == [f"{NAME}: 10 of 60 items are not in its catalogue, and not retrieved."]
    examples = load_examples(dataset, "test", max_examples=20, seed=1)
    oracle = TwoTowerRetriever(model, theirs, embed_items(model, theirs, progress=False)).scores(examples)
    place = {item: row for row, item in enumerate(theirs.item_ids)}
    scores = found.score(examples, np.tile(np.arange(60, dtype=np.int32), (len(examples), 1)))
    for row, item in enumerate(dataset.item_ids):
        expected = oracle[:, place[item]] if item in place else np.full(len(examples), -np.inf)
        np.testing.assert_array_equal(scores[:, row], expected)
    items, listed = found.retrieve(examples, 60)
    missing = {row for row, item in enumerate(dataset.item_ids) if item not in place}
    assert len(missing) == 10
    assert all(set(row.tolist()) == set(range(60)) - missing | {-1} for row in items)
    np.testing.assert_array_equal(items < 0, np.isneginf(listed))


def test_a_catalogue_without_a_common_item_is_an_error(config: Config, dataset: Dataset, tmp_path: Path) -> None:
    theirs = Dataset.load(prepare(other_catalogue(config, tmp_path / "other", prefix="x"), progress=False))
    entries = entries_with({NAME: lambda: (TwoTower(config.model, theirs.schema, seed=3), theirs)})
    with pytest.raises(DatasetError, match=r"evaluation.runs: 'bert bi-encoder': .* has none of the 60 items of"):
        build([NAME], BuildContext(dataset, entries, seed=1, progress=False))


def test_a_model_of_users_is_said_to_read_texts_alone(config: Config, dataset: Dataset) -> None:
    sizes = config.model.model_copy(update={"history_length": 3})
    model = TwoTower(sizes, replace(dataset.schema, num_users=4), seed=3)
    assert model.has_history
    context = BuildContext(dataset, entries_with({NAME: lambda: (model, dataset)}), seed=1, progress=False)
    build([NAME], context)
    assert context.notes == [f"{NAME}: its model knows users; here it reads queries without their users."]


@pytest.mark.parametrize("name", ["bm25", "dpsr+bm25", "bm25+lsa", "bm25+lsa rrf", "a>b", "a@5"])
def test_names_of_other_methods_are_refused(name: str, config: Config, dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"evaluation.runs: .* cannot name a run"):
        entries_with({name: lambda: (TwoTower(config.model, dataset.schema, seed=3), dataset)})


def test_a_trained_run_takes_part_and_reranks(
    config: Config, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = config.training.model_copy(update={"epochs": 1})
    other = config.model_copy(update={"work_dir": str(tmp_path / "other"), "training": quick})
    prepare(other, progress=False)
    train(other, Dataset.load(other.dataset_dir), progress=False)
    runs = other_runs({NAME: other.work_dir})
    names = ["bm25", f"bm25>{NAME}@10"]
    options = config.evaluation.model_copy(update={"baselines": names, "max_examples": 50})
    alone = config.model_copy(update={"work_dir": str(tmp_path), "evaluation": options})
    with pytest.raises(ConfigError, match="unknown method"):
        resolve(names)
    report = evaluate(alone, dataset, None, trained_runs=runs, progress=False)
    figures = {(each.retriever, each.slice): each.metrics for each in report.comparison.results}
    assert {name for name, _ in figures} == {"bm25", f"bm25>{NAME}@10", NAME}
    # A comparison of models, whose processes load the run: each task is done in this one.
    done = []

    def run_here(command: object, name: str, task: dict[str, Any], *_: object) -> None:
        done.append(name)
        run_task(task, alone.model_copy(update={"evaluation": options}), dataset, None, runs)

    monkeypatch.setattr(model_runs, "run_child", run_here)
    options = options.model_copy(update={"runs": {NAME: other.work_dir}})
    alone = alone.model_copy(update={"evaluation": options})
    chosen = selected_models(f"bm25>{NAME}@10", runs)

    def compared() -> ModelComparison:
        return compare_models(
            alone,
            dataset,
            chosen,
            split="test",
            child=(),
            no_model="none",
            model_seconds=None,
            say=lambda _: None,
            runs=runs,
            run_seconds={NAME: 100.0},
        )

    found = compared()
    ours = {(each.retriever, each.slice): each.metrics for each in found.report.comparison.results}
    assert ours.keys() == figures.keys()
    for key in figures:
        assert ours[key]["nDCG@10"] == pytest.approx(figures[key]["nDCG@10"]), key
    costs = {cost.retriever: cost for cost in found.costs}
    for name in (NAME, f"bm25>{NAME}@10"):
        training = costs[name].training
        assert training is not None
        assert 100 < training.seconds < 200
        assert costs[name].needs == ("trained model",)
    assert (costs[NAME].index_bytes or 0) > 60 * config.model.dimension * 4
    assert costs["bm25"].training is None or costs["bm25"].training.seconds < 100
    done.clear()
    compared()
    assert done == []
    # Other weights are another run.
    weights = next(Path(other.work_dir).rglob("checkpoints/*.index"))
    os.utime(weights, (1, 1))
    compared()
    assert set(done) == {NAME, f"bm25>{NAME}@10"}


def test_a_directory_without_a_trained_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"evaluation.runs: 'bert bi-encoder': .* holds no trained run"):
        other_runs({NAME: str(tmp_path)})
