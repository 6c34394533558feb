"""Judged pairs of query and item: ranked-list measures with gains, and the area under the ROC curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import rankdata
from tqdm import tqdm

from dpsr.baselines.examples import QueryExamples, anonymous_examples
from dpsr.baselines.exhaustive import queries_at_once
from dpsr.baselines.interfaces import Method, Retriever, Scorer
from dpsr.config import LabelsConfig
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.judgements.labels import labelled_pairs
from dpsr.evaluation.measures.clicks import concatenated, retrieved
from dpsr.evaluation.measures.matches import match_shares
from dpsr.evaluation.measures.metrics import RANKED_DEPTH, ranked_values
from dpsr.evaluation.measures.parquet import column_names, read_columns

JUDGED_MEASURES = ("nDCG@10", "MRR@10", "Recall@100", "Recall@1000")
"""Measures of ranked lists where several items are relevant, with gains."""
AUC, AUC_WITHIN = "AUC", "AUC within queries"


@dataclass(frozen=True)
class Judgements:
    """The judged items of some queries."""

    queries: QueryExamples
    """One example for each query, without user and history."""
    items: list[np.ndarray]
    """Judged items of each query, int32 [judged]."""
    labels: list[np.ndarray]
    """Their labels, float64 [judged]."""
    positive_from: float
    """Lowest label of a relevant pair."""
    graded: bool
    """Whether the gain of a relevant pair is its label; else 1."""
    unknown_items: int
    """Judged pairs left out because their item is not in the catalogue."""
    match_thresholds: tuple[float, float] | None = None
    """Lowest labels of an exact and of a substitute match."""

    def __len__(self) -> int:
        """Returns the number of queries."""
        return len(self.queries)

    def answerable(self) -> np.ndarray:
        """Returns the rows of the queries with a relevant item, int64."""
        return np.flatnonzero([bool((labels >= self.positive_from).any()) for labels in self.labels])

    def gains(self, row: int) -> dict[int, int]:
        """Returns the relevant items of a query with their gains."""
        pairs = zip(self.items[row].tolist(), self.labels[row].tolist(), strict=True)
        return {item: int(label) if self.graded else 1 for item, label in pairs if label >= self.positive_from}


def load_judgements(config: LabelsConfig, dataset: Dataset, *, seed: int) -> Judgements:
    """Reads judged pairs of a Parquet file or a store; pairs of items outside the catalogue are left out.

    Args:
        config: where the file is and what its labels mean.
        dataset: the catalogue.
        seed: decides the order of ties.

    Raises:
        DatasetError: the file or a column is missing, no pair is relevant, or a graded label is fractional.
        JudgementError: the store is missing or cannot be read, or has no book of a name.
    """
    table = _of_store(config) if config.is_store else _read(config)
    labels = table["label"].to_numpy().astype(np.float64)
    if config.graded and (labels != np.floor(labels)).any():
        raise DatasetError(
            f"{config.path}: label {labels[labels != np.floor(labels)][0]:g} is not an integer, as a graded nDCG "
            "needs; set evaluation.labels.graded = false to count every label from positive_from on as 1"
        )
    row_of = {str(item): row for row, item in enumerate(dataset.item_ids.tolist())}
    ids = pc.utf8_trim_whitespace(table["item_id"]).to_pylist()
    rows = np.array([row_of.get(item, -1) for item in ids], dtype=np.int32)
    known = rows >= 0
    if not (labels[known] >= config.positive_from).any():
        raise DatasetError(
            f"{config.path}: no pair of a catalogue item has a label of at least {config.positive_from:g}; "
            "see evaluation.labels.positive_from and the item ids"
        )
    texts, query = np.unique(np.array(table["query"].to_pylist(), dtype=object)[known], return_inverse=True)
    order = np.argsort(query, kind="stable")
    cuts = np.searchsorted(query[order], np.arange(1, len(texts)))
    return Judgements(
        queries=anonymous_examples(texts, seed=seed),
        items=np.split(rows[known][order], cuts),
        labels=np.split(labels[known][order], cuts),
        positive_from=config.positive_from,
        graded=config.graded,
        unknown_items=int((~known).sum()),
        match_thresholds=config.match_thresholds,
    )


def notes_of_learnt(judgements: Judgements, dataset: Dataset) -> list[str]:
    """A sentence where judged pairs are labelled pairs of the dataset, from which training learns."""
    labels = dataset.labels()
    texts = dataset.query_texts().take(labels["query"]).to_pylist()
    learnt = set(zip(texts, labels["item"].tolist(), strict=True))
    judged = [
        (text, item)
        for text, items in zip(judgements.queries.texts.tolist(), judgements.items, strict=True)
        for item in items.tolist()
    ]
    found = sum(pair in learnt for pair in judged)
    if not found:
        return []
    return [
        f"{found:,} of {len(judged):,} judged pairs are labelled pairs of the dataset, from which training learns: "
        "figures of judged queries show how well these were learnt, not how the model answers other queries."
    ]


def measure_judged(
    methods: Mapping[str, Method], judgements: Judgements, *, num_items: int, progress: bool = True
) -> dict[str, dict[str, np.ndarray]]:
    """Computes ranked-list measures over the whole catalogue; items without a judgement count as irrelevant.

    Queries without a relevant item are left out.

    Args:
        methods: name -> method.
        judgements: the judged queries.
        num_items: size of the catalogue.
        progress: show a progress bar.

    Returns:
        For each method float64 [queries with a relevant item] for each of ``JUDGED_MEASURES`` and, where kinds of
        matches are told apart, ``MATCH_MEASURES``; no measure for a method that is not a retriever.
    """
    answerable = judgements.answerable()
    retrievers = {name: method for name, method in methods.items() if isinstance(method, Retriever)}
    found: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in methods}
    size = queries_at_once(num_items)
    bar = tqdm(total=len(retrievers) * len(answerable), desc="judged queries", unit="query", disable=not progress)
    with bar:
        for start in range(0, len(answerable), size):
            rows = answerable[start : start + size]
            batch = judgements.queries.take(rows)
            for name, retriever in retrievers.items():
                items = retrieved(retriever, batch, min(RANKED_DEPTH, num_items))
                found[name].append(judged_list_values(items, judgements, rows))
                bar.update(len(rows))
    return {name: concatenated(batches) for name, batches in found.items()}


def judged_list_values(items: np.ndarray, judgements: Judgements, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Computes the measures of the ranked lists, int32 [n, w], of the judged queries ``rows``, integers [n]."""
    values = ranked_values(items, [judgements.gains(row) for row in rows.tolist()])
    return {measure: values[measure] for measure in JUDGED_MEASURES} | _matches(judgements, rows, items)


def _matches(judgements: Judgements, rows: np.ndarray, ranked: np.ndarray) -> dict[str, np.ndarray]:
    """``MATCH_MEASURES`` of some queries' lists; nothing where kinds of matches are not told apart."""
    if judgements.match_thresholds is None:
        return {}
    items, labels = ([each[row] for row in rows] for each in (judgements.items, judgements.labels))
    return match_shares(ranked, items, labels, judgements.match_thresholds)


def areas_under_curve(
    methods: Mapping[str, Method], judgements: Judgements, *, num_items: int
) -> dict[str, dict[str, float]]:
    """Computes the probability that a relevant pair scores above an irrelevant one (section 5.1); ties count half.

    ``AUC`` compares all judged pairs, as the paper does; ``AUC within queries`` is the mean over queries of the
    comparisons inside each, for methods whose scores differ in scale from query to query.

    Args:
        methods: name -> method.
        judgements: the judged queries.
        num_items: size of the catalogue.

    Returns:
        Both measures for each scorer, NaN without a pair to compare; no measure for a method that is not a scorer.
    """
    return {
        name: areas(pair_scores(method, judgements, num_items=num_items), judgements)
        if isinstance(method, Scorer)
        else {}
        for name, method in methods.items()
    }


def pair_scores(scorer: Scorer, judgements: Judgements, *, num_items: int) -> list[np.ndarray]:
    """Scores the judged items of every query, float32 [judged] each."""
    scores: list[np.ndarray] = []
    size = queries_at_once(num_items)
    for start in range(0, len(judgements), size):
        batch = judgements.queries.take(slice(start, start + size))
        items = judgements.items[start : start + size]
        padded = np.zeros((len(items), max(map(len, items))), dtype=np.int32)
        for row, judged in zip(padded, items, strict=True):
            row[: len(judged)] = judged
        found = scorer.score(batch, padded)
        scores += [row[: len(judged)] for row, judged in zip(found, items, strict=True)]
    return scores


def areas(scores: list[np.ndarray], judgements: Judgements) -> dict[str, float]:
    """Computes both areas under the curve from the scores of ``pair_scores``."""
    relevant = [labels >= judgements.positive_from for labels in judgements.labels]
    each = [area_under_curve(*pair) for pair in zip(scores, relevant, strict=True)]
    within = [area for area in each if not np.isnan(area)]
    pooled = area_under_curve(np.concatenate(scores), np.concatenate(relevant))
    return {AUC: pooled, AUC_WITHIN: float(np.mean(within)) if within else float("nan")}


def area_under_curve(scores: np.ndarray, relevant: np.ndarray) -> float:
    """Computes the area under the ROC curve of scores, float [n], for relevant, bool [n]; NaN where all or none are."""
    positives = int(relevant.sum())
    negatives = len(relevant) - positives
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[relevant].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _of_store(config: LabelsConfig) -> pa.Table:
    """As ``_read``, of a store of judgements."""
    pairs = labelled_pairs(config.path, key="evaluation.labels.path", books=config.books)
    columns = {name: [getattr(pair, name) for pair in pairs] for name in ("query", "item_id")}
    return pa.table(
        {name: pa.array(values, pa.string()) for name, values in columns.items()}
        | {"label": pa.array([pair.label for pair in pairs], pa.float64())}
    )


def _read(config: LabelsConfig) -> pa.Table:
    """Columns ``query`` and ``item_id`` as text, ``label`` as float64; a NaN is a missing label, as a null."""
    path, key = Path(config.path), "evaluation.labels.path"
    types = {"query": pa.string(), "item_id": pa.string(), "label": pa.float64()}
    names = {column: config.columns.get(column, column) for column in types}
    found = column_names(path, key)
    for column, name in names.items():
        if name not in found:
            raise DatasetError(
                f"{path}: column {name!r} is missing (found: {', '.join(found)}); "
                f'map it with evaluation.labels.columns.{column} = "name"'
            )
    if len(set(names.values())) < len(names):
        raise DatasetError(f"{path}: evaluation.labels.columns names one column twice (found: {names}); name three")
    table = read_columns(path, key, {name: types[column] for column, name in names.items()})
    table = table.rename_columns(list(names))
    table = table.filter(pc.invert(pc.is_nan(table["label"])))
    if not pc.all(pc.is_finite(table["label"])).as_py() and len(table):
        raise DatasetError(f"{path}: column {names['label']!r} has an infinite label; expected finite numbers")
    return table
