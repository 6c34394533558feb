"""What runs in a method's own process: the method is built, and its ranked lists or its retrieval times written."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from tqdm import tqdm

from dpsr.baselines.combinations import stages_of
from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.exhaustive import queries_at_once
from dpsr.baselines.interfaces import Method, Retriever, Scorer, index_bytes_of, index_of
from dpsr.baselines.registry import entries_with, resolve
from dpsr.baselines.reranker import Reranker
from dpsr.baselines.two_tower import TwoTowerRetriever
from dpsr.config import Config
from dpsr.data.dataset.tables import Dataset
from dpsr.evaluation.compare import lists
from dpsr.evaluation.compare.inputs import Inputs
from dpsr.evaluation.compare.lists import ListFacts, read_facts, write_beside, write_lists
from dpsr.evaluation.compare.measured_context import MeasuredContext
from dpsr.evaluation.measures.clicks import candidate_ranks, retrieved
from dpsr.evaluation.measures.judgements import pair_scores
from dpsr.evaluation.measures.timing import retrieval_times
from dpsr.indexing.corpus import embed_items
from dpsr.indexing.valid_clicks import gain
from dpsr.model.interface import Model, OtherRun

LISTS, TIMES = "lists", "times"
"""Kinds of tasks."""

_SPEED_QUERIES, _SPEED_ITEMS = 20, 100


def run_task(
    task: Mapping[str, Any],
    config: Config,
    dataset: Dataset,
    model: Model | None,
    runs: Mapping[str, OtherRun] = MappingProxyType({}),
) -> None:
    """Does what a task of ``model_runs`` asks for.

    Args:
        task: ``kind``, ``name``, ``split``, ``path`` and, of a reranker, ``first``, its first stage's lists.
        config: the run.
        dataset: what the run learns from.
        model: the trained towers, where the method needs them.
        runs: those of ``evaluation.runs``.
    """
    inputs, name, path = Inputs.load(config, dataset, task["split"]), task["name"], Path(task["path"])
    towers = None if model is None else TwoTowerRetriever(model, dataset, embed_items(model, dataset, progress=False))
    context = MeasuredContext.of(inputs, resolve([name], entries_with(runs)), towers)
    if task["kind"] == TIMES:
        make_times(inputs, context, name, path)
    elif "first" in task:
        make_reranked_lists(inputs, context, name, path, Path(task["first"]))
    else:
        make_lists(inputs, context, name, path)


def make_times(inputs: Inputs, context: MeasuredContext, name: str, path: Path) -> None:
    """Writes the retrieval times of a method that was built before."""
    (times,) = retrieval_times({name: context.method(name)}, inputs.examples, inputs.num_items)
    content = json.dumps(asdict(times)).encode()
    write_beside(path, lambda file: file.write(content))


def make_lists(inputs: Inputs, context: MeasuredContext, name: str, path: Path) -> None:
    """Builds a method, trained where it has to be, and writes its lists.

    A method that only scores given pairs has no lists; its judged pairs are scored, and its speed is measured.
    """
    method = context.method(name)
    start = time.perf_counter()
    arrays = _arrays(method, inputs)
    seconds = time.perf_counter() - start
    retrieves = isinstance(method, Retriever)
    facts = ListFacts(
        retrieves=retrieves,
        scores=isinstance(method, Scorer),
        index=index_of(method),
        index_bytes=index_bytes_of(method),
        valid_ndcg=_valid_ndcg(method, context.tuning_examples, inputs) if isinstance(method, Retriever) else None,
        pairs_per_second=None if isinstance(method, Retriever) else _pairs_per_second(method, inputs),
        seconds=seconds,
        weights=context.weights,
        notes=context.notes,
    )
    write_lists(path, facts, arrays)


def make_reranked_lists(inputs: Inputs, context: MeasuredContext, name: str, path: Path, first_path: Path) -> None:
    """Writes the lists of a reranker from those of its first stage, which is not built."""
    stages, first = stages_of(name, context.registry), read_facts(first_path)
    assert stages is not None
    assert first is not None
    _, scorer_name, depth = stages
    scorer = context.method(scorer_name)
    assert isinstance(scorer, Scorer)
    start = time.perf_counter()
    arrays = {}
    for key, examples in _example_sets(inputs).items():
        items = lists.read_array(first_path, key)
        assert items is not None
        reranker = Reranker(_Listed(items, first), scorer, depth)
        arrays[key], _ = _lists(reranker, examples, None, inputs, f"{name}, {key}", width=min(depth, inputs.depth))
    facts = ListFacts(
        retrieves=True,
        scores=False,
        index=reranker.index,
        index_bytes=reranker.index_bytes,
        seconds=time.perf_counter() - start,
        weights=context.weights,
        notes=context.notes,
    )
    write_lists(path, facts, arrays)


class _Listed:
    """A ``Retriever`` that gives the lists of an earlier run, one batch after another."""

    def __init__(self, items: np.ndarray, facts: ListFacts) -> None:
        self._items = items
        self._given = 0
        self.index, self.index_bytes = facts.index, facts.index_bytes

    def retrieve(self, examples: QueryExamples, k: int) -> tuple[np.ndarray, np.ndarray]:
        items = self._items[self._given : self._given + len(examples), :k]
        self._given += len(examples)
        return items, np.where(items < 0, -np.inf, -np.arange(items.shape[1])).astype(np.float32)


def _example_sets(inputs: Inputs) -> dict[str, QueryExamples]:
    """The examples of every array of lists; of judged queries those with a relevant item."""
    found = {lists.CLICKS: inputs.examples, lists.TYPOS: inputs.typos}
    if inputs.judgements is not None:
        found[lists.JUDGED] = inputs.judgements.queries.take(inputs.judgements.answerable())
    return found


def _arrays(method: Method, inputs: Inputs) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    if isinstance(method, Retriever):
        ranks = {lists.CLICKS: lists.CLICK_RANKS, lists.TYPOS: lists.TYPO_RANKS}
        for key, examples in _example_sets(inputs).items():
            candidates = inputs.candidates(examples) if key in ranks and isinstance(method, Scorer) else None
            arrays[key], of_clicks = _lists(method, examples, candidates, inputs, key, width=inputs.depth)
            if candidates is not None:
                arrays[ranks[key]] = of_clicks
    if isinstance(method, Scorer) and inputs.judgements is not None:
        scores = pair_scores(method, inputs.judgements, num_items=inputs.num_items)
        arrays[lists.PAIR_SCORES] = np.concatenate(scores).astype(np.float32)
    return arrays


def _lists(
    method: Retriever, examples: QueryExamples, candidates: np.ndarray | None, inputs: Inputs, what: str, *, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lists int32 [n, width], and ranks of the clicked items int32 [n]; -1 without candidates.

    Both are asked for batch by batch, so that a method computes the scores of a batch once.
    """
    items = np.full((len(examples), width), -1, np.int32)
    ranks = np.full(len(examples), -1, np.int32)
    size = queries_at_once(inputs.num_items)
    for start in tqdm(range(0, len(examples), size), desc=what, unit="batch"):
        rows = slice(start, start + size)
        batch = examples.take(rows)
        found = retrieved(method, batch, width)
        items[rows, : found.shape[1]] = found
        if candidates is not None and isinstance(method, Scorer):
            ranks[rows] = candidate_ranks(method, batch, candidates[rows])
    return items, ranks


def _valid_ndcg(method: Retriever, examples: QueryExamples | None, inputs: Inputs) -> float | None:
    if examples is None:
        return None
    gains = []
    for batch in examples.batches(queries_at_once(inputs.num_items)):
        places = retrieved(method, batch, inputs.depth) == batch.item_rows[:, None]
        gains.append(np.where(places.any(axis=1), gain(1 + places.argmax(axis=1)), 0.0))
    return float(np.concatenate(gains).mean())


def _pairs_per_second(scorer: Scorer, inputs: Inputs) -> float:
    """Speed on random pairs, after a first call that may trace or load."""
    examples = inputs.examples.take(slice(0, _SPEED_QUERIES))
    shape = len(examples), _SPEED_ITEMS
    candidates = np.random.default_rng(inputs.seed).integers(0, inputs.num_items, shape).astype(np.int32)
    scorer.score(examples, candidates)
    start = time.perf_counter()
    scorer.score(examples, candidates)
    return candidates.size / (time.perf_counter() - start)
