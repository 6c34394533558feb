"""Servables of words alone, against BM25 by its formula; what they lack, and what a dense servable lacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from click.testing import CliRunner

from dpsr.cli import main
from dpsr.cli.search import search
from dpsr.config import ConfigError, ServingConfig, parse_config
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.indexing.errors import ExportError
from dpsr.indexing.lexical.tuning import tune_run
from dpsr.indexing.lexical_export import export_lexical
from dpsr.indexing.manifest import read_manifest, searcher_table
from dpsr.indexing.publish import export
from dpsr.serving.client import PredictClient
from dpsr.serving.errors import ServingError
from dpsr.serving.manager.model_config import ServedModel
from dpsr.serving.server import ModelServer
from dpsr.tokenizer_cc import Tokenizer
from dpsr.tokenizer_cc.terms import analyze
from dpsr.training.trainer import train

from .conftest import ITEMS, K, Shop, make_shop

QUERIES = ["red shoe", "手机 case", "", "naïve 4.5 kg lamp", "chairs", "qqqq"]
K1, B = 0.9, 0.4
LEXICAL = {"mode": "lexical", "lexical": {"k1": K1, "b": B}, "filter_range": ["price"]}


@pytest.fixture(scope="module", params=["string", "int64"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return make_shop(
        tmp_path_factory.mktemp("words"), item_id_type=request.param, categorical=["brand", "price"], index=LEXICAL
    )


@pytest.fixture(scope="module")
def version(shop: Shop) -> Path:
    return export_lexical(shop.config, shop.dataset, progress=False)


@pytest.fixture(scope="module")
def target(version: Path) -> Iterator[str]:
    server = ModelServer([ServedModel("shop", version.parent)], ServingConfig(port=0, rest_port=-1))
    yield f"localhost:{server.start()}"
    server.stop()


@pytest.fixture(scope="module")
def client(target: str) -> Iterator[PredictClient]:
    with PredictClient(target) as client:
        yield client


def bm25(titles: list[str], query: str) -> np.ndarray:
    """BM25 of every title by its formula, float64 [items]."""
    documents = [analyze(title) for title in titles]
    average = np.mean([len(document) for document in documents])
    scores = np.zeros(len(documents))
    for term in analyze(query):
        frequency = sum(term in document for document in documents)
        idf = np.log(1 + (len(documents) - frequency + 0.5) / (frequency + 0.5))
        for item, document in enumerate(documents):
            count = document.count(term)
            scores[item] += idf * count / (count + K1 * (1 - B + B * len(document) / average))
    return scores


def check_answer(answer: dict[str, np.ndarray], ids: list, scores: np.ndarray, allowed: np.ndarray) -> None:
    """The answer has the best of the allowed items, by their scores, float64 [queries, items]."""
    none: Any = -1 if isinstance(ids[0], int) else b""
    row_of = {item if isinstance(item, int) else item.encode(): row for row, item in enumerate(ids)}
    for row, of_query in enumerate(np.where(allowed, scores, 0.0)):
        found = answer["item_id"][row]
        expected = np.sort(of_query)[::-1][: answer["item_id"].shape[1]]
        count = np.count_nonzero(expected)
        rows = [row_of[item] for item in found[:count].tolist()]
        assert len(set(rows)) == count
        np.testing.assert_allclose(of_query[rows], expected[:count], rtol=1e-5)
        np.testing.assert_allclose(answer["score"][row, :count], expected[:count], rtol=1e-5)
        assert (found[count:] == none).all()
        assert answer["source"][row].tolist() == [2] * count + [0] * (len(found) - count)
        assert (answer["head"][row] == -1).all()
        if "shortfall" in answer:
            assert answer["shortfall"][row] == len(found) - count


def test_every_signature_answers_by_words(shop: Shop, client: PredictClient) -> None:
    table = shop.dataset.item_table()
    ids, titles = shop.dataset.item_ids.tolist(), table.column("title").to_pylist()
    scores = np.stack([bm25(titles, query) for query in QUERIES])
    everything = np.ones(ITEMS, bool)
    for mode in ({}, {"mode": [""]}, {"mode": ["lexical"]}):
        check_answer(client.predict("shop", {"query": QUERIES, **mode}), ids, scores, everything)
    history = np.array([ids[:3]] * len(QUERIES), np.int64 if isinstance(ids[0], int) else object)
    user = {"age": ["18-25"] * len(QUERIES), "home_city": ["Wien"] * len(QUERIES), "history": history}
    check_answer(client.predict("shop", {"query": QUERIES, **user}, signature="personalized"), ids, scores, everything)
    acme = np.array([brand == "Acme" for brand in table.column("brand").to_pylist()])
    cheap = np.array([price is not None and price <= 20 for price in table.column("price").to_pylist()])
    filters = {"filter_brand": ["Acme"], "filter_max_price": [20.0]}
    assert 0 < np.count_nonzero(acme & cheap) < K < np.count_nonzero(acme)
    for signature, more in (("filtered", {}), ("personalized", user)):
        answer = client.predict("shop", {"query": QUERIES, **more, **filters}, signature=signature)
        check_answer(answer, ids, scores, acme & cheap)
    check_answer(
        client.predict("shop", {"query": QUERIES, "filter_brand": ["Acme"]}, signature="filtered"), ids, scores, acme
    )


def test_a_misspelt_word_is_corrected(shop: Shop, client: PredictClient) -> None:
    answer = client.predict("shop", {"query": ["milk sugr"]})
    title_of = dict(
        zip(shop.dataset.item_ids.tolist(), shop.dataset.item_table().column("title").to_pylist(), strict=True)
    )
    best = answer["item_id"][0, 0]
    assert {"milk", "sugar"} <= set(title_of[best.decode() if isinstance(best, bytes) else int(best)].split())


def test_tokens_are_those_of_the_dataset(shop: Shop, client: PredictClient) -> None:
    answer = client.predict("shop", {"query": QUERIES}, signature="tokenize")
    values, row_splits = Tokenizer.load(shop.dataset.tokenizer_path).encode_batch(QUERIES)
    assert answer["values"].tolist() == values.tolist()
    assert answer["row_splits"].tolist() == row_splits.tolist()


def test_what_only_vectors_can_answer_is_an_error(shop: Shop, client: PredictClient, target: str) -> None:
    for wrong in ("dense", "hybrid", "memory"):
        with pytest.raises(ServingError, match="input mode has to be one of lexical"):
            client.predict("shop", {"query": ["red shoe"], "mode": [wrong]})
    with pytest.raises(ServingError, match="embed_query"):
        client.predict("shop", {"query": ["red shoe"]}, signature="embed_query")
    lines = search(shop.config, ["red shoe"], target=target, count=3, mode="lexical").splitlines()
    assert all(" lexical " in line for line in lines[3:])
    assert search(shop.config, ["red shoe"], target=target, count=3, mode="compare").splitlines()[1].split() == [
        "lexical"
    ]
    with pytest.raises(ServingError, match="input mode has to be one of lexical"):
        search(shop.config, ["red shoe"], target=target, count=3, mode="dense")


def saved_state(version: Path) -> tuple[set[str], set[str], list[str]]:
    """The operations of a servable, the shapes of its variables by key, and its assets."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    graph = SavedModel.FromString((version / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    keys = {f"{key} {shape}" for key, shape in tf.train.list_variables(str(version / "variables/variables"))}
    return {node.op for node in nodes}, keys, sorted(path.name for path in (version / "assets").iterdir())


def test_each_side_leaves_no_trace_in_a_servable_of_the_other(shop: Shop, version: Path, tmp_path: Path) -> None:
    operations, keys, assets = saved_state(version)
    assert not {name for name in operations if "Scann" in name or "MatMul" in name or "head" in name.lower()}
    assert not {key for key in keys if "tower" in key or "embedding" in key or f"{ITEMS}, 16" in key}
    assert {name for name in operations if "Bm25" in name} == {"DpsrBm25Search", "DpsrBm25Score"}
    assert assets == ["terms.model", "tokenizer.model"]
    manifest = read_manifest(version)
    assert manifest["searchers"].keys() == {"lexical"}
    assert not {"dimension", "heads", "fusion"} & manifest.keys()
    assert [line.split()[0] for line in searcher_table(version).splitlines()[2:]] == ["lexical"]
    assert not (version / "assets.extra/items.arrow").exists()

    index = shop.config.index.model_copy(update={"mode": "dense"})
    config = shop.config.model_copy(update={"index": index, "work_dir": str(tmp_path)})
    dense = export(config, shop.dataset, shop.model, progress=False)
    operations, keys, assets = saved_state(dense)
    assert not {name for name in operations if "Bm25" in name or "Term" in name}
    assert not {key for key in keys if "lexical" in key or "postings" in key}
    assert assets == ["tokenizer.model"]
    assert read_manifest(dense)["searchers"].keys() == {"dense"}


def test_the_memory_joins_words(tmp_path: Path) -> None:
    shop = make_shop(tmp_path, index={"mode": "lexical", "memory": {}})
    version = export_lexical(shop.config, shop.dataset, progress=False)
    memory = read_manifest(version)["memory"]
    assert memory["clicks"] > 0
    assert memory["ndcg"].keys() == {"without", "memory"}
    server = ModelServer([ServedModel("shop", version.parent)], ServingConfig(port=0, rest_port=-1))
    try:
        log = pq.read_table(tmp_path / "interactions.parquet").to_pylist()
        with PredictClient(f"localhost:{server.start()}") as client:
            answer = client.predict("shop", {"query": [log[-1]["query"]], "mode": ["memory"]})
            alone = client.predict("shop", {"query": [log[-1]["query"]], "mode": ["lexical"]})
            never = client.predict("shop", {"query": ["chair chair lamp"], "mode": ["memory"]})
            words = client.predict("shop", {"query": ["chair chair lamp"], "mode": ["lexical"]})
    finally:
        server.stop()
    clicked = {row["item_id"].encode() for row in log if row["query"] == log[-1]["query"] and row["event"] != "skip"}
    remembered = answer["item_id"][0][answer["source"][0] & 4 > 0].tolist()
    assert set(remembered) <= clicked
    assert len(remembered) == min(K, len(clicked))
    assert set(np.unique(answer["source"])) <= {2, 4, 6}
    assert set(np.unique(alone["source"])) == {2}
    assert never["item_id"].tolist() == words["item_id"].tolist()


def test_items_of_a_file_are_served_with_today_s_words(shop: Shop, tmp_path: Path) -> None:
    ids = shop.dataset.item_ids[:2].tolist()
    today = {
        "item_id": ids,
        "title": ["violet sofa", "violet violet table"],
        "brand": ["Acme"] * 2,
        "price": [1.0, 2.0],
    }
    pq.write_table(pa.table(today), tmp_path / "today.parquet")
    config = shop.config.model_copy(update={"work_dir": str(tmp_path)})
    version = export_lexical(config, shop.dataset, items=str(tmp_path / "today.parquet"), progress=False)
    loaded = tf.saved_model.load(str(version))
    answer = loaded.signatures["serving_default"](query=tf.constant(["violet", "red"]), mode=tf.constant([""]))
    found = [item.decode() if isinstance(item, bytes) else item for item in answer["item_id"][0].numpy().tolist()]
    assert found == ids[::-1]
    assert (answer["source"][1].numpy() == 0).all()
    loaded.release()


def test_a_version_of_words_is_no_start_for_another(shop: Shop, version: Path) -> None:
    with pytest.raises(ExportError, match=r"embeds nothing, so that there is nothing to take over; .* without --since"):
        export_lexical(shop.config, shop.dataset, since="latest", progress=False)
    index = shop.config.index.model_copy(update={"mode": "hybrid"})
    with pytest.raises(ExportError, match=r"answers by words alone .* no vectors to take over; .* without --since"):
        export(shop.config.model_copy(update={"index": index}), shop.dataset, shop.model, since="1", progress=False)
    with pytest.raises(ExportError, match=r'index\.mode = "lexical" serves no model'):
        export(shop.config, shop.dataset, shop.model, progress=False)
    with pytest.raises(ExportError, match=r"log week\.parquet was given, but nothing remembers its clicks"):
        export_lexical(shop.config, shop.dataset, log="week.parquet", progress=False)


def test_the_command_needs_no_model(tmp_path: Path) -> None:
    shop = make_shop(tmp_path)
    assert not shop.config.checkpoint_dir.exists()
    file = tmp_path / "shop.toml"
    file.write_text(
        f"""name = "shop"
work_dir = "{shop.config.work_dir}"
data.items = {{ path = "{tmp_path}/items.parquet", categorical = ["brand"] }}
data.users = {{ path = "{tmp_path}/users.parquet", profile = ["age", "home city"] }}
data.interactions.path = "{tmp_path}/interactions.parquet"
tokenizer = {{ min_count = 1, oov_buckets = 50 }}
index = {{ mode = "lexical", k = {K} }}
"""
    )
    done = CliRunner().invoke(main, ["export", "-c", str(file)])
    assert done.exit_code == 0, done.output
    assert f"servable: {shop.config.model_base_path / '1'}" in done.output


def test_a_catalogue_without_words_is_an_error(shop: Shop, tmp_path: Path) -> None:
    ids = shop.dataset.item_ids[:2].tolist()
    today = {"item_id": ids, "title": ["?!", "..."], "brand": ["Acme"] * 2, "price": [1.0, 2.0]}
    pq.write_table(pa.table(today), tmp_path / "today.parquet")
    config = shop.config.model_copy(update={"work_dir": str(tmp_path)})
    with pytest.raises(ExportError, match=r"no item has a word in title, and index\.mode finds items by words"):
        export_lexical(config, shop.dataset, items=str(tmp_path / "today.parquet"), progress=False)
    assert list(config.model_base_path.iterdir()) == []


def test_a_catalogue_alone_is_enough(tmp_path: Path) -> None:
    titles = ["red shoe", "blue shoe", "green lamp", "red lamp", "steel sink", "wooden chair"] * 5
    pq.write_table(pa.table({"item_id": list(range(30)), "title": titles}), tmp_path / "items.parquet")
    tree = {
        "name": "shop",
        "work_dir": str(tmp_path / "work"),
        "data": {"items": {"path": str(tmp_path / "items.parquet")}},
        "index": {"mode": "lexical"},
    }
    config = parse_config(tree, "tests")
    prepare(config, progress=False)
    dataset = Dataset.load(config.dataset_dir)
    version = export_lexical(config, dataset, progress=False)
    loaded = tf.saved_model.load(str(version))
    answer = loaded.signatures["serving_default"](query=tf.constant(["sinks"]), mode=tf.constant([""]))
    assert {titles[item] for item in answer["item_id"][0].numpy().tolist() if item >= 0} == {"steel sink"}
    loaded.release()
    with pytest.raises(ConfigError, match=r'index\.mode = "lexical" serves no model, so there is nothing to train'):
        train(config, dataset, progress=False)
    with pytest.raises(
        DatasetError, match="the valid split has no click, and --tune chooses by its clicks; give the run a log"
    ):
        tune_run(config, dataset, progress=False)
    with pytest.raises(ConfigError, match=r"training\.epochs = .* learns from a log"):
        parse_config({**tree, "index": {"mode": "hybrid"}}, "tests")
