"""Registry of methods: a name of ``evaluation.baselines`` -> how the method is built, and what it needs.

A new model is a file with a class (``Retriever``, ``Scorer`` or both) and one entry below. Mixtures and
rerankers of any two entries have names too (``combinations``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial

from dpsr.baselines.amazon_sps import SpsRetriever
from dpsr.baselines.analyzers import words
from dpsr.baselines.arc_i import ArcI
from dpsr.baselines.arc_ii import ArcII
from dpsr.baselines.bm25 import BM25Retriever
from dpsr.baselines.cdssm import CdssmRetriever
from dpsr.baselines.combinations import FORMS, combination, edge_note
from dpsr.baselines.context import Baseline, BuildContext, Need
from dpsr.baselines.cross_encoder import CrossEncoder, Start
from dpsr.baselines.drmm import Drmm, DrmmIdf
from dpsr.baselines.dssm import DssmRetriever
from dpsr.baselines.duet import Duet
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.baselines.fasttext import FastTextVectors
from dpsr.baselines.fitting.learner import PairTrainingSet, TrainedRetriever, TrainedScorer, TrainingSet
from dpsr.baselines.fitting.word_vectors import WordVectors
from dpsr.baselines.glove import GloveVectors
from dpsr.baselines.hybrids import (
    ReciprocalRankFusionRetriever,
    ReciprocalRanks,
    WeightedSumRetriever,
)
from dpsr.baselines.interfaces import Method
from dpsr.baselines.knrm import Knrm
from dpsr.baselines.lsa import LSARetriever
from dpsr.baselines.lse import LSERetriever
from dpsr.baselines.match_pyramid import MatchPyramid
from dpsr.baselines.memory import ClickMemoryRetriever
from dpsr.baselines.other_runs import run_entries
from dpsr.baselines.popularity import PopularityRetriever
from dpsr.baselines.prod2vec import Prod2VecRetriever
from dpsr.baselines.tuning import (
    DEFAULT_HYBRID_WEIGHT,
    DEFAULT_POPULARITY_WEIGHT,
    HYBRID_WEIGHTS,
)
from dpsr.baselines.word2vec import Word2VecVectors
from dpsr.baselines.word_averages import WordAverageRetriever
from dpsr.baselines.word_vector_file import read_word_vectors
from dpsr.config import ConfigError, LexicalConfig
from dpsr.indexing.lexical.build import ItemTerms
from dpsr.indexing.lexical.tuned import lexical_text
from dpsr.indexing.lexical.tuning import POPULARITY_GRID, tune_lexical
from dpsr.model.interface import OtherRun
from dpsr.tokenizer_cc.terms import analyze

SUBJECT = "dpsr"
"""The trained model."""
REFERENCE = "bm25"
"""The method that all others are compared with."""
HYBRIDS = ("dpsr+bm25", "dpsr+bm25 rrf")
"""Mixtures of the trained model with the reference."""


def resolve(
    names: Sequence[str], entries: Mapping[str, Baseline] | None = None, *, option: str = "evaluation.baselines"
) -> dict[str, Baseline]:
    """Looks up methods by name.

    Args:
        names: names of entries or rerankers.
        entries: the registry; ``ENTRIES`` by default.
        option: where the names were given, for the error.

    Returns:
        The registry with the rerankers among ``names`` added.

    Raises:
        ConfigError: a name is unknown; the message lists the known ones.
    """
    found = dict(ENTRIES if entries is None else entries)
    for name in names:
        if name in found:
            continue
        combined = combination(name, found)
        if combined is None:
            close = get_close_matches(name, found, 1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            known = ", ".join(f"{entry.name} (trains)" if entry.trains else entry.name for entry in found.values())
            raise ConfigError(
                f"{option}: unknown method {name!r}{meant} (known: {known}; and {FORMS} for two of "
                f"them, as {REFERENCE}>{SUBJECT}@100)"
            )
        found[name] = combined
    return found


def entries_with(runs: Mapping[str, OtherRun]) -> dict[str, Baseline]:
    """The registry with other trained runs by name.

    Raises:
        ConfigError: the name of a run is an entry's, or that of a combination.
    """
    for name in runs:
        if name in ENTRIES or set(name) & set(">@") or combination(name, ENTRIES) is not None:
            raise ConfigError(
                f"evaluation.runs: {name!r} cannot name a run: it is another method's name, that of a mixture, or has "
                "one of > and @, which name rerankers; choose another name"
            )
    return ENTRIES | run_entries(runs)


def build(names: Sequence[str], context: BuildContext) -> dict[str, Method]:
    """Builds methods in the given order; one whose needs are not met is left out with a note.

    Args:
        names: names in ``context.registry``.
        context: the inputs.
    """
    found = {}
    for name in dict.fromkeys(names):
        missing = context.missing(context.registry[name].needs)
        if missing:
            context.notes.append(f"{name} is left out: {', and '.join(need.value for need in missing)}.")
        else:
            found[name] = context.method(name)
    return found


def _bm25(context: BuildContext) -> Method:
    if not context.has_words:
        context.notes.append("bm25: no item text has a word, so it finds no item.")
    lexical = _without_popularity(context.lexical)
    if lexical != LexicalConfig():
        context.notes.append(f"bm25: {lexical_text(lexical.model_dump())}, by index.lexical and what was tuned for it.")
    return BM25Retriever(context.item_terms, lexical)


def _bm25_bigrams(context: BuildContext) -> Method:
    terms = ItemTerms.of(context.items, context.dataset.schema.text, bigrams=True)
    return BM25Retriever(terms, _without_popularity(context.lexical))


def _bm25_popularity(context: BuildContext) -> Method:
    name, lexical, weight = "bm25+popularity", context.lexical, DEFAULT_POPULARITY_WEIGHT
    if "popularity" in lexical.model_fields_set:
        weight = lexical.popularity
    elif context.has_words and context.valid_clicks.texts:
        grid = {"popularity": POPULARITY_GRID}
        values, _ = tune_lexical(context.item_terms, lexical, grid, context.valid_clicks, context.click_counts)
        weight = values["popularity"]
        if weight == POPULARITY_GRID[-1]:
            context.notes.append(f"{name}: the best weight is the largest that was tried ({weight:g}).")
    context.weights[name] = weight
    return BM25Retriever(context.item_terms, lexical.model_copy(update={"popularity": weight}), context.click_counts)


def _without_popularity(lexical: LexicalConfig) -> LexicalConfig:
    return lexical.model_copy(update={"popularity": 0.0})


def _memory(context: BuildContext) -> Method:
    queries, log = context.dataset.query_texts().to_pylist(), context.dataset.interaction_blocks("train")
    return ClickMemoryRetriever(queries, log, context.exhaustive("bm25+popularity"))


def _amazon_sps(context: BuildContext) -> Method:
    return context.trained(SpsRetriever(context.training_set, context.tokenizer))


def _retriever(name: str, made: Callable[[TrainingSet], TrainedRetriever]) -> Baseline:
    """Entry of a retriever that learns from clicks."""
    return Baseline(name, lambda context: context.trained(made(context.training_set)), _CLICKS | _WORDS, trains=True)


def _scorer(name: str, made: Callable[[PairTrainingSet], TrainedScorer]) -> Baseline:
    """Entry of a model that learns from clicks to score given pairs."""
    return Baseline(
        name, lambda context: context.trained(made(context.pair_training_set)), _CLICKS | _WORDS, trains=True
    )


def _word_average(made: type[WordVectors], context: BuildContext) -> Method:
    """Averages of word vectors that are trained on the texts of the shop."""
    vectors = made([analyze(text) for text in context.train_texts], seed=context.seed)
    return WordAverageRetriever(context.item_texts, analyze, context.trained(vectors))


def _glove(context: BuildContext) -> Method:
    if context.word_vectors is None:
        return _word_average(GloveVectors, context)
    retriever = WordAverageRetriever(
        context.item_texts, words(context.tokenizer), read_word_vectors(context.word_vectors)
    )
    context.notes.append(
        f"glove: {context.word_vectors} has vectors of {retriever.known_words:.1%} of the items' distinct words."
    )
    return retriever


def _prod2vec(context: BuildContext) -> Method:
    sequences = context.item_sequences
    retriever = Prod2VecRetriever(
        sequences,
        context.dataset.query_texts().to_pylist(),
        context.train_clicks,
        context.dataset.schema.num_items,
        analyze,
        seed=context.seed,
    )
    if not sequences.of_users:
        context.notes.append(
            "prod2vec: no user has clicks on two items; its sequences are the items clicked for the same query."
        )
    return context.trained(retriever)


def _lse(context: BuildContext) -> Method:
    return context.trained(LSERetriever(context.item_texts, analyze, seed=context.seed))


def _cross_encoder(context: BuildContext) -> Method:
    given = context.checkpoint
    start = Start.from_nothing(context.subwords) if given is None else Start.from_checkpoint(given)
    return context.trained(CrossEncoder(context.pair_training_set, start))


def _model(context: BuildContext) -> Method:
    assert context.model is not None  # Need.MODEL
    return context.model


def _weighted_sum(context: BuildContext) -> Method:
    mixture = partial(WeightedSumRetriever, context.exhaustive(REFERENCE), context.exhaustive(SUBJECT))
    return _hybrid(HYBRIDS[0], mixture, context)


def _rank_fusion(context: BuildContext) -> Method:
    mixture = partial(
        ReciprocalRankFusionRetriever,
        ReciprocalRanks(context.exhaustive(REFERENCE)),
        ReciprocalRanks(context.exhaustive(SUBJECT)),
    )
    return _hybrid(HYBRIDS[1], mixture, context)


def _hybrid(name: str, mixture: Callable[[float], ExhaustiveRetriever], context: BuildContext) -> Method:
    mixed = context.tuned(name, mixture, HYBRID_WEIGHTS, DEFAULT_HYBRID_WEIGHT)
    context.notes += edge_note(name, context.weights[name], REFERENCE, SUBJECT)
    return mixed


_CLICKS, _WORDS, _MODEL = (frozenset({need}) for need in (Need.CLICKS, Need.WORDS, Need.MODEL))

ENTRIES = {
    entry.name: entry
    for entry in (
        Baseline("popularity", lambda context: PopularityRetriever(context.click_counts), _CLICKS),
        Baseline("bm25", _bm25),
        Baseline("bm25 bigrams", _bm25_bigrams, _WORDS),
        Baseline("lsa", lambda context: LSARetriever(context.item_texts, analyze, seed=context.seed), _WORDS),
        Baseline("bm25+popularity", _bm25_popularity, _CLICKS),
        Baseline("memory", _memory, _CLICKS),
        Baseline("word2vec", partial(_word_average, Word2VecVectors), _WORDS, trains=True),
        Baseline("glove", _glove, _WORDS, trains=True),
        Baseline("fasttext", partial(_word_average, FastTextVectors), _WORDS, trains=True),
        Baseline("lse", _lse, _WORDS, trains=True),
        Baseline("prod2vec", _prod2vec, frozenset({Need.CLICKS, Need.SEQUENCES}), trains=True),
        _retriever("dssm", DssmRetriever),
        _retriever("cdssm", CdssmRetriever),
        Baseline("amazon sps", _amazon_sps, _CLICKS | _WORDS, trains=True),
        _scorer("arc-i", ArcI),
        _scorer("arc-ii", ArcII),
        _scorer("matchpyramid", MatchPyramid),
        _scorer("drmm", Drmm),
        _scorer("drmm-idf", DrmmIdf),
        _scorer("k-nrm", Knrm),
        _scorer("duet", Duet),
        Baseline("cross-encoder", _cross_encoder, _CLICKS | _WORDS, trains=True),
        Baseline(SUBJECT, _model, _MODEL),
        Baseline(HYBRIDS[0], _weighted_sum, _MODEL, parts=(REFERENCE, SUBJECT)),
        Baseline(HYBRIDS[1], _rank_fusion, _MODEL, parts=(REFERENCE, SUBJECT)),
    )
}
"""All methods by name, combinations aside."""
