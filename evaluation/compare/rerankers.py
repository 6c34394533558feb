"""Rerankers of a comparison of all models: the best first stage, and each method that only scores given pairs."""

from __future__ import annotations

from dpsr.baselines.combinations import stages_of
from dpsr.baselines.registry import REFERENCE
from dpsr.evaluation.compare.model_runs import ModelRuns

DEPTHS = (100, 1000)
KEPT_DEPTH = 100
"""Depth of the rerankers that keep the scores of the first stage."""
LIMIT_SECONDS = 15 * 60
"""Estimated time of a reranker's lists beyond which it is left out, unless it is named."""


def rerankers_of(runs: ModelRuns) -> tuple[list[str], list[str]]:
    """Names the rerankers of all methods that only score pairs.

    Returns:
        Names, and notes on the first stage and on those left out because they would take too long.
    """
    scorers = {name: facts for name, facts in runs.facts.items() if facts.scores and not facts.retrieves}
    if not scorers:
        return [], []
    first, note = best_first_stage(runs)
    names, notes, inputs = [], [note], runs.inputs
    lists = len(inputs.examples) + len(inputs.typos)
    lists += 0 if inputs.judgements is None else len(inputs.judgements.answerable())
    for scorer, facts in scorers.items():
        forms = [(f"{first}>{scorer}@{depth}", depth) for depth in DEPTHS]
        for name, depth in [*forms, (f"{first}>{first}+{scorer}@{KEPT_DEPTH}", KEPT_DEPTH)]:
            pairs = lists * min(depth, inputs.num_items)
            seconds = pairs / (facts.pairs_per_second or 1.0)
            if seconds <= LIMIT_SECONDS:
                names.append(name)
                continue
            notes.append(
                f"{name} is left out: {pairs:,} pairs at {facts.pairs_per_second:,.0f} a second take "
                f"{seconds / 60:,.0f} minutes, and {LIMIT_SECONDS // 60} are the limit; name it in --models to measure "
                "it, or lower evaluation.max_examples."
            )
    return names, notes


def best_first_stage(runs: ModelRuns) -> tuple[str, str]:
    """Chooses the retriever with the best mean nDCG on the valid split, which is not the one that is measured.

    Returns:
        Its name, and a note on the choice; BM25 where the valid split decides nothing.
    """
    found = {
        name: facts.valid_ndcg
        for name, facts in runs.facts.items()
        if facts.valid_ndcg is not None and stages_of(name, runs.registry) is None
    }
    if runs.inputs.split == "valid" or not found:
        reason = "the valid split is measured" if found else "the valid split has no click"
        return REFERENCE, f"{REFERENCE} is the first stage of all rerankers: {reason}, so that it chooses none."
    best = max(found, key=lambda name: found[name])
    return best, f"{best} is the first stage of all rerankers, the best on the valid split (nDCG {found[best]:.3f})."
