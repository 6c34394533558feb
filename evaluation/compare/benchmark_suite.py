"""The methods of one evaluation: configured baselines, the trained model, and its hybrids with BM25."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from dpsr.baselines.context import BuildContext
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.baselines.interfaces import Method
from dpsr.baselines.registry import HYBRIDS, REFERENCE, SUBJECT, build, entries_with, resolve
from dpsr.config import LexicalConfig
from dpsr.data.dataset.tables import Dataset
from dpsr.model.interface import OtherRun


@dataclass(frozen=True)
class BenchmarkSuite:
    """Methods by name, in the order of the tables."""

    methods: dict[str, Method]
    weights: dict[str, float] = field(default_factory=dict)
    """Weights of mixtures, chosen on the valid split where it has clicks."""
    notes: list[str] = field(default_factory=list)
    """Sentences that qualify the results."""


def benchmark_suite(
    baselines: Sequence[str],
    dataset: Dataset,
    model: ExhaustiveRetriever | None = None,
    *,
    seed: int,
    work_dir: Path | None = None,
    progress: bool = True,
    lexical: LexicalConfig | None = None,
    word_vectors: str | None = None,
    checkpoint: str | None = None,
    runs: Mapping[str, OtherRun] = MappingProxyType({}),
) -> BenchmarkSuite:
    """Builds the methods of an evaluation; BM25, which all others are compared with, always takes part.

    Args:
        baselines: names of the registry (``evaluation.baselines``).
        dataset: catalogue and log.
        model: the trained model; without it neither model nor hybrids take part.
        seed: decides every random choice.
        work_dir: run directory that keeps trained weights; not kept by default.
        progress: show progress bars.
        lexical: what BM25 is built with; the defaults of ``index.lexical`` where it is None.
        word_vectors: file of pre-trained word vectors; they are trained by default.
        checkpoint: folder of the checkpoint that a cross-encoder starts from; it starts from nothing by default.
        runs: other trained runs that take part.

    Raises:
        ConfigError: a name is unknown, or that of a run is another method's.
        DatasetError: a run's catalogue has no item of this one, or the word vectors cannot be read.
    """
    context = BuildContext(
        dataset,
        resolve(baselines, entries_with(runs)),
        seed,
        model,
        work_dir,
        progress,
        LexicalConfig() if lexical is None else lexical,
        None if checkpoint is None else Path(checkpoint),
        None if word_vectors is None else Path(word_vectors),
    )
    context.notes += dataset_notes(context)
    names = [*baselines, *runs] if REFERENCE in baselines else [REFERENCE, *baselines, *runs]
    if model is not None:
        names = [*(name for name in names if name not in {SUBJECT, *HYBRIDS}), SUBJECT, *HYBRIDS]
    return BenchmarkSuite(build(names, context), context.weights, context.notes)


def dataset_notes(context: BuildContext) -> list[str]:
    """Returns sentences about what the dataset lacks."""
    found = []
    if not context.dataset.has_log:
        found.append(
            "The dataset has no log: its queries, also those that chose the weights of mixtures, are sampled from the "
            "items' own texts, on which BM25 scores higher than on typed queries. Judged queries (evaluation.labels) "
            "are the ones to trust."
        )
    if context.tuning_examples is None:
        found.append("The valid split has no click: the weights of all mixtures are defaults.")
    return found
