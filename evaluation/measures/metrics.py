"""Measures of one click or query: ir-measures over ranked lists, and Top-k among sampled candidates (section 5.1)."""

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
"""Measures of retrieved lists."""
RANKED_DEPTH = 1000
"""Items retrieved for each query."""
TOP_K = {"Top-1": 1, "Top-10": 10}
"""Measures of scored candidates."""
CLICKS = "Clicks@10"
"""Popularity of retrieved items: mean clicks, in the train split, of the ten best."""
COMPARED = ("MAP@5", "MRR@10", "nDCG@10", "Recall@10", "Recall@100", "Top-1", "Top-10")
"""Measures with bootstrap intervals, alone and paired."""
_LISTS_AT_ONCE = 256  # ir-measures takes a dictionary with an entry for every item of every list


def ranked_values(ranked: np.ndarray, relevant: Sequence[Mapping[int, int]]) -> dict[str, np.ndarray]:
    """Computes ``RANKED_MEASURES`` of every list; items without a judgement count as irrelevant.

    Args:
        ranked: int32 [n, k], items best first without repetition; -1 stands for no item.
        relevant: for each list item -> gain, at least 1.

    Returns:
        float64 [n] for each measure.

    Raises:
        ValueError: a list has an item twice.
    """
    _refuse_repetitions(ranked)
    label_of = {measure: name for name, measure in RANKED_MEASURES.items()}
    values = {name: np.zeros(len(ranked)) for name in RANKED_MEASURES}
    for start in range(0, len(ranked), _LISTS_AT_ONCE):
        rows = range(start, min(start + _LISTS_AT_ONCE, len(ranked)))
        judged = {str(row): {str(item): gain for item, gain in relevant[row].items()} for row in rows}
        run = {str(row): _scores_by_place(ranked[row], relevant[row]) for row in rows}
        for found in ir_measures.iter_calc(list(label_of), judged, run):
            values[label_of[found.measure]][int(found.query_id)] = found.value
    return values


def sample_candidates(item_rows: np.ndarray, num_items: int, count: int, *, seed: int) -> np.ndarray:
    """Samples the candidates of Top-k: the clicked item, then others, uniformly without replacement.

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
    """Computes ``TOP_K`` from the ranks of the clicked items, int64 [n], from 1 -> float64 [n] for each k."""
    return {name: (ranks <= k).astype(np.float64) for name, k in TOP_K.items()}


def _scores_by_place(items: np.ndarray, relevant: Mapping[int, int]) -> dict[str, float]:
    """A list in the form of ir-measures, cut after its last relevant item: later items change no measure."""
    places = np.flatnonzero(np.isin(items, list(relevant)))
    last = places[-1] + 1 if len(places) else 0
    return {str(item): -float(place) for place, item in enumerate(items[:last].tolist()) if item >= 0}


def _refuse_repetitions(ranked: np.ndarray) -> None:
    ordered = np.sort(ranked, axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if repeated.any():
        row, column = np.argwhere(repeated)[0]
        raise ValueError(f"ranked list {row} has item {ordered[row, column]} twice; expected distinct items")
