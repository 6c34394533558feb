"""Measures retrievers on the same examples, and the trained model against the baselines."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dpsr.config import Config
from dpsr.data.tables import Dataset
from dpsr.evaluation.baselines import click_counts
from dpsr.evaluation.cases import differing_cases
from dpsr.evaluation.contest import SUBJECT, item_texts, standard_baselines, with_model
from dpsr.evaluation.examples import Examples, load_examples, with_one_typo
from dpsr.evaluation.html import item_map, read_run, write_html
from dpsr.evaluation.judgements import JUDGED_MEASURES, Judgements, areas_under_curve, load_judgements, measure_judged
from dpsr.evaluation.metrics import RANKED_DEPTH, half_width, ranked_values, sample_candidates, top_k_values
from dpsr.evaluation.paired import paired_intervals
from dpsr.evaluation.ranking import best_first, ranks_of_first
from dpsr.evaluation.report import CLICKS, COMPARED, Difference, Interval, Judged, Report, Result, describe_machine
from dpsr.evaluation.retrievers import CatalogueRetriever, Retriever, queries_at_once
from dpsr.evaluation.slices import TYPO, slices_of
from dpsr.evaluation.trec import write_trec
from dpsr.evaluation.two_tower import TwoTowerRetriever
from dpsr.indexing.corpus import embed_items
from dpsr.model.two_tower import TwoTower

_TIMED_QUERIES = 50


def evaluate(
    config: Config,
    dataset: Dataset,
    model: TwoTower,
    *,
    split: str = "test",
    page: Path | None = None,
    other_runs: Sequence[Path] = (),
    trec: Path | None = None,
    progress: bool = True,
) -> Report:
    """Compares the trained model with the baselines; also writes ``work_dir/evaluation/metrics.json``.

    Args:
        config: the run's configuration; ``training.seed`` decides every random choice.
        dataset: the dataset that the model was trained on.
        model: the trained towers.
        split: ``valid`` or ``test``.
        page: where to write the report as a web page, if anywhere.
        other_runs: ``metrics.json`` of other runs; the page shows the popularity of what they retrieve beside this one.
        trec: directory to write TREC runs and judgements to, if anywhere.
        progress: show progress bars.

    Raises:
        ValueError: there is no such split.
        DatasetError: the split is empty; labels, or the results of another run, cannot be used.
    """
    seed = config.training.seed
    runs = [read_run(path) for path in other_runs]
    examples = load_examples(dataset, split, max_examples=config.evaluation.max_examples, seed=seed)
    vectors = embed_items(model, dataset, progress=progress)
    baselines = standard_baselines(dataset, seed=seed)
    contest = with_model(baselines, TwoTowerRetriever(model, dataset, vectors), dataset, seed=seed)
    results, differences = compare(
        contest.retrievers,
        dataset,
        examples,
        candidates=config.evaluation.candidates,
        seed=seed,
        subject=SUBJECT,
        progress=progress,
    )
    judged = judgements = None
    if config.evaluation.labels is not None:
        judgements = load_judgements(config.evaluation.labels, dataset, seed=seed)
        judged = compare_judged(contest.retrievers, judgements, subject=SUBJECT, seed=seed, progress=progress)
    report = Report(
        name=config.name,
        split=split,
        split_size=len(dataset.interactions(split)),
        num_items=dataset.schema.num_items,
        candidates=min(config.evaluation.candidates, dataset.schema.num_items),
        weights=contest.weights,
        mixing_ratio=config.loss.mixing_ratio,
        seed=seed,
        machine=describe_machine(),
        results=results,
        differences=differences,
        judged=judged,
        retrieval_ms=retrieval_milliseconds(contest.retrievers, examples, num_items=dataset.schema.num_items),
    )
    report.write(Path(config.work_dir) / "evaluation")
    if page is not None:
        texts = item_texts(dataset)
        counts = click_counts(dataset.interactions("train"), dataset.schema.num_items)
        cases = differing_cases(contest.retrievers[SUBJECT], contest.retrievers["bm25"], examples, texts)
        figure = item_map(vectors, dataset, counts, texts, seed=seed)
        write_html(page, report, subject=SUBJECT, cases=cases, item_map=figure, runs=runs)
    if trec is not None:
        topics, gains = examples, [{item: 1} for item in examples.item_rows.tolist()]
        write_trec(trec / split, contest.retrievers, topics, gains, dataset.item_ids, progress=progress)
        if judgements is not None:
            gains = [judgements.gains(row) for row in range(len(judgements))]
            topics = judgements.queries
            write_trec(trec / "judged", contest.retrievers, topics, gains, dataset.item_ids, progress=progress)
    return report


def compare(
    retrievers: Mapping[str, Retriever],
    dataset: Dataset,
    examples: Examples,
    *,
    candidates: int,
    seed: int,
    subject: str = "",
    progress: bool = True,
) -> tuple[list[Result], list[Difference]]:
    """Measures retrievers on the same examples and the same candidates.

    Args:
        retrievers: name -> retriever.
        dataset: says which queries were seen in training.
        examples: the clicks to find.
        candidates: items that Top-k is measured among.
        seed: decides candidates, typos and the draws of the bootstrap.
        subject: the retriever that is compared with each other one; none by default.
        progress: show a progress bar.

    Returns:
        A result for every slice (those of ``slices_of``, and ``one typo``) that has a click, and every retriever; and
        the paired differences of the subject on the same slices.
    """
    typos = with_one_typo(examples, seed=seed)
    counts = click_counts(dataset.interactions("train"), dataset.schema.num_items)
    parts = [(examples, slices_of(examples, dataset)), (typos, {TYPO: np.ones(len(typos), dtype=bool)})]
    results, differences = [], []
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
                results += [summarise(slice_name, name, sliced[name], queries[mask]) for name in retrievers]
                if subject:
                    differences += paired_differences(slice_name, subject, sliced, queries[mask], COMPARED, seed=seed)
    return results, differences


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


def summarise(slice_name: str, retriever: str, values: Mapping[str, np.ndarray], queries: np.ndarray) -> Result:
    """Means and intervals over the examples of a slice; every click counts once."""
    return Result(
        slice=slice_name,
        retriever=retriever,
        examples=len(queries),
        metrics={name: float(value.mean()) for name, value in values.items()},
        half_widths={name: half_width(value, queries) for name, value in values.items() if name != CLICKS},
    )


def paired_differences(
    slice_name: str,
    subject: str,
    values: Mapping[str, Mapping[str, np.ndarray]],
    queries: np.ndarray,
    measures: Sequence[str],
    *,
    seed: int,
) -> list[Difference]:
    """What a retriever has over each other one on the same clicks, with intervals over queries.

    Args:
        slice_name: the slice that the clicks are.
        subject: the retriever that is compared.
        values: retriever -> measure -> float64 [n].
        queries: the query of every click, integers [n].
        measures: what is compared.
        seed: decides the draws of the bootstrap.
    """
    pairs = [(name, measure) for name in values if name != subject for measure in measures]
    if not pairs:
        return []
    table = np.stack([values[subject][measure] - values[name][measure] for name, measure in pairs], axis=1)
    low, high = paired_intervals(table, queries, seed=seed)
    found = dict(zip(pairs, zip(table.mean(axis=0).tolist(), low.tolist(), high.tolist(), strict=True), strict=True))
    return [
        Difference(slice_name, subject, name, {measure: Interval(*found[name, measure]) for measure in measures})
        for name in values
        if name != subject
    ]


def compare_judged(
    retrievers: Mapping[str, CatalogueRetriever],
    judgements: Judgements,
    *,
    subject: str,
    seed: int,
    progress: bool = True,
) -> Judged:
    """Measures retrievers on judged queries: ranked lists of the whole catalogue, and the order of the judged pairs."""
    num_items = next(iter(retrievers.values())).num_items
    values = measure_judged(retrievers, judgements, num_items=num_items, progress=progress)
    queries = np.arange(len(next(iter(values.values()))["nDCG@10"]))
    areas = areas_under_curve(retrievers, judgements, num_items=num_items)
    results = []
    for name in retrievers:
        result = summarise("judged queries", name, values[name], queries)
        results.append(replace(result, metrics=result.metrics | areas[name]))
    return Judged(
        queries=len(queries),
        pairs=sum(map(len, judgements.items)),
        unknown_items=judgements.unknown_items,
        positive_from=judgements.positive_from,
        results=results,
        differences=paired_differences("judged queries", subject, values, queries, JUDGED_MEASURES, seed=seed),
    )


def retrieval_milliseconds(
    retrievers: Mapping[str, Retriever], examples: Examples, *, num_items: int
) -> dict[str, float]:
    """The median time from one text to its 1,000 best items by exact search, in milliseconds."""
    rows = np.linspace(0, len(examples) - 1, _TIMED_QUERIES).astype(np.int64)
    found = {}
    for name, retriever in retrievers.items():
        times = []
        for row in rows:
            one = examples.take(slice(row, row + 1))
            start = time.perf_counter()
            retriever.retrieve(one, min(RANKED_DEPTH, num_items))
            times.append(time.perf_counter() - start)
        found[name] = 1000 * float(np.median(times))
    return found
