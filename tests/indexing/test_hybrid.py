"""The hybrid servable: both searchers and their fusion, against brute force, through export, server and command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpsr.cli.search import search
from dpsr.config import ConfigError, ServingConfig
from dpsr.indexing.corpus import embed_items
from dpsr.indexing.errors import ExportError
from dpsr.indexing.fusion import FusionPlan
from dpsr.indexing.fusion_candidates import Candidates, fused_scores
from dpsr.indexing.fusion_tuning import TunedFusion
from dpsr.indexing.manifest import read_manifest, searcher_table
from dpsr.indexing.publish import export
from dpsr.indexing.query_weight import FEATURES, QueryWeight
from dpsr.indexing.verify import VerificationError, check_list
from dpsr.serving.client import PredictClient
from dpsr.serving.errors import ServingError
from dpsr.serving.manager.model_config import ServedModel
from dpsr.serving.server import ModelServer
from dpsr.tokenizer_cc.terms import TermTokenizer, analyze

from .conftest import ITEMS, K, Shop, make_shop, ops_of

QUERIES = ["red shoe", "手机 case", "", "naïve 4.5 kg lamp", "chairs", "qqqq", "milk sugr"]
K1, B = 1.2, 0.75
WEIGHT = 2.0


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    index = {"mode": "hybrid", "fusion": "weighted_sum", "dense_weight": WEIGHT, "filter_range": ["price"]}
    return make_shop(tmp_path_factory.mktemp("hybrid"), categorical=["brand", "price"], index=index)


@pytest.fixture(scope="module")
def version(shop: Shop) -> Path:
    return export(shop.config, shop.dataset, shop.model, progress=False)


@pytest.fixture(scope="module")
def server(shop: Shop, version: Path) -> Iterator[int]:
    server = ModelServer([ServedModel("shop", version.parent)], ServingConfig(port=0, rest_port=-1))
    yield server.start()
    server.stop()


@pytest.fixture(scope="module")
def client(server: int) -> Iterator[PredictClient]:
    with PredictClient(f"localhost:{server}") as client:
        yield client


@pytest.fixture(scope="module")
def dense(shop: Shop, client: PredictClient) -> np.ndarray:
    """float32 [queries, items], the best head's inner products."""
    heads = client.predict("shop", {"query": QUERIES}, signature="embed_query")["heads"]
    vectors = embed_items(shop.model, shop.dataset, progress=False)
    return np.einsum("bmd,nd->bmn", heads, vectors).max(axis=1)


@pytest.fixture(scope="module")
def lexical(shop: Shop) -> np.ndarray:
    """float64 [queries, items], BM25 by its formula; a misspelt word is left out."""
    documents = [analyze(title) for title in shop.dataset.item_table().column("title").to_pylist()]
    average = np.mean([len(document) for document in documents])
    scores = np.zeros((len(QUERIES), ITEMS))
    for row, query in enumerate(QUERIES):
        for term in analyze(query):
            frequency = sum(term in document for document in documents)
            idf = np.log(1 + (ITEMS - frequency + 0.5) / (frequency + 0.5))
            for item, document in enumerate(documents):
                count = document.count(term)
                scores[row, item] += idf * count / (count + K1 * (1 - B + B * len(document) / average))
    return scores


def item_rows(shop: Shop, answer: dict[str, np.ndarray]) -> np.ndarray:
    row_of = {item.encode(): row for row, item in enumerate(shop.dataset.item_ids.tolist())} | {b"": -1}
    return np.array([[row_of[item] for item in items] for items in answer["item_id"]])


SPELT = [row for row, query in enumerate(QUERIES) if query != "milk sugr"]


def test_each_mode_ranks_by_its_scores(
    shop: Shop, client: PredictClient, dense: np.ndarray, lexical: np.ndarray
) -> None:
    best = lexical.max(axis=1, keepdims=True)
    joined = lexical / np.where(best > 0, best, 1) + WEIGHT * dense
    lists: dict[str, list[np.ndarray]] = {}
    for mode, scores in (("dense", dense), ("lexical", lexical), ("hybrid", joined), ("", joined)):
        answer = client.predict("shop", {"query": QUERIES, "mode": [mode]})
        rows = item_rows(shop, answer)
        for query in SPELT:
            found = rows[query][rows[query] >= 0]
            expected = np.sort(scores[query][scores[query] > 0] if mode == "lexical" else scores[query])[::-1][:K]
            assert len(found) == len(np.unique(found)) == len(expected)
            np.testing.assert_allclose(answer["score"][query, : len(found)], scores[query, found], rtol=1e-4, atol=1e-5)
            if mode in ("dense", "lexical"):
                lists[mode] = [*lists.get(mode, []), found]
                np.testing.assert_allclose(scores[query, found], expected, rtol=1e-4, atol=1e-5)
            else:
                place = SPELT.index(query)
                union = np.union1d(lists["dense"][place], lists["lexical"][place])
                np.testing.assert_allclose(
                    np.sort(scores[query, found]), np.sort(scores[query, union])[-K:], rtol=1e-4, atol=1e-5
                )
            assert np.all(np.diff(answer["score"][query]) <= 0)


def test_sources_and_heads_say_who_found_an_item(shop: Shop, client: PredictClient) -> None:
    of_mode = {
        mode: client.predict("shop", {"query": QUERIES, "mode": [mode]}) for mode in ("dense", "lexical", "hybrid")
    }
    rows = {mode: item_rows(shop, answer) for mode, answer in of_mode.items()}
    assert set(of_mode["dense"]["source"].ravel().tolist()) == {1}
    assert set(of_mode["lexical"]["source"].ravel().tolist()) == {0, 2}
    assert (of_mode["lexical"]["head"] == -1).all()
    for query in range(len(QUERIES)):
        for place, row in enumerate(rows["hybrid"][query]):
            source = int(row in rows["dense"][query]) + 2 * int(row in rows["lexical"][query])
            assert of_mode["hybrid"]["source"][query, place] == source
            head = of_mode["hybrid"]["head"][query, place]
            if source & 1:
                assert head == of_mode["dense"]["head"][query, rows["dense"][query].tolist().index(row)]
            else:
                assert head == -1


def test_rows_of_a_request_may_ask_for_different_modes(client: PredictClient) -> None:
    modes = ["dense", "lexical", "hybrid"]
    together = client.predict("shop", {"query": ["red shoe"] * 3, "mode": modes})
    for row, mode in enumerate(modes):
        alone = client.predict("shop", {"query": ["red shoe"], "mode": [mode]})
        assert together["item_id"][row].tolist() == alone["item_id"][0].tolist()
    with pytest.raises(ServingError, match=r"mode has to be one of dense, lexical, hybrid.*nearest"):
        client.predict("shop", {"query": ["red shoe"], "mode": ["nearest"]})


def test_a_misspelt_word_finds_the_items_of_the_right_one(shop: Shop, client: PredictClient) -> None:
    titles = shop.dataset.item_table().column("title").to_pylist()
    answer = client.predict("shop", {"query": ["milk sugr"], "mode": ["lexical"]})
    best = item_rows(shop, answer)[0, 0]
    assert {"milk", "sugar"} <= set(titles[best].split())


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_filters_hold_in_every_mode(shop: Shop, client: PredictClient, mode: str) -> None:
    table = shop.dataset.item_table().to_pylist()
    inputs = {"query": QUERIES, "mode": [mode], "filter_brand": ["Acme"], "filter_max_price": [40.0]}
    answer = client.predict("shop", inputs, signature="filtered")
    matching = {
        row
        for row, item in enumerate(table)
        if item["brand"] == "Acme" and item["price"] is not None and item["price"] <= 40.0
    }
    assert 0 < len(matching) < ITEMS / 4
    for found, shortfall in zip(item_rows(shop, answer), answer["shortfall"].tolist(), strict=True):
        assert set(found[found >= 0].tolist()) <= matching
        assert shortfall == K - np.count_nonzero(found >= 0)
        if mode != "lexical":
            assert shortfall == max(0, K - len(matching))


def test_no_variable_is_copied_for_a_request(version: Path) -> None:
    # ResourceGather puts its variable into a mode in which every later read, as by a search, copies it whole.
    assert "ResourceGather" not in ops_of(version)


def test_the_manifest_names_both_searchers_and_the_fusion(version: Path) -> None:
    manifest = read_manifest(version)
    assert manifest["searchers"].keys() == {"dense", "lexical"}
    assert (manifest["fusion"]["kind"], manifest["fusion"]["dense_weight"]) == ("weighted_sum", WEIGHT)
    assert manifest["fusion"]["ndcg"].keys() == {"dense", "lexical", "weighted_sum"}
    assert [line.split()[0] for line in searcher_table(version).splitlines()[2:]] == ["dense", "lexical"]


def test_the_command_compares_the_modes(shop: Shop, server: int) -> None:
    def ask(mode: str | None, **options: Any) -> list[str]:
        return search(
            shop.config, ["red shoe"], target=f"localhost:{server}", count=3, mode=mode, **options
        ).splitlines()

    assert ask("compare")[1].split() == ["dense", "lexical", "hybrid"]
    assert ask("lexical")[1].split() == ["score", "head", "source", "item", "text"]
    assert all(" lexical " in line for line in ask("lexical")[3:])
    assert ask("lexical", filters=["brand=Acme"]) != ask("lexical")
    index = shop.config.index.model_copy(update={"mode": "dense"})
    with pytest.raises(ConfigError, match=r'--mode compare: index\.mode = "dense" has one searcher'):
        search(
            shop.config.model_copy(update={"index": index}),
            ["red shoe"],
            target=f"localhost:{server}",
            count=3,
            mode="compare",
        )


def test_a_servable_of_one_searcher_has_no_modes(string_shop: Shop, tmp_path: Path) -> None:
    config = string_shop.config.model_copy(update={"work_dir": str(tmp_path)})
    base = export(config, string_shop.dataset, string_shop.model, progress=False).parent
    server = ModelServer([ServedModel("shop", base)], ServingConfig(port=0, rest_port=-1))
    try:
        target = f"localhost:{server.start()}"
        with pytest.raises(ConfigError, match="--mode hybrid: the server finds items by their vectors alone"):
            search(string_shop.config, ["red shoe"], target=target, count=3, mode="hybrid")
    finally:
        server.stop()


def test_a_weight_of_a_column_that_is_no_text_is_refused(shop: Shop, tmp_path: Path) -> None:
    lexical = shop.config.index.lexical.model_copy(update={"weights": {"brand": 2.0}})
    index = shop.config.index.model_copy(update={"lexical": lexical})
    config = shop.config.model_copy(update={"work_dir": str(tmp_path), "index": index})
    with pytest.raises(ExportError, match=r"index.lexical.weights names column 'brand', which is no text column"):
        export(config, shop.dataset, shop.model, progress=False)


def test_another_list_is_noticed_beside_queries_that_find_nothing() -> None:
    expected = np.array([[-1, -1], [1, 2]], np.int32)
    check_list("lexical", expected, expected, ["query 'qqqq'", "query 'lamp'"].__getitem__)
    for found in ([[-1, -1], [3, 4]], [[-1, -1], [1, -1]], [[7, -1], [1, 2]]):
        with pytest.raises(VerificationError, match=r"query '(lamp|qqqq)': with mode = lexical the servable finds"):
            check_list("lexical", np.array(found, np.int32), expected, ["query 'qqqq'", "query 'lamp'"].__getitem__)


@pytest.mark.parametrize("kind", ["weighted_sum", "reciprocal_ranks"])
def test_the_tuned_scores_are_those_of_the_graph(kind: Any) -> None:
    """``fused_scores`` chooses the weight, ``HybridSearcher`` answers: one formula."""
    rng = np.random.default_rng(1)
    rows = np.concatenate([np.stack([rng.permutation(12)[:6] for _ in range(5)]) for _ in range(2)], axis=1)
    by_row = rng.random((2, 5, 12)).astype(np.float32)
    values = [np.take_along_axis(scores, rows, axis=1) for scores in by_row]
    order = np.argsort(-values[1][:, 6:], axis=1)
    rows[:, 6:] = np.take_along_axis(rows[:, 6:], order, axis=1)
    values = [np.take_along_axis(scores, rows, axis=1) for scores in by_row]
    features = np.zeros((5, len(FEATURES)), np.float32)
    found = fused_scores(Candidates(rows.astype(np.int32), *values, features), FusionPlan(kind, 2.0))
    for query in range(5):
        for place, row in enumerate(rows[query].tolist()):
            if kind == "weighted_sum":
                expected = by_row[1, query, row] / values[1][query, 6] + 2.0 * by_row[0, query, row]
            else:
                near, matching = rows[query, :6].tolist(), rows[query, 6:].tolist()
                expected = 2.0 / (61 + near.index(row)) if row in near else 0.0
                expected += 1.0 / (61 + matching.index(row)) if row in matching else 0.0
            assert found[query, place] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("signature", ["serving_default", "filtered"])
def test_each_query_has_the_weight_of_what_both_sides_found(
    shop: Shop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dense: np.ndarray,
    lexical: np.ndarray,
    signature: str,
) -> None:
    """The lists of the servable are those of the formula in NumPy, float64."""
    slopes = (0.3, -0.8, 0.9, 1.5, -4.0, -1.1, 0.7, 0.6, -0.5)
    plan = FusionPlan("weighted_sum", 1.5, QueryWeight(-0.4, slopes))
    tuned = TunedFusion(plan, 7, {"dense": 0.1, "lexical": 0.2, "by_query": 0.3})
    monkeypatch.setattr("dpsr.indexing.searchers.tune_fusion", lambda *args, **kwargs: tuned)
    config = shop.config.model_copy(update={"work_dir": str(tmp_path)})
    published = export(config, shop.dataset, shop.model, progress=False)
    assert read_manifest(published)["fusion"]["by_query"] == {"bias": -0.4, **dict(zip(FEATURES, slopes, strict=True))}
    inputs: dict[str, Any] = {"query": QUERIES}
    matching = np.ones(ITEMS, bool)
    if signature == "filtered":
        inputs["filter_brand"] = ["Acme"]
        matching = np.array([item["brand"] == "Acme" for item in shop.dataset.item_table().to_pylist()])
    server = ModelServer([ServedModel("shop", published.parent)], ServingConfig(port=0, rest_port=-1))
    try:
        with PredictClient(f"localhost:{server.start()}") as client:
            lists = {
                mode: item_rows(shop, client.predict("shop", inputs | {"mode": [mode]}, signature=signature))
                for mode in ("dense", "lexical")
            }
            answer = client.predict("shop", inputs, signature=signature)
    finally:
        server.stop()
    found = item_rows(shop, answer)
    _, weights, splits = TermTokenizer.load(published / "assets" / "terms.model").encode_queries(QUERIES)
    for query in SPELT:
        near, words = (lists[mode][query][lists[mode][query] >= 0] for mode in ("dense", "lexical"))
        of_terms = weights[splits[query] : splits[query + 1]]
        best = lexical[query][words].max(initial=0.0)
        scale = best or 1.0
        features = [
            np.log1p(best),
            lexical[query][words[:10]].mean() / scale if len(words) else 0.0,
            lexical[query][near[:10]].mean() / scale,
            dense[query][near[0]],
            dense[query][near[0]] - dense[query][near[:10]].mean(),
            dense[query][words[:10]].mean() if len(words) else 0.0,
            np.log1p(len(of_terms)),
            (of_terms < 1).mean() if len(of_terms) else 0.0,
            len(words) / K,
        ]
        joined = lexical[query] / scale + 1.5 * np.exp(-0.4 + np.dot(slopes, features)) * dense[query]
        union = np.union1d(near, words)
        assert matching[union].all()
        items = found[query][found[query] >= 0]
        np.testing.assert_allclose(joined[items], np.sort(joined[union])[::-1][:K], rtol=1e-4)
        np.testing.assert_allclose(answer["score"][query, : len(items)], joined[items], rtol=1e-4)
