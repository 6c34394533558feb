"""Measures retrievers on the same examples, and the trained model against the baselines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dpsr.config import Config
from dpsr.data.tables import Dataset
from dpsr.evaluation.contest import SUBJECT, standard_baselines, with_model
from dpsr.evaluation.examples import Examples, load_examples, seen_in_training, with_one_typo
from dpsr.evaluation.metrics import RANKED_DEPTH, half_width, ranked_values, sample_candidates, top_k_values
from dpsr.evaluation.paired import paired_intervals
from dpsr.evaluation.ranking import best_first, ranks_of_first
from dpsr.evaluation.report import ALL, COMPARED, Difference, Interval, Report, Result, describe_machine
from dpsr.evaluation.retrievers import Retriever, queries_at_once
from dpsr.evaluation.two_tower import TwoTowerRetriever
from dpsr.indexing.corpus import embed_items
from dpsr.model.two_tower import TwoTower


def evaluate(
    config: Config, dataset: Dataset, model: TwoTower, *, split: str = "test", progress: bool = True
) -> Report:
    """Compares the trained model with the baselines; also writes ``work_dir/evaluation/metrics.json``.

    Args:
        config: the run's configuration; ``training.seed`` decides every random choice.
        dataset: the dataset that the model was trained on.
        model: the trained towers.
        split: ``valid`` or ``test``.
        progress: show progress bars.

    Raises:
        ValueError: there is no such split.
        DatasetError: the split is empty.
    """
    seed = config.training.seed
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
    report = Report(
        name=config.name,
        split=split,
        split_size=len(dataset.interactions(split)),
        num_items=dataset.schema.num_items,
        candidates=min(config.evaluation.candidates, dataset.schema.num_items),
        weights=contest.weights,
        seed=seed,
        machine=describe_machine(),
        results=results,
        differences=differences,
    )
    report.write(Path(config.work_dir) / "evaluation")
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
        A result for every slice (``all``, ``seen queries``, ``unseen queries``, ``one typo``) that has a click, and
        every retriever; and the paired differences of the subject on the same slices.
    """
    seen = seen_in_training(examples, dataset)
    typos = with_one_typo(examples, seed=seed)
    everything = np.ones(len(examples), dtype=bool)
    masks = {ALL: everything, "seen queries": seen, "unseen queries": ~seen}
    parts = [(examples, masks), (typos, {"one typo": np.ones(len(typos), dtype=bool)})]
    results, differences = [], []
    total = len(retrievers) * sum(len(part) for part, _ in parts)
    with tqdm(total=total, desc="evaluating", unit="query", disable=not progress) as bar:
        for part, part_masks in parts:
            drawn = sample_candidates(part.item_rows, dataset.schema.num_items, candidates, seed=seed)
            values = measure_all(retrievers, part, drawn, num_items=dataset.schema.num_items, bar=bar)
            queries = part.records["query"]
            for slice_name, mask in part_masks.items():
                if not mask.any():
                    continue
                sliced = {
                    name: {measure: value[mask] for measure, value in values[name].items()} for name in retrievers
                }
                results += [summarise(slice_name, name, sliced[name], queries[mask]) for name in retrievers]
                if subject:
                    differences += paired_differences(slice_name, subject, sliced, queries[mask], seed=seed)
    return results, differences


def measure_all(
    retrievers: Mapping[str, Retriever],
    examples: Examples,
    candidates: np.ndarray,
    *,
    num_items: int,
    bar: tqdm | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """``measure`` for several retrievers, a few examples at a time, so that they may share what they compute.

    Args:
        retrievers: name -> retriever.
        examples: n clicks.
        candidates: int32 [n, c], the clicked item first.
        num_items: size of the catalogue.
        bar: moves by one for each example and retriever.

    Returns:
        For each retriever float64 [n] for each measure.
    """
    size = queries_at_once(num_items)
    found: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in retrievers}
    for start in range(0, len(examples), size):
        rows = slice(start, start + size)
        chunk = examples.take(rows)
        for name, retriever in retrievers.items():
            found[name].append(measure(retriever, chunk, candidates[rows], num_items=num_items))
            if bar is not None:
                bar.update(len(chunk))
    return {
        name: {key: np.concatenate([values[key] for values in chunks]) for key in chunks[0]}
        for name, chunks in found.items()
    }


def measure(
    retriever: Retriever, examples: Examples, candidates: np.ndarray, *, num_items: int
) -> dict[str, np.ndarray]:
    """Every measure of one retriever for every example.

    Args:
        retriever: what is measured.
        examples: n clicks.
        candidates: int32 [n, c], the clicked item first.
        num_items: size of the catalogue.

    Returns:
        float64 [n] for each measure.

    Raises:
        ValueError: the retriever gave a NaN score or an item twice.
    """
    items, scores = retriever.retrieve(examples, min(RANKED_DEPTH, num_items))
    candidate_scores = retriever.score(examples, candidates)
    if np.isnan(scores).any() or np.isnan(candidate_scores).any():
        raise ValueError(f"{type(retriever).__name__} gave NaN scores, which have no rank; every score is a number")
    items, _ = best_first(items, scores, examples.tie_keys)
    relevant = [{item: 1} for item in examples.item_rows.tolist()]
    ranks = ranks_of_first(candidate_scores, candidates, examples.tie_keys)
    return ranked_values(items, relevant) | top_k_values(ranks)


def summarise(slice_name: str, retriever: str, values: Mapping[str, np.ndarray], queries: np.ndarray) -> Result:
    """Means and intervals over the examples of a slice; every click counts once."""
    return Result(
        slice=slice_name,
        retriever=retriever,
        examples=len(queries),
        metrics={name: float(value.mean()) for name, value in values.items()},
        half_widths={name: half_width(value, queries) for name, value in values.items()},
    )


def paired_differences(
    slice_name: str,
    subject: str,
    values: Mapping[str, Mapping[str, np.ndarray]],
    queries: np.ndarray,
    *,
    seed: int,
) -> list[Difference]:
    """What a retriever has over each other one on the same clicks, with intervals over queries.

    Args:
        slice_name: the slice that the clicks are.
        subject: the retriever that is compared.
        values: retriever -> measure -> float64 [n].
        queries: the query of every click, integers [n].
        seed: decides the draws of the bootstrap.
    """
    pairs = [(name, measure) for name in values if name != subject for measure in COMPARED]
    if not pairs:
        return []
    table = np.stack([values[subject][measure] - values[name][measure] for name, measure in pairs], axis=1)
    low, high = paired_intervals(table, queries, seed=seed)
    found = dict(zip(pairs, zip(table.mean(axis=0).tolist(), low.tolist(), high.tolist(), strict=True), strict=True))
    return [
        Difference(slice_name, subject, name, {measure: Interval(*found[name, measure]) for measure in COMPARED})
        for name in values
        if name != subject
    ]
