"""Explanations of versions in segments, of int8 vectors, of an int8 text encoder, and of words alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from page_shop import K, copied

from dpsr.config import Config, ServingConfig, load_config, parse_config
from dpsr.data.dataset.tables import Dataset
from dpsr.data.demo_shop.shop import generate
from dpsr.data.judgements.records import Column
from dpsr.data.prepare.job import prepare
from dpsr.indexing.lexical_export import export_lexical
from dpsr.indexing.manifest import read_manifest
from dpsr.indexing.publish import export
from dpsr.model.trained import load_trained
from dpsr.page.contract import ExplainRequest, Explanation, Found, TokenPart
from dpsr.page.explain.explainer import NEAREST, Explainer
from dpsr.page.explain.published import PublishedVersion
from dpsr.page.search.searcher import Searcher
from dpsr.serving.manager.model_config import ServedModel, VersionPolicy
from dpsr.serving.server import ModelServer
from dpsr.training.trainer import train

SEGMENTS, BYTES, BYTES_IN_SEGMENTS, WORDS = 3, 4, 5, 6
"""Versions of the shop, beside 1 and 2; all but ``BYTES`` are served."""
CHANGED_TITLE = "zzchanged smartphone for grandpa"
NEW, NEW_TITLE = "N01", "zznew smartphone for seniors"
QUERIES = ["smartphone", "running shoes", "zznew smartphone", "zzchanged phone", "wreless headphnes", ""]
EVERY = 97
"""Of every so many items of a list one is explained."""


class Shop(NamedTuple):
    """A copy of the shop with more versions."""

    config: Config
    searcher: Searcher
    explainer: Explainer
    changed: str
    removed: str

    def found(self, version: int, mode: str | None, query: str) -> list[Found]:
        column = Column.model_validate({"version": version, "mode": mode})
        (found,) = self.searcher.lists([query], column, K)
        assert found is not None
        return found

    def explain(self, version: int, query: str, item_id: str) -> Explanation:
        return self.explainer.explain(ExplainRequest(query=query, item_id=item_id, columns=(Column(version=version),)))


@pytest.fixture(scope="module")
def shop(page_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    file = copied(page_shop, tmp_path_factory.mktemp("versions") / "shop")
    config = load_config(file, ["index.keep_versions=0"])
    dataset = Dataset.load(config.dataset_dir)
    model = load_trained(config.checkpoint_dir, dataset)
    table = pq.read_table(config.data.items.path)
    rows = table.to_pylist()
    removed, changed = rows.pop(20)["item_id"], rows[30]["item_id"]
    rows[30]["title"] = CHANGED_TITLE
    rows.append({**rows[31], "item_id": NEW, "title": NEW_TITLE})
    later = str(file.with_name("later.parquet"))
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), later)

    def publish(since: int | None = None, items: str | None = None, **index: object) -> None:
        changed = config.model_copy(update={"index": config.index.model_copy(update=index)})
        earlier = None if since is None else str(since)
        export(changed, dataset, model, since=earlier, items=items, progress=False)

    publish(since=2, items=later)
    in_bytes = {"exact_below": 0, "precision": "int8", "min_recall": 0.0}
    publish(**in_bytes)
    publish(since=BYTES, items=later, **in_bytes)
    words = config.model_copy(update={"index": config.index.model_copy(update={"mode": "lexical", "fusion": None})})
    export_lexical(words, dataset, progress=False)
    with serving(config, SEGMENTS, BYTES_IN_SEGMENTS, WORDS) as target:
        searcher = Searcher(config, target, None)
        yield Shop(config, searcher, Explainer(config, searcher), changed, removed)
        searcher.close()


@contextmanager
def serving(config: Config, *versions: int) -> Iterator[str]:
    """A server of some versions; yields its address."""
    policy = VersionPolicy(count=None, versions=frozenset(versions))
    model = ServedModel(config.name, config.model_base_path, policy)
    server = ModelServer([model], ServingConfig(port=0, rest_port=-1))
    yield f"127.0.0.1:{server.start()}"
    server.stop()


def summed(parts: tuple[TokenPart, ...]) -> float:
    return sum(part.value for part in parts)


def test_the_versions_are_stored_as_told(shop: Shop) -> None:
    base = shop.config.model_base_path
    dense = {
        version: read_manifest(base / str(version))["searchers"]["dense"]
        for version in (2, SEGMENTS, BYTES, BYTES_IN_SEGMENTS)
    }
    assert [version for version, described in dense.items() if "segments" in described] == [SEGMENTS, BYTES_IN_SEGMENTS]
    assert [version for version, described in dense.items() if described["precision"] == "int8"] == [
        BYTES,
        BYTES_IN_SEGMENTS,
    ]
    assert read_manifest(base / str(WORDS))["searchers"].keys() == {"lexical"}


@pytest.mark.parametrize("version", [SEGMENTS, BYTES_IN_SEGMENTS])
def test_the_parts_sum_up_to_the_scores_that_are_served(shop: Shop, version: int) -> None:
    for query in QUERIES:
        found = shop.found(version, "dense", query)
        special = [item for item in found if item.item_id in (NEW, shop.changed)]
        for item in [*found[::EVERY], *special]:
            explained = shop.explain(version, query, item.item_id)
            best = explained.heads[explained.best_head or 0]
            assert best.head == item.head
            assert best.score == pytest.approx(item.score, abs=1e-4)
            for head in explained.heads:
                assert summed(head.tokens) == pytest.approx(head.score, abs=1e-6)


@pytest.mark.parametrize("version", [SEGMENTS, BYTES_IN_SEGMENTS, WORDS])
def test_the_terms_sum_up_to_the_scores_that_are_served(shop: Shop, version: int) -> None:
    scored = 0
    for query in QUERIES:
        found = shop.found(version, None if version == WORDS else "lexical", query)
        for item in found[: 2 * EVERY : EVERY]:
            explained = shop.explain(version, query, item.item_id)
            assert explained.lexical_score == pytest.approx(item.score, rel=1e-4)
            assert summed(explained.terms) == pytest.approx(item.score, rel=1e-4)
            scored += 1
    assert scored >= 4


@pytest.mark.parametrize("version", [SEGMENTS, BYTES_IN_SEGMENTS])
def test_items_of_a_later_catalogue(shop: Shop, version: int) -> None:
    new = shop.explain(version, "zznew smartphone", NEW)
    assert new.heads
    assert {part.token for part in new.terms if part.matched} == {"zznew", "smartphone"}
    assert any("dataset lacks the text" in note for note in new.notes)
    changed = shop.explain(version, "zzchanged phone", shop.changed)
    assert {part.token for part in changed.terms if part.matched} == {"zzchanged"}
    assert any("older text" in note for note in changed.notes)
    removed = shop.explain(version, "smartphone", shop.removed)
    assert removed.heads == removed.near == removed.terms == ()
    assert removed.lexical_score is None
    assert any("does not serve this item" in note for note in removed.notes)
    before = PublishedVersion(shop.config.model_base_path / "2")
    row = before.row_of(shop.removed)
    assert row is not None
    near = [item for item, _ in before.nearest(row, NEAREST)]
    others = [each.item_id for item in near[:3] for each in shop.explain(version, "smartphone", item).near]
    assert shop.removed not in others
    assert len(others) == 3 * NEAREST


def test_items_of_the_base_segment_have_no_note(shop: Shop) -> None:
    (item, *_) = (
        each for each in shop.found(SEGMENTS, "dense", "smartphone") if each.item_id not in (NEW, shop.changed)
    )
    assert shop.explain(SEGMENTS, "smartphone", item.item_id).notes == ()


def test_words_alone_say_that_there_is_no_model(shop: Shop) -> None:
    (item, *_) = shop.found(WORDS, None, "smartphone")
    explained = shop.explain(WORDS, "smartphone", item.item_id)
    assert explained.heads == explained.near == ()
    assert explained.best_head is None
    assert explained.ranks == (1,)
    (note,) = explained.notes
    assert "by their words alone" in note


# ----------------------------------------------------------------------------------------- an int8 text encoder

TRANSFORMER = {"layers": 2, "width": 16, "heads": 2, "intermediate": 32, "max_query_length": 8, "max_item_length": 9}


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Searcher, Explainer]]:
    """A shop whose first version reads queries by a transformer in float32, and the second by the same in int8."""
    folder = tmp_path_factory.mktemp("encoder")
    generate(folder, items=200, users=30, interactions=1000, seed=3)
    tree = {
        "name": "shop",
        "work_dir": str(folder / "work"),
        "data": {
            "items": {"path": str(folder / "items.parquet"), "categorical": ["brand"]},
            "interactions": {"path": str(folder / "interactions.parquet")},
        },
        "tokenizer": {"min_count": 1, "oov_buckets": 50, "subwords": {"vocabulary": 120}},
        "model": {"text_encoder": "transformer", "transformer": TRANSFORMER, "dimension": 8, "hidden": []},
        "training": {"epochs": 1, "batch_size": 128},
        "index": {"k": 50, "min_recall": 0.0},
    }
    config = parse_config(tree, "tests")
    dataset = Dataset.load(prepare(config, progress=False))
    train(config, dataset, progress=False)
    model = load_trained(config.checkpoint_dir, dataset)
    for precision in ("float32", "int8"):
        index = config.index.model_copy(update={"text_encoder_precision": precision})
        export(config.model_copy(update={"index": index}), dataset, model, progress=False)
    with serving(config, 1, 2) as target:
        searcher = Searcher(config, target, None)
        yield searcher, Explainer(config, searcher)
        searcher.close()


def test_what_an_int8_encoder_costs_is_said(encoded: tuple[Searcher, Explainer]) -> None:
    searcher, explainer = encoded
    differences = {1: 0.0, 2: 0.0}
    for version in differences:
        column = Column(version=version)
        for query in ("smartphone", "running shoes", "dress red"):
            (found,) = searcher.lists([query], column, 50)
            assert found is not None
            for item in found[::20]:
                asked = ExplainRequest(query=query, item_id=item.item_id, columns=(column,))
                explained = explainer.explain(asked)
                for head in explained.heads:
                    assert summed(head.tokens) == pytest.approx(head.score, abs=1e-6)
                score = explained.heads[item.head or 0].score
                differences[version] = max(differences[version], abs(score - item.score))
                assert [("int8" in note) for note in explained.notes] == [True] * (version == 2)
    assert differences[1] < 1e-4
    assert differences[2] < 0.05
