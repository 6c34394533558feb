"""The registry: names, needs and rerankers; a method of any kind takes part through its protocol alone."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dpsr.baselines.context import Baseline, BuildContext, Need
from dpsr.baselines.examples import QueryExamples, anonymous_examples
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.baselines.interfaces import Retriever, Scorer
from dpsr.baselines.registry import ENTRIES, HYBRIDS, build, resolve
from dpsr.baselines.reranker import Reranker
from dpsr.config import ConfigError, EvaluationConfig
from dpsr.data.dataset.schema import CLICK, INTERACTION, LABEL
from dpsr.tokenizer_cc import VocabularyBuilder

WORD_MODELS = {"word2vec", "glove", "fasttext", "lse"}
TRAINED = {name for name, entry in ENTRIES.items() if entry.trains}
TITLES = ["red shoe", "blue shoe", "green hat", "red hat"]


def small_dataset(folder: Path, *, titles: list[str] = TITLES, clicks: int = 1, labels: int = 0) -> Any:
    """Four items and ``clicks`` clicks on the first; as much of a dataset as the builders read."""
    builder = VocabularyBuilder(max_vocabulary=100, min_count=1, oov_buckets=4, bigrams=False, trigrams=False)
    builder.add(titles)
    builder.build().save(folder / "tokenizer.model")
    train = np.zeros(clicks, dtype=INTERACTION)
    train["event"] = CLICK
    splits = {"train": train, "valid": train[:0]}
    return SimpleNamespace(
        manifest={"files": {"items": {"sha256": "0"}}},
        tokenizer_path=folder / "tokenizer.model",
        item_ids=np.arange(len(titles)),
        item_table=lambda: pa.table({"title": titles}),
        schema=SimpleNamespace(text=("title",), num_items=len(titles), subwords=None),
        interaction_blocks=lambda split: iter([splits[split]]),
        num_interactions=lambda split: len(splits[split]),
        interactions_at=lambda split, places: splits[split][places],
        clicks_per_item=lambda split: np.bincount(splits[split]["item"], minlength=len(titles)),
        query_texts=lambda: pa.array(["hat"]),
        labels=lambda: np.zeros(labels, dtype=LABEL),
    )


def context(dataset: Any, names: list[str], entries: dict[str, Baseline] | None = None, **options: Any) -> BuildContext:
    return BuildContext(dataset, resolve(names, entries), seed=1, progress=False, **options)


def asked(*texts: str) -> QueryExamples:
    return anonymous_examples(np.array(texts, dtype=object), seed=1)


class PairScorer:
    """Scores given pairs only: the higher the item row, the better."""

    def score(self, examples: QueryExamples, candidates: np.ndarray) -> np.ndarray:
        return candidates.astype(np.float32)


class ShortLists:
    """Retrieves as many items as the query has letters, the lowest rows first."""

    def retrieve(self, examples: QueryExamples, k: int) -> tuple[np.ndarray, np.ndarray]:
        items = np.tile(np.arange(k, dtype=np.int32), (len(examples), 1))
        missing = items >= np.array([len(text) for text in examples.texts])[:, None]
        return np.where(missing, -1, items), np.where(missing, -np.inf, -items).astype(np.float32)


def test_the_default_baselines_are_registered_and_nothing_is_registered_under_another_name() -> None:
    assert set(EvaluationConfig().baselines) <= set(ENTRIES)
    assert all(name == entry.name for name, entry in ENTRIES.items())


@pytest.mark.parametrize(
    "name", ["bm26", "bm25>bm26", "bm26>bm25", "bm25>", ">bm25", "bm25>memory@0", "bm25>lsa>memory"]
)
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        resolve(["bm25", name])
    message = str(raised.value)
    assert f"evaluation.baselines: unknown method '{name}'" in message
    assert all(known in message for known in ENTRIES)
    assert "dssm (trains)" in message
    assert "bm25>dpsr@100" in message


def test_methods_come_in_the_order_of_their_names_and_are_built_once(tmp_path: Path) -> None:
    names = ["lsa", "bm25+popularity", "bm25", "bm25>lsa", "lsa"]
    inputs = context(small_dataset(tmp_path), names)
    found = build(names, inputs)
    assert list(found) == names[:-1]
    assert found["bm25"] is inputs.method("bm25")
    assert inputs.weights == {"bm25+popularity": 0.2}  # the default: the valid split is empty
    assert not inputs.notes


@pytest.mark.parametrize(
    ("dataset", "left_out"),
    [
        ({"titles": ["?", "!"]}, {"bm25 bigrams", "lsa", "bm25>lsa", *TRAINED}),
        ({"clicks": 0}, {"popularity", "bm25+popularity", "memory", *(TRAINED - WORD_MODELS)}),
    ],
    ids=["no words", "no clicks"],
)
def test_a_method_whose_needs_are_not_met_is_left_out_with_a_note(
    dataset: dict[str, Any], left_out: set[str], tmp_path: Path
) -> None:
    without_model = {"dpsr", *HYBRIDS}
    names = [*(name for name in ENTRIES if name not in TRAINED or name in left_out), "bm25>lsa"]
    inputs = context(small_dataset(tmp_path, **dataset), names)
    found = build(names, inputs)
    assert set(names) - set(found) == left_out | without_model
    for name in left_out | without_model:
        assert sum(note.startswith(f"{name} is left out: ") for note in inputs.notes) == 1


def test_labels_are_a_need_that_a_dataset_with_labelled_pairs_meets(tmp_path: Path) -> None:
    entry = Baseline("pairs", lambda context: PairScorer(), frozenset({Need.LABELS}))
    for labels, notes in ((3, []), (0, ["pairs is left out: the dataset has no labelled pairs (data.supervision)."])):
        inputs = context(small_dataset(tmp_path, labels=labels), ["pairs"], {"pairs": entry})
        assert list(build(["pairs"], inputs)) == ["pairs"] * (not notes)
        assert inputs.notes == notes


def test_a_reranker_orders_the_first_stages_best_by_the_scorer() -> None:
    items, scores = Reranker(ShortLists(), PairScorer(), 4).retrieve(asked("ab", "abcdefg", ""), 3)
    assert items.tolist() == [[1, 0, -1], [3, 2, 1], [-1, -1, -1]]
    assert scores.tolist() == [[1, 0, -np.inf], [3, 2, 1], [-np.inf] * 3]
    assert (items.dtype, scores.dtype) == (np.int32, np.float32)
    assert Reranker(ShortLists(), PairScorer(), 2).retrieve(asked("abcdefg"), 10)[0].tolist() == [[1, 0]]


def test_a_reranker_by_name_joins_two_entries(tmp_path: Path) -> None:
    names = ["bm25>popularity@2", "bm25>lsa"]
    inputs = context(small_dataset(tmp_path), names)
    found = build(names, inputs)
    bm25, two, every = inputs.exhaustive("bm25"), found["bm25>popularity@2"], found["bm25>lsa"]
    assert isinstance(two, Retriever)
    assert isinstance(every, Retriever)
    assert not isinstance(two, Scorer)
    items, scores = two.retrieve(asked("red shoe"), 4)
    assert sorted(items[0].tolist()) == sorted(bm25.retrieve(asked("red shoe"), 2)[0][0].tolist())
    assert scores[0].tolist() == [1, 0]  # item 0 has the click
    everything = inputs.exhaustive("lsa").retrieve(asked("red shoe"), 4)
    # The green hat has neither word, so that BM25 does not find it.
    assert every.retrieve(asked("red shoe"), 4)[0].tolist() == [[row for row in everything[0][0] if row != 2] + [-1]]


def test_stages_that_cannot_do_their_part_are_named(tmp_path: Path) -> None:
    entries = {
        "pairs": Baseline("pairs", lambda context: PairScorer()),
        "lists": Baseline("lists", lambda context: ShortLists()),
    }
    dataset = small_dataset(tmp_path)
    assert list(build(["lists>pairs"], context(dataset, ["lists>pairs"], entries))) == ["lists>pairs"]
    with pytest.raises(ConfigError, match="'pairs>pairs': pairs only scores given pairs, it retrieves nothing"):
        build(["pairs>pairs"], context(dataset, ["pairs>pairs"], entries))
    with pytest.raises(ConfigError, match="'lists>lists': lists only retrieves, it scores no given pairs"):
        build(["lists>lists"], context(dataset, ["lists>lists"], entries))
    with pytest.raises(TypeError, match="lists does not score the whole catalogue"):
        context(dataset, [], entries).exhaustive("lists")


class Known(ExhaustiveRetriever):
    """Stands in for the trained model."""

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        return np.tile(np.arange(self.num_items, dtype=np.float32), (len(examples), 1))


def test_the_model_takes_part_under_its_name(tmp_path: Path) -> None:
    names = ["bm25>dpsr@3", "dpsr", *HYBRIDS]
    inputs = context(small_dataset(tmp_path), names, model=Known(len(TITLES)))
    found = build(names, inputs)
    assert found["dpsr"] is inputs.model
    assert isinstance(found["bm25>dpsr@3"], Retriever)
    items, _ = found["bm25>dpsr@3"].retrieve(asked("hat"), 3)
    assert items[0].tolist() == sorted(items[0].tolist(), reverse=True)
    assert inputs.weights == dict.fromkeys(HYBRIDS, 1.0)


def test_glove_reads_a_file_of_word_vectors_in_place_of_a_training(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("red 1 0\nshoe 0 1\nscarlet 1 0\n")
    inputs = context(small_dataset(tmp_path), ["glove"], word_vectors=path)
    glove = inputs.exhaustive("glove")
    assert glove.retrieve(asked("scarlet"), 2)[0].tolist() == [[3, 0]]  # "red hat": of its words red alone has one
    assert inputs.notes == [f"glove: {path} has vectors of 40.0% of the items' distinct words."]


def test_models_of_words_read_the_items_and_the_queries_of_the_train_split(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path)
    dataset.schema.num_queries, dataset.query_texts = 3, lambda: pa.array(["hat", "of the test split", "of none"])
    assert context(dataset, []).train_texts == [*TITLES, "hat"]


def test_prod2vec_learns_from_the_train_split_alone_and_says_that_there_are_no_users(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path)
    train = np.zeros(4, dtype=INTERACTION)
    train["event"], train["user"], train["item"] = CLICK, -1, [0, 1, 2, 0]
    later = np.zeros(4, dtype=INTERACTION)
    later["event"], later["user"], later["item"], later["history_end"] = CLICK, 1, [3, 2, 1, 0], range(4)
    found = []
    for valid in (later[:0], later):
        dataset.interaction_blocks = lambda split, valid=valid: iter([train if split == "train" else valid])
        dataset.num_interactions = lambda split, valid=valid: len(train if split == "train" else valid)
        inputs = context(dataset, ["prod2vec"])
        found.append(inputs.exhaustive("prod2vec").retrieve(asked("hat"), 4))
        assert inputs.notes == [
            "prod2vec: no user has clicks on two items; its sequences are the items clicked for the same query."
        ]
    for one, other in zip(*found, strict=True):
        assert (one == other).all()
    assert sorted(found[0][0][0].tolist()) == [-1, 0, 1, 2]
