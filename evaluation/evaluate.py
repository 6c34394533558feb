"""A whole evaluation: the trained model against the baselines, as tables, JSON, a web page and files of TREC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dpsr.config import Config
from dpsr.data.tables import Dataset
from dpsr.evaluation.baselines import click_counts
from dpsr.evaluation.cases import differing_cases
from dpsr.evaluation.comparison import compare, compare_judged
from dpsr.evaluation.contest import REFERENCE, SUBJECT, item_texts, standard_baselines, with_dssm, with_model
from dpsr.evaluation.examples import load_examples
from dpsr.evaluation.html import Figures, read_run, write_html
from dpsr.evaluation.item_map import heads_maps, item_map
from dpsr.evaluation.judgements import load_judgements
from dpsr.evaluation.report import Report, describe_machine
from dpsr.evaluation.timing import retrieval_times
from dpsr.evaluation.trec import write_trec
from dpsr.evaluation.two_tower import TwoTowerRetriever
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
    runs = [read_run(path) for path in other_runs]
    examples = load_examples(dataset, split, max_examples=config.evaluation.max_examples, seed=seed)
    vectors = embed_items(model, dataset, progress=progress)
    baselines = standard_baselines(dataset, seed=seed)
    if config.evaluation.dssm:
        cache = Path(config.work_dir) / "evaluation" / "dssm.npz"
        baselines = with_dssm(baselines, dataset, seed=seed, cache=cache, progress=progress)
    retriever = TwoTowerRetriever(model, dataset, vectors)
    contest = with_model(baselines, retriever, dataset, seed=seed)
    pair = {"subject": SUBJECT, "reference": REFERENCE}
    comparison = compare(
        contest.retrievers,
        dataset,
        examples,
        candidates=config.evaluation.candidates,
        seed=seed,
        slice_by=config.evaluation.slice_by,
        progress=progress,
        **pair,
    )
    judged = judgements = None
    if config.evaluation.labels is not None:
        judgements = load_judgements(config.evaluation.labels, dataset, seed=seed)
        judged = compare_judged(contest.retrievers, judgements, seed=seed, progress=progress, **pair)
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
        comparison=comparison,
        judged=judged,
        notes=contest.notes,
        retrieval=retrieval_times(contest.retrievers, examples),
    )
    report.write(Path(config.work_dir) / "evaluation")
    if page is not None:
        texts = item_texts(dataset)
        counts = click_counts(dataset.interactions("train"), dataset.schema.num_items)
        wins, losses = differing_cases(contest.retrievers[SUBJECT], contest.retrievers[REFERENCE], examples, texts)
        maps, answers = heads_maps(retriever, vectors, dataset, examples, texts, seed=seed)
        items = item_map(vectors, dataset, counts, texts, seed=seed)
        write_html(page, report, subject=SUBJECT, figures=Figures(wins, losses, items, maps, answers), runs=runs)
    if trec is not None:
        topics, gains = examples, [{item: 1} for item in examples.item_rows.tolist()]
        write_trec(trec / split, contest.retrievers, topics, gains, dataset.item_ids, progress=progress)
        if judgements is not None:
            gains = [judgements.gains(row) for row in range(len(judgements))]
            topics = judgements.queries
            write_trec(trec / "judged", contest.retrievers, topics, gains, dataset.item_ids, progress=progress)
    return report
