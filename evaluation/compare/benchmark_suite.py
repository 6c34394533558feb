"""Who takes part in a standard evaluation: the baselines, the model, and the two together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dpsr.baselines.baselines import (
    POPULARITY_WEIGHTS,
    BM25PopularityRetriever,
    BM25Retriever,
    MemoryRetriever,
    PopularityRetriever,
    click_counts,
    tokenizer_words,
    with_bigrams,
)
from dpsr.baselines.dssm import dssm_retriever
from dpsr.baselines.examples import Examples, load_examples
from dpsr.baselines.hybrids import (
    HYBRID_WEIGHTS,
    ReciprocalRankFusionRetriever,
    ReciprocalRanks,
    WeightedSumRetriever,
    choose_weight,
)
from dpsr.baselines.lsa import LSARetriever
from dpsr.baselines.retrievers import CatalogueRetriever
from dpsr.data.dataset.schema import SKIP
from dpsr.data.dataset.tables import Dataset
from dpsr.tokenizer_cc import Tokenizer

SUBJECT = "dpsr"
"""The name of the model among the retrievers."""
REFERENCE = "bm25"
"""The retriever that all others are compared with."""
DEFAULT_POPULARITY_WEIGHT = 0.2
DEFAULT_HYBRID_WEIGHT = 1.0
_TUNING_EXAMPLES = 1000  # clicks of the valid split that choose the one parameter of each mix


@dataclass(frozen=True)
class BenchmarkSuite:
    """Retrievers by name, in the order of the tables."""

    retrievers: dict[str, CatalogueRetriever]
    weights: dict[str, float] = field(default_factory=dict)
    """Of those that mix two; chosen on the valid split where there is one."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the results has to know."""


def item_texts(dataset: Dataset) -> list[str]:
    """All text columns of every item, joined."""
    columns = dataset.item_table().select(list(dataset.schema.text)).to_pydict().values()
    return [" ".join(text or "" for text in row) for row in zip(*columns, strict=True)]


def standard_baselines(dataset: Dataset, *, seed: int) -> BenchmarkSuite:
    """Popularity, BM25 with and without bigrams, LSA, BM25 with popularity, and the memory of the train split."""
    train = dataset.interactions("train")
    counts = click_counts(train, dataset.schema.num_items)
    texts = item_texts(dataset)
    words = tokenizer_words(Tokenizer.load(dataset.tokenizer_path))
    bm25 = BM25Retriever(texts, words)

    mix = partial(BM25PopularityRetriever, bm25, counts)
    tuning = tuning_examples(dataset, seed=seed)
    weight = _tuned(mix, POPULARITY_WEIGHTS, tuning, DEFAULT_POPULARITY_WEIGHT)
    both = mix(weight)
    notes = []
    if not dataset.has_log:
        notes.append(
            "There is no log: the queries, also those that chose the weights of the mixtures, are words of the items' "
            "own texts: BM25 finds more by them than by what people type. Only judged ones (evaluation.labels) tell."
        )
    if tuning is None:
        notes.append("The valid split has no click: the weights of all mixtures are defaults.")
    if weight == POPULARITY_WEIGHTS[-1]:
        notes.append(f"bm25+popularity: the best weight is the largest that was tried ({weight:g}).")
    return BenchmarkSuite(
        {
            "popularity": PopularityRetriever(counts),
            "bm25": bm25,
            "bm25 bigrams": BM25Retriever(texts, with_bigrams(words)),
            "lsa": LSARetriever(texts, words, seed=seed),
            "bm25+popularity": both,
            "memory": MemoryRetriever(dataset.query_texts().to_pylist(), train, both),
        },
        {"bm25+popularity": weight},
        notes,
    )


def with_dssm(
    baselines: BenchmarkSuite, dataset: Dataset, *, seed: int, cache: Path, progress: bool = True
) -> BenchmarkSuite:
    """Adds DSSM with skipped items as negatives, trained on the train split unless it was before."""
    tokenizer = Tokenizer.load(dataset.tokenizer_path)

    def words(text: str) -> list[str]:
        return [token.text for token in tokenizer.tokens(text) if token.kind == "word"]

    retriever, note = dssm_retriever(
        dataset,
        item_texts(dataset),
        words,
        tuning_examples(dataset, seed=seed),
        seed=seed,
        cache=cache,
        progress=progress,
    )
    return BenchmarkSuite(baselines.retrievers | {"dssm": retriever}, baselines.weights, [*baselines.notes, note])


def with_model(baselines: BenchmarkSuite, model: CatalogueRetriever, dataset: Dataset, *, seed: int) -> BenchmarkSuite:
    """Adds the model, and its hybrids with BM25."""
    bm25 = baselines.retrievers["bm25"]
    retrievers = baselines.retrievers | {SUBJECT: model}
    weights, notes = dict(baselines.weights), list(baselines.notes)
    tuning = tuning_examples(dataset, seed=seed)
    mixes: dict[str, Callable[[float], CatalogueRetriever]] = {
        "dpsr+bm25": partial(WeightedSumRetriever, bm25, model),
        "dpsr+bm25 rrf": partial(
            # An item without a word of the query is in no list of BM25.
            ReciprocalRankFusionRetriever,
            ReciprocalRanks(bm25, above=0.0),
            ReciprocalRanks(model),
        ),
    }
    for name, mix in mixes.items():
        weights[name] = _tuned(mix, HYBRID_WEIGHTS, tuning, DEFAULT_HYBRID_WEIGHT)
        retrievers[name] = mix(weights[name])
        notes += edge_note(name, weights[name])
    return BenchmarkSuite(retrievers, weights, notes)


def edge_note(name: str, weight: float) -> list[str]:
    """What to say of a hybrid whose best weight is an end of the grid: that one of the two hardly takes part."""
    if weight == HYBRID_WEIGHTS[-1]:
        return [f"{name}: the best weight is the largest that was tried ({weight:g}); BM25 hardly takes part."]
    if weight == HYBRID_WEIGHTS[0]:
        return [f"{name}: the best weight is the smallest that was tried ({weight:g}); {SUBJECT} hardly takes part."]
    return []


def tuning_examples(dataset: Dataset, *, seed: int) -> Examples | None:
    """Clicks of the valid split; none where it has none."""
    if not (dataset.interactions("valid")["event"] != SKIP).any():
        return None
    return load_examples(dataset, "valid", max_examples=_TUNING_EXAMPLES, seed=seed)


def _tuned(
    mix: Callable[[float], CatalogueRetriever], weights: Sequence[float], examples: Examples | None, default: float
) -> float:
    return default if examples is None else choose_weight(mix, weights, examples)
