"""BM25 tuned by clicks: the search against plain NumPy, what wins over what, one list offline and in the servable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from click.testing import CliRunner

from dpsr.baselines.bm25 import BM25Retriever
from dpsr.baselines.examples import anonymous_examples
from dpsr.cli import main
from dpsr.config import Config, ConfigError, LexicalConfig, parse_config
from dpsr.data.dataset.schema import INTERACTION, DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.evaluation.compare.benchmark_suite import benchmark_suite
from dpsr.indexing.catalogue import ItemRows
from dpsr.indexing.errors import ExportError
from dpsr.indexing.lexical.build import ItemTerms
from dpsr.indexing.lexical.tuned import TUNED_FILE, with_tuned
from dpsr.indexing.lexical.tuning import POPULARITY_GRID, open_grids, tune_lexical, tune_run
from dpsr.indexing.lexical_export import export_lexical
from dpsr.indexing.manifest import read_manifest
from dpsr.indexing.publish import export
from dpsr.indexing.valid_clicks import ValidClicks
from dpsr.model.two_tower import TwoTower
from dpsr.tokenizer_cc import Tokenizer
from dpsr.tokenizer_cc.terms import analyze

WORDS = ["red", "green", "blue", "shoe", "lamp", "phone", "case", "milk", "sugar", "chair", "sofa", "table"]
ITEMS, CLICKS = 150, 1500


def titles_and_notes(rng: np.random.Generator, items: int) -> tuple[list[str], list[str]]:
    def texts(least: int, most: int) -> list[str]:
        return [" ".join(rng.choice(WORDS, rng.integers(least, most))) for _ in range(items)]

    return texts(1, 4), texts(0, 12)


def oracle(fields: dict[str, list[str]], query: str, values: dict[str, float], clicks: np.ndarray) -> np.ndarray:
    """BM25 over weighted fields with the prior of popularity, float64 [items]."""
    items = len(clicks)
    weight = {column: values.get(f"weights.{column}", 1.0) for column in fields}
    terms = {column: [analyze(text) for text in texts] for column, texts in fields.items()}
    lengths = sum(weight[column] * np.array([len(each) for each in terms[column]], float) for column in fields)
    lengths = np.asarray(lengths)
    scores = np.zeros(items)
    for term in analyze(query):
        found = sum(weight[column] * np.array([each.count(term) for each in terms[column]], float) for column in fields)
        frequency = np.count_nonzero(found)
        idf = np.log(1 + (items - frequency + 0.5) / (frequency + 0.5))
        divisor = found + values["k1"] * (1 - values["b"] + values["b"] * lengths / lengths.mean())
        scores += idf * np.divide(found, divisor, out=np.zeros(items), where=np.asarray(found) > 0)
    return np.where(scores > 0, scores + values["popularity"] * np.log1p(clicks), 0.0)


def mean_ndcg(
    fields: dict[str, list[str]], values: dict[str, float], of_clicks: ValidClicks, clicks: np.ndarray
) -> float:
    gains = []
    for text, row in zip(of_clicks.texts, of_clicks.rows.tolist(), strict=True):
        scores = oracle(fields, text, values, clicks)
        near = np.abs(scores - scores[row]) <= 1e-5 * max(scores[row], 1e-9)
        rank = np.count_nonzero((scores > scores[row]) & ~near) + 0.5 * (np.count_nonzero(near) + 1)
        gains.append(1 / np.log2(1 + rank) if scores[row] > 0 else 0.0)
    return float(np.mean(gains))


@pytest.mark.parametrize("seed", range(4))
def test_no_single_change_beats_what_is_chosen(seed: int) -> None:
    rng = np.random.default_rng(seed)
    titles, notes = titles_and_notes(rng, 60)
    fields = {"title": titles, "notes": notes}
    items = ItemRows(np.arange(60), pa.table(fields))
    counts = rng.integers(0, 50, 60)
    rows = np.minimum(rng.geometric(0.1, 40) - 1, 59).astype(np.int32)
    texts = [" ".join(rng.choice(titles[row].split() or ["red"], 2)) for row in rows]
    clicks = ValidClicks(np.zeros(40, INTERACTION), texts, rows)
    lexical = LexicalConfig(b=0.5)
    grids = {"k1": (0.2, 1.2), "popularity": (0.0, 0.1, 1.0), "weights.notes": (0.25, 1.0, 4.0)}
    values, ndcg = tune_lexical(ItemTerms.of(items, ("title", "notes"), bigrams=False), lexical, grids, clicks, counts)
    assert values.keys() == grids.keys()
    assert all(values[name] in grid for name, grid in grids.items())
    start = {"k1": 1.2, "b": 0.5, "popularity": 0.0, "weights.notes": 1.0}
    assert ndcg["before"] == pytest.approx(mean_ndcg(fields, start, clicks, counts), abs=1e-6)
    best = mean_ndcg(fields, {**start, **values}, clicks, counts)
    assert ndcg["after"] == pytest.approx(best, abs=1e-6)
    assert ndcg["after"] >= ndcg["before"]
    for name, grid in grids.items():
        for tried in grid:
            assert mean_ndcg(fields, {**start, **values, name: tried}, clicks, counts) <= best + 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_rows_without_an_item_change_no_score(seed: int) -> None:
    rng = np.random.default_rng(seed)
    titles, _ = titles_and_notes(rng, 80)
    clicks, removed = rng.integers(0, 9, 80), np.flatnonzero(rng.random(80) < 0.3).astype(np.int32)
    kept = np.delete(np.arange(80), removed)
    given = [None if row in removed else title for row, title in enumerate(titles)]
    lexical = LexicalConfig(popularity=0.5)
    sparse = ItemRows(np.arange(80), pa.table({"title": pa.array(given, pa.string())}), removed=removed)
    whole = ItemRows(kept, pa.table({"title": [titles[row] for row in kept]}))
    asked = anonymous_examples(np.array([*WORDS, "red shoe"], object), seed=1)
    found = BM25Retriever(ItemTerms.of(sparse, ("title",), bigrams=False), lexical, clicks).score_all(asked)
    expected = BM25Retriever(ItemTerms.of(whole, ("title",), bigrams=False), lexical, clicks[kept]).score_all(asked)
    np.testing.assert_array_equal(found[:, kept], expected)
    assert not found[:, removed].any()


def test_what_the_configuration_has_is_not_tried() -> None:
    columns = ("title", "notes", "brand")
    assert open_grids(LexicalConfig(), columns).keys() == {"k1", "b", "popularity", "weights.notes", "weights.brand"}
    assert open_grids(LexicalConfig(), ("title",)).keys() == {"k1", "b", "popularity"}
    given = LexicalConfig(k1=1.2, popularity=0.0, weights={"notes": 2.0})
    assert open_grids(given, columns).keys() == {"b", "weights.title", "weights.brand"}


def make_config(folder: Path, **lexical: Any) -> Config:
    tree = {
        "name": "shop",
        "work_dir": str(folder / "run"),
        "data": {
            "items": {"path": str(folder / "items.parquet"), "text": ["title", "notes"]},
            "interactions": {"path": str(folder / "interactions.parquet")},
            "valid_share": 0.2,
            "test_share": 0.1,
        },
        "tokenizer": {"min_count": 1},
        "index": {"mode": "lexical", "k": 25, "lexical": lexical},
    }
    return parse_config(tree, "tests")


@pytest.fixture
def run(tmp_path: Path) -> tuple[Config, Dataset]:
    """Clicks go to items with the words of the query in their title, the more popular the likelier."""
    rng = np.random.default_rng(5)
    titles, notes = titles_and_notes(rng, ITEMS)
    popularity = rng.permutation(ITEMS) ** 2.0
    queries, clicked = [], []
    for query in rng.choice(WORDS, CLICKS):
        weights = popularity * np.array([query in title.split() for title in titles])
        queries.append(query if len(query) < 5 or rng.random() < 0.9 else query[:2] + query[3:])
        clicked.append(rng.choice(ITEMS, p=weights / weights.sum()))
    items = {"item_id": [f"i{row}" for row in range(ITEMS)], "title": titles, "notes": notes}
    log = {"query": queries, "item_id": [f"i{row}" for row in clicked], "timestamp": list(range(CLICKS))}
    pq.write_table(pa.table(items), tmp_path / "items.parquet")
    pq.write_table(pa.table(log), tmp_path / "interactions.parquet")
    config = make_config(tmp_path)
    prepare(config, progress=False)
    return config, Dataset.load(config.dataset_dir)


def test_what_is_tuned_is_served_unless_the_configuration_says_otherwise(
    run: tuple[Config, Dataset], tmp_path: Path
) -> None:
    config, dataset = run
    assert with_tuned(config) is config
    tuned = tune_run(config, dataset, progress=False)
    assert tuned.ndcg["after"] > tuned.ndcg["before"]
    assert tuned.lexical["popularity"] > 0
    assert tuned.lexical["weights"]["notes"] < 1  # the words of queries are those of titles
    again = tune_run(config, dataset, progress=False)
    assert again == tuned
    lexical = with_tuned(config).index.lexical
    assert lexical == LexicalConfig(**tuned.lexical)
    version = export_lexical(config, dataset, progress=False)
    manifest = read_manifest(version)
    assert {name: manifest["searchers"]["lexical"][name] for name in tuned.lexical} == tuned.lexical
    assert manifest["config"]["index"]["lexical"]["popularity"] == tuned.lexical["popularity"]
    explicit = with_tuned(make_config(tmp_path, k1=1.2, popularity=0.0, weights={"notes": 3.0})).index.lexical
    assert (explicit.k1, explicit.popularity, explicit.weights) == (1.2, 0.0, {"notes": 3.0})
    assert explicit.b == tuned.lexical["b"]


@pytest.mark.parametrize(
    "lexical",
    [{}, {"k1": 0.4, "b": 0.3, "weights": {"title": 2.0}}, {"bigrams": True}, {"popularity": 0.7}],
    ids=["defaults", "weights", "bigrams", "popularity"],
)
def test_bm25_gives_the_lists_of_the_servable(
    run: tuple[Config, Dataset], tmp_path: Path, lexical: dict[str, Any]
) -> None:
    dataset, config = run[1], make_config(tmp_path, **lexical)
    version = export_lexical(config, dataset, progress=False)
    texts = [
        *WORDS,
        "red shoe",
        "shose",
        "gren lamp chair",
        "milk suger",
        "zzz",
        "",
        "Tables",
        *dataset.item_table()["title"].to_pylist()[:20],
    ]
    loaded = tf.saved_model.load(str(version))
    answer = loaded.signatures["serving_default"](query=tf.constant(texts), mode=tf.constant([""]))
    ids, scores = answer["item_id"].numpy(), answer["score"].numpy()
    k = ids.shape[1]
    suite = benchmark_suite(["bm25+popularity"], dataset, seed=1, progress=False, lexical=config.index.lexical)
    bm25 = suite.methods["bm25+popularity" if "popularity" in lexical else "bm25"]
    assert isinstance(bm25, BM25Retriever)
    rows, expected = bm25.retrieve(anonymous_examples(np.array(texts, object), seed=1), k)
    np.testing.assert_array_equal(np.where(rows >= 0, expected, 0), np.where(ids != b"", scores, 0))
    row_of = {item.encode(): row for row, item in enumerate(dataset.item_ids.tolist())}
    for offline, served, of_query in zip(rows, ids, expected, strict=True):
        least = of_query[-1]  # of equal scores either may be the last
        assert {row for row, score in zip(offline, of_query, strict=True) if row >= 0 and score > least} == {
            row_of[item] for item, score in zip(served, of_query, strict=True) if item and score > least
        }
    loaded.release()


def test_a_hybrid_servable_has_what_was_tuned(run: tuple[Config, Dataset]) -> None:
    dataset = run[1]
    index = run[0].index.model_copy(update={"mode": "hybrid", "fusion": "weighted_sum", "dense_weight": 1.0})
    config = run[0].model_copy(update={"index": index})
    tuned = tune_run(config, dataset, progress=False)
    model = TwoTower(config.model, dataset.schema, seed=3, tokenizer=Tokenizer.load(dataset.tokenizer_path))
    version = export(config, dataset, model, progress=False)
    assert read_manifest(version)["searchers"]["lexical"]["popularity"] == tuned.lexical["popularity"]
    loaded = tf.saved_model.load(str(version))
    answer = loaded.signatures["serving_default"](query=tf.constant(WORDS), mode=tf.constant(["lexical"]))
    bm25 = BM25Retriever(
        ItemTerms.of(ItemRows.of_dataset(dataset), dataset.schema.text, bigrams=False),
        LexicalConfig(**tuned.lexical),
        dataset.clicks_per_item("train"),
    )
    _, expected = bm25.retrieve(anonymous_examples(np.array(WORDS, object), seed=1), answer["score"].shape[1])
    np.testing.assert_array_equal(answer["score"].numpy(), expected)
    loaded.release()
    dense = config.model_copy(update={"index": index.model_copy(update={"mode": "dense"})})
    version = export(dense, dataset, model, progress=False)
    assert read_manifest(version)["config"]["index"]["lexical"]["popularity"] == 0.0


def test_the_baseline_chooses_its_popularity_as_the_servable_does(run: tuple[Config, Dataset]) -> None:
    config, dataset = run
    suite = benchmark_suite(["bm25+popularity"], dataset, seed=config.training.seed, progress=False)
    assert suite.weights["bm25+popularity"] in POPULARITY_GRID[1:]
    tuned = benchmark_suite(
        ["bm25+popularity"], dataset, seed=1, progress=False, lexical=LexicalConfig(popularity=0.123)
    )
    assert tuned.weights["bm25+popularity"] == 0.123


def test_commands_tune_evaluate_and_export_without_a_model(run: tuple[Config, Dataset], tmp_path: Path) -> None:
    folder = tmp_path
    file = tmp_path / "shop.toml"
    file.write_text(
        f"""name = "shop"
work_dir = "{folder}/run"
[data]
items = {{ path = "{folder}/items.parquet", text = ["title", "notes"] }}
interactions = {{ path = "{folder}/interactions.parquet" }}
valid_share = 0.2
test_share = 0.1
[tokenizer]
min_count = 1
[index]
mode = "lexical"
k = 25
lexical.b = 0.5
[evaluation]
max_examples = 50
baselines = ["bm25", "bm25+popularity"]
"""
    )
    done = CliRunner().invoke(main, ["evaluate", "-c", str(file), "--tune"])
    assert done.exit_code == 0, done.output
    line = done.output[done.output.index("tuned BM25: ") :].splitlines()[0]
    assert " b = " not in line
    assert "notes = " in line
    tuned = json.loads((folder / "run" / TUNED_FILE).read_text())["lexical"]
    assert f"bm25+popularity {tuned['popularity']:g}" in done.output
    assert f"bm25: k1 = {tuned['k1']:g}, b = 0.5, notes = " in done.output
    assert "dpsr+bm25" not in done.output
    done = CliRunner().invoke(main, ["export", "-c", str(file)])
    assert done.exit_code == 0, done.output
    assert f"words: BM25 with k1 = {tuned['k1']:g}, b = 0.5, notes = {tuned['weights']['notes']:g}" in done.output
    done = CliRunner().invoke(main, ["evaluate", "-c", str(file), "--report", str(tmp_path / "report.html")])
    assert done.exit_code == 2
    assert "--report = " in done.output
    assert "shows the vectors of a model" in done.output


def test_without_clicks_to_choose_by_it_is_said(run: tuple[Config, Dataset], tmp_path: Path) -> None:
    config = run[0].model_copy(
        update={"data": run[0].data.model_copy(update={"valid_share": 0.0}), "work_dir": str(tmp_path / "other")}
    )
    prepare(config, progress=False)
    with pytest.raises(DatasetError, match=r"the valid split has no click, .* raise data\.valid_share"):
        tune_run(config, Dataset.load(config.dataset_dir), progress=False)
    assert not (Path(config.work_dir) / TUNED_FILE).exists()


def test_a_popularity_without_clicks_is_an_error(run: tuple[Config, Dataset], tmp_path: Path) -> None:
    config, dataset = make_config(tmp_path, popularity=0.3), run[1]
    new = {"item_id": ["n1", "n2"], "title": ["red shoe", "blue lamp"], "notes": ["", ""]}
    pq.write_table(pa.table(new), tmp_path / "new.parquet")
    with pytest.raises(
        ExportError, match=r"index\.lexical\.popularity = 0\.3, and no item of the catalogue was clicked"
    ):
        export_lexical(config, dataset, items=str(tmp_path / "new.parquet"), progress=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not what `dpsr evaluate --tune` writes"),
        ("[]", "not what `dpsr evaluate --tune` writes"),
        ({"k1": -1.0}, r"not what `dpsr evaluate --tune` writes .*k1"),
        ({"k2": 1.0}, r"not what `dpsr evaluate --tune` writes .*k2"),
        (
            ["title"],
            "tuned for data.items.text = title and index.lexical.bigrams = false, and the run has .*title, notes",
        ),
    ],
    ids=["no JSON", "no object", "out of range", "unknown", "other columns"],
)
def test_a_file_that_does_not_fit_is_an_error(tmp_path: Path, content: Any, message: str) -> None:
    config = make_config(tmp_path)
    tree = {"lexical": {}, "clicks": 3, "ndcg": {}, "text": ["title", "notes"], "bigrams": False}
    if isinstance(content, dict):
        content = json.dumps({**tree, "lexical": content})
    elif isinstance(content, list):
        content = json.dumps({**tree, "text": content})
    path = Path(config.work_dir) / TUNED_FILE
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(ConfigError, match=f"(?s){message}.*run `dpsr evaluate --tune` again, or remove the file"):
        with_tuned(config)
