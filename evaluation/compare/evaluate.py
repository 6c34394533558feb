"""A whole evaluation: the trained model against the baselines, as tables, JSON, a web page and files of TREC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dpsr.baselines.baselines import click_counts
from dpsr.baselines.examples import Examples, load_examples
from dpsr.baselines.two_tower import TwoTowerRetriever
from dpsr.config import Config
from dpsr.data.dataset.tables import Dataset
from dpsr.evaluation.compare.benchmark_suite import (
    REFERENCE,
    SUBJECT,
    BenchmarkSuite,
    item_texts,
    standard_baselines,
    with_dssm,
    with_model,
)
from dpsr.evaluation.compare.cases import differing_cases
from dpsr.evaluation.compare.comparison import compare, compare_judged
from dpsr.evaluation.measures.judgements import Judgements, load_judgements
from dpsr.evaluation.measures.polysemy import senses_by_head
from dpsr.evaluation.measures.senses import load_senses
from dpsr.evaluation.measures.timing import retrieval_times
from dpsr.evaluation.report.html import Figures, read_run, write_html
from dpsr.evaluation.report.item_map import heads_maps, item_map
from dpsr.evaluation.report.report import Report, describe_machine
from dpsr.evaluation.report.trec import write_trec
from dpsr.indexing.corpus import embed_items
from dpsr.model.two_tower import TwoTower


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
    # Whatever may be wrong with a file is told before anything is measured.
    runs = [read_run(path) for path in other_runs]
    labels, senses = config.evaluation.labels, config.evaluation.senses
    judgements = None if labels is None else load_judgements(labels, dataset, seed=seed)
    truth, meaning = ([], "") if senses is None else load_senses(Path(senses), dataset)
    examples = load_examples(dataset, split, max_examples=config.evaluation.max_examples, seed=seed)
    vectors = embed_items(model, dataset, progress=progress)
    baselines = standard_baselines(dataset, seed=seed)
    if config.evaluation.dssm:
        cache = Path(config.work_dir) / "evaluation" / "dssm.npz"
        baselines = with_dssm(baselines, dataset, seed=seed, cache=cache, progress=progress)
    retriever = TwoTowerRetriever(model, dataset, vectors)
    suite = with_model(baselines, retriever, dataset, seed=seed)
    pair = {"subject": SUBJECT, "reference": REFERENCE}
    comparison = compare(
        suite.retrievers,
        dataset,
        examples,
        candidates=config.evaluation.candidates,
        seed=seed,
        slice_by=config.evaluation.slice_by,
        progress=progress,
        **pair,
    )
    judged = None
    if judgements is not None:
        judged = compare_judged(suite.retrievers, judgements, seed=seed, progress=progress, **pair)
    report = Report(
        name=config.name,
        split=split,
        split_size=len(dataset.interactions(split)),
        num_items=dataset.schema.num_items,
        candidates=min(config.evaluation.candidates, dataset.schema.num_items),
        weights=suite.weights,
        mixing_ratio=config.loss.mixing_ratio,
        seed=seed,
        machine=describe_machine(),
        comparison=comparison,
        judged=judged,
        notes=suite.notes,
        senses=senses_by_head(model, dataset, vectors, truth, column=meaning) if truth else [],
        retrieval=retrieval_times(suite.retrievers, examples),
    )
    report.write(Path(config.work_dir) / "evaluation")
    if page is not None:
        texts = item_texts(dataset)
        counts = click_counts(dataset.interactions("train"), dataset.schema.num_items)
        wins, losses = differing_cases(retriever, suite.retrievers[REFERENCE], examples, texts)
        maps, answers = heads_maps(
            retriever, vectors, dataset, examples, texts, seed=seed, senses=truth, meaning=meaning
        )
        items = item_map(vectors, dataset, counts, texts, seed=seed)
        write_html(page, report, subject=SUBJECT, figures=Figures(wins, losses, items, maps, answers), runs=runs)
    if trec is not None:
        _write_trec(trec, split, suite, examples, judgements, dataset.item_ids, progress=progress)
    return report


def _write_trec(
    directory: Path,
    split: str,
    suite: BenchmarkSuite,
    examples: Examples,
    judgements: Judgements | None,
    item_ids: np.ndarray,
    *,
    progress: bool,
) -> None:
    """Clicks below ``<split>``, judged queries below ``judged``."""
    clicked = [{item: 1} for item in examples.item_rows.tolist()]
    write_trec(directory / split, suite.retrievers, examples, clicked, item_ids, progress=progress)
    if judgements is not None:
        gains = [judgements.gains(row) for row in range(len(judgements))]
        write_trec(directory / "judged", suite.retrievers, judgements.queries, gains, item_ids, progress=progress)
