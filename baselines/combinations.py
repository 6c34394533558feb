"""Methods made of two others, by name.

``A+B`` and ``A+B rrf`` are weighted sums and rank fusions of two retrievers; ``FIRST>SCORER@DEPTH`` orders the best
items of a first stage by a scorer, ``FIRST>FIRST+SCORER@DEPTH`` by the scores of both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

from dpsr.baselines.context import Baseline, BuildContext
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.baselines.hybrids import (
    ListScores,
    ListSumRetriever,
    ReciprocalRankFusionRetriever,
    ReciprocalRanks,
)
from dpsr.baselines.interfaces import Method, Retriever, Scorer
from dpsr.baselines.reranker import Reranker, choose_scorer_weight
from dpsr.baselines.tuning import DEFAULT_HYBRID_WEIGHT, HYBRID_WEIGHTS
from dpsr.config import ConfigError

RERANK_DEPTH = 1000
"""Items of the first stage that a reranker scores by default."""
FORMS = "A+B, A+B rrf, FIRST>SCORER, FIRST>SCORER@DEPTH and FIRST>FIRST+SCORER@DEPTH"
"""The names that this module reads."""
_RERANKER = re.compile(r"(?P<first>[^>@]+)>(?P<scorer>[^>@]+)(?:@(?P<depth>[1-9][0-9]*))?")
_RANKS = " rrf"


def combination(name: str, entries: Mapping[str, Baseline]) -> Baseline | None:
    """Reads the name of a combination of entries; None where it is none."""
    match = _RERANKER.fullmatch(name)
    if match is None:
        return _mixture(name, entries)
    first = entries.get(match["first"]) or _mixture(match["first"], entries)
    if first is None:
        return None
    depth = int(match["depth"] or RERANK_DEPTH)
    # An entry of the whole name comes first: bm25>bm25+popularity@100 is reranked by that method.
    if match["scorer"] in entries:
        return _reranker(name, first, entries[match["scorer"]], depth, keeps_first=False)
    scorer = entries.get(match["scorer"].removeprefix(f"{first.name}+"))
    return None if scorer is None else _reranker(name, first, scorer, depth, keeps_first=True)


def stages_of(name: str, entries: Mapping[str, Baseline]) -> tuple[str, str, int] | None:
    """Returns first stage, scorer and depth of a reranker of two entries by the scorer's scores alone; else None."""
    match = _RERANKER.fullmatch(name)
    if match is None or not {match["first"], match["scorer"]} <= entries.keys():
        return None
    return match["first"], match["scorer"], int(match["depth"] or RERANK_DEPTH)


def _mixture(name: str, entries: Mapping[str, Baseline]) -> Baseline | None:
    by_rank = name.endswith(_RANKS)
    sides = name.removesuffix(_RANKS)
    for place in (place for place, letter in enumerate(sides) if letter == "+"):
        first, second = entries.get(sides[:place]), entries.get(sides[place + 1 :])
        if first is not None and second is not None:
            return Baseline(
                name,
                partial(_build_mixture, name, first.name, second.name, by_rank),
                first.needs | second.needs,
                parts=(first.name, second.name),
            )
    return None


def _build_mixture(name: str, first: str, second: str, by_rank: bool, context: BuildContext) -> Method:
    one, other = context.exhaustive(first), context.exhaustive(second)
    mixture: Callable[[float], ExhaustiveRetriever]
    if by_rank:
        mixture = partial(ReciprocalRankFusionRetriever, ReciprocalRanks(one), ReciprocalRanks(other))
    else:
        mixture = partial(ListSumRetriever, ListScores(one), ListScores(other))
    mixed = context.tuned(name, mixture, HYBRID_WEIGHTS, DEFAULT_HYBRID_WEIGHT)
    context.notes += edge_note(name, context.weights[name], first, second)
    return mixed


def _reranker(name: str, first: Baseline, scorer: Baseline, depth: int, *, keeps_first: bool) -> Baseline:
    def built(context: BuildContext) -> Method:
        first_stage = context.method(first.name) if first.name in context.registry else first.build(context)
        second_stage = context.method(scorer.name)
        if not isinstance(first_stage, Retriever):
            raise ConfigError(
                f"evaluation.baselines: {name!r}: {first.name} only scores given pairs, it retrieves nothing"
            )
        if not isinstance(second_stage, Scorer):
            raise ConfigError(f"evaluation.baselines: {name!r}: {scorer.name} only retrieves, it scores no given pairs")
        if not keeps_first:
            return Reranker(first_stage, second_stage, depth)
        examples, weight = context.tuning_examples, DEFAULT_HYBRID_WEIGHT
        if examples is not None:
            weight = choose_scorer_weight(first_stage, second_stage, depth, HYBRID_WEIGHTS, examples)
        context.weights[name] = weight
        context.notes += edge_note(name, weight, first.name, scorer.name)
        return Reranker(first_stage, second_stage, depth, scorer_weight=weight)

    parts = dict.fromkeys((first.name, *first.parts, scorer.name, *scorer.parts))
    return Baseline(name, built, first.needs | scorer.needs, parts=tuple(parts))


def edge_note(name: str, weight: float, first: str, second: str) -> list[str]:
    """Returns a note for a mixture whose best weight is an end of the grid, where one side hardly contributes."""
    if weight == HYBRID_WEIGHTS[-1]:
        return [f"{name}: the best weight is the largest that was tried ({weight:g}); {first} hardly takes part."]
    if weight == HYBRID_WEIGHTS[0]:
        return [f"{name}: the best weight is the smallest that was tried ({weight:g}); {second} hardly takes part."]
    return []
