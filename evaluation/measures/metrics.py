"""The measures: ir-measures over ranked lists, and the paper's Top-k among sampled candidates (section 5.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ir_measures
import numpy as np
from ir_measures import AP, RR, R, Success, nDCG

from dpsr.baselines.examples import CANDIDATE_STREAM

RANKED_MEASURES = {
    "MAP@5": AP @ 5,
    "MRR@10": RR @ 10,
    "nDCG@10": nDCG @ 10,
    "Hit@10": Success @ 10,
    "Recall@10": R @ 10,
    "Recall@100": R @ 100,
    "Recall@1000": R @ 1000,
}
RANKED_DEPTH = 1000
TOP_K = {"Top-1": 1, "Top-10": 10}
_CHUNK = 256  # lists handed to ir-measures at once: it wants a dictionary entry for every item of every list


def ranked_values(ranked: np.ndarray, relevant: Sequence[Mapping[int, int]]) -> dict[str, np.ndarray]:
    """Every measure of ``RANKED_MEASURES`` for every list; items that nobody judged count as irrelevant.

    Args:
        ranked: int32 [n, k], items best first without repetition; -1 stands for no item.
        relevant: for each list item -> gain, at least 1.

    Returns:
        float64 [n] for each measure.

    Raises:
        ValueError: a list names an item twice.
    """
    _refuse_repetitions(ranked)
    label_of = {measure: name for name, measure in RANKED_MEASURES.items()}
    values = {name: np.zeros(len(ranked)) for name in RANKED_MEASURES}
    for start in range(0, len(ranked), _CHUNK):
        rows = range(start, min(start + _CHUNK, len(ranked)))
        judged = {str(row): {str(item): gain for item, gain in relevant[row].items()} for row in rows}
        run = {str(row): _scores_by_place(ranked[row], relevant[row]) for row in rows}
        for found in ir_measures.iter_calc(list(label_of), judged, run):
            values[label_of[found.measure]][int(found.query_id)] = found.value
    return values


def sample_candidates(item_rows: np.ndarray, num_items: int, count: int, *, seed: int) -> np.ndarray:
    """The items that Top-k is measured among: the clicked one, then others drawn uniformly without repetition.

    Args:
        item_rows: clicked items, int32 [n].
        num_items: size of the catalogue.
        count: candidates for each click; all items where there are fewer.
        seed: decides the draw.

    Returns:
        int32 [n, min(count, num_items)], the clicked item first.
    """
    rng = np.random.default_rng([seed, CANDIDATE_STREAM])
    candidates = np.empty((len(item_rows), min(count, num_items)), dtype=np.int32)
    candidates[:, 0] = item_rows
    for row, clicked in zip(candidates, item_rows, strict=True):
        others = rng.choice(num_items - 1, len(row) - 1, replace=False)
        row[1:] = others + (others >= clicked)
    return candidates


def top_k_values(ranks: np.ndarray) -> dict[str, np.ndarray]:
    """Whether the clicked item is among the first k; ranks int64 [n], from 1 -> float64 [n] for each k."""
    return {name: (ranks <= k).astype(np.float64) for name, k in TOP_K.items()}


def half_width(values: np.ndarray, clusters: np.ndarray) -> float:
    """Half of the normal 95 % interval of a mean over clicks that come in clusters.

    Clicks on one query stand or fall together, so queries, not clicks, are the independent draws: this is the
    linearised variance of a ratio of sums over clusters.

    Args:
        values: float64 [n].
        clusters: integers [n], the query of every click.

    Returns:
        The half width; 1, the whole range of a measure, for fewer than two clusters.
    """
    _, cluster = np.unique(clusters, return_inverse=True)
    count = int(cluster.max()) + 1
    if count < 2:
        return 1.0
    deviations = np.bincount(cluster, values - values.mean(), minlength=count)
    variance = count / (count - 1) * np.square(deviations).sum() / len(values) ** 2
    return float(1.959964 * np.sqrt(variance))


def _scores_by_place(items: np.ndarray, relevant: Mapping[int, int]) -> dict[str, float]:
    """A list as ir-measures wants it, up to its last relevant item: what comes after that changes no measure."""
    places = np.flatnonzero(np.isin(items, list(relevant)))
    last = places[-1] + 1 if len(places) else 0
    return {str(item): -float(place) for place, item in enumerate(items[:last].tolist()) if item >= 0}


def _refuse_repetitions(ranked: np.ndarray) -> None:
    ordered = np.sort(ranked, axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if repeated.any():
        row, column = np.argwhere(repeated)[0]
        raise ValueError(f"ranked list {row} names item {ordered[row, column]} twice; every item may come once")
