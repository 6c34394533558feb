"""Whole evaluations on a prepared dataset, and measures of methods with known scores."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import pytrec_eval

from dpsr.baselines import exhaustive
from dpsr.baselines.examples import (
    QueryExamples,
    anonymous_examples,
    load_examples,
    make_examples,
    with_one_typo,
)
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.baselines.interfaces import Method
from dpsr.baselines.two_tower import TwoTowerRetriever
from dpsr.config import Config, ConfigError, EvaluationConfig, parse_config
from dpsr.data.dataset.schema import INTERACTION, DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.evaluation.compare.benchmark_suite import benchmark_suite
from dpsr.evaluation.compare.comparison import compare
from dpsr.evaluation.compare.evaluate import evaluate
from dpsr.evaluation.measures.clicks import measure, measure_all
from dpsr.evaluation.measures.metrics import CLICKS as POPULARITY
from dpsr.evaluation.measures.metrics import sample_candidates
from dpsr.evaluation.report.metrics_json import report_json
from dpsr.indexing.corpus import embed_items, embed_queries
from dpsr.model.two_tower import TwoTower

ITEMS, USERS, CLICKS = 120, 30, 1500
WORDS = [
    "red",
    "blue",
    "phone",
    "case",
    "milk",
    "powder",
    "shoe",
    "coat",
    "lamp",
    "desk",
    "chair",
    "game",
    "cable",
    "hat",
]


def write_shop(folder: Path) -> None:
    """A small log: queries are words of the clicked item's title, some with a capital letter."""
    rng = np.random.default_rng(3)
    titles = [" ".join(rng.choice(WORDS, 3, replace=False)) + f" {row % 7}" for row in range(ITEMS)]
    items = np.minimum(rng.geometric(0.04, CLICKS) - 1, ITEMS - 1)
    queries = [" ".join(rng.choice(titles[item].split(), rng.integers(1, 3), replace=False)) for item in items]
    queries = [query.title() if rng.random() < 0.2 else query for query in queries]
    tables = {
        "items": {
            "item_id": [f"i{row}" for row in range(ITEMS)],
            "title": titles,
            "brand": [f"brand {row % 5}" for row in range(ITEMS)],
        },
        "users": {
            "user_id": [f"u{row}" for row in range(USERS)],
            "gender": [("f", "m")[row % 2] for row in range(USERS)],
        },
        "interactions": {
            "query": queries,
            "item_id": [f"i{item}" for item in items],
            "user_id": [f"u{user}" if user < USERS else None for user in rng.integers(0, USERS + 5, CLICKS)],
            "timestamp": np.arange(CLICKS) * 60 + 1_600_000_000,
        },
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")


def make_config(folder: Path, **sections: dict[str, object]) -> Config:
    data = {
        "items": {"path": str(folder / "items.parquet"), "categorical": ["brand"]},
        "users": {"path": str(folder / "users.parquet"), "profile": ["gender"]},
        "interactions": {"path": str(folder / "interactions.parquet")},
        "valid_share": 0.1,
        "test_share": 0.2,
    }
    tree = {"name": "small", "work_dir": str(folder / "run"), "model": {"history_length": 5}}
    return parse_config(tree | {"data": data | sections.pop("data", {})} | sections, "test")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    prepare(make_config(folder), progress=False)
    return folder


@pytest.fixture(scope="module")
def dataset(shop: Path) -> Dataset:
    return Dataset.load(make_config(shop).dataset_dir)


@pytest.fixture(scope="module")
def model(shop: Path, dataset: Dataset) -> TwoTower:
    return TwoTower(make_config(shop).model, dataset.schema, seed=5)


@dataclass
class KnownScores:
    """A retriever whose scores are a function of (example, item), without any tie-breaking of its own."""

    scores: np.ndarray
    """float32 [n, items]; rows in the order of the examples' history_end, which numbers them here."""

    def retrieve(self, examples: QueryExamples, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores = self.scores[examples.records["history_end"]]
        items = np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int32)
        return items, np.take_along_axis(scores, items, axis=1)

    def score(self, examples: QueryExamples, candidates: np.ndarray) -> np.ndarray:
        return np.take_along_axis(self.scores[examples.records["history_end"]], candidates, axis=1)


class KnownItems(ExhaustiveRetriever):
    """Scores an item by its row, for every query."""

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        return np.tile(np.linspace(-1, 1, self.num_items, dtype=np.float32), (len(examples), 1))


def standard_baselines(dataset: Dataset) -> dict[str, Method]:
    return benchmark_suite(EvaluationConfig().baselines, dataset, seed=1).methods


def numbered_examples(n: int, num_items: int) -> QueryExamples:
    rng = np.random.default_rng(0)
    records = np.zeros(n, dtype=INTERACTION)
    records["item"] = rng.integers(0, num_items, n)
    records["history_end"] = np.arange(n)
    return make_examples(np.array(["q"] * n, dtype=object), records, seed=1)


def means(scores: np.ndarray, examples: QueryExamples, candidates: int = 64) -> dict[str, float]:
    num_items = scores.shape[1]
    drawn = sample_candidates(examples.item_rows, num_items, candidates, seed=2)
    values = measure(KnownScores(scores.astype(np.float32)), examples, drawn, counts=np.zeros(num_items, dtype=int))
    return {name: float(value.mean()) for name, value in values.items() if name != POPULARITY}


def test_a_perfect_retriever_gets_one_everywhere_and_the_worst_nothing() -> None:
    examples = numbered_examples(200, 1500)
    scores = np.random.default_rng(1).random((200, 1500))
    scores[np.arange(200), examples.item_rows] = 2.0
    assert set(means(scores, examples).values()) == {1.0}
    scores[np.arange(200), examples.item_rows] = -1.0
    assert set(means(scores, examples).values()) == {0.0}


def test_a_constant_scorer_gets_no_more_than_chance() -> None:
    examples = numbered_examples(4000, 64)
    found = means(np.zeros((4000, 64)), examples)
    for name, chance in {"Top-1": 1 / 64, "Top-10": 10 / 64, "Recall@10": 10 / 64}.items():
        assert abs(found[name] - chance) < 5 * np.sqrt(chance * (1 - chance) / 4000), name


@pytest.mark.parametrize("seed", range(3))
def test_measures_follow_the_rank_of_the_clicked_item(seed: int) -> None:
    n, num_items = 150, 400
    examples = numbered_examples(n, num_items)
    scores = np.random.default_rng(seed).normal(size=(n, num_items)).astype(np.float32)
    scores[np.arange(n), examples.item_rows] += 2
    clicked = scores[np.arange(n), examples.item_rows][:, None]
    ranks = 1 + (scores > clicked).sum(axis=1)
    found = means(scores, examples, candidates=50)
    assert found["MAP@5"] == pytest.approx(np.where(ranks <= 5, 1 / ranks, 0).mean())
    assert found["MRR@10"] == pytest.approx(np.where(ranks <= 10, 1 / ranks, 0).mean())
    assert found["Recall@100"] == pytest.approx((ranks <= 100).mean())
    drawn = sample_candidates(examples.item_rows, num_items, 50, seed=2)
    among = np.take_along_axis(scores, drawn, axis=1)
    assert found["Top-1"] == pytest.approx((among[:, 0] == among.max(axis=1)).mean())


class Retrieves:
    """The retrieving half of known scores, at most ``depth`` items."""

    def __init__(self, scores: np.ndarray, depth: int) -> None:
        self.known, self.depth = KnownScores(scores), depth

    def retrieve(self, examples: QueryExamples, k: int) -> tuple[np.ndarray, np.ndarray]:
        return self.known.retrieve(examples, min(k, self.depth))


class Scores:
    """The scoring half of known scores."""

    def __init__(self, scores: np.ndarray) -> None:
        self.score = KnownScores(scores).score


def test_each_method_has_the_measures_that_its_protocol_allows() -> None:
    examples = numbered_examples(60, 500)
    scores = np.random.default_rng(4).normal(size=(60, 500)).astype(np.float32)
    drawn = sample_candidates(examples.item_rows, 500, 20, seed=2)
    counts = np.arange(500)
    whole = measure(KnownScores(scores), examples, drawn, counts=counts)
    listed = measure(Retrieves(scores, 1000), examples, drawn, counts=counts)
    scored = measure(Scores(scores), examples, drawn, counts=counts)
    assert scored.keys() == {"Top-1", "Top-10"}
    assert listed.keys() == whole.keys() - scored.keys()
    for name, values in (listed | scored).items():
        assert np.array_equal(values, whole[name]), name


def test_items_missing_in_a_short_list_count_as_not_retrieved() -> None:
    examples = numbered_examples(200, 500)
    scores = np.random.default_rng(4).normal(size=(200, 500)).astype(np.float32)
    drawn = sample_candidates(examples.item_rows, 500, 20, seed=2)
    whole = measure(KnownScores(scores), examples, drawn, counts=np.arange(500))
    short = measure(Retrieves(scores, 100), examples, drawn, counts=np.arange(500))
    assert np.array_equal(short["Recall@1000"], whole["Recall@100"])
    assert whole["Recall@1000"].all()
    for name in ("Recall@100", "nDCG@10", POPULARITY):
        assert np.array_equal(short[name], whole[name]), name


def test_methods_of_all_kinds_are_compared_on_the_measures_that_both_have(dataset: Dataset) -> None:
    examples = load_examples(dataset, "test", max_examples=100, seed=1)
    whole = KnownItems(ITEMS)
    lists, pairs = SimpleNamespace(retrieve=whole.retrieve), SimpleNamespace(score=whole.score)
    methods = {"whole": whole, "lists": lists, "pairs": pairs}
    found = compare(
        methods, dataset, examples, candidates=20, seed=1, subject="whole", reference="lists", progress=False
    )
    differences = {entry.baseline: entry.metrics for entry in found.of_slice("all").differences}
    assert differences["pairs"].keys() == {"Top-1", "Top-10"}
    assert differences["lists"].keys() == {"MAP@5", "MRR@10", "nDCG@10", "Recall@10", "Recall@100"}
    over = {entry.retriever: entry.metrics for entry in found.of_slice("all").over_reference}
    assert over["pairs"] == {}
    for metrics in (*differences.values(), over["whole"]):
        assert {interval.mean for interval in metrics.values()} == {0.0}


def test_popularity_of_retrieved_items_is_the_mean_over_the_ten_best() -> None:
    examples = numbered_examples(20, 60)
    scores = np.random.default_rng(8).normal(size=(20, 60)).astype(np.float32)
    counts = np.random.default_rng(9).integers(0, 500, 60)
    drawn = sample_candidates(examples.item_rows, 60, 5, seed=2)
    found = measure(KnownScores(scores), examples, drawn, counts=counts)[POPULARITY]
    np.testing.assert_allclose(found, [counts[np.argsort(-row)[:10]].mean() for row in scores])


def test_nan_scores_are_refused() -> None:
    examples = numbered_examples(3, 8)
    with pytest.raises(ValueError, match="NaN"):
        means(np.full((3, 8), np.nan), examples)


def test_two_towers_equal_numpy(dataset: Dataset, model: TwoTower) -> None:
    examples = load_examples(dataset, "test", max_examples=10_000, seed=1)
    vectors = embed_items(model, dataset, progress=False)
    retriever = TwoTowerRetriever(model, dataset, vectors)
    heads = embed_queries(model, dataset, examples.records)
    expected = np.einsum("nmd,id->nmi", heads.astype(np.float64), vectors.astype(np.float64)).max(axis=1)
    items, scores = retriever.retrieve(examples, 20)
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :20], atol=1e-5)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, items.astype(np.int64), axis=1), atol=1e-5)
    candidates = sample_candidates(examples.item_rows, ITEMS, 30, seed=1)
    np.testing.assert_allclose(
        retriever.score(examples, candidates),
        np.take_along_axis(expected, candidates.astype(np.int64), axis=1),
        atol=1e-5,
    )
    assert heads.shape[1] > 1
    assert (examples.records["user"] < 0).any()
    assert (examples.records["history_end"] > 0).any()


def test_two_towers_read_the_text_and_not_the_logged_query(dataset: Dataset, model: TwoTower) -> None:
    retriever = TwoTowerRetriever(model, dataset, embed_items(model, dataset, progress=False))
    records = load_examples(dataset, "test", max_examples=4, seed=1).records
    texts = np.array(["phone case", "phonne case", "phone case", "red hat"], dtype=object)
    records = np.repeat(records[:1], 4)
    heads = retriever.query_heads(make_examples(texts, records, seed=1))
    assert np.array_equal(heads[0], heads[2])
    assert not np.allclose(heads[0], heads[1])
    assert not np.allclose(heads[0], heads[3])


def test_examples_are_the_clicks_of_the_split_with_their_typed_queries(dataset: Dataset) -> None:
    examples = load_examples(dataset, "test", max_examples=10_000, seed=1)
    records = dataset.interactions("test")
    assert sorted(examples.records.tolist()) == sorted(records.tolist())
    queries = dataset.query_texts().to_pylist()
    assert examples.texts.tolist() == [queries[row] for row in examples.records["query"]]


def test_a_sample_is_a_subset_of_the_split_and_a_function_of_the_seed(dataset: Dataset) -> None:
    first, again, other = (load_examples(dataset, "test", max_examples=50, seed=seed) for seed in (1, 1, 2))
    assert len(first) == 50
    assert first.records.tolist() == again.records.tolist()
    assert first.records.tolist() != other.records.tolist()
    whole = dataset.interactions("test").tolist()
    assert all(first.records.tolist().count(record) <= whole.count(record) for record in first.records.tolist())


def test_evaluation_is_reproducible_and_writes_its_report(shop: Path, dataset: Dataset, model: TwoTower) -> None:
    config = make_config(shop, evaluation={"max_examples": 150, "candidates": 40})
    report = evaluate(config, dataset, model, progress=False)
    again = evaluate(config, dataset, model, progress=False)
    assert report == again
    tree = json.loads((Path(config.work_dir) / "evaluation" / "metrics.json").read_text())
    assert tree == json.loads(json.dumps(report_json(again)))
    baselines = {"popularity", "bm25", "bm25 bigrams", "lsa", "bm25+popularity", "memory"}
    assert tree["retrievers"].keys() == baselines | {"dpsr", "dpsr+bm25", "dpsr+bm25 rrf"}
    assert tree["weights"].keys() == {"bm25+popularity", "dpsr+bm25", "dpsr+bm25 rrf"}
    kinds = {"seen queries", "unseen queries", "head", "torso", "tail", "with history", "without history", "one typo"}
    kinds |= {"latin script", "no letters"}  # a query may be the number of a title
    assert tree["slices"].keys() == kinds
    assert tree["retrieval"].keys() == tree["retrievers"].keys()
    for time in tree["retrieval"].values():
        assert 0 < time["median_ms"] <= time["p90_ms"]
        assert time["items"] == ITEMS
        assert time["index"]
    assert tree["slices"]["seen queries"]["examples"] + tree["slices"]["unseen queries"]["examples"] == 150
    assert report.split_size == CLICKS // 5
    other = evaluate(make_config(shop, training={"seed": 2}), dataset, model, progress=False)
    assert other.results != report.results


def test_slices_add_up_to_the_whole(shop: Path, dataset: Dataset) -> None:
    examples = load_examples(dataset, "test", max_examples=10_000, seed=1)
    baselines = standard_baselines(dataset)
    results = compare(baselines, dataset, examples, candidates=40, seed=1, progress=False).results
    found = {(result.slice, result.retriever): result for result in results}
    for name in baselines:
        parts = [found["seen queries", name], found["unseen queries", name]]
        mean = sum(part.examples * part.metrics["MAP@5"] for part in parts) / len(examples)
        assert mean == pytest.approx(found["all", name].metrics["MAP@5"])
    # On an unseen query, click memory is its back-off.
    assert found["unseen queries", "memory"].metrics == found["unseen queries", "bm25+popularity"].metrics
    assert found["seen queries", "memory"].metrics["MAP@5"] > found["seen queries", "bm25"].metrics["MAP@5"]
    assert found["all", "bm25"].metrics["MAP@5"] > found["one typo", "bm25"].metrics["MAP@5"]


def test_differences_are_those_of_the_means_on_every_slice(dataset: Dataset) -> None:
    examples = load_examples(dataset, "test", max_examples=10_000, seed=1)
    baselines = standard_baselines(dataset)
    compared = compare(
        baselines, dataset, examples, candidates=40, seed=1, subject="memory", reference="bm25", progress=False
    )
    found = {(result.slice, result.retriever): result for result in compared.results}
    differences = compared.differences
    assert {(entry.slice, entry.baseline) for entry in differences} == {pair for pair in found if pair[1] != "memory"}
    over = compared.over_reference
    assert {(entry.slice, entry.retriever) for entry in over} == {pair for pair in found if pair[1] != "bm25"}
    for entry in differences + over:
        first, second = found[entry.slice, entry.retriever], found[entry.slice, entry.baseline]
        for name, interval in entry.metrics.items():
            assert interval.mean == pytest.approx(first.metrics[name] - second.metrics[name])
            assert interval.low <= interval.mean <= interval.high
    for result in compared.results:
        for name, interval in result.intervals.items():
            assert interval.mean == result.metrics[name]
            assert interval.low <= interval.mean <= interval.high
    # On unseen queries, click memory is its back-off, click by click.
    same = next(
        entry for entry in differences if (entry.slice, entry.baseline) == ("unseen queries", "bm25+popularity")
    )
    assert set(same.metrics.values()) == {(0.0, 0.0, 0.0, 0.0)}


def test_measures_are_the_same_for_any_batch_size(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = load_examples(dataset, "test", max_examples=10_000, seed=1)
    candidates = sample_candidates(examples.item_rows, ITEMS, 30, seed=1)
    baselines = standard_baselines(dataset)
    del baselines["lsa"]  # a matrix product rounds differently for other shapes, which turns ties around
    whole = {name: measure(each, examples, candidates, counts=np.arange(ITEMS)) for name, each in baselines.items()}
    monkeypatch.setattr(exhaustive, "_QUERIES_AT_ONCE", 7)
    batched = measure_all(baselines, examples, candidates, counts=np.arange(ITEMS))
    for name, values in whole.items():
        for key in values:
            assert np.array_equal(values[key], batched[name][key]), (name, key)


def test_typos_reach_the_retriever(dataset: Dataset) -> None:
    examples = load_examples(dataset, "test", max_examples=10_000, seed=1)
    bm25 = standard_baselines(dataset)["bm25"]
    typos = with_one_typo(examples, seed=1)
    before, after = bm25.retrieve(examples, 5)[1], bm25.retrieve(typos, 5)[1]
    assert after[:, 0].mean() < before[:, 0].mean()


def test_judged_queries_are_measured_when_there_are_labels(shop: Path, dataset: Dataset, model: TwoTower) -> None:
    titles = dataset.item_table()["title"].to_pylist()
    queries = ["red phone", "milk lamp"]
    rows = [(q, f"i{row}", sum(w in titles[row].split() for w in q.split())) for q in queries for row in range(ITEMS)]
    columns = dict(zip(("query", "item_id", "grade"), zip(*rows, ("red phone", "gone", 2), strict=True), strict=True))
    pq.write_table(pa.table(columns), shop / "grades.parquet")
    labels = {"path": str(shop / "grades.parquet"), "columns": {"label": "grade"}, "positive_from": 1}
    config = make_config(shop, evaluation={"max_examples": 20, "labels": labels})
    page, trec = shop / "report.html", shop / "trec"
    judged = evaluate(config, dataset, model, page=page, trec=trec, progress=False).judged
    assert judged is not None
    assert (judged.queries, judged.pairs, judged.unknown_items) == (2, 2 * ITEMS, 1)
    found = {result.retriever: result.metrics for result in judged.comparison.results}
    # Relevant items are those with a word of the query, so that BM25 makes no mistake and popularity many.
    assert found["bm25"]["AUC"] == found["bm25"]["AUC within queries"] == 1.0
    assert 0.2 < found["popularity"]["AUC"] < 0.8
    assert found["bm25"]["nDCG@10"] > found["popularity"]["nDCG@10"]
    assert {difference.baseline for difference in judged.comparison.differences} == found.keys() - {"dpsr"}
    hybrid = {entry.retriever: entry for entry in judged.comparison.over_reference}["dpsr+bm25"].metrics["nDCG@10"]
    assert hybrid.mean == pytest.approx(found["dpsr+bm25"]["nDCG@10"] - found["bm25"]["nDCG@10"])
    tree = json.loads((Path(config.work_dir) / "evaluation" / "metrics.json").read_text())
    assert tree["judged"]["over_bm25"]["dpsr+bm25"]["ndcg_10"]["standard_error"] == hybrid.standard_error
    assert tree["judged"]["retrievers"]["bm25"]["auc"] == 1.0
    html = page.read_text()
    assert "2 judged queries" in html
    assert html.count("<circle") > ITEMS  # the map of the items
    assert {folder.name: len(list(folder.glob("*.run"))) for folder in trec.iterdir()} == {"test": 9, "judged": 9}


TREC_EVAL = {"MAP@5": "map_cut_5", "nDCG@10": "ndcg_cut_10", "Recall@10": "recall_10", "Recall@100": "recall_100"}


def test_trec_eval_finds_the_same_numbers_in_the_files(shop: Path, dataset: Dataset, model: TwoTower) -> None:
    rng = np.random.default_rng(12)
    pairs = [(query, f"i{item}", int(rng.integers(0, 4))) for query in ("red shoe", "hat", "tea") for item in range(40)]
    columns = dict(zip(("query", "item_id", "label"), zip(*pairs, strict=True), strict=True))
    pq.write_table(pa.table(columns), shop / "trec.parquet")
    labels = {"path": str(shop / "trec.parquet"), "positive_from": 2}
    config = make_config(shop, evaluation={"max_examples": 90, "labels": labels})
    report = evaluate(config, dataset, model, trec=shop / "written", progress=False)
    assert report.judged is not None
    parts = {"test": report.comparison.of_slice("all").results, "judged": report.judged.comparison.results}
    for folder, results in parts.items():
        with (shop / "written" / folder / "qrels.txt").open() as file:
            judgements = pytrec_eval.RelevanceEvaluator(pytrec_eval.parse_qrel(file), set(TREC_EVAL.values()))
        assert len(results) == 9
        for result in results:
            with (shop / "written" / folder / f"{result.retriever.replace(' ', '-')}.run").open() as file:
                found = judgements.evaluate(pytrec_eval.parse_run(file)).values()
            for name in TREC_EVAL.keys() & result.metrics.keys():
                # As `trec_eval -c`: a query without a line in the run counts 0.
                mean = sum(query[TREC_EVAL[name]] for query in found) / result.examples
                assert mean == pytest.approx(result.metrics[name]), (folder, result.retriever, name)


def test_configured_baselines_and_rerankers_take_part(shop: Path, dataset: Dataset, model: TwoTower) -> None:
    options = {"max_examples": 80, "candidates": 20, "baselines": ["memory", "bm25>dpsr@20", "dpsr+bm25>memory"]}
    labels = {"path": str(shop / "few.parquet")}
    pq.write_table(pa.table({"query": ["hat"], "item_id": ["i0"], "label": [1]}), shop / "few.parquet")
    config = make_config(shop, evaluation=options | {"labels": labels})
    page = shop / "rerankers.html"
    report = evaluate(config, dataset, model, page=page, trec=shop / "rerankers", progress=False)
    names = list(dict.fromkeys(result.retriever for result in report.results))
    assert names == ["bm25", "memory", "bm25>dpsr@20", "dpsr+bm25>memory", "dpsr", "dpsr+bm25", "dpsr+bm25 rrf"]
    found = {name: report.result(name).metrics for name in names}
    assert found["bm25>dpsr@20"].keys() == found["bm25"].keys() - {"Top-1", "Top-10"}
    assert found["bm25>dpsr@20"]["Recall@100"] == found["bm25>dpsr@20"]["Recall@1000"] <= found["bm25"]["Recall@100"]
    # The catalogue is smaller than the depth, so that the scorer orders all of it.
    for name in ("MAP@5", "Recall@10", "Recall@100"):
        assert found["dpsr+bm25>memory"][name] == pytest.approx(found["memory"][name])
    assert report.judged is not None
    judged = {result.retriever: result.metrics for result in report.judged.comparison.results}
    assert judged["bm25>dpsr@20"].keys() == judged["bm25"].keys() - {"AUC", "AUC within queries"}
    assert "bm25&gt;dpsr@20" in page.read_text()
    assert (shop / "rerankers" / "test" / "bm25-dpsr@20.run").is_file()


def test_known_senses_are_measured_and_an_unusable_input_ends_the_job_before_any_work(
    shop: Path, dataset: Dataset, model: TwoTower, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(query, f"brand {row}", 0.2) for query in ("hat", "tea") for row in range(5)]
    columns = dict(zip(("query", "brand", "share"), zip(*rows, strict=True), strict=True))
    pq.write_table(pa.table(columns), shop / "senses.parquet")
    report = evaluate(
        make_config(shop, evaluation={"max_examples": 30, "senses": str(shop / "senses.parquet")}),
        dataset,
        model,
        page=shop / "senses.html",
        progress=False,
    )
    assert [each.senses.query for each in report.senses] == ["hat", "tea"]
    vectors = embed_items(model, dataset, progress=False)
    asked = anonymous_examples(np.array(["hat", "tea"], dtype=object), seed=1)
    heads = TwoTowerRetriever(model, dataset, vectors).query_heads(asked)
    brands = dataset.item_table()["brand"].to_pylist()
    for row, each in enumerate(report.senses):
        np.testing.assert_allclose(each.shares.sum(axis=1), 1.0)  # every brand is a sense here
        for head, shares in enumerate(each.shares):
            best = np.argsort(-(vectors @ heads[row, head]))[:50]
            expected = [np.mean([brands[item] == name for item in best]) for name in each.senses.names]
            np.testing.assert_allclose(shares, expected, atol=0.021)  # one item either way where scores round
    assert "queries of several meanings" in (shop / "senses.html").read_text()
    monkeypatch.setattr("dpsr.evaluation.compare.evaluate.embed_items", lambda *_, **__: pytest.fail("work was done"))
    for wrong in ({"senses": "gone.parquet"}, {"labels": {"path": "gone.parquet"}}):
        with pytest.raises(DatasetError, match=r"gone\.parquet"):
            evaluate(make_config(shop, evaluation=wrong), dataset, model, progress=False)
    with pytest.raises(ConfigError, match="unknown method 'bm26'"):
        evaluate(make_config(shop, evaluation={"baselines": ["bm26"]}), dataset, model, progress=False)
    pq.write_table(pa.table({"query": ["hat"], "department": ["garden"]}), shop / "other.parquet")
    with pytest.raises(DatasetError, match=r"there are: brand; found in the file: query, department"):
        evaluate(make_config(shop, evaluation={"senses": str(shop / "other.parquet")}), dataset, model, progress=False)


def test_an_unknown_split_is_an_error_that_names_the_splits(dataset: Dataset) -> None:
    with pytest.raises(ValueError, match="train, valid, test"):
        load_examples(dataset, "tset", max_examples=10, seed=1)


def test_an_empty_split_is_an_error_that_says_what_to_do(shop: Path, tmp_path: Path) -> None:
    config = make_config(shop, data={"valid_share": 0.0})
    config = config.model_copy(update={"work_dir": str(tmp_path / "run")})
    prepare(config, progress=False)
    dataset = Dataset.load(config.dataset_dir)
    with pytest.raises(DatasetError, match=r"split 'valid' .* data\.valid_share"):
        load_examples(dataset, "valid", max_examples=10, seed=1)
    # Without clicks to choose by, weights are defaults.
    suite = benchmark_suite(EvaluationConfig().baselines, dataset, KnownItems(ITEMS), seed=1)
    assert suite.weights == {"bm25+popularity": 0.2, "dpsr+bm25": 1.0, "dpsr+bm25 rrf": 1.0}


def test_baselines_are_as_strong_as_the_anchors_on_real_clicks(dpsr_data: Path, tmp_path: Path) -> None:
    source = dpsr_data / "bestbuy_xbox"
    data = {
        "items": {"path": str(source / "items.parquet")},
        "interactions": {
            "path": str(source / "clicks.parquet"),
            "columns": {"user_id": "user", "timestamp": "query_time"},
        },
        "valid_share": 0.0,
        "test_share": 0.1,
    }
    config = parse_config(
        {"name": "xbox", "work_dir": str(tmp_path), "data": data, "tokenizer": {"min_count": 1}}, "test"
    )
    prepare(config, progress=False)
    dataset = Dataset.load(config.dataset_dir)
    baselines = standard_baselines(dataset)
    examples = load_examples(dataset, "test", max_examples=10_000, seed=1)
    num_items = dataset.schema.num_items
    candidates = sample_candidates(examples.item_rows, num_items, 1024, seed=1)
    baselines = {name: baselines[name] for name in ("popularity", "bm25", "bm25+popularity", "memory")}
    measured = measure_all(baselines, examples, candidates, counts=np.zeros(num_items, dtype=int))
    found = {
        (retriever, name): values.mean() for retriever in baselines for name, values in measured[retriever].items()
    }
    assert found["popularity", "MAP@5"] == pytest.approx(0.087, abs=0.01)
    assert found["popularity", "Hit@10"] == pytest.approx(0.423, abs=0.02)
    assert found["bm25", "MAP@5"] >= 0.51
    assert found["bm25", "Hit@10"] >= 0.75
    assert found["bm25+popularity", "MAP@5"] >= 0.543
    assert found["memory", "MAP@5"] >= 0.745
    assert found["memory", "Hit@10"] >= 0.92
