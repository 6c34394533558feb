"""The choice of BM25's parameters, weights of columns and popularity by the clicks of the valid split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from dpsr.config import Config, LexicalConfig
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.catalogue import ItemRows
from dpsr.indexing.lexical.build import ItemTerms
from dpsr.indexing.lexical.popularity import clicks_of_items
from dpsr.indexing.lexical.tuned import TunedLexical
from dpsr.indexing.valid_clicks import ValidClicks, gain, valid_clicks
from dpsr.ops_cc.bm25 import search_bm25

DEPTH = 1000
"""Items of a list; a click beyond it gains nothing."""
POPULARITY_GRID = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0)
_K1_GRID = (0.1, 0.2, 0.4, 0.6, 0.9, 1.2, 1.6, 2.0)
_B_GRID = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0)
_WEIGHT_GRID = (0.25, 0.5, 1.0, 2.0, 4.0)
_WEIGHT = "weights."
_SWEEPS = 4

Values = dict[str, float]
"""``k1``, ``b``, ``popularity``, ``weights.<column>``."""


def tune_run(config: Config, dataset: Dataset, *, progress: bool = True) -> TunedLexical:
    """Chooses what ``index.lexical`` leaves out, and writes it into the run's directory.

    Args:
        config: the run.
        dataset: items and clicks.
        progress: show a progress bar.

    Raises:
        DatasetError: the valid split has no click, or no item has a word.
        ExportError: a weight is of a column that is none of the text columns.
    """
    items, columns, lexical = ItemRows.of_dataset(dataset), dataset.schema.text, config.index.lexical
    clicks = valid_clicks(dataset, items, seed=config.training.seed)
    if not clicks.texts:
        raise DatasetError(
            f"{dataset.directory}: the valid split has no click, and --tune chooses by its clicks; give the run a log "
            "(data.interactions), raise data.valid_share and run `dpsr prepare` again, or leave --tune out"
        )
    terms = ItemTerms.of(items, columns, bigrams=lexical.bigrams)
    if not terms.tokenizer.num_terms:
        raise DatasetError(f"{dataset.directory}: no item has a word in {', '.join(columns)}; there is nothing to tune")
    grids = open_grids(lexical, columns)
    values, ndcg = tune_lexical(terms, lexical, grids, clicks, clicks_of_items(dataset, items), progress=progress)
    tuned = TunedLexical(_section(values), len(clicks.texts), ndcg, list(columns), lexical.bigrams)
    tuned.write(Path(config.work_dir))
    return tuned


def open_grids(lexical: LexicalConfig, columns: Sequence[str]) -> dict[str, Sequence[float]]:
    """What is tried of each value that a configuration leaves out.

    Of several columns one keeps its weight, the first one unless the configuration weighs any: it is their ratios that
    matter beside ``k1``.
    """
    grids: dict[str, Sequence[float]] = {"k1": _K1_GRID, "b": _B_GRID, "popularity": POPULARITY_GRID}
    grids = {name: grid for name, grid in grids.items() if name not in lexical.model_fields_set}
    weighed = set(lexical.weights) or set(columns[:1])
    return grids | {f"{_WEIGHT}{column}": _WEIGHT_GRID for column in columns if column not in weighed}


def tune_lexical(
    terms: ItemTerms,
    lexical: LexicalConfig,
    grids: Mapping[str, Sequence[float]],
    clicks: ValidClicks,
    popularity: np.ndarray,
    *,
    progress: bool = False,
) -> tuple[Values, dict[str, float]]:
    """Chooses values one after the other, each the best of its grid beside the others, until none changes.

    Coordinate descent from the values of a configuration; the figure is the mean nDCG of the clicked item
    (``valid_clicks.gain``) in lists of 1,000, and a value gives way only to one that is better.

    Args:
        terms: of the items.
        lexical: where the descent starts, and what is not tried.
        grids: of ``open_grids``.
        clicks: n > 0.
        popularity: int64 [rows], clicks of every item outside the valid split.
        progress: show a progress bar.

    Returns:
        The values of ``grids``, and the figure ``before`` and ``after``.
    """
    search = _Search(terms, lexical, clicks, popularity)
    start: Values = {
        name: lexical.weights.get(name.removeprefix(_WEIGHT), 1.0)
        if name.startswith(_WEIGHT)
        else getattr(lexical, name)
        for name in grids
    }
    best, values = search.ndcg(start), dict(start)
    first = best
    with tqdm(desc="tuning BM25", unit="try", disable=not progress) as bar:
        for _ in range(_SWEEPS):
            before = dict(values)
            for name, grid in grids.items():
                for tried in grid:
                    if (found := search.ndcg({**values, name: tried})) > best:
                        best, values = found, {**values, name: tried}
                    bar.update()
            if values == before:
                break
    return values, {"before": first, "after": best}


class _Search:
    """The figure of values, computed once for each."""

    def __init__(self, terms: ItemTerms, lexical: LexicalConfig, clicks: ValidClicks, popularity: np.ndarray) -> None:
        self._terms, self._lexical, self._popularity = terms, lexical, popularity
        ids, self._weights, row_splits = terms.tokenizer.encode_queries(clicks.texts)
        self._queries = tf.RaggedTensor.from_row_splits(ids, row_splits, validate=False)
        self._clicked = clicks.rows[:, np.newaxis]
        self._known: dict[tuple[tuple[str, float], ...], float] = {}

    def ndcg(self, values: Values) -> float:
        key = tuple(sorted(values.items()))
        if key not in self._known:
            self._known[key] = self._measured(values)
        return self._known[key]

    def _measured(self, values: Values) -> float:
        update = _section(values)
        update["weights"] = {**self._lexical.weights, **update.get("weights", {})}
        index = self._terms.postings(self._lexical.model_copy(update=update), self._popularity)
        k = min(DEPTH, len(index.rows))
        rows, scores = (found.numpy() for found in search_bm25(index, self._queries, k, weights=self._weights))
        is_clicked = rows == self._clicked
        target = np.where(is_clicked, scores, 0.0).max(axis=1, keepdims=True)
        better = np.count_nonzero(scores > target, axis=1)
        tied = np.count_nonzero((scores == target) & (rows >= 0), axis=1)
        return float(np.where(is_clicked.any(axis=1), gain(better + 0.5 * (tied + 1)), 0.0).mean())


def _section(values: Values) -> dict[str, Any]:
    """The values as keys of ``index.lexical``."""
    section: dict[str, Any] = {name: value for name, value in values.items() if not name.startswith(_WEIGHT)}
    weights = {name.removeprefix(_WEIGHT): value for name, value in values.items() if name.startswith(_WEIGHT)}
    return section | ({"weights": weights} if weights else {})
