"""The scores of a method for pairs of the train split, as a file that ``[distillation]`` learns from."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from dpsr.baselines.context import BuildContext, Need
from dpsr.baselines.examples import anonymous_examples
from dpsr.baselines.fitting.pair_batches import pair_batches
from dpsr.baselines.interfaces import Scorer
from dpsr.baselines.registry import resolve
from dpsr.config import Config, ConfigError
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.lexical.tuned import with_tuned

NEGATIVES = 2, 2
"""Pairs beside each clicked one: items shown or found by words and not clicked, and items of the whole catalogue."""
_QUERIES_AT_ONCE = 1024


class PairScores(NamedTuple):
    """What was written."""

    pairs: int
    mapped: bool
    """Whether the scores had to be mapped to -1..1."""
    without_score: int
    """Pairs that the method has no score of, which the file lacks."""


def write_pair_scores(
    config: Config, dataset: Dataset, name: str, path: Path, *, clicks: int, progress: bool = True
) -> PairScores:
    """Scores clicked pairs of the train split and negatives of theirs, each pair once, without a user.

    A pair without a score (minus infinity: a text without a word that the method knows) is left out.

    Scores that all lie in -1..1 stay as they are; others s become tanh((s - mean) / (2 standard deviations)), which
    keeps their order.

    Args:
        config: the run; ``training.seed`` decides clicks and negatives, ``work_dir`` keeps trained weights.
        dataset: of the run.
        name: a method of ``evaluation.baselines`` that scores given pairs.
        path: of the Parquet file, with columns ``query``, ``item_id`` and ``score`` (float32).
        clicks: clicks of the train split whose pairs are scored, of more a sample.
        progress: show progress bars.

    Raises:
        ConfigError: the name is unknown, the method scores no given pairs, or the dataset lacks what it needs.
        DatasetError: no pair has a score.
    """
    seed, options = config.training.seed, config.evaluation
    context = BuildContext(
        dataset,
        resolve([name]),
        seed,
        work_dir=Path(config.work_dir),
        progress=progress,
        lexical=with_tuned(config).index.lexical,
        checkpoint=None if options.checkpoint is None else Path(options.checkpoint),
        word_vectors=None if options.word_vectors is None else Path(options.word_vectors),
    )
    missing = context.missing(context.registry[name].needs | {Need.CLICKS})
    if missing:
        raise ConfigError(f"{name} cannot score pairs: {', and '.join(need.value for need in missing)}")
    path.parent.mkdir(parents=True, exist_ok=True)  # an error now, not after minutes of training
    method = context.method(name)
    if not isinstance(method, Scorer):
        raise ConfigError(f"{name} only retrieves, it scores no given pairs; name a method that does")
    data = context.pair_training_set
    size = min(clicks, len(data.clicks))
    records, items = next(pair_batches(data, size, size, NEGATIVES, np.random.default_rng(seed)))
    keys = np.unique(records["query"][:, None].astype(np.int64) * len(data.items) + items)
    queries, items = keys // len(data.items), keys % len(data.items)
    texts = np.array([data.queries[row] for row in queries], dtype=object)
    scores = _scores(method, texts, items, seed=seed, progress=progress)
    scored = np.isfinite(scores)
    if not scored.any():
        raise DatasetError(
            f"{name} has no score of any of {len(scores):,} pairs: no text of theirs has a word it knows"
        )
    texts, items, scores = texts[scored], items[scored], scores[scored]
    mapped = bool((np.abs(scores) > 1.0).any())
    if mapped:
        scores = np.tanh((scores - scores.mean()) / (2.0 * (scores.std() or 1.0)))
    table = pa.table(
        {
            "query": pa.array(texts.tolist(), pa.large_string()),
            "item_id": dataset.item_ids[items].tolist(),
            "score": scores.astype(np.float32),
        }
    )
    partial = path.with_name(path.name + ".partial")
    pq.write_table(table, partial)
    partial.rename(path)
    return PairScores(len(table), mapped, int((~scored).sum()))


def _scores(method: Scorer, texts: np.ndarray, items: np.ndarray, *, seed: int, progress: bool) -> np.ndarray:
    """Scores of pairs, float64 [n], a block at a time."""
    examples = anonymous_examples(texts, seed=seed)
    scores = np.empty(len(texts))
    with tqdm(total=len(texts), desc="scoring", unit="pair", disable=not progress) as bar:
        for start in range(0, len(texts), _QUERIES_AT_ONCE):
            rows = slice(start, start + _QUERIES_AT_ONCE)
            scores[rows] = method.score(examples.take(rows), items[rows, None].astype(np.int32))[:, 0]
            bar.update(len(scores[rows]))
    return scores
