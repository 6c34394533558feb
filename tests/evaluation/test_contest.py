"""Comparisons of many models: the same figures as an evaluation, nothing run twice, and what failures leave."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from dpsr.baselines import registry
from dpsr.baselines.context import Baseline, BuildContext, Need
from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.baselines.interfaces import Method, Retriever
from dpsr.config import ConfigError, parse_config
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.errors import DpsrError
from dpsr.evaluation.compare import lists, model_runs, rerankers
from dpsr.evaluation.compare.children import MethodFailedError
from dpsr.evaluation.compare.contest import compare_models, selected_models
from dpsr.evaluation.compare.evaluate import evaluate
from dpsr.evaluation.compare.inputs import Inputs
from dpsr.evaluation.compare.lists import ListFacts, read_array, read_facts, write_beside, write_lists
from dpsr.evaluation.compare.measured_context import MeasuredContext
from dpsr.evaluation.compare.producer import make_reranked_lists, run_task
from dpsr.evaluation.measures.metrics import RANKED_DEPTH
from dpsr.evaluation.report.comparison_page import write_comparison_page
from dpsr.evaluation.report.comparison_text import comparison_text
from dpsr.evaluation.report.model_comparison import ModelComparison, evidence
from dpsr.evaluation.report.results import Result

from .judged_shop import make_config, write_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    prepare(make_config(folder), progress=False)
    return folder


@pytest.fixture(scope="module")
def dataset(shop: Path) -> Dataset:
    return Dataset.load(make_config(shop).dataset_dir)


class Tasks:
    """Does tasks in this process, in place of one of their own each; ``failing`` names methods that are killed."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []
        self.failing: set[str] = set()

    def __call__(self, command: object, name: str, task: dict[str, object], log: Path, *_: object) -> None:
        if name in self.failing:
            raise MethodFailedError(f"{name}: its process was killed by SIGKILL")
        self.done.append((str(task["kind"]), name))
        task = json.loads(json.dumps(task))
        config = parse_config(task["config"], "task")
        run_task(task, config, Dataset.load(config.dataset_dir), None)


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Tasks:
    found = Tasks()
    monkeypatch.setattr(model_runs, "run_child", found)
    return found


@pytest.fixture
def fresh(shop: Path, dataset: Dataset) -> None:
    """No comparison of another test."""
    directory = make_config(shop).dataset_dir.parent / "comparison"
    shutil.rmtree(directory, ignore_errors=True)


def compared(shop: Path, models: str, split: str = "test", **evaluation: object) -> ModelComparison:
    config = make_config(shop, **evaluation)
    return compare_models(
        config,
        Dataset.load(config.dataset_dir),
        selected_models(models),
        split=split,
        child=(),
        no_model="there is no model",
        model_seconds=None,
        say=lambda _: None,
    )


def of_methods(results: list[Result]) -> dict[tuple[str, str], Result]:
    return {(result.retriever, result.slice): result for result in results}


def test_figures_are_those_of_an_evaluation(shop: Path, dataset: Dataset, tasks: Tasks, fresh: None) -> None:
    names = ["popularity", "lsa", "memory"]
    report = evaluate(make_config(shop, baselines=names), dataset, None, progress=False)
    found = compared(shop, ",".join(names))
    ours, theirs = (of_methods(each.comparison.results) for each in (found.report, report))
    assert ours.keys() == theirs.keys() >= {("bm25", "all"), ("memory", "one typo"), ("lsa", "unseen queries")}
    for key, result in theirs.items():
        assert ours[key].metrics == result.metrics, key
        assert ours[key].half_widths == result.half_widths, key
        assert ours[key].intervals == result.intervals, key
    assert found.report.judged is not None
    assert report.judged is not None
    ours, theirs = (of_methods(each.comparison.results) for each in (found.report.judged, report.judged))
    assert ours.keys() == {*theirs, ("oracle", "judged queries")}
    for key, result in theirs.items():
        assert ours[key].metrics == pytest.approx(result.metrics), key
    oracle = ours["oracle", "judged queries"].metrics
    assert oracle["nDCG@10"] == oracle["MRR@10"] == oracle["AUC"] == 1.0
    over = {each.retriever: each.metrics for each in found.report.comparison.of_slice("all").over_reference}
    assert over == {each.retriever: each.metrics for each in report.comparison.of_slice("all").over_reference}


def test_nothing_runs_twice(shop: Path, tasks: Tasks, fresh: None) -> None:
    first = compared(shop, "popularity")
    names = ["bm25", "popularity"]
    assert sorted(tasks.done) == [(kind, name) for kind in ("lists", "times") for name in names]
    tasks.done.clear()
    second = compared(shop, "popularity")
    assert tasks.done == []
    assert second == first
    assert second.costs == first.costs
    compared(shop, "popularity,lsa")
    assert {name for _, name in tasks.done} == {"lsa"}


def test_what_decides_the_lists_is_in_their_names(shop: Path, tasks: Tasks, fresh: None) -> None:
    compared(shop, "bm25")
    for change in ({"max_examples": 50}, {"candidates": 30}, {"labels": None}):
        tasks.done.clear()
        compared(shop, "bm25", **change)
        assert ("lists", "bm25") in tasks.done, change
    tasks.done.clear()
    compared(shop, "bm25", split="valid")
    assert ("lists", "bm25") in tasks.done
    labels = shop / "labels.parquet"
    content = labels.read_bytes()
    try:
        pq.write_table(pq.read_table(labels).slice(3), labels)
        tasks.done.clear()
        compared(shop, "bm25")
        assert ("lists", "bm25") in tasks.done
    finally:
        labels.write_bytes(content)


def test_a_new_version_of_a_part_runs_what_is_made_of_it(
    shop: Path, tasks: Tasks, fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = "bm25+popularity,lsa,lsa+bm25+popularity,bm25+popularity>bm25+popularity+lsa@10,lsa>bm25+popularity@10"
    compared(shop, models)
    tasks.done.clear()
    newer = replace(registry.ENTRIES["bm25+popularity"], version=2)
    monkeypatch.setitem(registry.ENTRIES, newer.name, newer)
    compared(shop, models)
    assert {name for _, name in tasks.done} == set(models.split(",")) - {"lsa"}


def test_damaged_lists_are_made_again(shop: Path, tasks: Tasks, fresh: None) -> None:
    first = compared(shop, "popularity")
    path = popularity_lists(shop)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], content[:900] + b"\0" * 50 + content[950:], b""):
        path.write_bytes(damaged)
        tasks.done.clear()
        assert compared(shop, "popularity") == first
        assert tasks.done == [("lists", "popularity")]


def popularity_lists(shop: Path) -> Path:
    (path,) = (make_config(shop).dataset_dir.parent / "comparison" / "lists").glob("popularity-*.npz")
    return path


def test_another_metric_runs_no_method(shop: Path, tasks: Tasks, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from dpsr.evaluation.compare import list_measures

    compared(shop, "bm25")
    tasks.done.clear()
    monkeypatch.setattr(list_measures, "_NAMES", (*list_measures._NAMES, "another"))
    computed = []
    whole = list_measures._computed
    monkeypatch.setattr(list_measures, "_computed", lambda *given: computed.append(given[0]) or whole(*given))
    compared(shop, "bm25")
    assert tasks.done == []
    assert len(computed) == 1


def test_a_model_that_is_killed_is_named_and_the_others_go_on(shop: Path, tasks: Tasks, fresh: None) -> None:
    tasks.failing = {"lsa", "bm25"}
    found = compared(shop, "popularity,lsa,bm25>lsa@10")
    assert found.failed.keys() == {"lsa", "bm25", "bm25>lsa@10"}
    assert "SIGKILL" in found.failed["lsa"]
    assert found.failed["bm25>lsa@10"] == "bm25>lsa@10: bm25 failed"
    assert {result.retriever for result in found.report.results} == {"popularity"}
    tasks.failing = set()
    again = compared(shop, "popularity,lsa,bm25>lsa@10")
    assert not again.failed
    assert len(tasks.done) == len(set(tasks.done))
    tasks.failing = {"bm25"}
    with pytest.raises(DpsrError, match="no model that finds items could be measured: bm25: its"):
        compared(shop, "bm25", split="valid")


class SharedLetters:
    """Scores a pair by the letters that query and title share, relative to the title's."""

    def __init__(self, titles: list[str]) -> None:
        self.titles = [set(title) for title in titles]

    def score(self, examples: QueryExamples, candidates: np.ndarray) -> np.ndarray:
        rows = zip(examples.texts, candidates, strict=True)
        shares = [[len(set(text) & self.titles[item]) / len(self.titles[item]) for item in row] for text, row in rows]
        return np.array(shares, dtype=np.float32)


def shared_letters(context: BuildContext) -> Method:
    return SharedLetters(context.item_texts)


def test_scorers_are_measured_on_judged_pairs_and_as_rerankers(
    shop: Path, tasks: Tasks, fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dpsr.evaluation.compare.contest.ENTRIES",
        {name: registry.ENTRIES[name] for name in ("popularity", "bm25", "dpsr")} | {"letters": letters()},
    )
    monkeypatch.setitem(registry.ENTRIES, "letters", letters())
    found = compared(shop, "all")
    measured = of_methods(found.report.results)
    assert measured["letters", "all"].metrics == {}
    assert measured["letters", "all"].retriever == "letters"
    assert {"bm25>letters@100", "bm25>letters@1000", "bm25>bm25+letters@100"} <= {name for name, _ in measured}
    # Its weight is chosen on the valid split, where the first stage alone is one of the choices.
    assert found.report.weights["bm25>bm25+letters@100"] > 0
    kept, dropped = (measured[name, "all"].metrics["nDCG@10"] for name in ("bm25>bm25+letters@100", "bm25>letters@100"))
    assert kept > dropped
    assert found.report.judged is not None
    judged = of_methods(found.report.judged.comparison.results)
    assert judged["letters", "judged queries"].metrics.keys() == {"AUC", "AUC within queries"}
    assert any("bm25 is the first stage of all rerankers, the best on the valid split" in n for n in found.report.notes)
    assert "dpsr is left out: there is no model." in found.report.notes
    assert any(note.startswith("letters scores given pairs only") for note in found.report.notes)
    page = write_comparison_page(tmp_path / "page.html", found, [evidence(found)]).read_text()
    for name in ("letters", "oracle", "bm25&gt;letters@100"):
        assert f'<th scope="row">{name}</th>' in page, name
    assert "oracle" in comparison_text(found)
    monkeypatch.setattr(rerankers, "LIMIT_SECONDS", 1e-9)
    limited = compared(shop, "all")
    assert not any(">" in result.retriever for result in limited.report.results)
    assert sum("is left out:" in note and "pairs at" in note for note in limited.report.notes) == 3
    of_valid = compared(shop, "all", split="valid")
    assert any("the valid split is measured" in note for note in of_valid.report.notes)


def letters() -> Baseline:
    return Baseline("letters", shared_letters, frozenset({Need.WORDS}))


def test_reranked_lists_are_those_of_the_registry(
    shop: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.ENTRIES, "letters", letters())
    inputs, name = Inputs.load(make_config(shop), dataset, "test"), "popularity>letters@20"
    context = MeasuredContext.of(inputs, registry.resolve([name]))
    context.directory = tmp_path / "trained"
    first = context.method("popularity")
    assert isinstance(first, Retriever)
    answerable = inputs.judgements and inputs.judgements.queries.take(inputs.judgements.answerable())
    sets = {lists.CLICKS: inputs.examples, lists.TYPOS: inputs.typos, lists.JUDGED: answerable}
    arrays = {key: first.retrieve(examples, RANKED_DEPTH)[0] for key, examples in sets.items()}
    write_lists(tmp_path / "first.npz", ListFacts(True, True, ""), arrays)
    make_reranked_lists(inputs, context, name, tmp_path / "found.npz", tmp_path / "first.npz")
    reranker = context.method(name)
    assert isinstance(reranker, Retriever)
    for key, examples in sets.items():
        found = read_array(tmp_path / "found.npz", key)
        np.testing.assert_array_equal(found, reranker.retrieve(examples, RANKED_DEPTH)[0])
        assert found.shape == (len(examples), 20)


def test_cost_is_recorded_once_and_parts_count(shop: Path, dataset: Dataset, tmp_path: Path) -> None:
    trained = []

    def slow(context: BuildContext) -> Method:
        cache = context.cache_file("weights")
        assert cache is not None
        if not cache.exists():
            time.sleep(0.2)
            cache.parent.mkdir(parents=True, exist_ok=True)
            cache.touch()
            trained.append(cache)
        return context.registry["popularity"].build(context)

    def mixture(context: BuildContext) -> Method:
        time.sleep(0.05)
        return context.method("slow")

    inputs = Inputs.load(make_config(shop), dataset, "test")
    entries = registry.ENTRIES | {"slow": Baseline("slow", slow, trains=True), "mixture": Baseline("mixture", mixture)}

    def context() -> MeasuredContext:
        found = MeasuredContext.of(inputs, entries)
        found.directory = tmp_path
        return found

    context().method("slow")
    again = context()
    again.method("mixture")
    assert len(trained) == 1
    slow_cost, cost = again.cost("slow"), again.cost("mixture")
    assert slow_cost is not None
    assert cost is not None
    assert slow_cost.seconds >= 0.2
    assert 0.05 <= cost.seconds - slow_cost.seconds < 0.2
    (trained[0].parent / "training.json").unlink()
    context().method("slow")
    assert len(trained) == 2, "weights whose cost is unknown are trained again"


def test_a_weight_is_chosen_once(shop: Path, dataset: Dataset, tmp_path: Path) -> None:
    inputs, tried = Inputs.load(make_config(shop), dataset, "test"), []

    def mixed(context: BuildContext) -> Method:
        def mixture(weight: float) -> ExhaustiveRetriever:
            tried.append(weight)
            return context.exhaustive("popularity")

        return context.tuned("mixed", mixture, [0.5, 2.0], 1.0)

    for expected in ([0.5, 2.0, 0.5], [0.5]):
        context = MeasuredContext.of(inputs, registry.ENTRIES | {"mixed": Baseline("mixed", mixed)})
        context.directory = tmp_path
        tried.clear()
        context.method("mixed")
        assert tried == expected
        assert context.weights == {"mixed": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--models: no name is given"),
        (" , ", "--models: no name is given"),
        ("bm52", "--models: unknown method 'bm52'; did you mean 'bm25'? "),
        ("bm25>nothing", "unknown method 'bm25>nothing'"),
    ],
)
def test_names_that_are_no_models(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        selected_models(text)
    assert message in str(caught.value)
    assert "popularity" in str(caught.value)


def test_a_split_without_clicks_is_an_error(shop: Path, dataset: Dataset) -> None:
    empty = SimpleNamespace(
        interaction_blocks=lambda split: iter(()), directory=dataset.directory, item_ids=dataset.item_ids
    )
    with pytest.raises(DatasetError, match="split 'test' has no click"):
        Inputs.load(make_config(shop), empty, "test")


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lists" / "x.npz"
    write_lists(path, ListFacts(True, False, "index"), {lists.CLICKS: np.zeros((2, 3), np.int32)})

    def full(file: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_beside(path, full)
    assert [each.name for each in path.parent.iterdir()] == ["x.npz"]
    facts = read_facts(path)
    assert facts is not None
    assert facts.index == "index"
    assert read_array(path, lists.TYPOS) is None
