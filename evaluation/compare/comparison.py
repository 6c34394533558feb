"""Retrievers measured on the same examples, and what they have over each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from dpsr.baselines.baselines import click_counts
from dpsr.baselines.examples import Examples, with_one_typo
from dpsr.baselines.ranking import best_first, ranks_of_first
from dpsr.baselines.retrievers import CatalogueRetriever, Retriever, queries_at_once
from dpsr.data.dataset.tables import Dataset
from dpsr.evaluation.measures.judgements import JUDGED_MEASURES, Judgements, areas_under_curve, measure_judged
from dpsr.evaluation.measures.metrics import RANKED_DEPTH, half_width, ranked_values, sample_candidates, top_k_values
from dpsr.evaluation.measures.paired import bootstrap_means, interval
from dpsr.evaluation.measures.slices import TYPO, slices_of
from dpsr.evaluation.report.report import Comparison, Difference, Judged, Result
from dpsr.evaluation.report.tables import CLICKS, COMPARED

Values = Mapping[str, Mapping[str, np.ndarray]]
"""Retriever -> measure -> float64 [n]."""


def compare(
    retrievers: Mapping[str, Retriever],
    dataset: Dataset,
    examples: Examples,
    *,
    candidates: int,
    seed: int,
    subject: str = "",
    reference: str = "",
    slice_by: Sequence[str] = (),
    progress: bool = True,
) -> Comparison:
    """Measures retrievers on the same examples and the same candidates.

    Args:
        retrievers: name -> retriever.
        dataset: says which queries were seen in training.
        examples: the clicks to find.
        candidates: items that Top-k is measured among.
        seed: decides candidates, typos and the draws of the bootstrap.
        subject: the retriever that is compared with each other one; none by default.
        reference: the retriever that each other one is compared with; none by default.
        slice_by: columns of users or items whose values are slices too.
        progress: show a progress bar.

    Returns:
        A result for every slice (those of ``slices_of``, and ``one typo``) that has a click, and every retriever; and
        the paired differences on the same slices.
    """
    typos = with_one_typo(examples, seed=seed)
    counts = click_counts(dataset.interactions("train"), dataset.schema.num_items)
    masks = slices_of(examples, dataset, columns=slice_by)
    parts = [(examples, masks), (typos, {TYPO: np.ones(len(typos), dtype=bool)})]
    found = Comparison([], [], [])
    total = len(retrievers) * sum(len(part) for part, _ in parts)
    with tqdm(total=total, desc="evaluating", unit="query", disable=not progress) as bar:
        for part, part_masks in parts:
            drawn = sample_candidates(part.item_rows, dataset.schema.num_items, candidates, seed=seed)
            values = measure_all(retrievers, part, drawn, counts=counts, bar=bar)
            queries = part.records["query"]
            for slice_name, mask in part_masks.items():
                if not mask.any():
                    continue
                sliced = {
                    name: {measure: value[mask] for measure, value in values[name].items()} for name in retrievers
                }
                summary = summarise(
                    slice_name, sliced, queries[mask], COMPARED, subject=subject, reference=reference, seed=seed
                )
                found.results.extend(summary.results)
                found.differences.extend(summary.differences)
                found.over_reference.extend(summary.over_reference)
    return found


def measure_all(
    retrievers: Mapping[str, Retriever],
    examples: Examples,
    candidates: np.ndarray,
    *,
    counts: np.ndarray,
    bar: tqdm | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """``measure`` for several retrievers, a few examples at a time, so that they may share what they compute.

    Args:
        retrievers: name -> retriever.
        examples: n clicks.
        candidates: int32 [n, c], the clicked item first.
        counts: clicks of every item in the train split, int64 [items].
        bar: moves by one for each example and retriever.

    Returns:
        For each retriever float64 [n] for each measure.
    """
    size = queries_at_once(len(counts))
    found: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in retrievers}
    for start in range(0, len(examples), size):
        rows = slice(start, start + size)
        chunk = examples.take(rows)
        for name, retriever in retrievers.items():
            found[name].append(measure(retriever, chunk, candidates[rows], counts=counts))
            if bar is not None:
                bar.update(len(chunk))
    return {
        name: {key: np.concatenate([values[key] for values in chunks]) for key in chunks[0]}
        for name, chunks in found.items()
    }


def measure(
    retriever: Retriever, examples: Examples, candidates: np.ndarray, *, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Every measure of one retriever for every example.

    Args:
        retriever: what is measured.
        examples: n clicks.
        candidates: int32 [n, c], the clicked item first.
        counts: clicks of every item in the train split, int64 [items].

    Returns:
        float64 [n] for each measure; ``Clicks@10`` is the mean of ``counts`` over the ten best items.

    Raises:
        ValueError: the retriever gave a NaN score or an item twice.
    """
    items, scores = retriever.retrieve(examples, min(RANKED_DEPTH, len(counts)))
    candidate_scores = retriever.score(examples, candidates)
    if np.isnan(scores).any() or np.isnan(candidate_scores).any():
        raise ValueError(f"{type(retriever).__name__} gave NaN scores, which have no rank; every score is a number")
    items, _ = best_first(items, scores, examples.tie_keys)
    relevant = [{item: 1} for item in examples.item_rows.tolist()]
    ranks = ranks_of_first(candidate_scores, candidates, examples.tie_keys)
    popularity = {CLICKS: np.where(items[:, :10] >= 0, counts[items[:, :10]], 0).mean(axis=1)}
    return ranked_values(items, relevant) | top_k_values(ranks) | popularity


def summarise(
    slice_name: str,
    values: Values,
    queries: np.ndarray,
    measures: Sequence[str],
    *,
    subject: str,
    reference: str,
    seed: int,
) -> Comparison:
    """Means and intervals over the examples of a slice; every click counts once.

    Args:
        slice_name: the slice that the clicks are.
        values: retriever -> measure -> float64 [n].
        queries: the query of every click, integers [n].
        measures: what gets bootstrap intervals, alone and paired.
        subject: the retriever that is compared with each other one.
        reference: the retriever that each other one is compared with.
        seed: decides the draws of the bootstrap.
    """
    columns = {(name, measure): values[name][measure] for name in values for measure in measures}
    draws = bootstrap_means(np.stack(list(columns.values()), axis=1), queries, seed=seed)
    drawn = dict(zip(columns, [None] * len(columns) if draws is None else draws.T, strict=True))

    def difference(first: str, second: str) -> Difference:
        found = {}
        for measure in measures:
            mean = float((columns[first, measure] - columns[second, measure]).mean())
            one, other = drawn[first, measure], drawn[second, measure]
            found[measure] = interval(mean, None if one is None or other is None else one - other)
        return Difference(slice_name, first, second, found)

    results = [
        Result(
            slice=slice_name,
            retriever=name,
            examples=len(queries),
            metrics={measure: float(value.mean()) for measure, value in of_one.items()},
            half_widths={measure: half_width(value, queries) for measure, value in of_one.items() if measure != CLICKS},
            intervals={measure: interval(float(of_one[measure].mean()), drawn[name, measure]) for measure in measures},
        )
        for name, of_one in values.items()
    ]
    return Comparison(
        results,
        [difference(subject, name) for name in values if name != subject] if subject else [],
        [difference(name, reference) for name in values if name != reference] if reference else [],
    )


def compare_judged(
    retrievers: Mapping[str, CatalogueRetriever],
    judgements: Judgements,
    *,
    seed: int,
    subject: str = "",
    reference: str = "",
    progress: bool = True,
) -> Judged:
    """Measures retrievers on judged queries: ranked lists of the whole catalogue, and the order of the judged pairs."""
    num_items = next(iter(retrievers.values())).num_items
    values = measure_judged(retrievers, judgements, num_items=num_items, progress=progress)
    queries = np.arange(len(next(iter(values.values()))["nDCG@10"]))
    areas = areas_under_curve(retrievers, judgements, num_items=num_items)
    found = summarise(
        "judged queries", values, queries, JUDGED_MEASURES, subject=subject, reference=reference, seed=seed
    )
    results = [replace(result, metrics=result.metrics | areas[result.retriever]) for result in found.results]
    return Judged(
        queries=len(queries),
        pairs=sum(map(len, judgements.items)),
        unknown_items=judgements.unknown_items,
        positive_from=judgements.positive_from,
        comparison=replace(found, results=results),
    )
