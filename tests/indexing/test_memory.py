"""The memory searcher: counts against a dictionary, and answers against the formula, through export and server."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from dpsr.cli.search import search
from dpsr.config import MemoryConfig, ServingConfig
from dpsr.data.dataset.schema import DatasetError
from dpsr.indexing.errors import ExportError
from dpsr.indexing.manifest import read_manifest
from dpsr.indexing.memory import clicks as clicks_module
from dpsr.indexing.memory.clicks import ClickBlock, Clicks, count_clicks
from dpsr.indexing.memory.searcher import ClickMemory
from dpsr.indexing.memory.tuning import Scored, recall, tune_memory
from dpsr.indexing.parity import ParityExamples, strings
from dpsr.indexing.publish import export
from dpsr.indexing.verify import VerificationError, _check_memory
from dpsr.serving.client import PredictClient
from dpsr.serving.manager.model_config import ServedModel
from dpsr.serving.server import ModelServer
from dpsr.tokenizer_cc.terms import query_keys

from .conftest import CLICKS, K, Shop, make_shop, ops_of

HALF_LIFE, WEIGHT, TEMPERATURE = 300.0, 1.5, 0.2
MODES = {"dense": ["dense", "memory"], "hybrid": ["dense", "lexical", "hybrid", "memory"]}


def decayed(age: float, half_life: float) -> float:
    return (1 + (2**0.5 - 1) * age / half_life) ** -2


@pytest.mark.parametrize("least_merged", [1, 50, 1 << 20])
def test_counts_are_those_of_a_dictionary(monkeypatch: pytest.MonkeyPatch, least_merged: int) -> None:
    monkeypatch.setattr(clicks_module, "_LEAST_MERGED", least_merged)
    rng = np.random.default_rng(least_merged)
    blocks = [
        ClickBlock(
            rng.integers(-5, 5, size).astype(np.int64),
            rng.integers(0, 6, size).astype(np.int32),
            rng.integers(0, 1000, size),
        )
        for size in rng.integers(0, 40, 12)
    ]
    half_lives = [10.0, 250.0, np.inf]
    found = count_clicks(blocks, half_lives, 1000)
    assert decayed(10.0, 10.0) == pytest.approx(0.5)
    for half_life, counted in zip(half_lives, found, strict=True):
        expected: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
        for block in blocks:
            for key, item, time in zip(*(part.tolist() for part in block), strict=True):
                expected[key][item] += decayed(1000 - time, half_life)
        assert counted.keys.tolist() == sorted(expected)
        for place, key in enumerate(counted.keys.tolist()):
            span = slice(counted.row_splits[place], counted.row_splits[place + 1])
            items, counts = counted.rows[span].tolist(), counted.counts[span]
            assert sorted(items) == sorted(expected[key])
            np.testing.assert_allclose(counts, [expected[key][item] for item in items], rtol=1e-5)
            assert np.all(np.diff(counts) <= 0)


def test_a_query_keeps_its_most_clicked_items() -> None:
    items = np.repeat(np.arange(300, dtype=np.int32), np.arange(300) % 7 + 1)
    block = ClickBlock(np.full(len(items), 9), items, np.zeros(len(items), np.int64))
    (counted,) = count_clicks([block], [np.inf], 0)
    assert counted.row_splits.tolist() == [0, 256]
    assert counted.counts.min() >= 2.0  # those that were clicked once are 43


def test_the_graph_recalls_what_the_clicks_hold() -> None:
    texts = ["red shoes", "lamp", "4.5 kg"]
    keys = query_keys(texts)
    order = np.argsort(keys)
    clicks = Clicks(keys[order], np.array([0, 1, 3, 6]), np.arange(6, dtype=np.int32), np.arange(6, 0, -1, np.float32))
    asked = ["RED-SHOE", "lamps", "lamp 2", "", "4.5kg", "\xff"]
    found = ClickMemory(clicks).recall(tf.constant(asked))
    of_text = {texts[number]: place for place, number in enumerate(order.tolist())}
    for row, text in enumerate(["red shoes", "lamp", None, None, "4.5 kg", None]):
        place = of_text.get(text, -1) if text else -1
        span = slice(clicks.row_splits[place], clicks.row_splits[place + 1]) if place >= 0 else slice(0, 0)
        held = found.rows[row].numpy() >= 0
        assert found.rows[row].numpy()[held].tolist() == clicks.rows[span].tolist()
        assert found.counts[row].numpy()[held].tolist() == clicks.counts[span].tolist()
        assert not found.counts[row].numpy()[~held].any()
    none = ClickMemory(clicks).recall(tf.constant(["nobody asked this"]))
    assert none.rows.numpy().tolist() == [[-1]]
    assert ClickMemory(clicks).recall(tf.constant([], tf.string)).rows.shape[0] == 0


def test_the_plan_is_the_one_that_ranks_the_clicked_items_first() -> None:
    """Two queries whose clicks have moved: the recent ones are right, and weigh more than a list that is wrong."""
    keys = np.sort(query_keys(["red", "blue"]))
    both = np.array([0, 2, 4])
    old = Clicks(keys, both, np.array([1, 2, 1, 2], np.int32), np.array([9, 3, 9, 3], np.float32))
    recent = Clicks(keys, both, np.array([2, 1, 2, 1], np.int32), np.array([2, 0.1, 2, 0.1], np.float32))
    recalled = recall({np.inf: old, 5.0: recent}, ["red", "blue", "green"])
    assert recalled.rows.tolist() == [[1, 2], [1, 2], [-1, -1]]
    listed = np.array([[0, 1, 3]] * 3, np.int32)
    scores = np.array([[0.9, 0.5, 0.1]] * 3, np.float32)
    tuned = tune_memory(Scored(listed, scores, np.array([[0.5, 0.3]] * 3)), recalled, np.array([2, 2, 0]))
    assert tuned.plan.half_life == 5.0
    assert tuned.ndcg == {"without": pytest.approx(1 / 3), "memory": pytest.approx(1.0)}
    assert tuned.helps
    given = tune_memory(Scored(listed, scores, np.array([[0.5, 0.3]] * 3)), recalled, np.array([2, 2, 0]), weight=100.0)
    assert given.plan.weight == 100.0


@pytest.fixture(scope="module", params=["dense", "hybrid"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    memory = {"half_life": HALF_LIFE, "weight": WEIGHT, "temperature": TEMPERATURE}
    index = {"mode": request.param, "fusion": "weighted_sum", "dense_weight": 2.0, "memory": memory}
    return make_shop(tmp_path_factory.mktemp("memory"), index=index)


@pytest.fixture(scope="module")
def version(shop: Shop) -> Path:
    return export(shop.config, shop.dataset, shop.model, progress=False)


@pytest.fixture(scope="module")
def server(version: Path) -> Iterator[int]:
    server = ModelServer([ServedModel("shop", version.parent)], ServingConfig(port=0, rest_port=-1))
    yield server.start()
    server.stop()


@pytest.fixture(scope="module")
def client(server: int) -> Iterator[PredictClient]:
    with PredictClient(f"localhost:{server}") as client:
        yield client


@pytest.fixture(scope="module")
def log(shop: Shop) -> dict[str, list]:
    assert shop.config.data.interactions
    return pq.read_table(shop.config.data.interactions.path).to_pydict()


def test_no_variable_is_copied_for_a_request(version: Path) -> None:
    assert "ResourceGather" not in ops_of(version)


def counts_of(log: dict[str, list], query: str) -> dict[bytes, float]:
    counts: dict[bytes, float] = defaultdict(float)
    for text, item, time in zip(log["query"], log["item_id"], log["timestamp"], strict=True):
        if text == query:
            counts[item.encode()] += decayed(max(log["timestamp"]) - time, HALF_LIFE)
    return counts


def test_the_score_is_the_logarithm_of_clicks_and_prior(
    shop: Shop, client: PredictClient, log: dict[str, list]
) -> None:
    queries = [log["query"][0], log["query"][1], "nobody asked this"]
    base = MODES[shop.config.index.mode][-2]
    everything = client.predict("shop", {"query": queries, "mode": [base]})
    answer = client.predict("shop", {"query": queries, "mode": ["memory"]})
    for row, query in enumerate(queries):
        clicks = counts_of(log, query)
        prior = dict(zip(everything["item_id"][row].tolist(), everything["score"][row].tolist(), strict=True))
        found = answer["item_id"][row].tolist()
        scores = dict(zip(found, answer["score"][row].tolist(), strict=True))
        sources = dict(zip(found, answer["source"][row].tolist(), strict=True))
        assert len(scores) == K
        assert (clicks.keys() & scores.keys()) == {item for item in found if sources[item] & 4}
        # The clicked items outside the list take part in the softmax, so only the order among unclicked ones is known.
        unclicked = [item for item in found if not sources[item] & 4]
        ordered = [item for item in prior if item not in clicks]
        assert unclicked == ordered[: len(unclicked)]
        if len(unclicked) > 1:
            first, last = unclicked[0], unclicked[-1]
            difference = (prior[first] - prior[last]) / TEMPERATURE
            assert scores[first] - scores[last] == pytest.approx(difference, rel=1e-3, abs=1e-3)
        for item in clicks.keys() & scores.keys() & prior.keys():
            if unclicked:
                share = np.exp(scores[unclicked[0]] + (prior[item] - prior[unclicked[0]]) / TEMPERATURE)
                assert scores[item] == pytest.approx(np.log(clicks[item] + share), abs=1e-3)
        assert np.all(np.diff(answer["score"][row]) <= 0)
    assert np.any(answer["source"] & 4)
    assert not np.any(answer["source"][2] & 4)


def test_a_request_may_do_without_the_memory(shop: Shop, client: PredictClient, log: dict[str, list]) -> None:
    modes = MODES[shop.config.index.mode]
    together = client.predict("shop", {"query": [log["query"][0]] * len(modes), "mode": modes})
    for row, mode in enumerate(modes):
        alone = client.predict("shop", {"query": [log["query"][0]], "mode": [mode]})
        assert together["item_id"][row].tolist() == alone["item_id"][0].tolist()
        np.testing.assert_allclose(together["score"][row], alone["score"][0], rtol=1e-5)
        assert mode == "memory" or not np.any(together["source"][row] & 4)
    default = client.predict("shop", {"query": [log["query"][0]]})
    assert default["item_id"].tolist() == together["item_id"][-1:].tolist()


def test_filters_hold_for_remembered_items(shop: Shop, client: PredictClient, log: dict[str, list]) -> None:
    brands = {item["item_id"].encode(): item["brand"] for item in shop.dataset.item_table().to_pylist()}
    queries = log["query"][:20]
    answer = client.predict("shop", {"query": queries, "filter_brand": ["Acme"]}, signature="filtered")
    found = answer["item_id"][answer["item_id"] != b""]
    assert {brands[item] for item in found.tolist()} == {"Acme"}
    assert np.any(answer["source"] & 4)


def test_the_manifest_and_the_command_know_the_memory(
    shop: Shop, version: Path, server: int, log: dict[str, list]
) -> None:
    memory = read_manifest(version)["memory"]
    assert memory["queries"] == len(set(query_keys(log["query"]).tolist()))
    assert (memory["half_life"], memory["default"]) == (HALF_LIFE, True)
    lines = search(shop.config, log["query"][:1], target=f"localhost:{server}", count=3, mode="compare").splitlines()
    assert lines[1].split() == MODES[shop.config.index.mode]
    table = search(shop.config, log["query"][:1], target=f"localhost:{server}", count=3)
    assert "memory" in table.splitlines()[3]


def test_another_log_is_remembered_in_place_of_the_runs_own(shop: Shop, tmp_path: Path) -> None:
    items = shop.dataset.item_ids.tolist()
    table = {"query": ["brand new"] * 3, "item_id": [items[0], items[0], "gone"], "timestamp": [5, 6, 7]}
    pq.write_table(pa.table(table), tmp_path / "week.parquet")
    config = shop.config.model_copy(update={"work_dir": str(tmp_path)})
    version = export(config, shop.dataset, shop.model, log=str(tmp_path / "week.parquet"), progress=False)
    memory = read_manifest(version)["memory"]
    assert (memory["queries"], memory["pairs"]) == (1, 1)
    loaded = tf.saved_model.load(str(version))
    answer = loaded.signatures["serving_default"](query=tf.constant(["brand-new"]), mode=tf.constant(["memory"]))
    assert answer["item_id"][0, 0].numpy().decode() == items[0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"query": ["lamp"], "item_id": ["gone"], "timestamp": ["5"]}, "no click on an item of the catalogue"),
        ({"query": ["lamp"], "item_id": [None], "timestamp": ["5"]}, "no click on an item of the catalogue"),
        ({"query": ["lamp"], "item_id": ["{item}"], "timestamp": ["2026-01-01"]}, "times are read as timestamp"),
        (
            {"query": ["lamp", None], "item_id": ["{item}"] * 2, "timestamp": ["5", "6"]},
            r"1 of 2 rows \(50.0%\) cannot be used",
        ),
        ({"query": ["lamp"]}, "item_id"),
    ],
)
def test_a_log_that_cannot_be_remembered_is_refused(
    shop: Shop, tmp_path: Path, columns: dict[str, list], message: str
) -> None:
    first = shop.dataset.item_ids.tolist()[0]
    filled = {name: [first if value == "{item}" else value for value in values] for name, values in columns.items()}
    table = pa.table({name: pa.array(values, pa.string()) for name, values in filled.items()})
    pq.write_table(table, tmp_path / "bad.parquet")
    config = shop.config.model_copy(update={"work_dir": str(tmp_path)})
    with pytest.raises((ExportError, DatasetError), match=message):
        export(config, shop.dataset, shop.model, log=str(tmp_path / "bad.parquet"), progress=False)
    assert not any(path.name.isdigit() for path in config.model_base_path.iterdir())


def test_a_log_without_a_memory_is_refused(string_shop: Shop) -> None:
    with pytest.raises(ExportError, match=r"nothing remembers its clicks; set index.memory"):
        export(string_shop.config, string_shop.dataset, string_shop.model, log="week.parquet", progress=False)


def test_a_log_that_is_not_there_is_named(shop: Shop, tmp_path: Path) -> None:
    config = shop.config.model_copy(update={"work_dir": str(tmp_path)})
    with pytest.raises(DatasetError, match=r"none.parquet: no such file .*; set --log"):
        export(config, shop.dataset, shop.model, log=str(tmp_path / "none.parquet"), progress=False)


def test_clicks_of_the_valid_split_choose_what_is_not_given(shop: Shop, tmp_path: Path) -> None:
    index = shop.config.index.model_copy(update={"memory": MemoryConfig(weight=3.0)})
    config = shop.config.model_copy(update={"work_dir": str(tmp_path), "index": index})
    memory = read_manifest(export(config, shop.dataset, shop.model, progress=False))["memory"]
    assert memory["weight"] == 3.0
    assert memory["clicks"] > 0
    ranks = memory["ndcg"]
    assert memory["default"] == (ranks["memory"] > ranks["without"])


def test_the_check_notices_what_nobody_clicked() -> None:
    examples = ParityExamples(
        item_ids=pa.array(["a", "b", "c"]),
        inputs={"query": strings(["red"])},
        heads=np.zeros((1, 1, 2), np.float32),
        remembered_rows=np.array([[1, -1]], np.int32),
    )
    _check_memory(
        {"item_id": np.array([[b"b", b"a"]], object), "score": np.zeros((1, 2)), "source": np.array([[5, 1]])}, examples
    )
    for sources in ([5, 5], [1, 1], [1, 4]):
        with pytest.raises(VerificationError, match="query 'red': with mode = memory the servable has item"):
            _check_memory(
                {"item_id": np.array([[b"b", b"a"]], object), "score": np.zeros((1, 2)), "source": np.array([sources])},
                examples,
            )


def test_a_log_that_has_changed_since_it_was_prepared_chooses_nothing(
    shop: Shop, tmp_path: Path, log: dict[str, list]
) -> None:
    later = {name: values[: -CLICKS // 8] for name, values in log.items()}
    pq.write_table(pa.table(later), tmp_path / "changed.parquet")
    interactions = shop.config.data.interactions
    assert interactions
    interactions = interactions.model_copy(update={"path": str(tmp_path / "changed.parquet")})
    data = shop.config.data.model_copy(update={"interactions": interactions})
    index = shop.config.index.model_copy(update={"memory": MemoryConfig()})
    config = shop.config.model_copy(update={"work_dir": str(tmp_path), "index": index, "data": data})
    with pytest.raises(ExportError, match=r"events of the time of the valid split, where the dataset has 100; run"):
        export(config, shop.dataset, shop.model, progress=False)
