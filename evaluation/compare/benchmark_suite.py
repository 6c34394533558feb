"""The methods of one evaluation: configured baselines, the trained model, and its hybrids with BM25."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dpsr.baselines.context import BuildContext
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.baselines.interfaces import Method
from dpsr.baselines.registry import HYBRIDS, REFERENCE, SUBJECT, build, resolve
from dpsr.config import LexicalConfig
from dpsr.data.dataset.tables import Dataset


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
    word_vectors: Path | None = None,
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
        word_vectors: file of pre-trained word vectors; ``glove`` trains its own by default.

    Raises:
        ConfigError: a name is unknown.
        DatasetError: the word vectors cannot be read.
    """
    context = BuildContext(
        dataset,
        resolve(baselines),
        seed,
        model,
        work_dir,
        progress,
        LexicalConfig() if lexical is None else lexical,
        word_vectors,
    )
    if not dataset.has_log:
        context.notes.append(
            "The dataset has no log: its queries, also those that chose the weights of mixtures, are sampled from the "
            "items' own texts, on which BM25 scores higher than on typed queries. Judged queries (evaluation.labels) "
            "are the ones to trust."
        )
    if context.tuning_examples is None:
        context.notes.append("The valid split has no click: the weights of all mixtures are defaults.")
    names = list(baselines) if REFERENCE in baselines else [REFERENCE, *baselines]
    if model is not None:
        names = [*(name for name in names if name not in {SUBJECT, *HYBRIDS}), SUBJECT, *HYBRIDS]
    return BenchmarkSuite(build(names, context), context.weights, context.notes)
