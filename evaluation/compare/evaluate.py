"""A whole evaluation: the trained model against the baselines, as tables, JSON, a web page and files of TREC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from dpsr.baselines.bm25 import BM25Retriever
from dpsr.baselines.context import item_texts
from dpsr.baselines.examples import QueryExamples, anonymous_examples, load_examples
from dpsr.baselines.registry import REFERENCE, SUBJECT, entries_with, resolve
from dpsr.baselines.two_tower import TwoTowerRetriever
from dpsr.config import Config, ConfigError
from dpsr.data.dataset.tables import Dataset
from dpsr.evaluation.compare.benchmark_suite import BenchmarkSuite, benchmark_suite
from dpsr.evaluation.compare.comparison import compare, compare_judged
from dpsr.evaluation.measures.cases import differing_cases
from dpsr.evaluation.measures.heads import frequent_queries, head_answers
from dpsr.evaluation.measures.judgements import Judgements, load_judgements, notes_of_learnt
from dpsr.evaluation.measures.polysemy import Senses, senses_by_head
from dpsr.evaluation.measures.senses import load_senses
from dpsr.evaluation.measures.timing import retrieval_times
from dpsr.evaluation.report.item_map import heads_maps, item_map
from dpsr.evaluation.report.machine import describe_machine
from dpsr.evaluation.report.metrics_json import read_metrics, write_metrics
from dpsr.evaluation.report.page import Figures, write_page
from dpsr.evaluation.report.results import Report
from dpsr.evaluation.report.trec import write_trec
from dpsr.indexing.corpus import embed_items
from dpsr.indexing.lexical.tuned import with_tuned
from dpsr.model.interface import Model, OtherRun
from dpsr.model.text_encoders.checkpoint_config import read_published

_FREQUENT_QUERIES = 300  # queries whose heads are compared where no senses are known


def evaluate(
    config: Config,
    dataset: Dataset,
    model: Model | None,
    *,
    split: str = "test",
    page: Path | None = None,
    other_runs: Sequence[Path] = (),
    trained_runs: Mapping[str, OtherRun] = MappingProxyType({}),
    trec: Path | None = None,
    progress: bool = True,
) -> Report:
    """Compares the trained model with the baselines; also writes ``work_dir/evaluation/metrics.json``.

    Args:
        config: the run's configuration; ``training.seed`` decides every random choice.
        dataset: the dataset that the model was trained on.
        model: the trained towers; None compares the baselines alone.
        split: ``valid`` or ``test``.
        page: file of the web page; not written by default.
        other_runs: ``metrics.json`` of other runs, for the page's curves over the mixing ratio.
        trained_runs: those of ``evaluation.runs``.
        trec: directory of TREC runs and judgements; not written by default.
        progress: show progress bars.

    Raises:
        ValueError: the split's name is unknown.
        ConfigError: ``evaluation.baselines`` has an unknown name, ``evaluation.runs`` that of another method, or what
            ``--tune`` wrote cannot be used.
        PublishedCheckpointError: ``evaluation.checkpoint`` cannot be used.
        DatasetError: the split is empty; a trained run has no item of the catalogue; labels, senses, or the results of
            another run, cannot be used.
    """
    seed, options, lexical = config.training.seed, config.evaluation, with_tuned(config).index.lexical
    # All inputs are checked before anything is measured.
    resolve(options.baselines, entries_with(trained_runs))
    if model is None:
        _check_needs_no_model(page, options.senses)
    if options.checkpoint is not None:
        read_published(options.checkpoint)
    runs = [read_metrics(path) for path in other_runs]
    judgements = None if options.labels is None else load_judgements(options.labels, dataset, seed=seed)
    truth, sense_column = ([], "") if options.senses is None else load_senses(Path(options.senses), dataset)
    examples = load_examples(dataset, split, max_examples=options.max_examples, seed=seed)
    retriever, vectors = None, np.zeros((0, 0), np.float32)
    if model is not None:
        vectors = embed_items(model, dataset, progress=progress)
        retriever = TwoTowerRetriever(model, dataset, vectors)
    work_dir, num_items = Path(config.work_dir), dataset.schema.num_items
    suite = benchmark_suite(
        options.baselines,
        dataset,
        retriever,
        seed=seed,
        work_dir=work_dir,
        progress=progress,
        lexical=lexical,
        word_vectors=options.word_vectors,
        checkpoint=options.checkpoint,
        runs=trained_runs,
    )
    pair = {"subject": "" if model is None else SUBJECT, "reference": REFERENCE}
    comparison = compare(
        suite.methods,
        dataset,
        examples,
        candidates=options.candidates,
        seed=seed,
        slice_by=options.slice_by,
        progress=progress,
        **pair,
    )
    judged = None
    if judgements is not None:
        judged = compare_judged(suite.methods, judgements, num_items, seed=seed, progress=progress, **pair)
    report = Report(
        name=config.name,
        split=split,
        split_size=dataset.num_interactions(split),
        num_items=num_items,
        candidates=min(options.candidates, num_items),
        weights=suite.weights,
        mixing_ratio=config.loss.mixing_ratio,
        seed=seed,
        machine=describe_machine(),
        comparison=comparison,
        judged=judged,
        notes=suite.notes + ([] if judgements is None else notes_of_learnt(judgements, dataset)),
        senses=senses_by_head(model, dataset, vectors, truth, column=sense_column)
        if model is not None and truth
        else [],
        retrieval=retrieval_times(suite.methods, examples, num_items),
    )
    write_metrics(report, work_dir / "evaluation")
    if page is not None and retriever is not None:
        figures = _figures(suite, retriever, vectors, dataset, examples, truth, sense_column, seed=seed)
        write_page(page, report, subject=SUBJECT, figures=figures, runs=runs)
    if trec is not None:
        _write_trec(trec, split, suite, examples, judgements, dataset.item_ids, progress=progress)
    return report


def _check_needs_no_model(page: Path | None, senses: str | None) -> None:
    """Raises ConfigError for what shows vectors of a model."""
    for option, given in (("--report", page), ("evaluation.senses", senses)):
        if given is not None:
            raise ConfigError(
                f'{option} = {given}: shows the vectors of a model, and index.mode = "lexical" has none; leave it out, '
                "or set another mode"
            )


def _figures(
    suite: BenchmarkSuite,
    retriever: TwoTowerRetriever,
    vectors: np.ndarray,
    dataset: Dataset,
    examples: QueryExamples,
    truth: Sequence[Senses],
    sense_column: str,
    *,
    seed: int,
) -> Figures:
    """Cases and maps of the page."""
    texts = item_texts(dataset)
    reference = suite.methods[REFERENCE]
    assert isinstance(reference, BM25Retriever)
    wins, losses = differing_cases(retriever, reference, examples, texts, names=(SUBJECT, "BM25"))
    asked = frequent_queries(examples, _FREQUENT_QUERIES)
    if truth:
        asked = anonymous_examples(np.array([senses.query for senses in truth], dtype=object), seed=seed)
    answers = head_answers(retriever, asked)
    maps = heads_maps(answers, vectors, dataset, texts, seed=seed, senses=truth, sense_column=sense_column)
    counts = dataset.clicks_per_item("train")
    return Figures(wins, losses, item_map(vectors, dataset, counts, texts, seed=seed), maps, answers)


def _write_trec(
    directory: Path,
    split: str,
    suite: BenchmarkSuite,
    examples: QueryExamples,
    judgements: Judgements | None,
    item_ids: np.ndarray,
    *,
    progress: bool,
) -> None:
    """Writes clicks below ``<split>``, judged queries below ``judged``."""
    clicked = [{item: 1} for item in examples.item_rows.tolist()]
    write_trec(directory / split, suite.methods, examples, clicked, item_ids, progress=progress)
    if judgements is not None:
        gains = [judgements.gains(row) for row in range(len(judgements))]
        write_trec(directory / "judged", suite.methods, judgements.queries, gains, item_ids, progress=progress)
