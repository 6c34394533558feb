"""A comparison of many models on one dataset: which take part, their files, and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from dpsr.baselines.combinations import stages_of
from dpsr.baselines.context import BuildContext, Need
from dpsr.baselines.registry import ENTRIES, REFERENCE, SUBJECT, entries_with, resolve
from dpsr.config import Config, ConfigError
from dpsr.data.dataset.locks import LockHeldError, exclusive
from dpsr.data.dataset.schema import SKIP
from dpsr.data.dataset.tables import Dataset
from dpsr.errors import DpsrError
from dpsr.evaluation.compare import lists
from dpsr.evaluation.compare.benchmark_suite import dataset_notes
from dpsr.evaluation.compare.comparison import summarise_judged, summarise_slices
from dpsr.evaluation.compare.inputs import Inputs
from dpsr.evaluation.compare.list_measures import ModelValues, model_values, oracle_values
from dpsr.evaluation.compare.lists import read_array
from dpsr.evaluation.compare.measured_context import MeasuredContext
from dpsr.evaluation.compare.model_runs import ModelRuns
from dpsr.evaluation.compare.rerankers import rerankers_of
from dpsr.evaluation.measures.cases import SHOWN, Case, missed_cases, sampled_queries
from dpsr.evaluation.measures.slices import TYPO, slices_of
from dpsr.evaluation.measures.timing import RetrievalTime
from dpsr.evaluation.report.costs import Cost, TrainingCost
from dpsr.evaluation.report.machine import describe_machine
from dpsr.evaluation.report.model_comparison import ORACLE, QUALITY, ModelComparison
from dpsr.evaluation.report.results import Comparison, Judged, Report
from dpsr.model.interface import OtherRun

EVERY = "all"
"""The name that stands for every entry of the registry, and rerankers of the best first stage."""
_SHOWN_MODELS = 3  # with examples of what they miss
_NEEDS = {Need.CLICKS: "clicks", Need.LABELS: "labelled pairs", Need.MODEL: "trained model", Need.RUN: "trained model"}


def selected_models(text: str, runs: Mapping[str, OtherRun] = MappingProxyType({})) -> list[str]:
    """Reads the option ``--models``: names between commas, or ``all``; ``runs`` are those of ``evaluation.runs``.

    Raises:
        ConfigError: no name is given, or one is unknown.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigError(
            f"--models: no name is given; name methods between commas, or {EVERY} (known: {', '.join(ENTRIES)})"
        )
    resolve([name for name in names if name != EVERY], entries_with(runs), option="--models")
    return names


def compare_models(
    config: Config,
    dataset: Dataset,
    models: Sequence[str],
    *,
    split: str,
    child: Sequence[str],
    no_model: str | None,
    model_seconds: float | None,
    say: Callable[[str], None],
    runs: Mapping[str, OtherRun] = MappingProxyType({}),
    run_seconds: Mapping[str, float | None] = MappingProxyType({}),
) -> ModelComparison:
    """Trains and measures models, each in a process of its own; what an earlier comparison measured is read.

    Args:
        config: the run's configuration; ``training.seed`` decides every random choice.
        dataset: the train split, and the split that is measured.
        models: names of ``selected_models``; BM25, which all are compared with, always takes part.
        split: ``valid`` or ``test``.
        child: command of a process that takes a task (``producer.run_task``).
        no_model: why the trained model takes no part; None where it does.
        model_seconds: training time of the trained model; None where it is unknown.
        say: shows a line of progress.
        runs: other trained runs, which take part.
        run_seconds: their training times, as ``model_seconds``.

    Raises:
        ConfigError: what ``--tune`` wrote cannot be used.
        DatasetError: the split has no click, or the labels cannot be used.
        DpsrError: no model could be measured, or another process compares models in the same directory.
    """
    inputs = Inputs.load(config, dataset, split)
    registry = resolve([name for name in models if name != EVERY], entries_with(runs))
    context = MeasuredContext.of(inputs, registry)
    notes = dataset_notes(context)
    listed = [REFERENCE, *(ENTRIES if EVERY in models else ()), *(name for name in models if name != EVERY), *runs]
    names, left_out = _fitting(dict.fromkeys(listed), context, no_model)
    notes += left_out
    model_runs = ModelRuns(inputs, registry, child, say)
    inputs.directory.mkdir(parents=True, exist_ok=True)
    try:
        with exclusive(inputs.directory / ".lock", wait=False):
            notes += _run(model_runs, names, every=EVERY in models)
            notes += [note for facts in model_runs.facts.values() for note in facts.notes]
            return _report(model_runs, context, list(dict.fromkeys(notes)), {SUBJECT: model_seconds, **run_seconds})
    except LockHeldError as error:
        raise DpsrError(f"{inputs.directory}: {error} compares models there; wait for it, or end it") from None


def _run(runs: ModelRuns, names: Sequence[str], *, every: bool) -> list[str]:
    """Makes the lists of all methods, rerankers of the best first stage included, and returns notes."""
    notes: list[str] = []
    for name in names:
        runs.make_lists(name)
    if every:
        reranked, notes = rerankers_of(runs)
        runs.registry.update(resolve(reranked))
        for name in reranked:
            runs.make_lists(name)
    notes += [
        f"{name} scores given pairs only: alone it is measured on judged pairs (evaluation.labels), and as FIRST>{name}"
        "@DEPTH on all else."
        for name, facts in runs.facts.items()
        if not facts.retrieves
    ]
    if not any(facts.retrieves for facts in runs.facts.values()):
        raise DpsrError("no model that finds items could be measured: " + "; ".join(runs.failed.values()))
    return notes


def _fitting(
    names: Sequence[str] | dict[str, None], context: BuildContext, no_model: str | None
) -> tuple[list[str], list[str]]:
    """Methods whose needs are met, and notes on the others."""
    fitting, notes = [], []
    for name in names:
        needs = context.registry[name].needs
        missing = [need.value for need in context.missing(needs - {Need.MODEL})]
        if Need.MODEL in needs and no_model is not None:
            missing.append(no_model)
        if missing:
            notes.append(f"{name} is left out: {', '.join(missing)}.")
        else:
            fitting.append(name)
    return fitting, notes


def _report(
    runs: ModelRuns, context: MeasuredContext, notes: list[str], trained_seconds: Mapping[str, float | None]
) -> ModelComparison:
    inputs, dataset = runs.inputs, runs.inputs.dataset
    values = {name: model_values(runs.lists_path(name), inputs, context.click_counts) for name in runs.facts}
    times = [times for name, facts in runs.facts.items() if facts.retrieves and (times := runs.make_times(name))]
    best = _best(values, by_clicks=dataset.has_log or inputs.judgements is None)
    comparison, judged = _summaries(values, inputs, subject=best, reference=REFERENCE if REFERENCE in values else "")
    report = Report(
        name=inputs.config.name,
        split=inputs.split,
        split_size=dataset.num_interactions(inputs.split),
        num_items=inputs.num_items,
        candidates=min(inputs.config.evaluation.candidates, inputs.num_items),
        weights={key: weight for facts in runs.facts.values() for key, weight in facts.weights.items()},
        mixing_ratio=inputs.config.loss.mixing_ratio,
        seed=inputs.seed,
        machine=describe_machine(),
        comparison=comparison,
        judged=judged,
        notes=notes + [f"{message}." for message in runs.failed.values()],
        retrieval=times,
    )
    costs = _costs(runs, context, times, trained_seconds)
    if judged is not None:
        costs.append(Cost(ORACLE, ("the judgements themselves",), None, None, None))
    return ModelComparison(
        report=report,
        costs=costs,
        best=best,
        log_clicks=_train_clicks(dataset) if dataset.has_log else 0,
        labelled_pairs=len(dataset.labels()),
        cases=_cases(runs, {name: found.clicks for name, found in values.items()}, context.item_texts),
        failed=runs.failed,
    )


def _summaries(
    values: Mapping[str, ModelValues], inputs: Inputs, *, subject: str, reference: str
) -> tuple[Comparison, Judged | None]:
    """Results and differences on clicks, and on judged queries with the oracle beside the models."""
    pair: dict[str, Any] = {"subject": subject, "reference": reference, "seed": inputs.seed}
    masks = slices_of(inputs.examples, inputs.dataset, columns=inputs.config.evaluation.slice_by)
    every_typo = {TYPO: np.ones(len(inputs.typos), dtype=bool)}
    clicks = {name: found.clicks for name, found in values.items()}
    typos = {name: found.typos for name, found in values.items()}
    comparison = summarise_slices(clicks, masks, inputs.examples.records["query"], **pair)
    comparison += summarise_slices(typos, every_typo, inputs.typos.records["query"], **pair)
    if inputs.judgements is None:
        return comparison, None
    values = {**values, ORACLE: oracle_values(inputs.judgements)}
    judged = {name: found.judged for name, found in values.items()}
    areas = {name: found.areas for name, found in values.items()}
    return comparison, summarise_judged(judged, areas, inputs.judgements, **pair)


def _costs(
    runs: ModelRuns,
    context: MeasuredContext,
    times: Sequence[RetrievalTime],
    trained_seconds: Mapping[str, float | None],
) -> list[Cost]:
    milliseconds = {each.retriever: each.median_ms for each in times}
    return [
        Cost(
            name,
            tuple(dict.fromkeys(words for need, words in _NEEDS.items() if need in runs.registry[name].needs)),
            _training(name, runs, context, trained_seconds),
            facts.index_bytes,
            milliseconds.get(name),
        )
        for name, facts in runs.facts.items()
    ]


def _cases(
    runs: ModelRuns, values: Mapping[str, Mapping[str, np.ndarray]], texts: Sequence[str]
) -> dict[str, list[Case]]:
    """Clicks missed by each of the best models and BM25, and found by another of them."""
    inputs = runs.inputs
    ranked = [name for name in values if QUALITY in values[name]]
    ranked.sort(key=lambda name: -values[name][QUALITY].mean())
    shown = list(dict.fromkeys([*ranked[:_SHOWN_MODELS], *(name for name in ranked if name == REFERENCE)]))
    rows, clicks = sampled_queries(inputs.examples)
    answers = {}
    for name in shown:
        items = read_array(runs.lists_path(name), lists.CLICKS)
        assert items is not None  # it has a measure of lists
        answers[name] = items[rows, :SHOWN]
    sample = inputs.examples.take(rows)
    return {name: missed_cases(answers, name, sample, clicks, texts) for name in shown}


def _best(values: dict[str, ModelValues], *, by_clicks: bool) -> str:
    def quality(name: str) -> float:
        found = values[name].clicks if by_clicks else values[name].judged
        return float(found[QUALITY].mean()) if QUALITY in found else -1.0

    return max(values, key=quality)


def _training(
    name: str, runs: ModelRuns, context: MeasuredContext, trained_seconds: Mapping[str, float | None]
) -> TrainingCost | None:
    """Cost of a method, of both stages of a reranker, and of trained runs in it; None where a part is unknown."""
    stages = stages_of(name, runs.registry)
    costs = [context.cost(part) for part in (stages[:2] if stages else [name])]
    for part in (name, *runs.registry[name].parts):
        if part in trained_seconds:
            seconds = trained_seconds[part]
            costs.append(None if seconds is None else TrainingCost(seconds, None, None))
    known = [cost for cost in costs if cost is not None]
    return sum(known[1:], known[0]) if len(known) == len(costs) else None


def _train_clicks(dataset: Dataset) -> int:
    return sum(int((block["event"] != SKIP).sum()) for block in dataset.interaction_blocks("train"))
