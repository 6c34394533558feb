"""Methods measured on the same examples, with intervals and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from dpsr.baselines.examples import QueryExamples, with_one_typo
from dpsr.baselines.interfaces import Method
from dpsr.data.dataset.tables import Dataset
from dpsr.evaluation.measures.clicks import measure_all
from dpsr.evaluation.measures.intervals import bootstrap_means, half_width, interval
from dpsr.evaluation.measures.judgements import JUDGED_MEASURES, Judgements, areas_under_curve, measure_judged
from dpsr.evaluation.measures.matches import MATCH_MEASURES
from dpsr.evaluation.measures.metrics import CLICKS, COMPARED, sample_candidates
from dpsr.evaluation.measures.slices import TYPO, slices_of
from dpsr.evaluation.report.results import Comparison, Difference, Judged, Result

Values = Mapping[str, Mapping[str, np.ndarray]]
"""Method -> measure -> float64 [n]."""


def compare(
    methods: Mapping[str, Method],
    dataset: Dataset,
    examples: QueryExamples,
    *,
    candidates: int,
    seed: int,
    subject: str = "",
    reference: str = "",
    slice_by: Sequence[str] = (),
    progress: bool = True,
) -> Comparison:
    """Measures methods on the same examples and candidates, by slice.

    Args:
        methods: name -> method.
        dataset: the train split, which decides the slices of seen queries.
        examples: the clicks to find.
        candidates: items that Top-k is measured among.
        seed: decides candidates, typos and the draws of the bootstrap.
        subject: the method that each other one is subtracted from; none by default.
        reference: the method that is subtracted from each other one; none by default.
        slice_by: columns of users or items whose values are slices too.
        progress: show a progress bar.

    Returns:
        Results and paired differences of every slice with a click: those of ``slices_of``, and ``one typo``.
    """
    typos = with_one_typo(examples, seed=seed)
    counts = dataset.clicks_per_item("train")
    masks = slices_of(examples, dataset, columns=slice_by)
    variants = [(examples, masks), (typos, {TYPO: np.ones(len(typos), dtype=bool)})]
    found = Comparison([], [], [])
    total = len(methods) * sum(len(variant) for variant, _ in variants)
    with tqdm(total=total, desc="evaluating", unit="query", disable=not progress) as bar:
        for variant, variant_masks in variants:
            drawn = sample_candidates(variant.item_rows, dataset.schema.num_items, candidates, seed=seed)
            values = measure_all(methods, variant, drawn, counts=counts, bar=bar)
            queries = variant.records["query"]
            found += summarise_slices(values, variant_masks, queries, subject=subject, reference=reference, seed=seed)
    return found


def summarise_slices(
    values: Values, masks: Mapping[str, np.ndarray], queries: np.ndarray, *, subject: str, reference: str, seed: int
) -> Comparison:
    """Summarises the clicks of every slice, bool [n]; a slice without a click is left out."""
    found = Comparison([], [], [])
    for name, mask in masks.items():
        if mask.any():
            sliced = {method: {key: value[mask] for key, value in of_one.items()} for method, of_one in values.items()}
            found += summarise(name, sliced, queries[mask], COMPARED, subject=subject, reference=reference, seed=seed)
    return found


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
    """Computes means and intervals over the examples of a slice; every click has the same weight.

    Args:
        slice_name: name of the slice.
        values: method -> measure -> float64 [n]; methods may lack measures.
        queries: the query of every click, integers [n].
        measures: measures with bootstrap intervals, alone and paired.
        subject: the method that each other one is subtracted from.
        reference: the method that is subtracted from each other one.
        seed: decides the draws of the bootstrap.
    """
    columns = {
        (name, measure): of_one[measure] for name, of_one in values.items() for measure in measures if measure in of_one
    }
    draws = bootstrap_means(np.stack(list(columns.values()), axis=1), queries, seed=seed) if columns else None
    drawn = dict(zip(columns, [None] * len(columns) if draws is None else draws.T, strict=True))

    def difference(first: str, second: str) -> Difference:
        found = {}
        for measure in measures:
            if not {(first, measure), (second, measure)} <= columns.keys():
                continue
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
            intervals={
                measure: interval(float(of_one[measure].mean()), drawn[name, measure])
                for measure in measures
                if measure in of_one
            },
        )
        for name, of_one in values.items()
    ]
    return Comparison(
        results,
        [difference(subject, name) for name in values if name != subject] if subject else [],
        [difference(name, reference) for name in values if name != reference] if reference else [],
    )


def compare_judged(
    methods: Mapping[str, Method],
    judgements: Judgements,
    num_items: int,
    *,
    seed: int,
    subject: str = "",
    reference: str = "",
    progress: bool = True,
) -> Judged:
    """Measures methods on judged queries: ranked lists of the whole catalogue, and the order of the judged pairs."""
    values = measure_judged(methods, judgements, num_items=num_items, progress=progress)
    found_areas = areas_under_curve(methods, judgements, num_items=num_items)
    return summarise_judged(values, found_areas, judgements, subject=subject, reference=reference, seed=seed)


def summarise_judged(
    values: Values,
    found_areas: Mapping[str, dict[str, float]],
    judgements: Judgements,
    *,
    subject: str,
    reference: str,
    seed: int,
) -> Judged:
    """Summarises the values of judged queries with a relevant item, and adds the areas under the curve."""
    queries = np.arange(len(judgements.answerable()))
    found = summarise(
        "judged queries",
        values,
        queries,
        JUDGED_MEASURES + MATCH_MEASURES,
        subject=subject,
        reference=reference,
        seed=seed,
    )
    results = [replace(result, metrics=result.metrics | found_areas[result.retriever]) for result in found.results]
    return Judged(
        queries=len(queries),
        pairs=sum(map(len, judgements.items)),
        unknown_items=judgements.unknown_items,
        positive_from=judgements.positive_from,
        comparison=replace(found, results=results),
    )
