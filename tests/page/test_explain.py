"""Explanations of the page against the scores, lists and log of a small real shop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pydantic
import pytest
from page_shop import CONTROL, LARGE, UNTITLED, serving

from dpsr.cli.explanation import explain_item
from dpsr.config import Config
from dpsr.data.dataset.tables import Dataset
from dpsr.data.judgements.records import Column
from dpsr.indexing.corpus import embed_items
from dpsr.model.trained import load_trained
from dpsr.page.contract import ExplainRequest, Explanation, SearchRequest, TokenPart, User
from dpsr.page.errors import PageError
from dpsr.page.explain.attribution import EXACT, INTEGRATED
from dpsr.page.explain.explainer import NEAREST, Explainer
from dpsr.page.search.searcher import Searcher
from dpsr.tokenizer_cc.terms import query_keys

DENSE, LEXICAL, HYBRID = (Column.model_validate({"mode": mode}) for mode in ("dense", "lexical", "hybrid"))
UNTRAINED = DENSE.model_copy(update={"version": 1})


@pytest.fixture(scope="module")
def config(shop_config: Config) -> Config:
    return shop_config


@pytest.fixture(scope="module")
def searcher(config: Config, page_shop: Path) -> Iterator[Searcher]:
    with serving(page_shop) as target:
        searcher = Searcher(config, target, None)
        yield searcher
        searcher.close()


@pytest.fixture(scope="module")
def explainer(config: Config, searcher: Searcher) -> Explainer:
    return Explainer(config, searcher)


@pytest.fixture(scope="module")
def queries(config: Config) -> list[str]:
    texts = Dataset.load(config.dataset_dir).query_texts().slice(0, 5).to_pylist()
    return [*texts, "no such wrods 手机", ""]


def summed(parts: tuple[TokenPart, ...]) -> float:
    return sum(part.value for part in parts)


def test_the_parts_of_heads_sum_up_to_the_score_of_the_servable(
    explainer: Explainer, searcher: Searcher, queries: list[str]
) -> None:
    for query in queries:
        (found,) = searcher.lists([query], DENSE, 1000)
        for rank in (0, 1, len(found) - 1):
            item = found[rank]
            explained = explainer.explain(ExplainRequest(query=query, item_id=item.item_id, columns=(DENSE,)))
            assert explained.notes == ()
            best = max(explained.heads, key=lambda head: head.score)
            assert best.head == explained.best_head == item.head
            assert best.score == pytest.approx(item.score, abs=1e-4)
            for head in explained.heads:
                assert head.method == INTEGRATED
                assert summed(head.tokens) == pytest.approx(head.score, abs=1e-6)
                assert head.tokens[-1].kind == "rest"
            assert explained.ranks == (rank + 1,)


def test_the_tokens_are_those_of_the_query_and_match_those_of_the_title(
    explainer: Explainer, searcher: Searcher, config: Config
) -> None:
    titles = pq.read_table(config.data.items.path, columns=["item_id", "title"]).to_pylist()
    item = next(row for row in titles if len(row["title"].split()) >= 2)
    word = item["title"].lower().split()[0]
    explained = explainer.explain(ExplainRequest(query=f"{word} qzqz", item_id=item["item_id"]))
    words = {part.token: part.matched for part in explained.heads[0].tokens if part.kind == "word"}
    assert words == {word: True, "qzqz": False}


def test_the_terms_sum_up_to_the_lexical_score_of_the_servable(
    explainer: Explainer, searcher: Searcher, queries: list[str]
) -> None:
    scored = 0
    for query in queries:
        (found,) = searcher.lists([query], LEXICAL, 1000)
        for item in found[:: max(1, len(found) // 3)]:
            explained = explainer.explain(ExplainRequest(query=query, item_id=item.item_id))
            assert explained.lexical_score == pytest.approx(item.score, rel=1e-4)
            assert summed(explained.terms) == pytest.approx(item.score, rel=1e-4)
            assert any(part.matched for part in explained.terms)
            scored += 1
    assert scored > 5


def test_a_misspelt_term_is_shown_as_typed_and_as_read(explainer: Explainer, searcher: Searcher) -> None:
    (found,) = searcher.lists(["stroler"], LEXICAL, 1000)
    explained = explainer.explain(ExplainRequest(query="stroler qqqqqqq", item_id=found[0].item_id))
    names = {part.token: part for part in explained.terms}
    assert names["stroler -> stroller"].matched
    assert names["stroler -> stroller"].value == pytest.approx(found[0].score, rel=1e-4)
    assert names["qqqqqqq"] == TokenPart(token="qqqqqqq", kind="term", matched=False, value=0.0)


def test_the_score_for_a_user_is_the_one_that_the_user_gets(
    explainer: Explainer, searcher: Searcher, queries: list[str]
) -> None:
    user = User(user_id=searcher.users().examples(1)[0])
    answer = searcher.search(SearchRequest(query=queries[0], columns=(DENSE,), count=20, user=user))
    item = answer.results[0].items[3]
    asked = ExplainRequest(query=queries[0], item_id=item.item_id, columns=(DENSE, LEXICAL), user=user)
    explained = explainer.explain(asked)
    best = explained.heads[explained.best_head or 0]
    assert best.score == pytest.approx(item.score, abs=1e-4)
    assert explained.ranks[0] == 4
    anonymous = explainer.explain(asked.model_copy(update={"user": None}))
    assert abs(anonymous.heads[best.head].score - best.score) > 1e-4


def test_the_near_items_are_those_of_the_vectors(explainer: Explainer, config: Config) -> None:
    dataset = Dataset.load(config.dataset_dir)
    vectors = embed_items(load_trained(config.checkpoint_dir), dataset, progress=False)
    scores = vectors @ vectors[7]
    scores[7] = -np.inf
    best = np.argsort(-scores, kind="stable")[:NEAREST]
    explained = explainer.explain(ExplainRequest(query="phone", item_id=str(dataset.item_ids[7])))
    np.testing.assert_allclose([near.score for near in explained.near], scores[best], atol=1e-5)
    assert [near.item_id for near in explained.near] == [str(dataset.item_ids[row]) for row in best]
    assert explained.items.keys() == {near.item_id for near in explained.near}
    assert explained.item.item_id == str(dataset.item_ids[7])


def test_the_log_is_counted_by_query_and_item(explainer: Explainer, config: Config) -> None:
    dataset = Dataset.load(config.dataset_dir)
    keys = query_keys(dataset.query_texts().to_pylist())
    names = {1: "click", 2: "purchase", 3: "skip"}
    counted: Counter[tuple[int, int, str]] = Counter()
    for records in (*map(dataset.interactions, ("train", "valid", "test")), dataset.skips()):
        for record in records:
            counted[int(keys[record["query"]]), int(record["item"]), names[int(record["event"])]] += 1
    for (key, row, _), _ in counted.most_common(3):
        query = dataset.query_texts()[int(np.flatnonzero(keys == key)[0])].as_py()
        explained = explainer.explain(ExplainRequest(query=f" {query.upper()} ", item_id=str(dataset.item_ids[row])))
        expected = {name: counted[key, row, name] for name in names.values() if counted[key, row, name]}
        assert {clicks.event: clicks.count for clicks in explained.log} == expected
    never = explainer.explain(ExplainRequest(query="never asked before", item_id=str(dataset.item_ids[0])))
    assert never.log == ()


def test_what_is_wrong_is_named(explainer: Explainer) -> None:
    with pytest.raises(PageError, match="'nowhere'"):
        explainer.explain(ExplainRequest(query="phone", item_id="nowhere"))
    with pytest.raises(PageError, match="'nobody'"):
        explainer.explain(ExplainRequest(query="phone", item_id="H01", user=User(user_id="nobody")))
    with pytest.raises(pydantic.ValidationError):
        ExplainRequest(query="x" * 1_000_000, item_id="H01")


def test_a_version_of_other_weights_is_explained_without_tokens(explainer: Explainer, searcher: Searcher) -> None:
    (found,) = searcher.lists(["phone"], UNTRAINED, 1000)
    explained = explainer.explain(ExplainRequest(query="phone", item_id=found[5].item_id, columns=(UNTRAINED,)))
    assert explained.heads == ()
    assert explained.ranks == (6,)
    assert len(explained.near) == NEAREST
    assert explained.lexical_score is not None
    (note,) = explained.notes
    assert "other weights" in note
    of_trained = explainer.explain(ExplainRequest(query="phone", item_id=found[5].item_id, columns=(DENSE,)))
    assert of_trained.heads
    assert of_trained.notes == ()


def test_a_version_without_files_and_another_model_are_noted(config: Config, searcher: Searcher) -> None:
    elsewhere = config.model_copy(update={"name": "moved"})
    explained = Explainer(elsewhere, searcher).explain(ExplainRequest(query="phone", item_id="H01"))
    assert explained.heads == explained.near == ()
    assert any("servables/moved/2" in note for note in explained.notes)
    other = Column(model="another")
    explained = Explainer(config, searcher).explain(ExplainRequest(query="phone", item_id="H01", columns=(other,)))
    assert any("another" in note for note in explained.notes)
    assert explained.ranks == (None,)


@pytest.mark.parametrize("query", ["\x00\x07\u202e'\"><script>", "z" * 10_000, "zzhostile " * 1000, "\U0001f600"])
@pytest.mark.parametrize("item", [LARGE, CONTROL, UNTITLED])
def test_hostile_queries_and_items_are_explained(explainer: Explainer, query: str, item: str) -> None:
    explained = explainer.explain(ExplainRequest(query=query, item_id=item, columns=(HYBRID,)))
    for head in explained.heads:
        assert summed(head.tokens) == pytest.approx(head.score, abs=1e-6)
    assert summed(explained.terms) == pytest.approx(explained.lexical_score, rel=1e-4, abs=1e-6)
    Explanation.model_validate_json(explained.model_dump_json())


def test_threads_get_the_same_explanations(config: Config, searcher: Searcher, queries: list[str]) -> None:
    (found,) = searcher.lists([queries[0]], DENSE, 12)
    asked = [ExplainRequest(query=queries[0], item_id=item.item_id, columns=(DENSE,)) for item in found]
    one_by_one = [Explainer(config, searcher).explain(each) for each in asked[:2]]
    fresh = Explainer(config, searcher)
    with ThreadPoolExecutor(8) as threads:
        at_once = list(threads.map(fresh.explain, asked))
    assert at_once[:2] == one_by_one
    assert [each.ranks for each in at_once] == [(rank + 1,) for rank in range(12)]
    assert {head.method for each in at_once for head in each.heads} <= {EXACT, INTEGRATED}


def test_the_command_prints_the_explanation(config: Config, searcher: Searcher) -> None:
    (found,) = searcher.lists(["stroler"], LEXICAL, 1000)
    target = searcher.shop().target
    printed = explain_item(config, "stroler", found[1].item_id, target=target)
    (line,) = [line for line in printed.splitlines() if line.startswith("stroler -> stroller")]
    assert line.split()[-1] == f"{found[1].score:+.4f}"
    assert f"BM25: {found[1].score:.4f}" in printed
    assert "(integrated gradients)" in printed
    hostile = explain_item(config, "stroler", CONTROL, target=target)
    assert not set(hostile) & {"\x01", "\x07", "\x1b", "\u202e"}
